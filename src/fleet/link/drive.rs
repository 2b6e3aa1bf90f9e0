//! What goes over an open connection.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::oneshot,
    time::{Instant, Sleep, sleep_until},
};

use super::{Inner, Waiting};
use crate::fleet::{connect::Stream, resp, trouble::Trouble};

/// A connection over which nothing was asked for so long is looked at, so that a
/// dead one is found before a call is.
const IDLE: Duration = Duration::from_secs(5);
/// Bytes read at a time.
const READ_BYTES: usize = 8 << 10;

/// An open connection.
pub struct Driver<'a> {
    inner: &'a Inner,
    stream: Stream,
    timeout: Duration,
    out: BytesMut,
    is_unflushed: bool,
    input: resp::Reader,
    buffer: Box<[u8]>,
    timer: Pin<Box<Sleep>>,
    /// When the timer goes off; `None` if it has.
    armed: Option<Instant>,
    last: Instant,
}

impl<'a> Driver<'a> {
    /// Nothing was asked yet.
    pub fn new(inner: &'a Inner, stream: Stream, timeout: Duration) -> Self {
        let now = Instant::now();
        Self {
            inner,
            stream,
            timeout,
            out: BytesMut::new(),
            is_unflushed: false,
            input: resp::Reader::default(),
            buffer: vec![0; READ_BYTES].into(),
            timer: Box::pin(sleep_until(now)),
            armed: Some(now),
            last: now,
        }
    }

    /// Carries questions and answers until something fails.
    pub async fn run(mut self) -> Trouble {
        poll_fn(|cx| match self.poll(cx) {
            Ok(()) => Poll::Pending,
            Err(trouble) => Poll::Ready(trouble),
        })
        .await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Result<(), Trouble> {
        loop {
            self.fetch(cx)?;
            self.write(cx)?;
            // Before the clock: what has come is not late because we are.
            self.read(cx)?;
            if !self.looks_again(cx)? {
                return Ok(());
            }
        }
    }

    /// Takes over what is to be asked.
    fn fetch(&mut self, cx: &Context<'_>) -> Result<(), Trouble> {
        let mut state = self.inner.state();
        if let Some(trouble) = state.failed {
            return Err(trouble);
        }
        match &mut state.driver {
            Some(driver) => driver.clone_from(cx.waker()),
            driver => *driver = Some(cx.waker().clone()),
        }
        if !state.out.is_empty() {
            self.last = Instant::now();
            if self.out.is_empty() {
                std::mem::swap(&mut self.out, &mut state.out);
            } else {
                self.out.extend_from_slice(&state.out);
                state.out.clear();
            }
        }
        Ok(())
    }

    fn write(&mut self, cx: &mut Context<'_>) -> Result<(), Trouble> {
        while !self.out.is_empty() {
            match Pin::new(&mut self.stream).poll_write(cx, &self.out) {
                Poll::Ready(Ok(written @ 1..)) => {
                    self.out.advance(written);
                    self.is_unflushed = true;
                }
                Poll::Ready(_) => return Err(Trouble::Closed),
                Poll::Pending => return Ok(()),
            }
        }
        if self.is_unflushed {
            match Pin::new(&mut self.stream).poll_flush(cx) {
                Poll::Ready(Ok(())) => self.is_unflushed = false,
                Poll::Ready(Err(_)) => return Err(Trouble::Closed),
                Poll::Pending => {}
            }
        }
        Ok(())
    }

    /// Hands on what has come.
    fn read(&mut self, cx: &mut Context<'_>) -> Result<(), Trouble> {
        loop {
            let mut buffer = ReadBuf::new(&mut self.buffer);
            match Pin::new(&mut self.stream).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    self.input.add(buffer.filled());
                }
                Poll::Ready(_) => return Err(Trouble::Closed),
                Poll::Pending => return Ok(()),
            }
            while let Some(reply) = self.input.take().map_err(|_| Trouble::Error)? {
                // An answer that nobody asked for is none.
                let waiting = self.inner.state().waiting.pop_front();
                let Some(Waiting { answer, .. }) = waiting else {
                    return Err(Trouble::Error);
                };
                // Whoever asked may have left.
                let _ = answer.send(Ok(reply));
            }
        }
    }

    /// Whether there is something to do again after a look at the clock.
    fn looks_again(&mut self, cx: &mut Context<'_>) -> Result<bool, Trouble> {
        let now = Instant::now();
        let first = {
            let state = self.inner.state();
            state.waiting.front().map(|waiting| waiting.deadline)
        };
        let next = match first {
            Some(deadline) if deadline <= now => return Err(Trouble::Timeout),
            Some(deadline) => deadline,
            None if self.last + IDLE <= now => {
                self.ask_whether_it_is_there(now);
                return Ok(true);
            }
            None => self.last + IDLE,
        };
        // One timer for all that wait: it goes off early rather than being set anew.
        if self.armed.is_none_or(|armed| next < armed) {
            self.timer.as_mut().reset(next);
            self.armed = Some(next);
        }
        let went_off = self.timer.as_mut().poll(cx).is_ready();
        if went_off {
            self.armed = None;
        }
        Ok(went_off)
    }

    fn ask_whether_it_is_there(&self, now: Instant) {
        let mut state = self.inner.state();
        resp::command(&mut state.out, &[b"PING"]);
        // Nobody waits; that it comes in time is enough.
        let (answer, _) = oneshot::channel();
        let deadline = now + self.timeout;
        state.waiting.push_back(Waiting { deadline, answer });
    }
}
