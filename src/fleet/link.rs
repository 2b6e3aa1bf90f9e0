//! One connection to the store, shared by all calls of a worker: what they ask is
//! written together and answered in order. It is opened, and opened anew, beside
//! the calls; none of them waits for that.

mod drive;

use std::{
    collections::VecDeque,
    fmt,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Waker,
    time::Duration,
};

use bytes::BytesMut;
use tokio::{
    sync::{Notify, oneshot},
    task::AbortHandle,
    time::{Instant, sleep_until, timeout},
};

use self::drive::Driver;
use super::{
    Store,
    address::Address,
    connect::{self, Role},
    link_health::LinkHealth,
    resp::Reply,
    trouble::Trouble,
};

/// Calls that may wait for answers over one connection.
const WAITING_MAX: usize = 4096;

/// How long it is in doubt whether a connection is good over which nothing fails.
const DOUBT_MAX: Duration = Duration::from_secs(30);

/// One connection to the store, or the tries to have it. Ends when dropped.
pub struct Link {
    inner: Arc<Inner>,
    store: Arc<Store>,
    role: Role,
    address: Address,
    task: AbortHandle,
}

/// What those who ask and the connection's own task share.
#[derive(Default)]
struct Inner(Mutex<State>);

#[derive(Default)]
struct State {
    is_good: bool,
    /// Operators were told that it is.
    is_told: bool,
    /// Something was decided over it.
    has_decided: bool,
    /// What is to be written.
    out: BytesMut,
    /// Those who wait for answers, in the order in which they asked.
    waiting: VecDeque<Waiting>,
    /// Somebody found that the connection is of no use.
    failed: Option<Trouble>,
    /// What the store said to that.
    said: Option<String>,
    driver: Option<Waker>,
}

struct Waiting {
    deadline: Instant,
    answer: oneshot::Sender<Result<Reply, Trouble>>,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Link(good: {})", self.is_good())
    }
}

impl Link {
    /// Opens one to a node, within the runtime that will ask over it. A try to open
    /// it writes under the name `probe`. `trouble` is told of each failure.
    pub fn start(
        store: &Arc<Store>,
        role: Role,
        address: Address,
        probe: String,
        trouble: Option<Arc<Notify>>,
    ) -> Self {
        let inner = Arc::<Inner>::default();
        if role == Role::Calls {
            store.board.opened();
        }
        let keeping = keep(
            Arc::clone(&inner),
            Arc::clone(store),
            role,
            (address.clone(), probe),
            trouble,
        );
        Self {
            address,
            task: tokio::spawn(keeping).abort_handle(),
            store: Arc::clone(store),
            inner,
            role,
        }
    }

    /// Whether it can be asked over.
    pub fn is_good(&self) -> bool {
        self.inner.state().is_good
    }

    /// Asks something, to be answered within `span`.
    ///
    /// # Errors
    ///
    /// If it can't be asked over just now, or is not answered in time; an answer
    /// that is an error is an answer.
    pub async fn ask(
        &self,
        span: Duration,
        write: impl FnOnce(&mut BytesMut),
    ) -> Result<Reply, Trouble> {
        let answer = {
            let mut state = self.inner.state();
            if !state.is_good {
                return Err(Trouble::Connect);
            }
            if state.waiting.len() >= WAITING_MAX {
                self.store.board.count(Trouble::Busy);
                return Err(Trouble::Busy);
            }
            write(&mut state.out);
            let (answer, answered) = oneshot::channel();
            let deadline = Instant::now() + span;
            state.waiting.push_back(Waiting { deadline, answer });
            if let Some(driver) = &state.driver {
                driver.wake_by_ref();
            }
            answered
        };
        answer.await.unwrap_or(Err(Trouble::Closed))
    }

    /// Something was decided over it: now it is good without a doubt.
    pub fn decided(&self) {
        self.inner.state().has_decided = true;
        self.inner.tell(&self.store, self.role);
    }

