//! The trail as one worker sees it.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    flusher::Flusher,
    inbox::Inbox,
    queue::{Queue, Wake},
    record::{Fragment, FrozenRecord, IntentRecord, OutcomeRecord, RefusedRecord},
    ticket::{Lost, Ticket, Waiting},
};
use crate::{ids::RequestId, secret::UpstreamKey, timers::Timers};

/// The trail as one worker sees it; cheap to clone.
#[derive(Debug, Clone)]
pub struct WorkerTrail {
    queue: Arc<Queue>,
    inbox: Arc<Inbox>,
    waits: Waits,
    timers: Timers,
    flusher: Option<Arc<Flusher>>,
}

/// How long calls wait for the disk.
#[derive(Debug, Clone, Copy)]
pub struct Waits {
    /// For an intent, before the call is refused.
    pub intent: Duration,
    /// For an outcome, before the answer goes out without it.
    pub outcome: Duration,
}

/// The trail can't be written now, so nothing may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the trail cannot be written")]
pub struct Unavailable;

/// Whether an outcome was written in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutcomeWritten {
    /// It is in the trail, synced if the trail is strict.
    Durable,
    /// `audit.outcome_wait` passed. It waits for the disk.
    Pending,
}

/// An intent that is in the trail and wants an outcome. Dropped without one, by
/// a bug or by a runtime that ends, it is closed as in doubt.
#[derive(Debug)]
#[must_use]
pub struct Intent {
    seq: u64,
    request_id: RequestId,
    open: Option<(Arc<Queue>, Arc<Ticket>)>,
}

impl WorkerTrail {
    /// Starts the task that hands out the writer's answers; call it within the
    /// worker's runtime.
    pub(super) fn new(queue: Arc<Queue>, waits: Waits) -> Self {
        let inbox = Arc::new(Inbox::default());
        let (answers, at) = (Arc::clone(&inbox), Arc::clone(&queue));
        let serve = async move { answers.serve(|id, seq| at.push_too_late(id, seq)).await };
        tokio::spawn(serve);
        Self {
            queue,
            inbox,
            waits,
            timers: Timers::default(),
            flusher: None,
        }
    }

    /// Hands over records without waking the writer for each: `flusher` does, before the
    /// worker sleeps. One that never sleeps, since there is always more to do, tells it
    /// at a tick. Call it within the worker's runtime.
    #[must_use]
    pub fn flushed_by(self, flusher: Arc<Flusher>) -> Self {
        flusher.answers_to(&self.inbox);
        let (looking, at_tick) = (Arc::clone(&flusher), Arc::clone(&flusher));
        tokio::spawn(async move { looking.look().await });
        self.timers.at_tick(move || at_tick.flush());
        Self {
            flusher: Some(flusher),
            ..self
        }
    }

    /// When the writer is told of a record.
    fn wake(&self) -> Wake {
        match &self.flusher {
            Some(flusher) if flusher.writes() => Wake::ByWorker,
            Some(_) => Wake::OnPark,
            None => Wake::Now,
        }
    }

    /// A record was handed over, or counted with others.
    fn handed_over(&self) {
        if let Some(flusher) = &self.flusher {
            flusher.handed_over();
        }
    }

    /// Whether an intent would be taken, as far as is known now.
    pub fn is_writable(&self) -> bool {
        !self.queue.board.is_unwritable()
    }

    /// The worker's time-outs.
    pub fn timers(&self) -> &Timers {
        &self.timers
    }

