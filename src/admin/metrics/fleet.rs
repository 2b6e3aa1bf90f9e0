//! The store in which a fleet shares its limits.

use super::text::{Kind, Text};
use crate::{
    fleet::{Board, Counted, Trouble},
    histogram::{self, Merged},
    server::Shared,
};

/// How the store stands; all zero where there is none.
pub fn store(text: &mut Text, shared: &Shared) {
    let snapshot = shared.snapshot();
    let store = snapshot.store.as_deref();
    let board = store.map(|store| store.board());
    text.family(
        "rate_limit_backend_errors",
        Kind::Counter,
        "How often the store of shared limits, or a connection to it, failed, by reason",
    );
    let none = Trouble::ALL.into_iter().map(|trouble| (trouble, 0));
    let troubles: Vec<_> = match board {
        Some(board) => board.troubles().collect(),
        None => none.collect(),
    };
    for (trouble, count) in troubles {
        text.number(&[("reason", trouble.as_str())], count);
    }
    text.family(
        "rate_limit_backend_degraded",
        Kind::Gauge,
        "Whether calls, or some of them, are decided by this gateway's fair share, since the store of shared limits does not decide",
    );
    text.flag(&[], board.is_some_and(Board::is_degraded));
    text.family(
        "rate_limit_backend_duration_seconds",
        Kind::Histogram,
        "How long calls waited for what the store of shared limits decided",
    );
    let times = board.map(Board::times);
    text.spans(&[], &Merged::of(&histogram::STORE, times));
    text.family(
        "rate_limit_gateways_live",
        Kind::Gauge,
        "How many gateways share the limits, as the store knew it last; 0 if it is not known, or the store does not count this one",
    );
    text.number(&[], board.map_or(0, Board::live).into());
    text.family(
        "fleet_uncounted",
        Kind::Gauge,
        "Whether the store of shared limits answers calls, and does not count this gateway, or what it deletes, over the fleet",
    );
    for what in Counted::ALL {
        let is_uncounted = board.is_some_and(|board| board.uncounted(what).is_some());
        text.flag(&[("what", what.as_str())], is_uncounted);
    }
    text.family(
        "rate_limit_gateways_configured",
        Kind::Gauge,
        "How many gateways may share the limits (limits_store.replicas); 0 without a store",
    );
    text.number(&[], store.map_or(0, |store| store.replicas()).into());
}
