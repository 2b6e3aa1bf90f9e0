//! What the code says through `tracing`.

use std::{
    cell::RefCell,
    fmt,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{Layer, layer::Context};

use super::{
    line::{Format, Line, Opening, second},
    sink::Sink,
};

/// A line for each event.
#[derive(Debug)]
pub struct Events {
    sink: Arc<Sink>,
    format: Format,
    color: bool,
}

impl Events {
    /// Hands lines of `format` to `sink`.
    pub fn new(sink: Arc<Sink>, format: Format, color: bool) -> Self {
        Self {
            sink,
            format,
            color,
        }
    }

    fn write(&self, out: &mut Vec<u8>, event: &Event<'_>) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.unwrap_or_default();
        let metadata = event.metadata();
        let second = second(i64::try_from(now.as_secs()).unwrap_or_default());
        let opening = Opening {
            second: &second,
            micros: now.subsec_micros(),
            level: word(*metadata.level()),
        };
        let mut line = match self.format {
            Format::Json => Line::begin_json(out, opening),
            Format::Text => Line::begin_text(out, opening, self.color),
        };
        let mut message = Message(String::new());
        event.record(&mut message);
        line.message(&message.0);
        line.target(metadata.target());
        event.record(&mut Fields(&mut line));
        line.end();
    }
}

impl<S: Subscriber> Layer<S> for Events {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        thread_local! {
            static LINE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
        }
        // Not again while it is in use: a value's `Debug` may log, too.
        let _ = LINE.try_with(|buffer| {
            if let Ok(mut out) = buffer.try_borrow_mut() {
                out.clear();
                self.write(&mut out, event);
                self.sink.push(&out, 1, true);
            }
        });
    }
}

fn word(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

/// The event's message, which stands before its fields.
struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            value.clone_into(&mut self.0);
        }
    }
}

/// Everything else.
struct Fields<'a, 'b>(&'a mut Line<'b>);

impl Fields<'_, '_> {
    fn bare(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        self.0.key(field.name());
        self.0.bare(value);
    }
}

impl Visit for Fields<'_, '_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() != "message" {
            self.record_str(field, &format!("{value:?}"));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() != "message" {
            self.0.key(field.name());
            self.0.text(value);
        }
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        if value.is_finite() {
            self.bare(field, format_args!("{value}"));
        } else {
            self.record_str(field, &value.to_string());
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.bare(field, format_args!("{value}"));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.bare(field, format_args!("{value}"));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.bare(field, format_args!("{value}"));
    }
}
