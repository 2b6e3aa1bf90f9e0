//! The lines of calls.
//!
//! There are so many of them that they don't go through `tracing`: each is written
//! straight into a buffer of its worker, and the buffer is handed to the writing
//! thread when the worker has nothing else to do.
//! What stands in a line is its caller's (`fill`). Lines of requests without a good token are
//! bounded (`strangers`).

mod strangers;

use std::{
    cell::RefCell,
    sync::atomic::{AtomicU8, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::time::Instant;

use self::strangers::Strangers;
pub use self::strangers::lines_left_out;
use super::{
    Access, SINK,
    line::{Format, Line, Opening, field, second},
};

/// The target of these lines, as levels name it.
pub const TARGET: &str = "access";

/// A buffer with so many bytes is handed over even if its worker has more to do.
const BYTES_ENOUGH: usize = 16 << 10;
/// How long a reading of the system's clock is good for: a step of it is seen after that.
const CLOCK_GOOD_FOR: Duration = Duration::from_secs(1);
/// The first status that is a failure.
const FAILURE: u16 = 400;

/// What is said of those that were left out.
const LEFT_OUT: &str = "requests without a good token came too fast for a line each: those left out are counted here, in the metrics and in the trail";

/// Which calls get a line just now.
static SHOWN: AtomicU8 = AtomicU8::new(OFF);
const OFF: u8 = 0;
const FAILURES: u8 = 1;
const ALL: u8 = 2;

thread_local! {
    static LINES: RefCell<Lines> = const { RefCell::new(Lines::new()) };
}

/// Decides which calls get a line from now on.
pub(super) fn show(access: Access) {
    let shown = match access {
        Access::Off => OFF,
        Access::Failures => FAILURES,
        Access::All => ALL,
    };
    SHOWN.store(shown, Ordering::Relaxed);
}

/// Notes a call that is about to be answered: `fill` writes the fields of its line, and
/// hears what time it is. Of those whose tenant is not known, only some get one.
pub fn note(is_tenant_known: bool, fill: impl FnOnce(&mut Line<'_>, Instant)) {
    let _ = LINES.try_with(|lines| {
        if let Ok(mut lines) = lines.try_borrow_mut() {
            lines.add(is_tenant_known, fill);
        }
    });
}

/// Whether a call with this status gets a line.
pub fn is_wanted(status: u16) -> bool {
    match SHOWN.load(Ordering::Relaxed) {
        OFF => false,
        FAILURES => status >= FAILURE,
        _ => true,
    }
}

/// Hands over what this worker has noted so far.
pub fn flush() {
    let _ = LINES.try_with(|lines| {
        if let Ok(mut lines) = lines.try_borrow_mut() {
            lines.tell_what_is_due(Instant::now);
            lines.hand_over();
        }
    });
}

/// The lines of one worker that wait for its next pause.
struct Lines {
    bytes: Vec<u8>,
    lines: u64,
    clock: Option<Clock>,
    strangers: Strangers,
}

/// One reading of the system's clock, for all calls of the second after it.
struct Clock {
    read_at: Instant,
    /// Since 1970.
    wall: Duration,
    /// The last second that was put into words.
    second: u64,
    text: [u8; 19],
}

impl Lines {
    const fn new() -> Self {
        Self {
            bytes: Vec::new(),
            lines: 0,
            clock: None,
            strangers: Strangers::new(),
        }
    }

    fn hand_over(&mut self) {
        if self.bytes.is_empty() {
            return;
        }
        if let Some((sink, _)) = SINK.get() {
            sink.push(&self.bytes, self.lines, false);
        }
        self.bytes.clear();
        self.lines = 0;
    }

    fn add(&mut self, is_tenant_known: bool, fill: impl FnOnce(&mut Line<'_>, Instant)) {
        let now = Instant::now();
        if !is_tenant_known && !self.strangers.admit(now) {
            self.tell_what_is_due(|| now);
            return;
        }
        self.write(now, "info", |line| {
            line.raw_key("\"request\",\"target\":\"access\"", "request");
            fill(line, now);
        });
        if self.bytes.len() >= BYTES_ENOUGH {
            self.hand_over();
        }
    }

    fn tell_what_is_due(&mut self, now: impl FnOnce() -> Instant) {
        if let Some(lines) = self.strangers.take_due(now) {
            self.tell_left_out(lines);
            // A flood may leave the worker no pause.
            self.hand_over();
        }
    }

    fn tell_left_out(&mut self, lines: u64) {
        self.write(Instant::now(), "warn", |line| {
            line.message(LEFT_OUT);
            line.target(module_path!());
            field!(line, "lines");
            line.number(lines);
        });
    }

    fn write(&mut self, now: Instant, level: &'static str, fill: impl FnOnce(&mut Line<'_>)) {
        let Some((_, format)) = SINK.get() else {
            return;
        };
        let clock = Clock::at(&mut self.clock, now);
        let micros = clock.tell(now);
        let opening = Opening {
            second: &clock.text,
            micros,
            level,
        };
        let mut line = match format {
            Format::Json => Line::begin_json(&mut self.bytes, opening),
            Format::Text => Line::begin_text(&mut self.bytes, opening, false),
        };
        fill(&mut line);
        line.end();
        self.lines += 1;
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        if let Some(lines) = self.strangers.take() {
            self.tell_left_out(lines);
        }
        self.hand_over();
    }
}

impl Clock {
    /// The reading to go by at `now`: the one there is, or another.
    fn at(clock: &mut Option<Self>, now: Instant) -> &mut Self {
        let is_good = |clock: &Self| {
            now >= clock.read_at && now.duration_since(clock.read_at) < CLOCK_GOOD_FOR
        };
        if !clock.as_ref().is_some_and(is_good) {
            *clock = None;
        }
        clock.get_or_insert_with(|| {
            let wall = SystemTime::now().duration_since(UNIX_EPOCH);
            let wall = wall.unwrap_or_default();
            Self {
                read_at: now,
                wall,
                second: wall.as_secs(),
                text: in_words(wall.as_secs()),
            }
        })
    }

    /// The microseconds of the second of `now`, which is then the one in words.
    fn tell(&mut self, now: Instant) -> u32 {
        let wall = self.wall + now.duration_since(self.read_at);
        if wall.as_secs() != self.second {
            self.second = wall.as_secs();
            self.text = in_words(self.second);
        }
        wall.subsec_micros()
    }
}

fn in_words(seconds: u64) -> [u8; 19] {
    second(i64::try_from(seconds).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_reading_of_the_clock_serves_the_calls_of_a_second_and_no_longer() {
        let start = Instant::now();
        let mut clock = None;
        let first = Clock::at(&mut clock, start);
        (first.wall, first.second) = (Duration::new(1_795_458_173, 999_000_000), 0);
        assert_eq!(first.tell(start), 999_000);
        assert_eq!(&first.text, b"2026-11-23T18:22:53");
        let later = start + Duration::from_millis(2);
        let same = Clock::at(&mut clock, later);
        assert_eq!(same.tell(later), 1_000);
        assert_eq!(&same.text, b"2026-11-23T18:22:54");
        let much_later = start + Duration::from_secs(1);
        assert_eq!(Clock::at(&mut clock, much_later).read_at, much_later);
    }
}
