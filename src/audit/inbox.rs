//! What the writer hands back to workers.

use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use super::{
    queue::Queue,
    record::Fragment,
    ticket::{Teller, Waiting, wait_with},
};
use crate::ids::RequestId;

/// The way back to the worker that waits.
#[derive(Debug)]
pub struct Reply {
    /// Gets the record's number once it is durable.
    pub teller: Teller,
    /// Where the worker is.
    pub inbox: Arc<Inbox>,
    /// The request of an intent: one that comes too late must be closed.
    pub intent_of: Option<RequestId>,
}

/// The answers for one worker: it is woken once for a whole batch.
#[derive(Debug, Default)]
pub struct Inbox {
    answers: Mutex<Vec<Answer>>,
    filled: Notify,
}

/// What the writer tells of one record.
#[derive(Debug)]
pub struct Answer {
    /// Who is told.
    pub teller: Teller,
    /// See [`Reply::intent_of`]. The rest of the reply is not kept: it has the inbox
    /// that this lies in, and nobody may be there to empty it.
    pub intent_of: Option<RequestId>,
    /// The record's number.
    pub seq: u64,
    /// What was written: its memory goes back to the worker that took it.
    pub written: Fragment,
}

impl Inbox {
    /// Puts an answer in; the worker is not woken yet.
    pub fn put(&self, answer: Answer) {
        self.answers().push(answer);
    }

    /// Wakes the worker.
    pub fn wake(&self) {
        self.filled.notify_one();
    }

    /// Hands out answers whenever there are some, on the worker's own thread. Never ends.
    pub async fn serve(&self, queue: &Queue) {
        loop {
            self.filled.notified().await;
            self.hand_out(queue);
        }
    }

    /// Hands each answer to the call that waits for it.
    pub fn hand_out(&self, queue: &Queue) {
        let mut answers = mem::take(&mut *self.answers());
        for Answer {
            teller,
            intent_of,
            seq,
            written,
        } in answers.drain(..)
        {
            written.recycle();
            let is_late = !teller.tell(seq);
            if let (true, Some(request_id)) = (is_late, intent_of) {
                queue.push_too_late(request_id, seq);
            }
        }
        self.keep(answers);
    }

    /// Memory for the next answers, unless there are some by now.
    fn keep(&self, spare: Vec<Answer>) {
        let mut answers = self.answers();
        if answers.capacity() == 0 {
            *answers = spare;
        }
    }

    fn answers(&self) -> MutexGuard<'_, Vec<Answer>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A way back for a record that somebody waits for, and where they wait.
pub fn reply_to(inbox: &Arc<Inbox>) -> (Reply, Waiting) {
    let (teller, waiting) = wait_with(Arc::default());
    let reply = Reply {
        teller,
        inbox: Arc::clone(inbox),
        intent_of: None,
    };
    (reply, waiting)
}
