//! What the writer hands back to workers.

use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use super::{
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
    state: Mutex<State>,
    filled: Notify,
}

#[derive(Debug, Default)]
struct State {
    answers: Vec<Answer>,
    /// Nobody will look any more.
    is_closed: bool,
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

impl Answer {
    /// Tells the call that waits for it. `is_late` hears of an intent that no call waits for
    /// any more: of its request and its number.
    pub fn hand_out(self, is_late: impl FnOnce(RequestId, u64)) {
        self.written.recycle();
        let is_awaited = self.teller.tell(self.seq);
        if let (false, Some(request_id)) = (is_awaited, self.intent_of) {
            is_late(request_id, self.seq);
        }
    }
}

impl Inbox {
    /// Puts an answer in; the worker is not woken yet. Gives it back if the inbox is
    /// closed: then whoever has it hands it out.
    pub fn put(&self, answer: Answer) -> Option<Answer> {
        let mut state = self.state();
        if state.is_closed {
            return Some(answer);
        }
        state.answers.push(answer);
        None
    }

    /// Wakes the worker.
    pub fn wake(&self) {
        self.filled.notify_one();
    }

    /// Hands out answers whenever there are some, on the worker's own thread. Never ends.
    /// `is_late` as in [`Answer::hand_out`].
    pub async fn serve(&self, is_late: impl Fn(RequestId, u64)) {
        loop {
            self.filled.notified().await;
            self.hand_out(&is_late);
        }
    }

    /// Hands each answer to the call that waits for it.
    pub fn hand_out(&self, is_late: impl Fn(RequestId, u64)) {
        let mut answers = mem::take(&mut self.state().answers);
        for answer in answers.drain(..) {
            answer.hand_out(&is_late);
        }
        self.keep(answers);
    }

    /// Hands out what is there, and takes no more: nobody will look again.
    pub fn close(&self, is_late: impl Fn(RequestId, u64)) {
        self.state().is_closed = true;
        self.hand_out(is_late);
    }

    /// Memory for the next answers, unless there are some by now.
    fn keep(&self, spare: Vec<Answer>) {
        let mut state = self.state();
        if state.answers.capacity() == 0 {
            state.answers = spare;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn answer(teller: Teller) -> Answer {
        Answer {
            teller,
            intent_of: Some(RequestId::next()),
            seq: 7,
            written: Fragment::now("x"),
        }
    }

    /// What is put in afterwards would never be told.
    #[test]
    fn an_inbox_that_is_closed_keeps_no_answer() {
        let inbox = Inbox::default();
        let late = Cell::new(0);
        let count = |_, seq| late.set(late.get() + seq);
        let (teller, _waits) = wait_with(Arc::default());
        assert!(inbox.put(answer(teller)).is_none());
        let (teller, waiting) = wait_with(Arc::default());
        drop(waiting);
        assert!(inbox.put(answer(teller)).is_none());
        inbox.close(count);
        assert_eq!(late.get(), 7, "one of the two was waited for");
        let (teller, waiting) = wait_with(Arc::default());
        drop(waiting);
        let given_back = inbox.put(answer(teller)).unwrap();
        given_back.hand_out(count);
        assert_eq!(late.get(), 14);
    }
}
