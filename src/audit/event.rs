//! The names of events, as they stand in the trail and in the metrics.

/// A DELETE is about to be sent.
pub const INTENT: &str = "request.intent";
/// How an intent ended.
pub const OUTCOME: &str = "request.outcome";
/// The gateway answered by itself.
pub const REFUSED: &str = "request.refused";
/// Refusals that have no record of their own.
pub const COALESCED: &str = "refusals.coalesced";
/// A connection ended before there was a request.
pub const CONNECTION_REFUSED: &str = "connection.refused";
/// A config is in effect.
pub const CONFIG_LOADED: &str = "config.loaded";
/// A config was invalid.
pub const CONFIG_REJECTED: &str = "config.rejected";
/// Another Alloy key is used.
pub const KEY_ROTATED: &str = "key.rotated";
/// A tenant, or all, are refused.
pub const FROZEN: &str = "tenant.frozen";
/// A freeze ends.
pub const THAWED: &str = "tenant.thawed";
/// An operator had new calls refused.
pub const DRAIN: &str = "admin.drain";
/// An operator had the config loaded.
pub const RELOAD: &str = "admin.reload";
/// An operator moved to the next key.
pub const ROTATE_KEY: &str = "admin.rotate-key";
/// Somebody sent an admin token that is not good.
pub const ADMIN_REFUSED: &str = "admin.refused";
/// An operator changed what is logged.
pub const LOG_LEVEL: &str = "admin.log-level";
/// The first record of a segment.
pub const OPENED: &str = "trail.opened";
/// The last record of a segment.
pub const SEALED: &str = "trail.sealed";
/// The trail goes on behind something that was wrong.
pub const RECOVERED: &str = "trail.recovered";
/// Retention removes a segment.
pub const PRUNED: &str = "trail.pruned";
/// The head, to be noted outside.
pub const CHECKPOINT: &str = "checkpoint";
/// The system's clock was set.
pub const CLOCK_STEPPED: &str = "clock.stepped";

/// All of them.
pub const ALL: [&str; 21] = [
    INTENT,
    OUTCOME,
    REFUSED,
    COALESCED,
    CONNECTION_REFUSED,
    CONFIG_LOADED,
    CONFIG_REJECTED,
    KEY_ROTATED,
    FROZEN,
    THAWED,
    DRAIN,
    RELOAD,
    ROTATE_KEY,
    ADMIN_REFUSED,
    LOG_LEVEL,
    OPENED,
    SEALED,
    RECOVERED,
    PRUNED,
    CHECKPOINT,
    CLOCK_STEPPED,
];

/// Those that are about a call, or an attempt at one; [`COALESCED`] unless its `code` says
/// otherwise.
pub const OF_CALLS: [&str; 5] = [INTENT, OUTCOME, REFUSED, COALESCED, CONNECTION_REFUSED];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_tells_of_each_event() {
        let format = include_str!("../../docs/audit-format.md");
        for event in ALL {
            assert!(format.contains(&format!("\n| `{event}` |")), "{event}");
        }
    }
}
