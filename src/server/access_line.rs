//! The line of each call. No ids of users or credentials and no path: those are personal
//! data, and the trail has them.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    arrival::{Arrival, Peer},
    logging::{
        access::{is_wanted, note},
        line::{Line, field},
    },
    pipeline::{Answer, contract::ROUTE},
    secret::hex,
    traces::Context,
};

/// Notes a call that is about to be answered, if calls with its status get a line: each of
/// a tenant's, and some of all others. `config` is the digest of the config.
pub fn answered(arrival: &Arrival, answer: &Answer<'_>, trace: Option<&Context>, config: &str) {
    if is_wanted(answer.response.status().as_u16()) {
        note(answer.tenant.is_some(), |line, now| {
            call(line, arrival, answer);
            times(line, arrival, answer, now);
            ends(line, trace, config);
        });
    }
}

fn call(line: &mut Line<'_>, arrival: &Arrival, answer: &Answer<'_>) {
    let status = answer.response.status().as_u16();
    field!(line, "request.id");
    line.plain(arrival.request_id.as_str());
    if let Some(tenant) = answer.tenant {
        field!(line, "tenant.id");
        line.plain(tenant);
    }
    if let Some(token) = answer.token {
        field!(line, "token.id");
        line.plain(token);
    }
    field!(line, "client.address");
    match arrival.peer {
        Peer::Tcp(address) => line.ip(address.ip()),
        Peer::Unix { .. } => line.text(&arrival.peer.to_string()),
    }
    field!(line, "http.request.method");
    line.plain(arrival.method);
    if answer.is_on_route {
        field!(line, "http.route");
        line.plain(ROUTE);
    }
    field!(line, "http.response.status_code");
    line.number(status.into());
    field!(line, "network.protocol.version");
    line.plain(arrival.protocol_version());
    // OpenTelemetry: the status alone says it where the upstream said no.
    if let Some(code) = answer.code.of_refusal() {
        field!(line, "error.type");
        line.plain(code);
    }
    if let Some(reason) = &answer.reason {
        field!(line, "reason");
        line.text(reason);
    }
    if let Some(outcome) = answer.outcome {
        field!(line, "outcome");
        line.plain(outcome.as_str());
    }
    let attempts = answer.upstream.as_ref().map_or(0, |up| up.attempts.len());
    if let Some(again @ 1..) = attempts.checked_sub(1) {
        field!(line, "http.request.resend_count");
        line.number(u64::try_from(again).unwrap_or(u64::MAX));
    }
}

fn times(line: &mut Line<'_>, arrival: &Arrival, answer: &Answer<'_>, now: Instant) {
    field!(line, "duration_ms");
    line.millis(micros_of(now.saturating_duration_since(arrival.started)));
    if let Some(upstream) = &answer.upstream {
        field!(line, "upstream_ms");
        line.millis(micros_of(upstream.took));
    }
}

fn ends(line: &mut Line<'_>, trace: Option<&Context>, config: &str) {
    if let Some(trace) = trace {
        field!(line, "trace_id");
        line.plain(&hex(&trace.trace_id));
        if trace.is_sampled {
            field!(line, "span_id");
            line.plain(&hex(&trace.span_id));
        }
    }
    field!(line, "config.sha256");
    line.plain(config);
}

fn micros_of(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}
