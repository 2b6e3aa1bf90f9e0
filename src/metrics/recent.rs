//! The last calls that did not go well, for people who look.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::time::Instant;

use crate::{code::Code, ids::RequestId};

/// How many of each kind are kept: by each worker, and shown.
pub const KEPT_MAX: usize = 25;

/// A call that did not go well. No id of a user, credential or token.
#[derive(Debug, Clone)]
pub struct Incident {
    /// When it came in.
    pub at: Instant,
    /// Whose it was, if that was known.
    pub tenant: Option<Arc<str>>,
    /// What the caller got.
    pub code: Code,
    /// The status that the caller got.
    pub status: u16,
    /// Its id, which finds it in log and trail.
    pub request_id: RequestId,
}

impl Incident {
    /// Whether gateway or upstream could not do what they should; else the
    /// caller was refused.
    pub fn is_failure(&self) -> bool {
        is_failure(self.code, self.status)
    }
}

/// Whether gateway or upstream could not do what they should.
pub fn is_failure(code: Code, status: u16) -> bool {
    status >= 500 && code != Code::Draining
}

/// The last ones of one worker, the newest last. Failures are kept apart: a
/// flood of refusals must not wash them away.
#[derive(Debug, Default)]
pub struct Recent {
    refusals: Mutex<VecDeque<Incident>>,
    failures: Mutex<VecDeque<Incident>>,
}

impl Recent {
    /// Keeps one, unless somebody is just reading.
    pub fn keep(&self, incident: Incident) {
        let ring = if incident.is_failure() {
            &self.failures
        } else {
            &self.refusals
        };
        let Ok(mut ring) = ring.try_lock() else {
            return;
        };
        if ring.len() >= KEPT_MAX {
            ring.pop_front();
        }
        ring.push_back(incident);
    }
}

/// The last refusals, or failures, of all workers, the newest first.
pub fn latest<'a>(workers: impl Iterator<Item = &'a Recent>, failures: bool) -> Vec<Incident> {
    let mut all = Vec::new();
    for recent in workers {
        let ring = if failures {
            &recent.failures
        } else {
            &recent.refusals
        };
        let ring = ring.lock().unwrap_or_else(PoisonError::into_inner);
        all.extend(ring.iter().cloned());
    }
    all.sort_by_key(|incident| std::cmp::Reverse(incident.at));
    all.truncate(KEPT_MAX);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn incident(code: Code, status: u16) -> Incident {
        Incident {
            at: Instant::now(),
            tenant: None,
            code,
            status,
            request_id: RequestId::next(),
        }
    }

    #[test]
    fn a_flood_of_refusals_does_not_wash_failures_away() {
        let workers = [Recent::default(), Recent::default()];
        let failure = incident(Code::UpstreamTimeout, 504);
        workers[0].keep(failure.clone());
        for _ in 0..1000 {
            workers[1].keep(incident(Code::Unauthenticated, 401));
        }
        let failures = latest(workers.iter(), true);
        assert_eq!(failures.len(), 1);
        assert_eq!(failures[0].request_id, failure.request_id);
        assert_eq!(latest(workers.iter(), false).len(), KEPT_MAX);
    }

    #[test]
    fn the_newest_of_all_workers_comes_first() {
        let workers = [Recent::default(), Recent::default()];
        for n in 0..6 {
            workers[n % 2].keep(incident(Code::RateLimited, 429));
        }
        let found = latest(workers.iter(), false);
        assert!(found.is_sorted_by(|a, b| a.at >= b.at));
        assert_eq!(found.len(), 6);
    }
}
