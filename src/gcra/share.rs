//! What a gateway may do by itself while the store does not answer, and how much
//! a whole fleet can come to with that.

use super::{Shape, Window, nanos};

/// One gateway's fair share of a limit among `replicas`: the rate divided by it,
/// and of the burst as many whole units as each can have, but at least one, since
/// a bucket without a unit would admit nothing ever.
pub fn share(window: &Window, replicas: u32) -> Shape {
    let replicas = replicas.max(1);
    // As nanoseconds first: a quotient that is rounded down, times the replicas,
    // would let the fleet be faster than the limit.
    let per_ns = nanos(window.per).saturating_mul(u64::from(replicas));
    let unit_ns = per_ns.div_ceil(u64::from(window.requests.get()));
    Shape {
        unit_ns: unit_ns.max(Shape::of(window).unit_ns),
        burst: (window.burst.get() / replicas).max(1),
    }
}

/// The most that a fleet can be admitted by one limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ceiling {
    /// In any span of the window's length.
    pub in_any_span: u64,
    /// At once.
    pub at_once: u64,
}

/// The ceilings of one limit, while as many gateways live as `replicas` says, or fewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ceilings {
    /// While all ask the store: what the limit itself says.
    pub with_store: Ceiling,
    /// While none can.
    pub without_store: Ceiling,
    /// While only some can, or it comes and goes.
    pub in_part: Ceiling,
}

impl Ceilings {
    /// Of a limit that `replicas` gateways share.
    pub fn of(window: &Window, replicas: u32) -> Self {
        let replicas = replicas.max(1);
        let all = u64::from(replicas);
        let with_store = most(Shape::of(window), window);
        let alone = most(share(window, replicas), window);
        // Each gateway's own bucket of the whole limit stands before both.
        let filtered = |of_one: u64, sum: u64| sum.min(of_one.saturating_mul(all));
        let without_store = Ceiling {
            in_any_span: alone.in_any_span.saturating_mul(all),
            at_once: alone.at_once.saturating_mul(all),
        };
        Self {
            with_store,
            without_store,
            in_part: Ceiling {
                in_any_span: filtered(
                    with_store.in_any_span,
                    with_store.in_any_span + without_store.in_any_span,
                ),
                at_once: filtered(
                    with_store.at_once,
                    with_store.at_once + without_store.at_once,
                ),
            },
        }
    }

    /// Whether the fleet can be admitted more without the store than with it: the
    /// burst has fewer units than there are gateways.
    pub fn is_above_the_limit(&self) -> bool {
        let (with, without) = (self.with_store, self.without_store);
        without.in_any_span > with.in_any_span || without.at_once > with.at_once
    }
}

fn most(shape: Shape, window: &Window) -> Ceiling {
    let burst = u64::from(shape.burst);
    Ceiling {
        in_any_span: burst + nanos(window.per) / shape.unit_ns.max(1),
        at_once: burst,
    }
}

#[cfg(test)]
mod tests {
    use std::{num::NonZeroU32, time::Duration};

    use super::*;
    use crate::gcra::{Bucket, take_all};

    fn window(requests: u32, per: Duration, burst: u32) -> Window {
        Window {
            requests: NonZeroU32::new(requests).unwrap(),
            per,
            burst: NonZeroU32::new(burst).unwrap(),
        }
    }

    /// What is admitted of as many calls as possible, at once and in the fullest span.
    fn admitted(shape: Shape, window: &Window) -> Ceiling {
        let now = 1_000_000_000_000;
        let mut bucket = [Bucket {
            shape,
            full_at_ns: 0,
        }];
        let mut at_once = 0;
        while take_all(&mut bucket, now).is_ok() {
            at_once += 1;
        }
        let (mut in_any_span, mut at) = (at_once, now);
        let end = now + nanos(window.per);
        loop {
            at += shape.wait_ns(bucket[0].full_at_ns, at);
            if at > end {
                break;
            }
            assert!(take_all(&mut bucket, at).is_ok());
            in_any_span += 1;
        }
        Ceiling {
            in_any_span,
            at_once,
        }
    }

    #[test]
    fn the_ceilings_are_what_the_buckets_admit() {
        let minute = Duration::from_secs(60);
        for (requests, burst, replicas) in [
            (50, 50, 3),
            (100, 10, 7),
            (1, 1, 3),
            (3, 40, 10),
            (60, 60, 1),
        ] {
            let window = window(requests, minute, burst);
            let ceilings = Ceilings::of(&window, replicas);
            assert_eq!(ceilings.with_store, admitted(Shape::of(&window), &window));
            let alone = admitted(share(&window, replicas), &window);
            let all = u64::from(replicas);
            assert_eq!(ceilings.without_store.in_any_span, alone.in_any_span * all);
            assert_eq!(ceilings.without_store.at_once, alone.at_once * all);
        }
    }

    #[test]
    fn a_fleet_on_its_own_stays_below_the_limit_and_twice_while_split() {
        for replicas in 1..60 {
            let window = window(50, Duration::from_secs(60), 60);
            let ceilings = Ceilings::of(&window, replicas);
            assert!(!ceilings.is_above_the_limit(), "{replicas}");
            let limit = ceilings.with_store.in_any_span;
            assert!(ceilings.without_store.in_any_span <= limit, "{replicas}");
            assert!(ceilings.in_part.in_any_span <= 2 * limit, "{replicas}");
            assert!(ceilings.in_part.at_once <= 2 * ceilings.with_store.at_once);
        }
    }

    #[test]
    fn a_burst_that_cannot_be_divided_is_above_the_limit_and_said_to_be() {
        let ceilings = Ceilings::of(&window(1, Duration::from_secs(86_400), 1), 3);
        assert_eq!(ceilings.without_store.at_once, 3);
        assert!(ceilings.is_above_the_limit());
        // At once alone: in a span, what rounding leaves each gateway is less.
        let ceilings = Ceilings::of(&window(50, Duration::from_secs(60), 2), 3);
        let (with, without) = (ceilings.with_store, ceilings.without_store);
        assert_eq!((without.at_once, with.at_once), (3, 2));
        assert_eq!((without.in_any_span, with.in_any_span), (51, 52));
        assert!(ceilings.is_above_the_limit());
    }

    #[test]
    fn one_gateway_alone_has_the_whole_limit_and_its_own_filter_bounds_it() {
        let window = window(50, Duration::from_secs(60), 20);
        assert_eq!(share(&window, 1), Shape::of(&window));
        let ceilings = Ceilings::of(&window, 1);
        assert_eq!(ceilings.in_part, ceilings.with_store);
    }
}
