//! How far a connection got, for the bounds on its time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::{alarm::Alarm, phases::Phase, turn::Turns};
use crate::{arrival::Malformed, config::settings::Bounds};

/// A connection is looked at so many times in its idle time: it ends at most
/// such a part of it too late.
const LOOKS: u32 = 4;

/// How long a connection without a request under way is still listened to, and may take to
/// read its last answer, when the gateway stops: enough for a client that answers a GOAWAY
/// from far away. Whoever says or reads nothing must not hold up the stop.
pub const LAST_WORDS: Duration = Duration::from_secs(1);

/// Shared by a connection's stream, its requests and its worker's watchdog.
#[derive(Debug)]
pub struct Progress {
    start: Instant,
    idle_timeout: Duration,
    header_timeout: Duration,
    /// Whether anything moved since the watchdog looked last: cheaper to note than when.
    has_moved: AtomicBool,
    /// When the watchdog last found that something had moved, in ms since `start`.
    moved_ms: AtomicU64,
    /// Since when a head is open, in ms since `start`, plus one; 0 if none is.
    head_ms: AtomicU64,
    requests: AtomicU32,
    /// Whether there ever was a request.
    had_request: AtomicBool,
    /// Whether one was ever sent on.
    had_call: AtomicBool,
    /// Since when it has had nothing to do but to leave, in ms since `start`, plus one; 0
    /// until the gateway stops.
    leaves_ms: AtomicU64,
    turns: Turns,
    malformed: Malformed,
    flooded: AtomicBool,
    alarm: Alarm,
    /// What the watchdog says; see [`Word`].
    word: AtomicU8,
}

/// What a guard found at the end of the bytes that were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// The bytes end between two requests, or inside a body.
    Whole,
    /// The bytes end inside a head.
    PartOfHead,
    /// A head or a trailer that must be refused; nothing after it is looked at.
    Malformed(&'static str),
}

/// What the watchdog tells a connection; each is stronger than those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// Nothing.
    None = 0,
    /// The gateway drains: no new calls are taken.
    Drain = 1,
    /// The gateway stops: answer what is under way, and end.
    Stop = 2,
    /// The gateway stops, and nothing was left to do for [`LAST_WORDS`]: end.
    Over = 3,
    /// Nothing has moved for too long: end.
    Idle = 4,
    /// A head has been open for too long: end.
    SlowHead = 5,
}

impl Word {
    /// What all connections are told in this phase.
    pub fn of(phase: Phase) -> Self {
        match phase {
            Phase::Serving => Self::None,
            Phase::Draining => Self::Drain,
            Phase::Stopping => Self::Stop,
        }
    }
}

/// A request being worked on: meanwhile the connection is not idle.
pub struct Busy {
    progress: Arc<Progress>,
    /// Whether the peer has [`LAST_WORDS`] again once it is answered.
    is_waited_for: bool,
}

impl Progress {
    /// A connection that has just been opened.
    pub fn new(is_http2: bool, bounds: &Bounds, alarm: Alarm) -> Self {
        Self {
            start: Instant::now(),
            idle_timeout: bounds.idle_timeout,
            header_timeout: bounds.header_timeout,
            has_moved: AtomicBool::new(false),
            moved_ms: AtomicU64::new(0),
            head_ms: AtomicU64::new(0),
            requests: AtomicU32::new(0),
            had_request: AtomicBool::new(false),
            had_call: AtomicBool::new(false),
            leaves_ms: AtomicU64::new(0),
            turns: Turns::new(is_http2),
            malformed: Malformed::default(),
            flooded: AtomicBool::new(false),
            alarm,
            word: AtomicU8::new(0),
        }
    }