    /// Writes an intent; resolves when it is durable.
    ///
    /// # Errors
    ///
    /// If it could not be written, or not within `audit.intent_wait`. One that
    /// is written all the same is closed as never sent.
    pub async fn intent(&self, record: IntentRecord<'_>) -> Result<Intent, Unavailable> {
        let fragment = Fragment::intent(&record);
        let written = self
            .queue
            .push_intent(fragment, record.request_id, &self.inbox, self.wake())
            .ok_or(Unavailable)?;
        let written = Announced {
            written,
            request_id: record.request_id,
            queue: &self.queue,
        };
        self.handed_over();
        let deadline = Instant::now() + self.waits.intent;
        let Ok(Ok((seq, ticket))) = self.timers.within(deadline, written).await else {
            return Err(Unavailable);
        };
        Ok(Intent {
            seq,
            request_id: record.request_id,
            open: Some((Arc::clone(&self.queue), ticket)),
        })
    }

    /// Writes an outcome; resolves when it is durable, or after `audit.outcome_wait`.
    pub async fn outcome(&self, mut intent: Intent, record: OutcomeRecord<'_>) -> OutcomeWritten {
        let ticket = intent.open.take().map(|(_, ticket)| ticket);
        let fragment = Fragment::outcome(intent.request_id, intent.seq, &record);
        let way_back = (&self.inbox, ticket.unwrap_or_default());
        let written = self
            .queue
            .push_outcome(fragment, intent.seq, way_back, self.wake());
        self.handed_over();
        let deadline = Instant::now() + self.waits.outcome;
        match self.timers.within(deadline, written).await {
            Ok(Ok(_)) => OutcomeWritten::Durable,
            Ok(Err(_)) | Err(_) => OutcomeWritten::Pending,
        }
    }

    /// Writes a refusal, without waiting for it.
    pub fn refused(&self, record: RefusedRecord<'_>) {
        self.queue.push_refused(&record, self.wake());
        self.handed_over();
    }

    /// Writes that another key is used from now on.
    pub fn key_rotated(&self, from: &UpstreamKey, to: &UpstreamKey, by: &str) {
        self.queue.push_change(Fragment::key_rotated(from, to, by));
    }

    /// Writes that a tenant is frozen, without waiting for it: what this worker hands
    /// over later is not durable before it is.
    pub fn frozen(&self, record: &FrozenRecord<'_>) {
        self.queue
            .push_frozen(Fragment::frozen(record), &self.inbox);
    }

    /// Writes that a connection ended before there was a request to answer.
    pub fn connection_refused(&self, peer: &str, reason: &str) {
        self.queue.push_connection_refused(peer, reason);
    }
}

impl Drop for Intent {
    fn drop(&mut self) {
        if let Some((queue, _)) = self.open.take() {
            let fragment = Fragment::in_doubt(self.request_id.as_str(), self.seq, None);
            queue.counts.was_cut();
            queue.close_intent(fragment, self.seq);
        }
    }
}

/// An intent that was handed over. Dropped before somebody knows that it is durable, as a
/// runtime that ends does, it is closed as never sent.
struct Announced<'a> {
    written: Waiting,
    request_id: RequestId,
    queue: &'a Queue,
}

impl Future for Announced<'_> {
    type Output = Result<(u64, Arc<Ticket>), Lost>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.written).poll(cx)
    }
}

impl Drop for Announced<'_> {
    fn drop(&mut self) {
        // Else whoever would tell closes it.
        if let Some(seq) = self.written.give_up() {
            self.queue.push_too_late(self.request_id, seq);
        }
    }
}

/// A record that was handed over, and can be waited for outside of workers.
#[derive(Debug)]
#[must_use]
pub struct Promised {
    waiting: Waiting,
    inbox: Arc<Inbox>,
}

impl Promised {
    pub(super) fn new(waiting: Waiting, inbox: Arc<Inbox>) -> Self {
        Self { waiting, inbox }
    }

    /// Resolves when the record is durable.
    ///
    /// # Errors
    ///
    /// If it was given up, since the trail can't be written.
    pub async fn durable(self) -> Result<(), Unavailable> {
        // No intent is among them.
        let is_late = |_, _| {};
        tokio::select! {
            written = self.waiting => written.map(drop).map_err(|_| Unavailable),
            () = self.inbox.serve(is_late) => Err(Unavailable),
        }
    }
}
