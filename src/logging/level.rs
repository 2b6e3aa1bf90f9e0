//! What is logged at all, and how that changes while the program runs.

use std::{
    fmt,
    str::FromStr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use tracing_subscriber::{
    filter::{LevelFilter, Targets},
    registry::Registry,
    reload::Handle,
};

use super::{Access, Settings, access};
use crate::token::holds_token;

/// A level that was set by hand goes back to the configured one after this.
pub const REVERT_AFTER: Duration = Duration::from_secs(15 * 60);

const WORDS: [(&str, LevelFilter); 6] = [
    ("error", LevelFilter::ERROR),
    ("warn", LevelFilter::WARN),
    ("info", LevelFilter::INFO),
    ("debug", LevelFilter::DEBUG),
    ("trace", LevelFilter::TRACE),
    ("off", LevelFilter::OFF),
];
/// The longest text of a level, in bytes.
const BYTES_MAX: usize = 1024;

/// A level for everything, and others for some targets, as in
/// `info,alloy_gateway::audit=debug,hyper=warn`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Level(Box<str>);

/// Why a text is no level.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadLevel {
    /// One of its parts is none.
    #[error(
        "expected a level (error, warn, info, debug, trace, off), with others for some targets behind it if wanted, as in info,hyper=warn"
    )]
    Part,
    /// It is too long.
    #[error("is longer than {BYTES_MAX} bytes")]
    TooLong,
}

impl Default for Level {
    fn default() -> Self {
        Self("info".into())
    }
}

impl FromStr for Level {
    type Err = BadLevel;

    fn from_str(text: &str) -> Result<Self, BadLevel> {
        if text.len() > BYTES_MAX {
            return Err(BadLevel::TooLong);
        }
        // It stands in log and trail.
        if holds_token(text.as_bytes()) {
            return Err(BadLevel::Part);
        }
        let parts: Option<Vec<_>> = text.split(',').map(|part| directive(part.trim())).collect();
        match parts {
            Some(_) => Ok(Self(text.trim().to_ascii_lowercase().into())),
            None => Err(BadLevel::Part),
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Level {
    /// What lets exactly this through.
    pub(super) fn filter(&self) -> Targets {
        // Bare targets, spans and fields were refused: a typo must not log everything.
        let parts = self.0.split(',').filter_map(|part| directive(part.trim()));
        let others = parts.clone().find(|(target, _)| target.is_empty());
        let targets = parts.filter(|(target, _)| !target.is_empty());
        Targets::new()
            .with_targets(targets)
            .with_default(others.map_or(LevelFilter::ERROR, |(_, level)| level))
    }
}

/// A target (empty: everything else) and its level.
fn directive(part: &str) -> Option<(&str, LevelFilter)> {
    let (target, word) = part.split_once('=').unwrap_or(("", part));
    let is_target = |b: u8| b.is_ascii_alphanumeric() || b"_:-".contains(&b);
    if part.starts_with('=') || !target.bytes().all(is_target) {
        return None;
    }
    let level = WORDS
        .into_iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(word))?;
    Some((target, level.1))
}

/// A level that was set by hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forced {
    /// The level.
    pub level: Level,
    /// When the configured one is back.
    pub until: SystemTime,
}

/// Changes the level while the program runs.
#[derive(Debug)]
pub struct Control {
    handle: Handle<Targets, Registry>,
    /// The environment said it: a config does not change it.
    is_fixed: bool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    configured: Level,
    access: Access,
    forced: Option<Forced>,
    changes: u64,
}

impl Control {
    pub(super) fn new(
        handle: Handle<Targets, Registry>,
        level: Level,
        is_fixed: bool,
        access: Access,
    ) -> Self {
        let control = Self {
            handle,
            is_fixed,
            state: Mutex::new(State {
                configured: level,
                access,
                forced: None,
                changes: 0,
            }),
        };
        control.apply(&control.state());
        control
    }

    /// The configured level, and the one that was set by hand.
    pub fn level(&self) -> (Level, Option<Forced>) {
        let state = self.state();
        (state.configured.clone(), state.forced.clone())
    }

    /// Takes what another config says. A level that was set by hand stays.
    pub fn configure(&self, settings: &Settings) {
        let mut state = self.state();
        if !self.is_fixed {
            state.configured = settings.level.clone();
        }
        state.access = settings.access;
        self.apply(&state);
    }

    /// Sets another level for [`REVERT_AFTER`]. The caller has to call
    /// [`revert`](Self::revert) with the number it gets once that has passed.
    pub fn force(&self, level: Level) -> (Forced, u64) {
        let mut state = self.state();
        let until = SystemTime::now() + REVERT_AFTER;
        let forced = Forced { level, until };
        state.forced = Some(forced.clone());
        state.changes += 1;
        self.apply(&state);
        (forced, state.changes)
    }

    /// Goes back to the configured level; false if the level was changed by hand
    /// again after `change`.
    pub fn revert(&self, change: u64) -> bool {
        let mut state = self.state();
        let is_last = state.changes == change;
        if is_last {
            state.forced = None;
            self.apply(&state);
        }
        is_last
    }

    fn apply(&self, state: &State) {
        let forced = state.forced.as_ref().map(|forced| &forced.level);
        let filter = forced.unwrap_or(&state.configured).filter();
        let shows_calls = filter.would_enable(access::TARGET, &tracing::Level::INFO);
        access::show(if shows_calls {
            state.access
        } else {
            Access::Off
        });
        // Fails only if another subscriber is in place (in a test).
        let _ = self.handle.reload(filter);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tracing::Level as L;

    use super::*;

    fn enables(level: &str, target: &str, at: L) -> bool {
        let level: Level = level.parse().unwrap();
        level.filter().would_enable(target, &at)
    }

    #[test]
    fn a_level_is_for_everything_and_a_target_may_have_its_own() {
        assert!(enables("info", "any", L::INFO) && !enables("info", "any", L::DEBUG));
        let some = "warn,alloy_gateway::audit=debug";
        assert!(enables(some, "alloy_gateway::audit::writer", L::DEBUG));
        assert!(!enables(some, "alloy_gateway::server", L::INFO));
        assert!(enables("INFO", "any", L::INFO));
        assert!(!enables("off", "any", L::ERROR));
        assert!(!enables("info,access=off", "access", L::INFO));
    }

    #[test]
    fn only_the_last_change_by_hand_is_undone_and_a_config_waits_for_that() {
        let (_layer, handle) = tracing_subscriber::reload::Layer::new(Level::default().filter());
        let control = Control::new(handle, Level::default(), false, Access::Off);
        let (_, first) = control.force("debug".parse().unwrap());
        let (_, second) = control.force("trace".parse().unwrap());
        control.configure(&Settings {
            level: "warn".parse().unwrap(),
            ..Settings::default()
        });
        assert!(!control.revert(first));
        let (configured, forced) = control.level();
        assert_eq!(configured.to_string(), "warn");
        assert_eq!(forced.unwrap().level.to_string(), "trace");
        assert!(control.revert(second));
        assert_eq!(control.level().1, None);
    }

    #[test]
    fn a_typo_is_no_level_and_so_does_not_log_everything() {
        for bad in [
            "",
            "inf",
            "info,",
            "=info",
            "hyper",
            "hyper=loud",
            "a b=info",
            "[span]=info",
        ] {
            assert_eq!(bad.parse::<Level>(), Err(BadLevel::Part), "{bad}");
        }
        let long = format!("info,{}=info", "a".repeat(1100));
        assert_eq!(long.parse::<Level>(), Err(BadLevel::TooLong));
    }
}
