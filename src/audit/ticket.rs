//! How a call waits for its records: one place for its intent and, after it,
//! its outcome.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use futures_util::task::AtomicWaker;

/// Not told anything yet; no record has this number.
const WAITING: u64 = 0;
/// Nobody waits any more.
const GIVEN_UP: u64 = u64::MAX;
/// The record was dropped: it will never be written.
const LOST: u64 = u64::MAX - 1;

/// Where one call waits for one record after another.
#[derive(Debug, Default)]
pub struct Ticket {
    /// One of the above, or the number of the record that is durable now.
    state: AtomicU64,
    task: AtomicWaker,
}

/// The side that tells; dropped without a word, it tells that the record is lost.
#[derive(Debug)]
pub struct Teller(Option<Arc<Ticket>>);

/// The side that waits: the record's number once it is durable. Dropped before,
/// it tells that nobody waits.
#[derive(Debug)]
pub struct Waiting(Option<Arc<Ticket>>);

/// The record will never be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lost;

/// Both sides of a new wait, over a ticket that nobody waits with just now.
pub fn wait_with(ticket: Arc<Ticket>) -> (Teller, Waiting) {
    ticket.state.store(WAITING, Ordering::Release);
    (Teller(Some(Arc::clone(&ticket))), Waiting(Some(ticket)))
}

impl Ticket {
    fn settle(&self, how: u64) -> bool {
        self.state
            .compare_exchange(WAITING, how, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }
}

impl Teller {
    /// Tells the record's number; whether somebody waits for it.
    pub fn tell(mut self, seq: u64) -> bool {
        let Some(ticket) = self.0.take() else {
            return false;
        };
        let is_awaited = ticket.settle(seq);
        ticket.task.wake();
        is_awaited
    }

    /// Whether nobody waits any more.
    pub fn is_given_up(&self) -> bool {
        let state = self.0.as_ref().map(|t| t.state.load(Ordering::Acquire));
        state == Some(GIVEN_UP)
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        if let Some(ticket) = self.0.take()
            && ticket.settle(LOST)
        {
            ticket.task.wake();
        }
    }
}

impl Future for Waiting {
    type Output = Result<(u64, Arc<Ticket>), Lost>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(ticket) = &self.0 else {
            return Poll::Ready(Err(Lost));
        };
        if ticket.state.load(Ordering::Acquire) == WAITING {
            ticket.task.register(cx.waker());
        }
        match ticket.state.load(Ordering::Acquire) {
            WAITING => Poll::Pending,
            LOST | GIVEN_UP => {
                self.0 = None;
                Poll::Ready(Err(Lost))
            }
            seq => Poll::Ready(self.0.take().map(|ticket| (seq, ticket)).ok_or(Lost)),
        }
    }
}

impl Waiting {
    /// Nobody waits any more. The record's number if it was told already, and not taken.
    pub fn give_up(&mut self) -> Option<u64> {
        let ticket = self.0.take()?;
        if ticket.settle(GIVEN_UP) {
            return None;
        }
        let told = ticket.state.load(Ordering::Acquire);
        (told != LOST).then_some(told)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.give_up();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_ticket_serves_one_record_after_another() {
        let (teller, waiting) = wait_with(Arc::default());
        assert!(teller.tell(7));
        let (seq, ticket) = waiting.await.unwrap();
        assert_eq!(seq, 7);
        let (teller, waiting) = wait_with(ticket);
        let told = tokio::spawn(async move { teller.tell(8) });
        assert_eq!(waiting.await.unwrap().0, 8);
        assert!(told.await.unwrap());
    }

    #[tokio::test]
    async fn a_record_that_is_dropped_is_lost_to_who_waits() {
        let (teller, waiting) = wait_with(Arc::default());
        let dropped = tokio::spawn(async move { drop(teller) });
        assert_eq!(waiting.await.unwrap_err(), Lost);
        dropped.await.unwrap();
    }

    #[test]
    fn who_gives_up_is_not_told() {
        let (teller, waiting) = wait_with(Arc::default());
        assert!(!teller.is_given_up());
        drop(waiting);
        assert!(teller.is_given_up());
        assert!(!teller.tell(7));
    }

    #[test]
    fn who_gives_up_hears_what_was_told_and_not_taken() {
        let (teller, mut waiting) = wait_with(Arc::default());
        assert!(teller.tell(7));
        assert_eq!(waiting.give_up(), Some(7));
        assert_eq!(waiting.give_up(), None);
        let (teller, mut waiting) = wait_with(Arc::default());
        drop(teller);
        assert_eq!(waiting.give_up(), None);
        let (_teller, mut waiting) = wait_with(Arc::default());
        assert_eq!(waiting.give_up(), None);
    }
}
