//! Logs on stderr: one JSON object a line, or text for people at a terminal.

use std::{fmt, io, io::IsTerminal};

use serde_json::{Map, Value};
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::{
    EnvFilter,
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    registry::LookupSpan,
};

/// The longest text of one field, in characters: callers can influence some.
const TEXT_MAX: usize = 256;

/// Starts logging. `ALLOY_GATEWAY_LOG`, then `RUST_LOG`, filter it (default
/// `info`). Lines are written by a thread of their own; those that are left are
/// written when the guard is dropped.
pub fn start() -> WorkerGuard {
    let (stderr, guard) = tracing_appender::non_blocking(io::stderr());
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter())
        .with_writer(stderr);
    // A second start (in a test) keeps the first subscriber.
    let _ = if io::stderr().is_terminal() {
        let color = std::env::var_os("NO_COLOR").is_none();
        tracing::subscriber::set_global_default(
            builder.with_ansi(color).with_target(false).finish(),
        )
    } else {
        tracing::subscriber::set_global_default(builder.event_format(Json).finish())
    };
    guard
}

fn filter() -> EnvFilter {
    ["ALLOY_GATEWAY_LOG", "RUST_LOG"]
        .into_iter()
        .find_map(|name| EnvFilter::try_from_env(name).ok())
        .unwrap_or_else(|| EnvFilter::new("info"))
}

/// Flat JSON: `timestamp level message target` and the event's own fields.
struct Json;

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = Map::new();
        let now = jiff::Timestamp::now();
        line.insert("timestamp".to_owned(), format!("{now:.6}").into());
        line.insert(
            "level".to_owned(),
            event.metadata().level().as_str().to_lowercase().into(),
        );
        line.insert("message".to_owned(), Value::default());
        line.insert("target".to_owned(), event.metadata().target().into());
        event.record(&mut Fields(&mut line));
        writeln!(writer, "{}", Value::Object(line))
    }
}

struct Fields<'a>(&'a mut Map<String, Value>);

impl Fields<'_> {
    fn put(&mut self, field: &Field, value: impl Into<Value>) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.chars().take(TEXT_MAX).collect::<String>());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }
}
