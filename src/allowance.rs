//! How many of something that anybody can bring about may cost us anything: some at once,
//! and then one in so long.

use std::time::{Duration, Instant};

/// `burst` at once, then one every `every`; fills up again as time goes by.
#[derive(Debug)]
pub struct Allowance {
    burst: u32,
    every: Duration,
    /// When all that was taken is given back.
    full_at: Option<Instant>,
}

impl Allowance {
    /// Nothing was taken yet. `burst` is at least 1.
    pub const fn new(burst: u32, every: Duration) -> Self {
        Self {
            burst,
            every,
            full_at: None,
        }
    }

    /// Takes one, if one is left.
    pub fn take(&mut self, now: Instant) -> bool {
        let full_at = self.full_at.map_or(now, |full_at| full_at.max(now));
        let is_left = full_at - now <= self.every * (self.burst - 1);
        if is_left {
            self.full_at = Some(full_at + self.every);
        }
        is_left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_burst_one_by_one_is_seldom_and_it_fills_up_again() {
        let mut allowance = Allowance::new(200, Duration::from_millis(500));
        let start = Instant::now();
        let in_second = |allowance: &mut Allowance, second: u64| {
            let now = start + Duration::from_secs(second);
            (0..1000).filter(|_| allowance.take(now)).count()
        };
        assert_eq!(in_second(&mut allowance, 0), 200);
        assert_eq!(in_second(&mut allowance, 1), 2);
        assert_eq!(in_second(&mut allowance, 11), 20);
        assert_eq!(in_second(&mut allowance, 1000), 200);
    }
}
