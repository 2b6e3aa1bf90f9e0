//! How often a peer may present a token that is not good.

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

use super::{FullAt, Rule};
use crate::{arrival::Peer, gcra::Window};

/// A bucket for each peer, in a table of fixed size: peers that fall on one place
/// share its bucket, so that no number of peers takes more memory. It is looked
/// at only after a token failed: a good token is never refused for it.
#[derive(Debug)]
pub struct FailedAuth {
    rule: Rule,
    places: Box<[FullAt]>,
    hasher: RandomState,
}

impl FailedAuth {
    const PLACES: usize = 1024;

    /// Nobody has failed yet.
    pub fn new(window: Window) -> Self {
        Self {
            rule: Rule::new("unauthenticated", window),
            places: (0..Self::PLACES).map(|_| FullAt::default()).collect(),
            hasher: RandomState::new(),
        }
    }

    /// Counts a failure of `peer`.
    ///
    /// # Errors
    ///
    /// How long to wait, once the peer has failed too often.
    pub fn count(&self, peer: &Peer) -> Result<(), Duration> {
        let hash = self.hasher.hash_one(peer.origin());
        let place = usize::try_from(hash % Self::PLACES as u64).unwrap_or_default();
        let bucket = self.places.get(place);
        bucket.map_or(Ok(()), |bucket| self.rule.take(bucket))
    }
}

#[cfg(test)]
mod tests {
    use std::{net::IpAddr, num::NonZeroU32};

    use super::*;

    #[test]
    fn a_peer_that_fails_too_often_waits_and_another_does_not() {
        let three = NonZeroU32::new(3).unwrap();
        let window = Window {
            requests: three,
            per: Duration::from_secs(3600),
            burst: three,
        };
        let failed = FailedAuth::new(window);
        let guesser = Peer::Tcp("[2001:db8::1]:1000".parse().unwrap());
        for _ in 0..3 {
            assert_eq!(failed.count(&guesser), Ok(()));
        }
        assert!(failed.count(&guesser).is_err());
        let same_network = Peer::Tcp("[2001:db8::ffff]:1001".parse().unwrap());
        assert!(failed.count(&same_network).is_err());
        // Some of a few others may share the guesser's place, not all.
        let others = |of: fn(u8) -> Peer| {
            let free = (2..10).filter(|n| failed.count(&of(*n)).is_ok());
            assert!(free.count() > 4);
        };
        others(|n| Peer::Tcp(([10, 0, 0, n], 1000).into()));
        others(|n| Peer::Tcp((format!("::ffff:10.0.1.{n}").parse::<IpAddr>().unwrap(), 1).into()));
        others(|n| Peer::Unix { uid: n.into() });
    }
}
