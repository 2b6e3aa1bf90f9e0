//! The modes that are compared, and how much `check` says that each admits at most.

use std::time::Duration;

use alloy_gateway::{config::settings::Window, gcra::share::Ceilings};

use super::{
    plan::{Plan, Sharing},
    weather::{Spell, What, Who},
};

/// One of them.
#[derive(Debug)]
pub struct Mode {
    /// Its name in table and plot.
    pub name: &'static str,
    /// What it is.
    pub about: &'static str,
    /// What holds for it.
    pub bound: Bound,
    sharing: Sharing,
    spells: Vec<Spell>,
    is_rolled_out: bool,
    /// In how many seconds the buckets in the store are lost once.
    loses_every: Option<u64>,
}

/// Which of the ceilings of `check` holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// None that it states: each sidecar has the whole limit.
    EachTheLimit,
    /// While all ask the store.
    WithStore,
    /// While none can.
    WithoutStore,
    /// While only some can, or it comes and goes.
    InPart,
}

/// In which each sidecar is restarted once.
const ROLLOUT: Duration = Duration::from_secs(90);

impl Mode {
    fn new(name: &'static str, about: &'static str, bound: Bound) -> Self {
        Self {
            name,
            about,
            bound,
            sharing: Sharing::Store,
            spells: Vec::new(),
            is_rolled_out: false,
            loses_every: None,
        }
    }

    fn weather(self, spells: impl Into<Vec<Spell>>) -> Self {
        let spells = spells.into();
        Self { spells, ..self }
    }

    fn rolled_out(self) -> Self {
        Self {
            is_rolled_out: true,
            ..self
        }
    }

    fn losing(mut self, every: u64) -> Self {
        let loss = Spell::of_all(every, every / 2 + 1, 1, What::Lost);
        self.spells.push(loss);
        self.loses_every = Some(every);
        self
    }

    /// This mode with so many sidecars that know how many they are.
    pub fn plan(&self, limit: Window, sidecars: usize) -> Plan {
        Plan {
            sharing: self.sharing,
            spells: self.spells.clone(),
            rollout: self.is_rolled_out.then_some(ROLLOUT),
            ..Plan::new(limit, sidecars)
        }
    }

    /// The most that a fleet may be admitted of one limit in any span of its length.
    pub fn ceiling(&self, limit: &Window, sidecars: usize) -> u64 {
        let replicas = u32::try_from(sidecars).unwrap_or(u32::MAX);
        let ceilings = Ceilings::of(limit, replicas);
        let one = ceilings.with_store.in_any_span;
        let stated = match self.bound {
            Bound::EachTheLimit => one * sidecars as u64,
            Bound::WithStore => one,
            Bound::WithoutStore => ceilings.without_store.in_any_span,
            Bound::InPart => ceilings.in_part.in_any_span,
        };
        // One more burst for each loss.
        let losses = self
            .loses_every
            .map_or(0, |every| limit.per.as_secs().div_ceil(every));
        stated + losses * u64::from(limit.burst.get())
    }
}

/// All of them.
pub fn modes() -> Vec<Mode> {
    let gone = Spell::always(What::Killed);
    let halves = |each, lasts, what| {
        let spell = Spell::of_all(2 * each, each / 2, lasts, what);
        let later = Spell {
            from: spell.from + Duration::from_secs(each),
            ..spell
        };
        [spell.only(Who::Even), later.only(Who::Odd)]
    };
    let slow = What::Slow(Duration::from_millis(12));
    vec![
        Mode {
            sharing: Sharing::Nothing,
            ..Mode::new(
                "each the limit",
                "no store in the config",
                Bound::EachTheLimit,
            )
        },
        Mode::new(
            "shares only",
            "the store never answers: each has 1/N",
            Bound::WithoutStore,
        )
        .weather([gone]),
        Mode::new("store", "it always answers", Bound::WithStore),
        Mode::new("store killed", "for 30 s, every 75 s", Bound::InPart).weather([Spell::of_all(
            75,
            30,
            30,
            What::Killed,
        )]),
        Mode::new(
            "store paused, slow",
            "SIGSTOP for 10 s, then many answers late for 20 s; every 60 s",
            Bound::InPart,
        )
        .weather([
            Spell::of_all(60, 15, 10, What::Paused),
            Spell::of_all(60, 25, 20, slow),
        ]),
        Mode::new(
            "comes and goes",
            "cut off for 2 s, every 5 s",
            Bound::InPart,
        )
        .weather([Spell::of_all(5, 2, 2, What::CutOff)]),
        Mode::new(
            "half cut off",
            "one half for 20 s, then the other",
            Bound::InPart,
        )
        .weather(halves(20, 20, What::CutOff)),
        Mode::new(
            "store emptied",
            "every 70 s, as by a restart without its data",
            Bound::InPart,
        )
        .weather([Spell::of_all(70, 35, 1, What::Killed)])
        .losing(70),
        Mode::new(
            "roll-out",
            "each sidecar restarted every 90 s",
            Bound::InPart,
        )
        .rolled_out(),
        Mode::new(
            "roll-out, no store",
            "the same while the store never answers",
            Bound::WithoutStore,
        )
        .weather([gone])
        .rolled_out(),
        Mode::new(
            "all together",
            "halves cut off, store killed, paused, slow and emptied, roll-out",
            Bound::InPart,
        )
        .weather(
            [
                &halves(17, 11, What::CutOff)[..],
                &[
                    Spell::of_all(97, 41, 7, What::Killed),
                    Spell::of_all(83, 20, 5, What::Paused),
                    Spell::of_all(53, 30, 9, slow),
                ],
            ]
            .concat(),
        )
        .rolled_out()
        .losing(61),
    ]
}
