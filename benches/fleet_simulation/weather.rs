//! What happens to the store, and to the way there: again and again, so that every
//! state is met in all phases of the limits.

use std::time::Duration;

/// One thing that happens every so often.
#[derive(Debug, Clone, Copy)]
pub struct Spell {
    /// It begins once in each of these.
    pub every: Duration,
    /// After so much of it.
    pub from: Duration,
    /// And lasts so long.
    pub lasts: Duration,
    /// Who is hit.
    pub who: Who,
    /// By what.
    pub what: What,
}

/// Who is hit by a spell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// Every sidecar.
    All,
    /// Those with even numbers.
    Even,
    /// Those with odd numbers.
    Odd,
}

/// What a spell does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// The store's process has ended: connections break at once.
    Killed,
    /// It is stopped (SIGSTOP): what reaches it is done when it goes on.
    Paused,
    /// What is sent never arrives, and nobody is told.
    CutOff,
    /// So much slower on average, each way.
    Slow(Duration),
    /// All buckets are lost when it begins: an empty store took over.
    Lost,
}

impl Spell {
    /// The whole time.
    pub fn always(what: What) -> Self {
        let every = Duration::from_secs(1_000_000);
        Self {
            every,
            from: Duration::ZERO,
            lasts: every,
            who: Who::All,
            what,
        }
    }

    /// Of everyone, in whole seconds.
    pub fn of_all(every: u64, from: u64, lasts: u64, what: What) -> Self {
        Self {
            every: Duration::from_secs(every),
            from: Duration::from_secs(from),
            lasts: Duration::from_secs(lasts),
            who: Who::All,
            what,
        }
    }

    /// The same for some of them only.
    pub fn only(self, who: Who) -> Self {
        Self { who, ..self }
    }

    /// Whether a sidecar is one of those that are hit.
    pub fn hits(&self, sidecar: usize) -> bool {
        match self.who {
            Who::All => true,
            Who::Even => sidecar.is_multiple_of(2),
            Who::Odd => !sidecar.is_multiple_of(2),
        }
    }

    /// When it ends, if it is on at `now`.
    pub fn on_until(&self, now: Duration) -> Option<Duration> {
        let past = into(now, self.every);
        let is_on = past >= self.from && past < self.from + self.lasts;
        is_on.then(|| now - past + self.from + self.lasts)
    }

    /// When it begins next, after `now`.
    pub fn next_after(&self, now: Duration) -> Duration {
        let begun = now - into(now, self.every);
        let here = begun + self.from;
        if here > now { here } else { here + self.every }
    }
}

fn into(now: Duration, every: Duration) -> Duration {
    let past = now.as_nanos() % every.as_nanos().max(1);
    Duration::from_nanos(u64::try_from(past).unwrap_or(u64::MAX))
}

/// What one sidecar meets on the way to the store at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// It gets there; so much slower on average.
    Open(Duration),
    /// There is no store.
    Killed,
    /// It gets there, and is done at that moment.
    Paused(Duration),
    /// It does not get there.
    CutOff,
}

/// What a sidecar meets at `now`: the worst of what hits it.
pub fn way(spells: &[Spell], sidecar: usize, now: Duration) -> Way {
    let mut met = Way::Open(Duration::ZERO);
    for spell in spells.iter().filter(|spell| spell.hits(sidecar)) {
        let Some(until) = spell.on_until(now) else {
            continue;
        };
        met = match (met, spell.what) {
            (Way::Killed, _) | (_, What::Killed) => Way::Killed,
            (Way::CutOff, _) | (_, What::CutOff) => Way::CutOff,
            (Way::Paused(before), What::Paused) => Way::Paused(before.max(until)),
            (_, What::Paused) => Way::Paused(until),
            (Way::Open(slower), What::Slow(by)) => Way::Open(slower + by),
            (met, What::Slow(_) | What::Lost) => met,
        };
    }
    met
}
