//! What follows the local limits where a fleet shares them: the store decides, and
//! while it does not, the fair share of this gateway.
//!
//! A call that the local limits refuse never gets here: they have learned from the
//! store what it would refuse. One that is refused here has spent nothing locally
//! either; kept, its unit would let this gateway refuse by itself, later on, what
//! the fleet's bucket still has.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{Bucket, Limits, Pass, Refused, Taken, rate_limited};
use crate::{
    code::LimitedBy,
    fleet::{Answer, Ask, Client, Window},
};

/// Who decided on a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// This gateway by itself.
    Local,
    /// The store that a fleet shares.
    Store,
}

/// What a call is asked against.
#[derive(Debug, Clone, Copy)]
pub struct Asking<'a> {
    /// All that limits the tenant.
    pub limits: &'a Limits,
    /// The tenant's name.
    pub tenant: &'a str,
    /// The name of its key.
    pub key: &'a str,
    /// The way to the store, where there is one.
    pub store: Option<&'a Client>,
    /// Whether the call is sent if it passes: a dry run is not.
    pub is_sent: bool,
}

impl Asking<'_> {
    /// Gate, breaker, one unit of every local bucket, and then one of every bucket
    /// of the fleet; or nothing at all.
    pub async fn pass(self) -> Result<(Pass, Backend), Refused> {
        let pass = self.try_pass()?;
        let backend = self.go_on().await?;
        Ok((pass, backend))
    }

    /// Gate, breaker and one unit of every local bucket; or nothing at all.
    pub fn try_pass(self) -> Result<Pass, Refused> {
        match self.is_sent {
            true => self.limits.try_pass(),
            false => self.limits.try_pass_unsent(),
        }
    }

    /// What comes after the local limits let a call pass.
    pub async fn go_on(self) -> Result<Backend, Refused> {
        let limits = self.limits;
        let Some(store) = self.store.filter(|_| !limits.buckets.is_empty()) else {
            return Ok(Backend::Local);
        };
        let windows = limits.windows();
        let asked = Instant::now();
        let mut taken = Taken::from(limits, asked);
        let ask = Ask {
            prefix: store.store().prefix(),
            key: self.key,
            tenant: self.tenant,
            windows: &windows,
        };
        let answer = store.take(&ask).await.ok();
        // No call can end between this and what its answer means.
        taken.keep();
        limits.settle(asked, answer, store.store().divisor())
    }
}

impl Limits {
    /// What a call that was let pass asks the store for.
    pub fn windows(&self) -> Vec<Window> {
        let window = |(by, bucket): &(LimitedBy, Arc<Bucket>)| Window {
            is_of_key: *by == LimitedBy::Key,
            per: bucket.window().per,
            shape: bucket.shape(),
            known: bucket.known_spent(),
        };
        self.buckets.iter().map(window).collect()
    }

    /// What it means for a call that was let pass and asked the store at `asked`: the
    /// store's answer if there is one, or else the fair share of one gateway among
    /// `replicas`.
    ///
    /// # Errors
    ///
    /// `rate-limited`. The call's units of the local buckets were given back.
    pub fn settle(
        &self,
        asked: Instant,
        answer: Option<Answer>,
        replicas: u32,
    ) -> Result<Backend, Refused> {
        let mut taken = Taken::from(self, asked);
        let Some(answer) = answer else {
            self.take_share(replicas)?;
            taken.keep();
            return Ok(Backend::Local);
        };
        let refused = answer.refused.and_then(|(at, wait)| {
            let (by, bucket) = self.buckets.get(at)?;
            Some(Refused::RateLimited {
                by: *by,
                policy: Some(bucket.name().to_owned()),
                retry_after: wait,
                by_store: true,
            })
        });
        // Before the buckets learn what is spent: a refused call is no part of it.
        match &refused {
            Some(_) => drop(taken),
            None => taken.keep(),
        }
        for ((_, bucket), spent) in self.buckets.iter().zip(answer.spent) {
            bucket.learn(asked, spent);
        }
        refused.map_or(Ok(Backend::Store), Err)
    }

