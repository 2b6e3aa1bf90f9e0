//! What one worker counts. Nothing here is shared with another worker until
//! somebody asks, so that counting is a few relaxed additions to memory that the
//! worker's own core holds: no lock, no look-up by name, no allocation.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{
    recent::{Incident, Recent, is_failure},
    status::{self, STATUSES},
    tenant::{Block, OpenCall, TenantCounts},
};
use crate::{
    closed_list::closed_list,
    code::{AuthFailure, Code, ConnectionEnd, LimitedBy},
    histogram::{Histogram, OVERHEAD, REQUEST, WAIT},
    limits::Backend,
};

closed_list! {
    /// Why an upstream attempt has no answer, for metrics.
    #[expect(missing_docs, reason = "see `AttemptEnd`")]
    pub enum UpstreamError {
        Dns => "dns",
        Connect => "connect",
        Tls => "tls",
        Timeout => "timeout",
        Reset => "reset",
        Protocol => "protocol",
    }
}

closed_list! {
    /// Why there is no connection to the upstream, for metrics.
    #[expect(missing_docs, reason = "see `ConnectError`")]
    pub enum ConnectFailure {
        Dns => "dns",
        Connect => "connect",
        Tls => "tls",
        Timeout => "timeout",
    }
}

closed_list! {
    /// What a further attempt is counted by that followed no error, for metrics.
    pub enum OtherRetry {
        /// An answer that asked for one.
        Status => "status",
        /// A key that was refused while there is a next one.
        Key => "key",
    }
}

/// How an attempt ended, as far as it is counted.
pub type Ended = Result<u16, UpstreamError>;

/// What one worker counts.
#[derive(Debug)]
#[repr(align(128))]
pub struct Shard {
    worker: usize,
    pub(crate) unknown: Block,
    pub(crate) durations: [Histogram<17>; Code::COUNT],
    pub(crate) overhead: Histogram<11>,
    pub(crate) waits: Histogram<9>,
    pub(crate) auth_failures: [AtomicU64; AuthFailure::COUNT],
    pub(crate) panics: AtomicU64,
    pub(crate) failures: AtomicU64,
    pub(crate) recent: Recent,
    pub(crate) connections: Box<[Connections]>,
    pub(crate) connections_refused: [AtomicU64; ConnectionEnd::COUNT],
    pub(crate) upstream: UpstreamCounts,
}

/// The connections of one listener.
#[derive(Debug, Default)]
pub struct Connections {
    pub(crate) begun: AtomicU64,
    pub(crate) ended: AtomicU64,
}

/// What is counted of the upstream.
#[derive(Debug)]
pub struct UpstreamCounts {
    pub(crate) answers: [AtomicU64; STATUSES.len()],
    pub(crate) errors: [AtomicU64; UpstreamError::COUNT],
    pub(crate) durations: Histogram<17>,
    pub(crate) connected: AtomicU64,
    pub(crate) connect_errors: [AtomicU64; ConnectFailure::COUNT],
    pub(crate) connect_durations: Histogram<17>,
    pub(crate) retries: [AtomicU64; UpstreamError::COUNT],
    pub(crate) other_retries: [AtomicU64; OtherRetry::COUNT],
    pub(crate) budget_exhausted: AtomicU64,
}

