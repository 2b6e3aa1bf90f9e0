//! What is to happen, in the order of time; at the same time in the order in which
//! it was planned, so that every run is the same.

use std::{cmp::Ordering, collections::BinaryHeap, time::Duration};

/// Things of one kind, each at its time.
pub struct Agenda<T> {
    heap: BinaryHeap<Entry<T>>,
    planned: u64,
}

struct Entry<T> {
    at: Duration,
    number: u64,
    what: T,
}

impl<T> Agenda<T> {
    /// Nothing.
    pub fn new() -> Self {
        Self {
            heap: BinaryHeap::new(),
            planned: 0,
        }
    }

    /// One more thing.
    pub fn plan(&mut self, at: Duration, what: T) {
        let number = self.planned;
        self.planned += 1;
        self.heap.push(Entry { at, number, what });
    }

    /// The next thing.
    pub fn next(&mut self) -> Option<(Duration, T)> {
        self.heap.pop().map(|entry| (entry.at, entry.what))
    }
}

impl<T> Ord for Entry<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<T> Eq for Entry<T> {}
