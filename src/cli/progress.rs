//! How far a long reading is, at a terminal.

use std::{
    io::{self, IsTerminal},
    time::{Duration, Instant},
};

use super::output::err;

/// Nothing is said of what takes no longer.
const QUIET: Duration = Duration::from_secs(1);
/// How often the line is written anew.
const EVERY: Duration = Duration::from_millis(200);

/// A line on stderr that says how far it is; nothing if that is no terminal.
#[derive(Debug)]
pub struct Progress {
    total: u64,
    next: Option<Instant>,
    is_shown: bool,
}

impl Progress {
    /// For `total` bytes to read.
    pub fn of(total: u64) -> Self {
        let is_terminal = io::stderr().is_terminal();
        Self {
            total,
            next: is_terminal.then(|| Instant::now() + QUIET),
            is_shown: false,
        }
    }

    /// So many bytes were read.
    pub fn at(&mut self, bytes: u64) {
        // The clock is asked once for many records.
        if bytes & 0xfff > 0x1ff {
            return;
        }
        if self.next.is_some_and(|next| Instant::now() >= next) {
            self.next = Some(Instant::now() + EVERY);
            self.is_shown = true;
            let share = bytes * 100 / self.total.max(1);
            err!("\rreading: {share} % of {} MiB", self.total >> 20);
        }
    }

    /// Takes the line away, for something else to be written there.
    pub fn clear(&mut self) {
        if self.is_shown {
            self.is_shown = false;
            err!("\r\x1b[K");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}