/// An open connection; counted as ended when dropped.
#[derive(Debug)]
pub struct OpenConnection {
    shard: Arc<Shard>,
    listener: usize,
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        if let Some(connections) = self.shard.connections.get(self.listener) {
            connections.ended.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Shard {
    /// All at zero.
    pub fn new(worker: usize, listeners: usize) -> Self {
        Self {
            worker,
            unknown: Block::default(),
            durations: std::array::from_fn(|_| Histogram::new(&REQUEST)),
            overhead: Histogram::new(&OVERHEAD),
            waits: Histogram::new(&WAIT),
            auth_failures: Default::default(),
            panics: AtomicU64::default(),
            failures: AtomicU64::default(),
            recent: Recent::default(),
            connections: (0..listeners).map(|_| Connections::default()).collect(),
            connections_refused: Default::default(),
            upstream: UpstreamCounts {
                answers: [const { AtomicU64::new(0) }; STATUSES.len()],
                errors: Default::default(),
                durations: Histogram::new(&REQUEST),
                connected: AtomicU64::default(),
                connect_errors: Default::default(),
                connect_durations: Histogram::new(&REQUEST),
                retries: Default::default(),
                other_retries: Default::default(),
                budget_exhausted: AtomicU64::default(),
            },
        }
    }

    /// Counts an answer, or that nobody waits for one any more.
    pub fn answered(&self, tenant: Option<&TenantCounts>, code: Code, status: u16, took: Duration) {
        if let Some(block) = self.block(tenant) {
            block.answered(code, status);
        }
        if is_failure(code, status) {
            self.failures.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(durations) = self.durations.get(code.index()) {
            durations.observe_span(took);
        }
    }

    /// Keeps a call that did not go well, for people who look.
    pub fn keep(&self, incident: Incident) {
        self.recent.keep(incident);
    }

    /// Counts what the gateway itself took of a call that it sent.
    pub fn overhead(&self, span: Duration) {
        self.overhead.observe_span(span);
    }

    /// Counts a call that passed every limit after `waited`.
    pub fn admitted(&self, tenant: &TenantCounts, waited: Duration, by: Backend) {
        if let Some(block) = tenant.of(self.worker) {
            block.admitted(!waited.is_zero(), by);
        }
        if !waited.is_zero() {
            self.waits.observe_span(waited);
        }
    }

    /// A call of which the intent was just written.
    pub fn begun<'a>(&self, tenant: &'a TenantCounts) -> OpenCall<'a> {
        tenant.begun(self.worker)
    }

    /// Counts a call that a limit refused, here or in the store of a fleet.
    pub fn limited(&self, tenant: Option<&TenantCounts>, by: LimitedBy, by_store: bool) {
        if let Some(block) = self.block(tenant) {
            block.limited(by, by_store);
        }
    }

    fn block<'a>(&'a self, tenant: Option<&'a TenantCounts>) -> Option<&'a Block> {
        match tenant {
            None => Some(&self.unknown),
            Some(tenant) => tenant.of(self.worker),
        }
    }

    /// Counts a failed authentication.
    pub fn auth_failed(&self, why: AuthFailure) {
        add_one(&self.auth_failures, why.index());
    }

    /// Counts a bug that was caught.
    pub fn panicked(&self) {
        self.panics.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a connection on the listener with this number, until it is dropped.
    pub fn connected(self: &Arc<Self>, listener: usize) -> OpenConnection {
        if let Some(connections) = self.connections.get(listener) {
            connections.begun.fetch_add(1, Ordering::Relaxed);
        }
        OpenConnection {
            shard: Arc::clone(self),
            listener,
        }
    }

    /// Counts a connection that ended without an answer.
    pub fn connection_ended(&self, end: ConnectionEnd) {
        add_one(&self.connections_refused, end.index());
    }

    /// Counts an attempt at the upstream.
    pub fn attempted(&self, ended: Ended, took: Duration) {
        match ended {
            Ok(status) => add_one(&self.upstream.answers, status::slot(status)),
            Err(error) => add_one(&self.upstream.errors, error.index()),
        }
        self.upstream.durations.observe_span(took);
    }

    /// Counts a try to open an upstream connection.
    pub fn connection_tried(&self, ended: Result<(), ConnectFailure>, took: Duration) {
        match ended {
            Ok(()) => {
                self.upstream.connected.fetch_add(1, Ordering::Relaxed);
            }
            Err(failure) => add_one(&self.upstream.connect_errors, failure.index()),
        }
        self.upstream.connect_durations.observe_span(took);
    }

    /// Counts a further attempt, by how the one before ended.
    pub fn retried(&self, after: Ended) {
        match after {
            Ok(_) => add_one(&self.upstream.other_retries, OtherRetry::Status.index()),
            Err(error) => add_one(&self.upstream.retries, error.index()),
        }
    }

    /// Counts a further attempt with the next key.
    pub fn retried_with_the_next_key(&self) {
        add_one(&self.upstream.other_retries, OtherRetry::Key.index());
    }

    /// Counts a further attempt that was not made, since there were too many.
    pub fn retry_budget_exhausted(&self) {
        self.upstream
            .budget_exhausted
            .fetch_add(1, Ordering::Relaxed);
    }
}

fn add_one(counts: &[AtomicU64], at: usize) {
    if let Some(count) = counts.get(at) {
        count.fetch_add(1, Ordering::Relaxed);
    }
}
