//! Runs an upstream connection inside the call that uses it.
//!
//! hyper wants somebody to poll a connection while requests go over it. A task
//! of its own would be woken for each request and each answer, and would wake
//! the call in turn; here the call polls both, and is woken by the socket alone.
//! An unused connection is not polled at all: that it was closed meanwhile
//! shows when it is taken, or swept.

use std::{
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use futures_util::task::AtomicWaker;

/// How often connection and call are polled in turn before others get theirs.
const ROUNDS_MAX: u32 = 16;

/// The moving part of one upstream connection.
pub struct Driver {
    /// `None` once the connection has ended.
    connection: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    bell: Arc<Bell>,
    waker: Waker,
}

/// What the connection rings when there is something to do. Who rings looks at
/// `heeded` after `rung`, who polls at `rung` after `heeded`: only a total order of
/// the four lets at least one of them see the other, whatever thread rings.
#[derive(Debug, Default)]
struct Bell {
    rung: AtomicBool,
    /// Somebody polls just now and will look at `rung`: no need to wake a task.
    heeded: AtomicBool,
    task: AtomicWaker,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::SeqCst);
        if !self.heeded.load(Ordering::SeqCst) {
            self.task.wake();
        }
    }
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver")
            .field("ended", &self.connection.is_none())
            .finish()
    }
}

impl Driver {
    /// Drives `connection`; its output is of no use, since what goes wrong
    /// reaches the call through its own future.
    pub fn new(connection: impl Future<Output = ()> + Send + 'static) -> Self {
        let bell = Arc::new(Bell::default());
        Self {
            connection: Some(Box::pin(connection)),
            waker: Waker::from(Arc::clone(&bell)),
            bell,
        }
    }

    /// Whether the connection is still there, which is found out by looking.
    pub fn is_alive(&mut self) -> bool {
        let mut cx = Context::from_waker(&self.waker);
        self.bell.task.take();
        turn(&mut self.connection, &mut cx);
        self.connection.is_some()
    }

    /// Polls `step` and the connection in turn until `step` is done. `step` comes
    /// first: it asks for something, or has it already.
    pub fn until<'a, T>(
        &'a mut self,
        mut step: impl FnMut(&mut Context<'_>) -> Poll<T> + 'a,
    ) -> impl Future<Output = T> + 'a {
        poll_fn(move |task| {
            self.bell.heeded.store(true, Ordering::Release);
            let mut cx = Context::from_waker(&self.waker);
            let mut polled = Poll::Pending;
            for _ in 0..ROUNDS_MAX {
                polled = step(&mut cx);
                if polled.is_ready() {
                    break;
                }
                self.bell.rung.store(false, Ordering::Release);
                turn(&mut self.connection, &mut cx);
                if !self.bell.rung.load(Ordering::Acquire) {
                    break;
                }
            }
            if polled.is_pending() {
                self.bell.task.register(task.waker());
            }
            self.bell.heeded.store(false, Ordering::SeqCst);
            // Rung after the last look at it, or there was too much to do.
            if polled.is_pending() && self.bell.rung.load(Ordering::SeqCst) {
                task.waker().wake_by_ref();
            }
            polled
        })
    }
}

fn turn(connection: &mut Option<Pin<Box<dyn Future<Output = ()> + Send>>>, cx: &mut Context<'_>) {
    if let Some(future) = connection
        && future.as_mut().poll(cx).is_ready()
    {
        *connection = None;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::{sync::mpsc, time::sleep};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_call_is_woken_by_what_wakes_the_connection() {
        let (sender, mut receiver) = mpsc::unbounded_channel();
        let mut driver = Driver::new(async move {
            for number in 0..3 {
                sleep(Duration::from_secs(1)).await;
                let _ = sender.send(number);
            }
        });
        for expected in 0..3 {
            let got = driver.until(|cx| receiver.poll_recv(cx)).await;
            assert_eq!(got, Some(expected));
        }
        assert_eq!(driver.until(|cx| receiver.poll_recv(cx)).await, None);
        assert!(!driver.is_alive());
    }

    #[tokio::test]
    async fn a_connection_that_always_has_something_to_do_lets_others_work() {
        let mut driver = Driver::new(poll_fn(|cx| {
            cx.waker().wake_by_ref();
            Poll::Pending
        }));
        let (sender, mut receiver) = mpsc::unbounded_channel();
        let other = tokio::spawn(async move { sender.send(()) });
        driver.until(|cx| receiver.poll_recv(cx)).await;
        other.await.unwrap().unwrap();
        assert!(driver.is_alive());
    }

    #[tokio::test]
    async fn an_unused_connection_that_ended_is_found_to_be_gone() {
        let (sender, receiver) = tokio::sync::oneshot::channel::<()>();
        let mut driver = Driver::new(async move {
            let _ = receiver.await;
        });
        assert!(driver.is_alive());
        drop(sender);
        assert!(!driver.is_alive());
    }
}
