//! The trail as one worker sees it.

use std::{sync::Arc, time::Duration};

use tokio::time::timeout;

use super::{
    queue::{Inbox, Kind, Queue},
    record::{Fragment, IntentRecord, OutcomeRecord, RefusedRecord},
};
use crate::ids::RequestId;

/// The trail as one worker sees it; cheap to clone.
#[derive(Debug, Clone)]
pub struct WorkerTrail {
    queue: Arc<Queue>,
    inbox: Arc<Inbox>,
    outcome_wait: Duration,
}

/// The trail can't be written now, so nothing may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the trail cannot be written")]
pub struct Unavailable;

/// Whether an outcome was written in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recorded {
    /// It is in the trail, synced if the trail is strict.
    Durable,
    /// `outcome_wait` passed. It waits for the disk.
    Pending,
}

/// An intent that is in the trail and wants an outcome. Dropped without one, by
/// a bug or by a runtime that ends, it is closed as in doubt.
#[derive(Debug)]
#[must_use]
pub struct Intent {
    seq: u64,
    request_id: RequestId,
    open: Option<Arc<Queue>>,
}

impl WorkerTrail {
    /// Starts the task that hands out the writer's answers; call it within the
    /// worker's runtime.
    pub(super) fn new(queue: Arc<Queue>, outcome_wait: Duration) -> Self {
        let inbox = Arc::new(Inbox::default());
        let answers = Arc::clone(&inbox);
        tokio::spawn(async move { answers.hand_out().await });
        Self {
            queue,
            inbox,
            outcome_wait,
        }
    }

    /// Writes an intent; resolves when it is durable.
    ///
    /// # Errors
    ///
    /// If it could not be written. It is not written later either.
    pub async fn intent(&self, record: IntentRecord<'_>) -> Result<Intent, Unavailable> {
        let fragment = Fragment::intent(&record);
        let written = self
            .queue
            .push(fragment, Kind::Intent, &self.inbox)
            .ok_or(Unavailable)?;
        let seq = written.await.map_err(|_| Unavailable)?;
        Ok(Intent {
            seq,
            request_id: record.request_id,
            open: Some(Arc::clone(&self.queue)),
        })
    }

    /// Writes an outcome; resolves when it is durable, or after `outcome_wait`.
    pub async fn outcome(&self, mut intent: Intent, record: OutcomeRecord<'_>) -> Recorded {
        intent.open = None;
        let fragment = Fragment::outcome(intent.request_id, intent.seq, &record);
        let Some(written) = self.queue.push(fragment, Kind::Kept, &self.inbox) else {
            return Recorded::Pending;
        };
        match timeout(self.outcome_wait, written).await {
            Ok(Ok(_)) => Recorded::Durable,
            Ok(Err(_)) | Err(_) => Recorded::Pending,
        }
    }

    /// Writes a refusal, without waiting for it.
    pub fn refused(&self, record: RefusedRecord<'_>) {
        self.queue.push_refused(&record);
    }

    /// Writes that a connection ended before there was a request to answer.
    pub fn connection_refused(&self, peer: &str, reason: &str) {
        self.queue.push_connection_refused(peer, reason);
    }
}

impl Drop for Intent {
    fn drop(&mut self) {
        if let Some(queue) = self.open.take() {
            let request_id = self.request_id.to_string();
            queue.push_unwaited(Fragment::in_doubt(&request_id, self.seq, None));
        }
    }
}
