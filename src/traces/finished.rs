//! An answered call as spans: one of the server, and one of the client for each
//! attempt. The names are those of OpenTelemetry's conventions for HTTP. Ids of
//! users and credentials are personal data and stand nowhere.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use tokio::time::Instant;

use super::{
    context::{Context, new_span},
    encode::Message,
};
use crate::{
    arrival::{Arrival, Peer},
    audit::OutcomeKind,
    config::settings::UpstreamUrl,
    gcra::nanos,
    ids::RequestId,
    pipeline::{
        Answer,
        contract::{OPERATION, ROUTE},
        outcome::{Attempt, Attempts},
        respond::Body,
    },
    snapshot::Target,
};

/// The path as far as it may be told.
const PATH: &str = "/users/REDACTED/credentials/REDACTED";
/// Fields of `Span`.
const ATTRIBUTES: u32 = 9;
/// Values of `SpanKind`.
const SERVER: u64 = 2;
const CLIENT: u64 = 3;
/// Flags of a span: sampled; whether the parent is remote is known; it is.
const SAMPLED: u32 = 1;
const REMOTE_KNOWN: u32 = 0x100;
const REMOTE: u32 = 0x200;

/// What became of a call of a sampled trace.
#[derive(Debug)]
pub struct Finished {
    context: Context,
    request_id: RequestId,
    peer: Peer,
    method: &'static str,
    protocol_version: &'static str,
    started: Instant,
    status: u16,
    tenant: Option<Arc<str>>,
    token: Option<Arc<str>>,
    code: &'static str,
    reason: Option<String>,
    outcome: Option<OutcomeKind>,
    is_on_route: bool,
    upstream: Option<Attempts>,
    target: Arc<Target>,
    ended: Instant,
    ended_at: SystemTime,
}

impl Finished {
    /// Takes everything of an answer but the answer itself; `target` is where its call
    /// went, if it was sent.
    pub fn of(
        context: Context,
        arrival: &Arrival,
        answer: Answer<'_>,
        target: &Arc<Target>,
    ) -> (http::Response<Body>, Self) {
        let finished = Self {
            context,
            request_id: arrival.request_id,
            peer: arrival.peer,
            method: arrival.method,
            protocol_version: arrival.protocol_version(),
            started: arrival.started,
            status: answer.response.status().as_u16(),
            tenant: answer.tenant.cloned(),
            token: answer.token.cloned(),
            code: answer.code.as_str(),
            reason: answer.reason,
            outcome: answer.outcome,
            is_on_route: answer.is_on_route,
            upstream: answer.upstream,
            target: Arc::clone(target),
            ended: Instant::now(),
            ended_at: SystemTime::now(),
        };
        (answer.response, finished)
    }

    /// How many spans it has.
    pub fn spans(&self) -> u64 {
        let attempts = self.upstream.as_ref().map_or(0, |up| up.attempts.len());
        u64::try_from(attempts).unwrap_or_default() + 1
    }

    /// Writes its spans into a `ScopeSpans`.
    pub fn write(&self, scope: &mut Message) {
        scope.message(2, |span| self.write_call(span));
        let Some(upstream) = &self.upstream else {
            return;
        };
        let server = &self.target.settings.url;
        for (number, attempt) in (0..).zip(&upstream.attempts) {
            let began = upstream.began + attempt.after;
            scope.message(2, |span| {
                self.begin(span, new_span(), Some(self.context.span_id));
                span.bytes(5, OPERATION);
                span.number(6, CLIENT);
                span.fixed64(7, self.nanos(began));
                span.fixed64(8, self.nanos(began + attempt.took));
                write_attempt(span, number, attempt, server);
                span.fixed32(16, SAMPLED | REMOTE_KNOWN);
            });
        }
    }

    fn begin(&self, span: &mut Message, id: [u8; 8], parent: Option<[u8; 8]>) {
        span.bytes(1, self.context.trace_id);
        span.bytes(2, id);
        if let Some(parent) = parent {
            span.bytes(4, parent);
        }
    }

    fn write_call(&self, span: &mut Message) {
        self.begin(span, self.context.span_id, self.context.parent);
        // Only names of which there are few: the method and the route.
        let method = match self.method {
            "_OTHER" => "HTTP",
            known => known,
        };
        let name = match self.is_on_route {
            true => format!("{method} {ROUTE}"),
            false => method.to_owned(),
        };
        span.bytes(5, name);
        span.number(6, SERVER);
        span.fixed64(7, self.nanos(self.started));
        span.fixed64(8, self.nanos(self.ended));
        let mut text = |key: &str, value: &str| span.text_attribute(ATTRIBUTES, key, value);
        text("http.request.method", self.method);
        if self.is_on_route {
            text("http.route", ROUTE);
            text("url.path", PATH);
        }
        text("network.protocol.version", self.protocol_version);
        match self.peer {
            Peer::Tcp(address) => text("client.address", &address.ip().to_string()),
            Peer::Unix { .. } => text("client.address", &self.peer.to_string()),
        }
        text("request.id", self.request_id.as_str());
        let known = [
            ("tenant.id", self.tenant.as_deref()),
            ("token.id", self.token.as_deref()),
            ("outcome", self.outcome.map(|outcome| outcome.as_str())),
            ("reason", self.reason.as_deref()),
        ];
        for (key, value) in known {
            if let Some(value) = value {
                text(key, value);
            }
        }
        let is_error = self.status >= 500;
        if !self.code.is_empty() {
            text("error.type", self.code);
        } else if is_error {
            text("error.type", &self.status.to_string());
        }
        span.number_attribute(ATTRIBUTES, "http.response.status_code", self.status.into());
        // A 4xx is the caller's error, not the server's.
        write_status(span, is_error, self.code);
        let remote = match self.context.parent {
            Some(_) => REMOTE_KNOWN | REMOTE,
            None => REMOTE_KNOWN,
        };
        span.fixed32(16, SAMPLED | remote);
    }

    /// A moment of this call as nanoseconds since 1970.
    fn nanos(&self, moment: Instant) -> u64 {
        let before_end = self.ended.saturating_duration_since(moment);
        let ended = self.ended_at.duration_since(UNIX_EPOCH);
        let at = ended.unwrap_or_default().saturating_sub(before_end);
        nanos(at)
    }
}

fn write_attempt(span: &mut Message, number: u64, attempt: &Attempt, server: &UpstreamUrl) {
    let mut text = |key: &str, value: &str| span.text_attribute(ATTRIBUTES, key, value);
    text("http.request.method", "DELETE");
    text("url.template", ROUTE);
    text("server.address", &server.host);
    let status = attempt.status();
    let is_error = attempt.failure.is_some() || status.is_none_or(|status| status >= 400);
    if is_error {
        text("error.type", &attempt.end.as_str());
    }
    text("sent", attempt.sent.as_str());
    span.number_attribute(ATTRIBUTES, "server.port", server.port.into());
    if let Some(status) = status {
        span.number_attribute(ATTRIBUTES, "http.response.status_code", status.into());
    }
    if number > 0 {
        span.number_attribute(ATTRIBUTES, "http.request.resend_count", number);
    }
    write_status(span, is_error, &attempt.detail);
}

/// `Status`: left out unless it is an error.
fn write_status(span: &mut Message, is_error: bool, message: &str) {
    if is_error {
        span.message(15, |status| {
            if !message.is_empty() {
                status.bytes(2, message);
            }
            status.number(3, 2);
        });
    }
}