    /// What the raw bytes showed that the HTTP library hides.
    pub fn malformed(&self) -> Option<&'static str> {
        self.malformed.get()
    }

    /// The same, for a request to look at again as its body comes.
    pub fn share_malformed(&self) -> Malformed {
        self.malformed.clone()
    }

    /// Whether a request is being worked on.
    pub fn is_busy(&self) -> bool {
        self.requests.load(Ordering::Acquire) > 0
    }

    /// Whether a request is being worked on, or was and no other one has begun.
    pub fn has_served(&self) -> bool {
        let is_within_next = self.head_ms.load(Ordering::Acquire) > 0 || self.malformed().is_some();
        self.is_busy() || self.had_request.load(Ordering::Acquire) && !is_within_next
    }

    /// Whether the peer was found to flood us with what costs it nothing.
    pub fn is_flooded(&self) -> bool {
        self.flooded.load(Ordering::Acquire)
    }

    /// Its turns.
    pub fn turns(&self) -> &Turns {
        &self.turns
    }

    /// The peer floods us with frames, or empty lines, that cost it nothing.
    pub fn flooded(&self) {
        self.flooded.store(true, Ordering::Release);
    }

    /// Notes that a request is being worked on.
    pub fn busy(self: &Arc<Self>) -> Busy {
        self.had_request.store(true, Ordering::Release);
        self.requests.fetch_add(1, Ordering::AcqRel);
        Busy {
            progress: Arc::clone(self),
            // Over HTTP/1 none comes after it. Over HTTP/2 a peer that does not answer the
            // GOAWAY could go on for ever.
            is_waited_for: self.turns.are_one_by_one() || !self.is_leaving(),
        }
    }

    /// Whether the gateway stops, and an answer of the upstream's may be on its way to the
    /// peer: it may take as long as it is read.
    pub fn delivers(&self) -> bool {
        self.is_leaving() && self.had_call.load(Ordering::Acquire)
    }

    fn is_leaving(&self) -> bool {
        self.leaves_ms.load(Ordering::Acquire) > 0
    }

    /// What the watchdog said last.
    pub fn word(&self) -> Word {
        match self.word.load(Ordering::Acquire) {
            0 => Word::None,
            1 => Word::Drain,
            2 => Word::Stop,
            3 => Word::Over,
            4 => Word::Idle,
            _ => Word::SlowHead,
        }
    }

    /// Tells the connection something.
    pub fn tell(&self, word: Word) {
        if self.word.fetch_max(word as u8, Ordering::AcqRel) < word as u8 {
            if word == Word::Stop {
                self.restart_leaving(Instant::now());
            }
            self.turns.wake();
        }
    }

    /// Looks whether the connection has overstayed, and tells it; when to look again.
    pub fn look(&self, now: Instant) -> Instant {
        if self.has_moved.swap(false, Ordering::AcqRel) {
            self.moved_ms.store(self.ms(now), Ordering::Release);
        }
        let (due, word) = self.due(now);
        if due <= now {
            self.tell(word);
            return now + self.idle_timeout;
        }
        due.min(self.look_next(now))
    }

    /// When to look at a connection of which nothing else is known.
    pub fn look_next(&self, now: Instant) -> Instant {
        now + self.idle_timeout / LOOKS
    }

    /// When this connection is over if nothing moves any more, and what it is told then.
    fn due(&self, now: Instant) -> (Instant, Word) {
        let overstays = self.overstays(now);
        match self.leaves_by() {
            Some(by) if by < overstays.0 => (by, Word::Over),
            _ => overstays,
        }
    }

    /// By when it is to have left, if the gateway stops and no request is under way.
    fn leaves_by(&self) -> Option<Instant> {
        if self.is_busy() || !self.is_leaving() {
            return None;
        }
        let left = self.leaves_ms.load(Ordering::Acquire) - 1;
        let since = match self.delivers() {
            true => left.max(self.moved_ms.load(Ordering::Acquire)),
            false => left,
        };
        Some(self.at(since) + LAST_WORDS)
    }

    /// The same while the gateway does not stop.
    fn overstays(&self, now: Instant) -> (Instant, Word) {
        let requests = self.requests.load(Ordering::Acquire);
        let head = self.head_ms.load(Ordering::Acquire);
        // A pipelined head is read on only when its turn comes.
        if head > 0 && (requests == 0 || !self.turns.are_one_by_one()) {
            return (self.at(head - 1) + self.header_timeout, Word::SlowHead);
        }
        let since = match requests {
            0 => self.at(self.moved_ms.load(Ordering::Acquire)),
            // The request has time-outs of its own.
            _ => now,
        };
        (since + self.idle_timeout, Word::Idle)
    }

    fn at(&self, ms: u64) -> Instant {
        self.start + Duration::from_millis(ms)
    }

    fn ms(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.start);
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    /// Notes that something moved.
    pub fn moved(&self) {
        self.has_moved.store(true, Ordering::Release);
    }

    fn restart_head(&self) {
        let now = Instant::now();
        self.head_ms.store(self.ms(now) + 1, Ordering::Release);
        self.alarm.ring_by(now + self.header_timeout);
    }

    fn restart_leaving(&self, now: Instant) {
        self.leaves_ms.store(self.ms(now) + 1, Ordering::Release);
    }

    /// Notes what was found in the bytes read last.
    pub fn saw(&self, seen: Seen) {
        let open = self.head_ms.load(Ordering::Acquire) > 0;
        match seen {
            Seen::PartOfHead if !open => self.restart_head(),
            Seen::Whole if open => self.head_ms.store(0, Ordering::Release),
            Seen::Malformed(what) => {
                self.malformed.set(what);
            }
            Seen::PartOfHead | Seen::Whole => {}
        }
    }
}

impl Busy {
    /// The turns of its connection.
    pub fn turns(&self) -> &Turns {
        self.progress.turns()
    }

    /// Notes that it was sent on: its answer is not to get lost.
    pub fn was_sent(&mut self) {
        self.is_waited_for = true;
        self.progress.had_call.store(true, Ordering::Release);
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let progress = &self.progress;
        progress.moved();
        let is_head_open = progress.head_ms.load(Ordering::Acquire) > 0;
        if progress.turns.are_one_by_one() && is_head_open {
            // Its turn comes only now.
            progress.restart_head();
        }
        if progress.is_leaving() && self.is_waited_for {
            progress.restart_leaving(Instant::now());
        }
        progress.requests.fetch_sub(1, Ordering::AcqRel);
        if let Some(by) = progress.leaves_by() {
            progress.alarm.ring_by(by);
        }
    }
}

#[cfg(test)]
impl Progress {
    /// Whether anything moved since the watchdog looked last.
    pub(super) fn has_moved(&self) -> bool {
        self.has_moved.load(Ordering::Acquire)
    }
}
