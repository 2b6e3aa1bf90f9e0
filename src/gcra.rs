//! The rule of limits (GCRA), with the time passed in, and what a limit says ([`Window`]).
//!
//! The store of a fleet decides by the same rule in its own script; here it stands for the
//! fair share of a gateway that is on its own, for tests that hold the script
//! against it, and for simulations.

pub mod share;
mod window;

use std::time::Duration;

pub use self::window::Window;

/// A bucket's size: so many units at once, then one every `unit_ns`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// The nanoseconds in which one unit comes back, at least 1.
    pub unit_ns: u64,
    /// How many units the bucket holds, at least 1.
    pub burst: u32,
}

impl Shape {
    /// The bucket of a limit.
    pub fn of(window: &Window) -> Self {
        Self {
            unit_ns: nanos(window.per / window.requests.get()).max(1),
            burst: window.burst.get(),
        }
    }

    /// The nanoseconds in which an empty bucket fills.
    pub fn refill_ns(self) -> u64 {
        self.unit_ns.saturating_mul(u64::from(self.burst))
    }

    /// When a bucket that is said to be full at `full_at_ns` is: at `now_ns` it can be
    /// empty, and no more. A later time was written by a clock that was set back since.
    fn bounded(self, full_at_ns: u64, now_ns: u64) -> u64 {
        full_at_ns.min(now_ns.saturating_add(self.refill_ns()))
    }

    /// Takes one unit from a bucket that will be full at `full_at_ns`, if there is
    /// one at `now_ns`; both on one clock, whatever its zero. Returns when the
    /// bucket will be full then.
    ///
    /// # Errors
    ///
    /// How many nanoseconds it takes until there is a unit. The bucket is as it was.
    pub fn take(self, full_at_ns: u64, now_ns: u64) -> Result<u64, u64> {
        let refill_ns = self.refill_ns();
        let spent_ns = self.bounded(full_at_ns, now_ns).saturating_sub(now_ns);
        let after_ns = spent_ns.saturating_add(self.unit_ns);
        if after_ns > refill_ns {
            return Err(after_ns - refill_ns);
        }
        Ok(now_ns.saturating_add(after_ns))
    }

    /// How many nanoseconds it takes until there is a unit; 0 if there is one.
    pub fn wait_ns(self, full_at_ns: u64, now_ns: u64) -> u64 {
        self.take(full_at_ns, now_ns).err().unwrap_or(0)
    }
}

/// A bucket and its state, for those who keep several together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    /// Its size.
    pub shape: Shape,
    /// When it will be full; what lies in the past means that it is.
    pub full_at_ns: u64,
}

/// What refused a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    /// The bucket's place in the list.
    pub bucket: usize,
    /// When a retry passes: this bucket and all behind it have a unit then.
    pub wait: Duration,
}

/// Takes one unit of every bucket, or nothing at all. They stand shortest window
/// first: the first without a unit is the one that refuses. What a clock that was set
/// back left beyond empty is empty from now on, even if the call is refused.
///
/// # Errors
///
/// See [`Refused`].
pub fn take_all(buckets: &mut [Bucket], now_ns: u64) -> Result<(), Refused> {
    for bucket in buckets.iter_mut() {
        // Else the wait that is told would begin anew with each retry.
        bucket.full_at_ns = bucket.shape.bounded(bucket.full_at_ns, now_ns);
    }
    let waits = buckets
        .iter()
        .map(|bucket| bucket.shape.wait_ns(bucket.full_at_ns, now_ns));
    let mut refused: Option<(usize, u64)> = None;
    for (at, wait_ns) in waits.enumerate() {
        match &mut refused {
            None if wait_ns == 0 => {}
            None => refused = Some((at, wait_ns)),
            Some((_, longest)) => *longest = wait_ns.max(*longest),
        }
    }
    if let Some((bucket, wait_ns)) = refused {
        return Err(Refused {
            bucket,
            wait: Duration::from_nanos(wait_ns),
        });
    }
    for bucket in buckets {
        if let Ok(full_at_ns) = bucket.shape.take(bucket.full_at_ns, now_ns) {
            bucket.full_at_ns = full_at_ns;
        }
    }
    Ok(())
}

pub(crate) fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn bucket(unit_ns: u64, burst: u32) -> Bucket {
        Bucket {
            shape: Shape { unit_ns, burst },
            full_at_ns: 0,
        }
    }

    #[test]
    fn burst_at_once_then_one_every_unit() {
        let mut buckets = [bucket(SECOND, 3)];
        for _ in 0..3 {
            assert_eq!(take_all(&mut buckets, 10 * SECOND), Ok(()));
        }
        let refused = take_all(&mut buckets, 10 * SECOND).unwrap_err();
        assert_eq!(refused.wait, Duration::from_secs(1));
        let refused = take_all(&mut buckets, 11 * SECOND - 1).unwrap_err();
        assert_eq!(refused.wait, Duration::from_nanos(1));
        assert_eq!(take_all(&mut buckets, 11 * SECOND), Ok(()));
    }

    #[test]
    fn all_are_taken_or_none_and_the_first_without_a_unit_is_named() {
        let mut buckets = [bucket(SECOND, 5), bucket(10 * SECOND, 2), bucket(SECOND, 9)];
        for _ in 0..2 {
            assert_eq!(take_all(&mut buckets, SECOND), Ok(()));
        }
        let before = buckets;
        for _ in 0..50 {
            let refused = take_all(&mut buckets, SECOND).unwrap_err();
            assert_eq!((refused.bucket, refused.wait.as_secs()), (1, 10));
        }
        assert_eq!(buckets, before);
    }

    #[test]
    fn a_later_bucket_lengthens_the_wait_that_is_told() {
        let mut buckets = [bucket(SECOND, 1), bucket(60 * SECOND, 1)];
        assert_eq!(take_all(&mut buckets, 0), Ok(()));
        let refused = take_all(&mut buckets, 0).unwrap_err();
        assert_eq!((refused.bucket, refused.wait.as_secs()), (0, 60));
    }

    #[test]
    fn a_clock_that_is_set_back_empties_a_bucket_and_no_more() {
        let mut buckets = [bucket(SECOND, 2)];
        assert_eq!(take_all(&mut buckets, 1000 * SECOND), Ok(()));
        let refused = take_all(&mut buckets, SECOND).unwrap_err();
        assert_eq!(refused.wait, Duration::from_secs(1));
        assert_eq!(take_all(&mut [bucket(SECOND, 2)], SECOND), Ok(()));
        // Who waits as long as was told is let through, though the clock is still behind.
        assert_eq!(take_all(&mut buckets, 2 * SECOND), Ok(()));
    }

    #[test]
    fn a_clock_that_is_set_back_leaves_the_buckets_that_it_does_not_empty() {
        let mut buckets = [
            bucket(SECOND, 2),
            bucket(1000 * SECOND, 5),
            bucket(3 * SECOND, 1),
        ];
        assert_eq!(take_all(&mut buckets, 1000 * SECOND), Ok(()));
        let of_long = buckets[1];
        let refused = take_all(&mut buckets, SECOND).unwrap_err();
        assert_eq!((refused.bucket, refused.wait.as_secs()), (0, 3));
        assert_eq!(buckets[1], of_long);
        // All that are empty are so from then on, not the one alone that refused.
        assert_eq!(take_all(&mut buckets, 4 * SECOND), Ok(()));
    }
}
