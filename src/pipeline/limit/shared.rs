//! What follows the local limits where a fleet shares them: the store decides, and
//! while it does not, the fair share of this gateway.
//!
//! A call that the local limits refuse never gets here: they have learned from the
//! store what it would refuse. One that is refused here has spent nothing locally
//! either; kept, its unit would let this gateway refuse by itself, later on, what
//! the fleet's bucket still has.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{Bucket, Limits, Pass};
use crate::{
    fleet::{Answer, Ask, Client, Window},
    pipeline::refusal::{LimitedBy, Refusal},
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
}

/// Units of the local buckets; given back when dropped, unless they are kept.
struct Taken<'a>(Option<&'a Limits>);

impl Taken<'_> {
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        let buckets = self.0.iter().flat_map(|limits| limits.buckets());
        buckets.for_each(|bucket| bucket.give_back());
    }
}

impl Asking<'_> {
    /// Gate, breaker, one unit of every local bucket, and then one of every bucket
    /// of the fleet; or nothing at all.
    pub async fn pass(self) -> Result<(Pass, Backend), Refusal> {
        let pass = self.limits.try_pass()?;
        let backend = self.go_on().await?;
        Ok((pass, backend))
    }

    /// What comes after the local limits let a call pass.
    pub async fn go_on(self) -> Result<Backend, Refusal> {
        let limits = self.limits;
        let Some(store) = self.store.filter(|_| !limits.buckets.is_empty()) else {
            return Ok(Backend::Local);
        };
        let taken = Taken(Some(limits));
        let windows = limits.windows();
        let asked = Instant::now();
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
    ) -> Result<Backend, Refusal> {
        let taken = Taken(Some(self));
        let Some(answer) = answer else {
            self.take_share(replicas)?;
            taken.keep();
            return Ok(Backend::Local);
        };
        let refused = answer.refused.and_then(|(at, wait)| {
            let (by, bucket) = self.buckets.get(at)?;
            Some(Refusal::RateLimited {
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
    fn take_share(&self, replicas: u32) -> Result<(), Refusal> {
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
            return Err(Refusal::RateLimited {
                by: *by,
                policy: Some(bucket.name().to_owned()),
                retry_after: longest,
                by_store: false,
            });
        }
        self.buckets().for_each(|bucket| bucket.passed_by_share());
        Ok(())
    }
}
