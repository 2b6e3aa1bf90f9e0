//! Where the work of calls lies, in memory that is used again and again.
//!
//! The future of a call has some 4 KB. To take and free that much for each call is more
//! than all its small pieces of memory cost the allocator.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use pin_project_lite::pin_project;

/// How many are kept. More calls at once take memory as they need it.
const KEPT_MAX: usize = 64;

/// The work of one call, which begins with an `A` and ends with an `O`.
pub type Work<A, O> = Pin<Box<dyn Berth<A, Output = O> + Send>>;

/// One place for one work after another.
pub trait Berth<A>: Future {
    /// Puts new work here.
    fn begin(self: Pin<&mut Self>, given: A);
    /// Takes apart what lies here.
    fn clear(self: Pin<&mut Self>);
}

/// The places of one worker that are free.
pub struct Berths<A, O>(Mutex<Vec<Work<A, O>>>);

impl<A, O> Default for Berths<A, O> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<A, O> fmt::Debug for Berths<A, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} free", self.free().len())
    }
}

impl<A: 'static, O: 'static> Berths<A, O> {
    /// Begins a work; what it is, `make` tells, which has to be the same each time.
    pub fn begin<M, F>(&self, given: A, make: M) -> Work<A, O>
    where
        M: Fn(A) -> F + Send + 'static,
        F: Future<Output = O> + Send + 'static,
    {
        let free = self.free().pop();
        let mut work = free.unwrap_or_else(|| Box::pin(Reused { make, work: None }));
        work.as_mut().begin(given);
        work
    }
}

impl<A, O> Berths<A, O> {
    /// For the next one, now that this one is done.
    pub fn put_back(&self, mut work: Work<A, O>) {
        work.as_mut().clear();
        let mut free = self.free();
        if free.len() < KEPT_MAX {
            free.push(work);
        }
    }

    fn free(&self) -> MutexGuard<'_, Vec<Work<A, O>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pin_project! {
    struct Reused<M, F> {
        make: M,
        #[pin]
        work: Option<F>,
    }
}

impl<M, F: Future> Future for Reused<M, F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        match self.project().work.as_pin_mut() {
            Some(work) => work.poll(cx),
            None => Poll::Pending,
        }
    }
}

impl<A, M, F> Berth<A> for Reused<M, F>
where
    M: Fn(A) -> F,
    F: Future,
{
    fn begin(self: Pin<&mut Self>, given: A) {
        let mut place = self.project();
        place.work.set(Some((place.make)(given)));
    }

    fn clear(self: Pin<&mut Self>) {
        self.project().work.set(None);
    }
}

#[cfg(test)]
mod tests {
    use std::{future::ready, ptr, sync::Arc};

    use futures_util::FutureExt;

    use super::*;

    fn begin(berths: &Berths<Arc<u8>, Arc<u8>>, given: &Arc<u8>) -> Work<Arc<u8>, Arc<u8>> {
        berths.begin(Arc::clone(given), ready)
    }

    #[test]
    fn one_work_after_another_lies_in_the_same_memory() {
        let berths = Berths::default();
        let mut first = begin(&berths, &Arc::new(1));
        assert_eq!(first.as_mut().now_or_never().as_deref(), Some(&1));
        let place: *const _ = &raw const *first;
        berths.put_back(first);
        let mut next = begin(&berths, &Arc::new(2));
        assert!(ptr::addr_eq(place, &raw const *next));
        assert_eq!(next.as_mut().now_or_never().as_deref(), Some(&2));
        // Nothing is free, so another one has its own.
        assert!(!ptr::addr_eq(
            place,
            &raw const *begin(&berths, &Arc::new(3))
        ));
    }

    #[test]
    fn what_is_put_back_holds_nothing_and_only_so_many_are_kept() {
        let berths = Berths::default();
        let given = Arc::new(1);
        let works: Vec<_> = (0..=KEPT_MAX).map(|_| begin(&berths, &given)).collect();
        for work in works {
            berths.put_back(work);
        }
        assert_eq!(Arc::strong_count(&given), 1);
        assert_eq!(format!("{berths:?}"), format!("{KEPT_MAX} free"));
    }
}