    /// One unit of the fair share of every bucket, or nothing at all.
    fn take_share(&self, replicas: u32) -> Result<(), Refused> {
        for (at, (by, bucket)) in self.buckets.iter().enumerate() {
            let Err(wait) = bucket.take_share(replicas) else {
                continue;
            };
            for (_, taken) in self.buckets.iter().take(at) {
                taken.give_back_share(replicas);
            }
            let later = self.buckets.iter().skip(at + 1);
            let longest = later
                .map(|(_, bucket)| bucket.share_wait(replicas))
                .fold(wait, Duration::max);
            return Err(rate_limited(*by, Some(bucket), longest));
        }
        self.buckets().for_each(|bucket| bucket.passed_by_share());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::time::advance;

    use super::*;
    use crate::{
        config::settings::testing::window,
        fleet::testing::gone,
        limits::{Breaker, Rule, Rules},
    };

    const SECOND: Duration = Duration::from_secs(1);
    const MINUTE: Duration = Duration::from_secs(60);

    /// Two a second of the tenant's, three a minute of its key's.
    fn limits() -> Limits {
        let bucket = |scope, n, per| Arc::new(Bucket::of_fleet(Rule::new(scope, window(n, per))));
        Limits::new(
            [bucket("tenant", 2, SECOND)],
            [bucket("key", 3, MINUTE)],
            Arc::default(),
            Arc::new(Breaker::new(None)),
            &mut Rules::default(),
        )
    }

    fn said(refused: Option<(usize, Duration)>, spent: [Duration; 2]) -> Option<Answer> {
        Some(Answer {
            refused,
            spent: spent.into(),
        })
    }

    /// A call that the local limits let pass, and what comes of it then.
    fn settled(limits: &Limits, answer: Option<Answer>) -> Result<Backend, Refused> {
        limits.try_pass().unwrap().worked();
        limits.settle(Instant::now(), answer, 2)
    }

    fn remaining(limits: &Limits) -> Vec<u32> {
        let buckets = limits.buckets();
        buckets.map(|bucket| bucket.level().remaining).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn the_store_is_asked_for_each_window_with_whose_it_is_and_what_is_known() {
        let limits = limits();
        let spent = [SECOND / 2, 7 * SECOND];
        assert_eq!(settled(&limits, said(None, spent)), Ok(Backend::Store));
        let asked: Vec<_> = limits
            .windows()
            .iter()
            .map(|window| (window.is_of_key, window.per, window.known))
            .collect();
        let expected = [(false, SECOND, spent[0]), (true, MINUTE, spent[1])];
        assert_eq!(asked, expected);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_the_store_lets_pass_is_spent_and_one_that_it_refuses_is_not() {
        let limits = limits();
        let nothing = [Duration::ZERO; 2];
        assert_eq!(settled(&limits, said(None, nothing)), Ok(Backend::Store));
        assert_eq!(remaining(&limits), [1, 2]);
        let refused = settled(&limits, said(Some((1, 9 * SECOND)), nothing));
        let by_key = Refused::RateLimited {
            by: LimitedBy::Key,
            policy: Some("key-60s".to_owned()),
            retry_after: 9 * SECOND,
            by_store: true,
        };
        assert_eq!(refused, Err(by_key));
        assert_eq!(remaining(&limits), [1, 2]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_came_back_by_itself_is_not_given_back() {
        let limits = limits();
        limits.try_pass().unwrap().worked();
        let taken = Taken::from(&limits, Instant::now());
        // In which the tenant's unit comes back.
        advance(SECOND / 2).await;
        limits.try_pass().unwrap().worked();
        assert_eq!(remaining(&limits), [1, 1]);
        drop(taken);
        assert_eq!(remaining(&limits), [1, 2]);
    }

    #[tokio::test(start_paused = true)]
    async fn without_an_answer_the_fair_share_decides_all_or_nothing() {
        let by = |by, policy: &str, retry_after| {
            Err(Refused::RateLimited {
                by,
                policy: Some(policy.to_owned()),
                retry_after,
                by_store: false,
            })
        };
        let limits = limits();
        assert_eq!(settled(&limits, None), Ok(Backend::Local));
        // The share is one a second and one in 40 s: the longer wait is told.
        let of_tenant = by(LimitedBy::Tenant, "tenant-1s", 40 * SECOND);
        assert_eq!(settled(&limits, None), of_tenant);
        advance(SECOND).await;
        let of_key = by(LimitedBy::Key, "key-60s", 39 * SECOND);
        for _ in 0..3 {
            // The tenant's share is given back each time, and the local units too.
            assert_eq!(settled(&limits, None), of_key);
        }
        advance(39 * SECOND).await;
        assert_eq!(settled(&limits, None), Ok(Backend::Local));
    }

    #[tokio::test]
    async fn a_store_that_is_gone_leaves_the_decision_to_the_share() {
        let limits = limits();
        let store = gone(2);
        let asking = |store| Asking {
            limits: &limits,
            tenant: "t",
            key: "k",
            store,
            is_sent: true,
        };
        let pass = async |store| {
            let passed = asking(store).pass().await;
            passed.map(|(pass, by)| {
                pass.worked();
                by
            })
        };
        assert_eq!(pass(Some(&store)).await, Ok(Backend::Local));
        assert!(pass(Some(&store)).await.is_err());
        // Without a store at all there is no share.
        assert_eq!(pass(None).await, Ok(Backend::Local));
    }
}
