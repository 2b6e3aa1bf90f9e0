//! `/log-level`: what is logged, changed while the gateway runs. Somebody who
//! looks for a fault at night forgets to turn it down again, so that happens by
//! itself.

use std::sync::Arc;

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body::Body;
use http_body_util::Full;
use jiff::Timestamp;

use super::{Admin, body, door::Operator, text};
use crate::{
    audit::event,
    logging::{self, Control, Level},
};

impl Admin {
    /// The level in effect, and for how long.
    pub(super) fn level() -> Response<Full<Bytes>> {
        match logging::control() {
            Some(control) => text(StatusCode::OK, &told(control)),
            None => not_started(),
        }
    }

    /// Takes the level that is the request's body.
    pub(super) async fn set_level<B>(
        self: &Arc<Self>,
        body: B,
        operator: &Operator,
    ) -> Response<Full<Bytes>>
    where
        B: Body,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let Some(control) = logging::control() else {
            return not_started();
        };
        let read = match body::read(body).await {
            Ok(read) => read,
            Err(refused) => return *refused,
        };
        let level = str::from_utf8(&read).unwrap_or_default().trim();
        let level: Level = match level.parse() {
            Ok(level) => level,
            Err(why) => return text(StatusCode::BAD_REQUEST, &format!("{why}\n")),
        };
        let (_, change) = control.force(level.clone());
        let named = level.to_string();
        self.record(event::LOG_LEVEL, operator, Some(("level", &named)));
        tracing::warn!(
            log.level = named,
            by = operator.by,
            "the log level was changed for 15 minutes"
        );
        let admin = Arc::clone(self);
        tokio::spawn(async move {
            tokio::time::sleep(logging::REVERT_AFTER).await;
            admin.revert_level(control, change);
        });
        text(StatusCode::OK, &told(control))
    }

    /// Goes back, unless the level was changed again meanwhile.
    fn revert_level(&self, control: &Control, change: u64) {
        if control.revert(change) {
            let level = control.level().0.to_string();
            let by = Operator::itself();
            self.record(event::LOG_LEVEL, &by, Some(("level", &level)));
            tracing::warn!(
                log.level = level,
                "15 minutes are over: the log level is the configured one again"
            );
        }
    }
}

fn told(control: &Control) -> String {
    let (configured, forced) = control.level();
    match forced {
        None => format!("{configured}\n"),
        Some(forced) => {
            let until = Timestamp::try_from(forced.until).unwrap_or_default();
            format!("{} until {until:.0}, then {configured}\n", forced.level)
        }
    }
}

fn not_started() -> Response<Full<Bytes>> {
    text(StatusCode::NOT_FOUND, "nothing is logged here\n")
}
