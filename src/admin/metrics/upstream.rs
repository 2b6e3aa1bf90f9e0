//! The upstream: attempts, connections, keys and their breakers.

use super::{
    get, sum_all,
    text::{Kind, Text},
};
use crate::{
    histogram::{self, Merged},
    limits::BreakerState,
    metrics::{ConnectFailure, OtherRetry, STATUSES, UpstreamError},
    server::Shared,
    snapshot::Snapshot,
};

/// Attempts, connections and retries.
pub fn upstream(text: &mut Text, shared: &Shared) {
    let shards = shared.metrics().shards();
    let errors = sum_all(shared, |shard| &shard.upstream.errors);
    text.family(
        "upstream_requests",
        Kind::Counter,
        "Attempts at the upstream, by status; none: see upstream_errors",
    );
    let answers = sum_all(shared, |shard| &shard.upstream.answers);
    for (status, count) in STATUSES.into_iter().zip(answers) {
        text.number(&[("code", status)], count);
    }
    text.number(&[("code", "none")], errors.iter().sum());
    text.family(
        "upstream_errors",
        Kind::Counter,
        "Attempts at the upstream without an answer, by reason",
    );
    for (reason, count) in UpstreamError::ALL.into_iter().zip(errors) {
        text.number(&[("reason", reason.as_str())], count);
    }
    text.family(
        "upstream_request_duration_seconds",
        Kind::Histogram,
        "How long attempts at the upstream took, connecting included",
    );
    let parts = shards.iter().map(|shard| &shard.upstream.durations);
    text.spans(&[], &Merged::of(&histogram::REQUEST, parts));
    text.family(
        "upstream_connects",
        Kind::Counter,
        "Connections opened to the upstream, by result",
    );
    let connected = shards
        .iter()
        .map(|shard| get(&shard.upstream.connected))
        .sum();
    text.number(&[("result", "ok")], connected);
    let failed = sum_all(shared, |shard| &shard.upstream.connect_errors);
    for (result, count) in ConnectFailure::ALL.into_iter().zip(failed) {
        text.number(&[("result", result.as_str())], count);
    }
    text.family(
        "upstream_connect_duration_seconds",
        Kind::Histogram,
        "How long connecting to the upstream took: look-up, TCP and TLS",
    );
    let parts = shards.iter().map(|shard| &shard.upstream.connect_durations);
    text.spans(&[], &Merged::of(&histogram::REQUEST, parts));
    text.family(
        "upstream_retries",
        Kind::Counter,
        "Further attempts, by why the one before was not enough",
    );
    let after_errors = sum_all(shared, |shard| &shard.upstream.retries);
    for (reason, count) in UpstreamError::ALL.into_iter().zip(after_errors) {
        text.number(&[("reason", reason.as_str())], count);
    }
    let others = sum_all(shared, |shard| &shard.upstream.other_retries);
    for (reason, count) in OtherRetry::ALL.into_iter().zip(others) {
        text.number(&[("reason", reason.as_str())], count);
    }
    text.family(
        "upstream_retry_budget_exhausted",
        Kind::Counter,
        "Further attempts that were not made, since there were too many already",
    );
    let exhausted = shards
        .iter()
        .map(|shard| get(&shard.upstream.budget_exhausted));
    text.number(&[], exhausted.sum());
}

/// What is counted by key.
pub fn keys(text: &mut Text, snapshot: &Snapshot) {
    text.family(
        "upstream_key_refusals",
        Kind::Counter,
        "How often the upstream refused a key of this name",
    );
    for key in snapshot.keys() {
        text.number(&[("key", key.name())], key.refusals());
    }
    text.family(
        "upstream_key_refused",
        Kind::Gauge,
        "Whether the upstream refuses the key in use, by its last answer",
    );
    for key in snapshot.keys() {
        text.flag(&[("key", key.name())], key.is_refused());
    }
    text.family(
        "upstream_key_moved_on",
        Kind::Gauge,
        "Whether the key of next is in use, not that of secret",
    );
    for key in snapshot.keys() {
        text.flag(&[("key", key.name())], key.has_moved());
    }
    text.family(
        "upstream_key_unusual_404s",
        Kind::Gauge,
        "Whether more than half of the last answers to this key are 404: likely a key of the wrong environment",
    );
    for key in snapshot.keys() {
        text.flag(&[("key", key.name())], key.has_unusual_404s());
    }
    text.family(
        "circuit_breaker_state",
        Kind::Gauge,
        "Whether calls with this key are refused because the upstream fails: 1 for the state it is in",
    );
    for key in snapshot.keys() {
        let now = key.breaker().state();
        for state in BreakerState::ALL {
            let labels = [("key", key.name()), ("state", state.as_str())];
            text.flag(&labels, state == now);
        }
    }
    text.family(
        "circuit_breaker_transitions",
        Kind::Counter,
        "Changes of a breaker's state",
    );
    for key in snapshot.keys() {
        for (to, count) in key.breaker().transitions() {
            let labels = [("key", key.name()), ("to", to.as_str())];
            text.number(&labels, count);
        }
    }
}