    /// What it is for.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The store refused one thing, as it would over any connection; what it answered is
    /// for people.
    pub fn refused(&self, said: &str) {
        let said = connect::shortened(said, self.store.way.url.login.as_ref());
        let detail = format!("{}: {said}", self.address);
        self.store.board.failed_beside(Trouble::Error, &detail);
    }

    /// Gives the connection up, and opens another. `said` is what the store answered,
    /// for people.
    pub fn fail(&self, trouble: Trouble, said: Option<&str>) {
        let mut state = self.inner.state();
        state.failed = Some(trouble);
        let login = self.store.way.url.login.as_ref();
        state.said = said.map(|said| connect::shortened(said, login));
        if let Some(driver) = &state.driver {
            driver.wake_by_ref();
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
        let was_told = self.inner.close(Trouble::Closed);
        if self.role == Role::Calls {
            self.store.board.dropped(was_told);
        }
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self) {
        let mut state = self.state();
        *state = State::default();
        state.is_good = true;
    }

    /// Tells operators that it is good, once.
    fn tell(&self, store: &Store, role: Role) {
        let mut state = self.state();
        if role == Role::Calls && state.is_good && !std::mem::replace(&mut state.is_told, true) {
            store.board.came_up();
        }
    }

    /// Nothing is asked any more; those who wait are told. Whether it was told to be good.
    fn close(&self, trouble: Trouble) -> bool {
        let before = std::mem::take(&mut *self.state());
        for waiting in before.waiting {
            // Whoever asked may have left.
            let _ = waiting.answer.send(Err(trouble));
        }
        before.is_told
    }
}

/// Keeps a connection open, as long as the task lives.
async fn keep(
    inner: Arc<Inner>,
    store: Arc<Store>,
    role: Role,
    (address, probe): (Address, String),
    on_trouble: Option<Arc<Notify>>,
) {
    let mut health = LinkHealth::new(spread());
    // The last one failed with what it answered, before it had decided anything: that a try
    // is answered says little then, and else it would be told good and bad in turns.
    let mut is_doubtful = false;
    let begun = Instant::now();
    loop {
        sleep_until(begun + health.try_at()).await;
        let opened = connect::open(&store.way, &address, Some((role, &probe))).await;
        let mut was_told = false;
        let (trouble, detail) = match opened {
            Ok(stream) => {
                health.answered(begun.elapsed());
                inner.open();
                let trouble = drive(&inner, &store, role, stream, is_doubtful).await;
                let (said, has_decided) = {
                    let mut state = inner.state();
                    (state.said.take(), state.has_decided)
                };
                is_doubtful = trouble == Trouble::Error && !has_decided;
                was_told = inner.close(trouble);
                let said = said.map(|said| format!("{address}: {said}"));
                (trouble, said.unwrap_or_else(|| address.to_string()))
            }
            Err(failed) => failed,
        };
        health.failed(begun.elapsed());
        match role {
            Role::Calls => store.board.failed(was_told, trouble, &detail),
            Role::Beside => store.board.failed_beside(trouble, &detail),
        }
        if let Some(on_trouble) = &on_trouble {
            on_trouble.notify_one();
        }
    }
}

/// Carries questions and answers until something fails.
async fn drive(
    inner: &Inner,
    store: &Store,
    role: Role,
    stream: connect::Stream,
    is_doubtful: bool,
) -> Trouble {
    let mut driving = pin!(Driver::new(inner, stream, store.way.timeout).run());
    // Nobody may ask anything for hours, and end the doubt.
    if is_doubtful && let Ok(trouble) = timeout(DOUBT_MAX, &mut driving).await {
        return trouble;
    }
    inner.tell(store, role);
    driving.await
}

/// A number that differs between gateways and connections.
fn spread() -> u8 {
    let [.., last] = *uuid::Uuid::now_v7().as_bytes();
    last
}
