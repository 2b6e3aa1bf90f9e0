//! Logs on stderr: one JSON object a line, or text for people at a terminal.
//!
//! Whatever is said goes to one thread that writes (`sink`); nothing else ever
//! waits for stderr. Events come through `tracing` (`events`); the line of each
//! call takes a shorter way ([`access`]), since there are so many of them.

pub mod access;
mod events;
mod level;
pub(crate) mod line;
pub mod panics;
mod sink;

use std::{
    env,
    io::{self, IsTerminal},
    sync::{Arc, OnceLock},
};

use tracing_subscriber::{layer::SubscriberExt, registry, reload};

pub use self::{
    access::lines_left_out,
    level::{Control, Forced, Level, REVERT_AFTER},
    line::Format,
    sink::lines_dropped,
};
use self::{events::Events, sink::Sink};

/// What a config says of logs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// What is logged at all.
    pub level: Level,
    /// How; `None` lets the terminal decide.
    pub format: Option<Format>,
    /// Which calls get a line.
    pub access: Access,
}

/// Which calls get a line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Access {
    /// Every call.
    #[default]
    All,
    /// Those that were answered with a status from 400 on.
    Failures,
    /// None.
    Off,
}

/// Ends logging in order when dropped: lines that are left are written first.
#[derive(Debug)]
pub struct Logs(Arc<Sink>);

/// Where lines go, once logging was started.
static SINK: OnceLock<(Arc<Sink>, Format)> = OnceLock::new();
static CONTROL: OnceLock<Control> = OnceLock::new();

/// Starts logging, colored or not if it is text. `ALLOY_GATEWAY_LOG`, then `RUST_LOG`, stand above the level of
/// the config.
///
/// # Errors
///
/// If the system gives no thread.
pub fn start(settings: &Settings, color: bool) -> io::Result<Logs> {
    let is_terminal = io::stderr().is_terminal();
    let format = settings.format.unwrap_or(if is_terminal {
        Format::Text
    } else {
        Format::Json
    });
    let sink = Sink::start(io::stderr())?;
    let (level, ignored) = from_environment();
    let is_fixed = level.is_some();
    let level = level.unwrap_or_else(|| settings.level.clone());
    let (filter, handle) = reload::Layer::new(level.filter());
    let events = Events::new(Arc::clone(&sink), format, color);
    // A second start (in a test) keeps the first subscriber.
    let _ = tracing::subscriber::set_global_default(registry().with(filter).with(events));
    let _ = SINK.set((Arc::clone(&sink), format));
    let control = Control::new(handle, level, is_fixed, settings.access);
    let _ = CONTROL.set(control);
    for (name, why) in ignored {
        tracing::warn!(
            variable = name,
            "the level in the environment is ignored: {why}"
        );
    }
    Ok(Logs(sink))
}

/// Whether the log is one JSON object a line; not before it was started.
pub fn is_json() -> bool {
    matches!(SINK.get(), Some((_, Format::Json)))
}

/// What changes the level while the program runs; `None` before logging was started.
pub fn control() -> Option<&'static Control> {
    CONTROL.get()
}

impl Drop for Logs {
    fn drop(&mut self) {
        access::flush();
        self.0.close();
    }
}

type Ignored = Vec<(&'static str, String)>;

/// The first variable that holds a level, and those before it that hold none.
fn from_environment() -> (Option<Level>, Ignored) {
    let mut ignored = Vec::new();
    for name in ["ALLOY_GATEWAY_LOG", "RUST_LOG"] {
        match env::var(name).map(|text| text.parse()) {
            Ok(Ok(level)) => return (Some(level), ignored),
            // As good as not set.
            Ok(_) if env::var_os(name).is_none_or(|text| text.is_empty()) => {}
            Ok(Err(why)) => ignored.push((name, format!("{why}"))),
            Err(_) => {}
        }
    }
    (None, ignored)
}
