//! What an operator changes. Each change is a record in the trail.

use std::sync::Arc;

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;

use super::{Admin, door::Operator, route::Change, text};
use crate::{audit::event, reload::Reload};

/// Warnings that are told one by one.
const WARNINGS_MAX: usize = 20;
/// What an operator hears who wants the next key where there is none.
const NO_NEXT_KEY: &str = "there is no key to move to: next: does not stand beside secret, is the same key, or is in use already; to leave it again, replace the file of next, or take next out\n";

impl Admin {
    /// Does what a `POST` asks for.
    pub(super) async fn change(
        self: &Arc<Self>,
        change: Change,
        body: Incoming,
        operator: &Operator,
    ) -> Response<Full<Bytes>> {
        match change {
            Change::Reload => self.reload(operator).await,
            Change::Drain => {
                self.record(event::DRAIN, operator, None);
                self.shared.drain();
                tracing::warn!(
                    by = operator.by,
                    "draining: new calls are refused until a restart"
                );
                text(StatusCode::OK, "draining\n")
            }
            Change::Freeze => self.freeze(body, operator).await,
            Change::Thaw => self.thaw(body, operator).await,
        }
    }

    /// Notes who changed what.
    pub(super) fn record(
        &self,
        event: &'static str,
        operator: &Operator,
        what: Option<(&'static str, &str)>,
    ) {
        let mut fields = Vec::with_capacity(2);
        if let Some(peer) = operator.peer {
            fields.push(("peer", peer.to_string()));
        }
        fields.extend(what.map(|(name, value)| (name, value.to_owned())));
        let trail = self.shared.trail();
        trail.changed_by(event, &operator.by, &fields);
    }

    async fn reload(self: &Arc<Self>, operator: &Operator) -> Response<Full<Bytes>> {
        self.record(event::RELOAD, operator, None);
        let (reloader, by) = (Arc::clone(&self.reloader), operator.by.clone());
        let loaded = tokio::task::spawn_blocking(move || reloader.reload(&by)).await;
        match loaded {
            Ok(Ok(reload)) => text(StatusCode::OK, &loaded_as(&reload)),
            Ok(Err(problems)) => text(StatusCode::BAD_REQUEST, &problems.to_string()),
            Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "a bug was caught\n"),
        }
    }

    /// Moves to the next key of this name.
    pub(super) fn rotate_key(&self, name: &str, operator: &Operator) -> Response<Full<Bytes>> {
        let snapshot = self.shared.snapshot();
        let Some(keys) = snapshot.key(name) else {
            return text(StatusCode::NOT_FOUND, "there is no key of that name\n");
        };
        let before = Arc::clone(keys.current());
        match keys.move_on(&before) {
            Some(moved) if moved.is_new => {
                self.record(event::ROTATE_KEY, operator, Some(("key", name)));
                let trail = self.shared.trail();
                trail.key_rotated(&before, &moved.key, &operator.by);
                tracing::warn!(
                    key = name,
                    fingerprint = moved.key.fingerprint(),
                    by = operator.by,
                    "an operator moved to the next key: it is used from now on"
                );
                text(StatusCode::OK, "rotated\n")
            }
            _ => text(StatusCode::CONFLICT, NO_NEXT_KEY),
        }
    }
}

/// What an operator hears of a config that took effect.
fn loaded_as(reload: &Reload) -> String {
    let mut said = "loaded".to_owned();
    if !reload.needs_restart.is_empty() {
        said += "; only after a restart: ";
        said += &reload.needs_restart.join(", ");
    }
    match reload.warnings.len() {
        0 => {}
        1 => said += "; 1 warning:",
        count => said += &format!("; {count} warnings:"),
    }
    for warning in reload.warnings.iter().take(WARNINGS_MAX) {
        said.push('\n');
        said += warning;
    }
    let more = reload.warnings.len().saturating_sub(WARNINGS_MAX);
    if more > 0 {
        said += &format!("\nand {more} more, which alloy-gateway check tells");
    }
    said.push('\n');
    said
}
