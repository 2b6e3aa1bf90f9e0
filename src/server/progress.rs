//! How far a connection got, for the bounds on its time.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::{Buf, Bytes};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

use super::{
    frame_guard::FrameGuard,
    head_guard::{HeadGuard, Seen},
    watchdog::Watchdog,
};
use crate::{config::settings::Bounds, one_write::poll_write_together};

/// A connection is looked at so many times in its idle time: it ends at most
/// such a part of it too late.
const LOOKS: u32 = 4;

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
    /// Whether requests come one after another: HTTP/1.
    in_turn: bool,
    /// Whether a request was begun in this turn of the connection.
    has_begun_one: AtomicBool,
    malformed: OnceLock<&'static str>,
    flooded: AtomicBool,
    watchdog: Watchdog,
    /// What the watchdog says; see [`Word`].
    word: AtomicU8,
    task: OnceLock<Waker>,
}

/// What the watchdog tells a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// Nothing.
    None,
    /// The gateway drains: no new calls are taken.
    Drain,
    /// The gateway stops: answer what is under way, and end.
    Stop,
    /// The connection has overstayed, for this reason.
    Overstayed(&'static str),
}

/// A request being worked on: meanwhile the connection is not idle.
pub struct Busy(Arc<Progress>);

impl Progress {
    /// A connection that has just been opened.
    pub fn new(is_http2: bool, bounds: &Bounds, watchdog: Watchdog) -> Self {
        Self {
            start: Instant::now(),
            idle_timeout: bounds.idle_timeout,
            header_timeout: bounds.header_timeout,
            has_moved: AtomicBool::new(false),
            moved_ms: AtomicU64::new(0),
            head_ms: AtomicU64::new(0),
            requests: AtomicU32::new(0),
            in_turn: !is_http2,
            has_begun_one: AtomicBool::new(false),
            malformed: OnceLock::new(),
            flooded: AtomicBool::new(false),
            watchdog,
            word: AtomicU8::new(0),
            task: OnceLock::new(),
        }
    }

    /// What the raw head showed that the HTTP library hides.
    pub fn malformed(&self) -> Option<&'static str> {
        self.malformed.get().copied()
    }

    /// Whether the peer was found to flood us with frames that cost it nothing.
    pub fn is_flooded(&self) -> bool {
        self.flooded.load(Ordering::Acquire)
    }

    /// A new turn of the connection.
    pub fn begin_turn(&self) {
        self.has_begun_one.store(false, Ordering::Relaxed);
    }

    /// Whether a request may be begun in this turn: of pipelined ones one at a
    /// time, so that a connection full of them does not hold up the others.
    pub fn may_begin(&self) -> bool {
        !self.in_turn || !self.has_begun_one.swap(true, Ordering::Relaxed)
    }

    /// Notes that a request is being worked on.
    pub fn busy(self: &Arc<Self>) -> Busy {
        self.requests.fetch_add(1, Ordering::AcqRel);
        Busy(Arc::clone(self))
    }

    /// The connection is polled by this task, always: it is woken with each word.
    pub fn polled_by(&self, task: &Waker) {
        self.task.get_or_init(|| task.clone());
    }

    /// The task that [polls](Self::polled_by) the connection, if it is the one that polls
    /// the work of each request: over HTTP/2 each has a task of its own.
    pub fn task_of_requests(&self) -> Option<&Waker> {
        self.task.get().filter(|_| self.in_turn)
    }

    /// What the watchdog said last.
    pub fn word(&self) -> Word {
        match self.word.load(Ordering::Acquire) {
            0 => Word::None,
            1 => Word::Drain,
            2 => Word::Stop,
            3 => Word::Overstayed("idle-timeout"),
            _ => Word::Overstayed("header-timeout"),
        }
    }

    /// Tells the connection something.
    pub fn tell(&self, word: Word) {
        let word = match word {
            Word::None => 0,
            Word::Drain => 1,
            Word::Stop => 2,
            Word::Overstayed("idle-timeout") => 3,
            Word::Overstayed(_) => 4,
        };
        // Each word is stronger than those before it.
        if self.word.fetch_max(word, Ordering::AcqRel) < word
            && let Some(task) = self.task.get()
        {
            task.wake_by_ref();
        }
    }

    /// Looks whether the connection has overstayed, and tells it; when to look again.
    pub fn look(&self, now: Instant) -> Instant {
        if self.has_moved.swap(false, Ordering::AcqRel) {
            self.moved_ms.store(self.ms(now), Ordering::Release);
        }
        let (due, reason) = self.due(now);
        if due <= now {
            self.tell(Word::Overstayed(reason));
            return now + self.idle_timeout;
        }
        due.min(self.look_next(now))
    }

    /// When to look at a connection of which nothing else is known.
    pub fn look_next(&self, now: Instant) -> Instant {
        now + self.idle_timeout / LOOKS
    }

    /// When this connection is over if nothing moves any more, and why.
    fn due(&self, now: Instant) -> (Instant, &'static str) {
        let at = |ms: u64| self.start + Duration::from_millis(ms);
        let requests = self.requests.load(Ordering::Acquire);
        let head = self.head_ms.load(Ordering::Acquire);
        // A pipelined head is read on only when its turn comes.
        if head > 0 && (requests == 0 || !self.in_turn) {
            return (at(head - 1) + self.header_timeout, "header-timeout");
        }
        let since = match requests {
            0 => at(self.moved_ms.load(Ordering::Acquire)),
            // The request has time-outs of its own.
            _ => now,
        };
        (since + self.idle_timeout, "idle-timeout")
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
        self.watchdog.look_by(now + self.header_timeout);
    }

    /// Notes what was found in the bytes read last.
    pub fn saw(&self, seen: Seen) {
        let open = self.head_ms.load(Ordering::Acquire) > 0;
        match seen {
            Seen::PartOfHead if !open => self.restart_head(),
            Seen::Whole if open => self.head_ms.store(0, Ordering::Release),
            Seen::Malformed(what) => {
                let _ = self.malformed.set(what);
            }
            Seen::PartOfHead | Seen::Whole => {}
        }
    }
}

impl Busy {
    /// Whether this is still the turn of the connection in which the request was begun.
    pub fn is_still_its_turn(&self) -> bool {
        self.0.has_begun_one.load(Ordering::Relaxed)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let progress = &self.0;
        progress.moved();
        let is_head_open = progress.head_ms.load(Ordering::Acquire) > 0;
        if progress.in_turn && is_head_open {
            // Its turn comes only now.
            progress.restart_head();
        }
        progress.requests.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A connection's stream that tells its [`Progress`]; what was read to find out
/// the protocol comes first.
#[derive(Debug)]
pub struct Watched<S> {
    stream: S,
    first: Bytes,
    guard: Guard,
    farewell: Bytes,
    progress: Arc<Progress>,
}

/// What looks at the bytes that are read.
#[derive(Debug)]
pub enum Guard {
    /// At the heads of HTTP/1.1.
    Heads(HeadGuard),
    /// At the frames of HTTP/2.
    Frames(FrameGuard),
}

impl<S> Watched<S> {
    /// Watches a stream of which `first` was read already.
    pub fn new(stream: S, first: Bytes, guard: Guard, progress: Arc<Progress>) -> Self {
        Self {
            stream,
            first,
            guard,
            farewell: Bytes::new(),
            progress,
        }
    }

    /// Of HTTP/1 each byte is of use. Over HTTP/2 a peer that never opens its window
    /// can keep answers unwritten and a connection busy with PINGs for as long as it
    /// likes: there only requests count, when they begin and when they are answered.
    fn bytes_moved(&self) {
        if let Guard::Heads(_) = self.guard {
            self.progress.moved();
        }
    }

    fn see(&mut self, new: &[u8]) {
        self.bytes_moved();
        match &mut self.guard {
            Guard::Heads(heads) => self.progress.saw(heads.see(new)),
            Guard::Frames(frames) => {
                self.progress.saw(frames.see(new));
                if frames.is_flood() {
                    self.farewell = Bytes::copy_from_slice(&frames.go_away());
                    self.progress.flooded.store(true, Ordering::Release);
                }
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.progress.malformed().is_some() || this.progress.is_flooded() {
            // The end, as far as anyone behind this is concerned.
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        if this.first.is_empty() {
            ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
        } else {
            let here = this.first.len().min(buf.remaining());
            buf.put_slice(this.first.get(..here).unwrap_or_default());
            this.first.advance(here);
        }
        this.see(buf.filled().get(before..).unwrap_or_default());
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, buf));
        self.bytes_moved();
        Poll::Ready(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(poll_write_together(&mut self.stream, cx, bufs));
        self.bytes_moved();
        Poll::Ready(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // All frames of the library are written: ours may follow.
        let this = &mut *self;
        while !this.farewell.is_empty() {
            let written = ready!(Pin::new(&mut this.stream).poll_write(cx, &this.farewell))?;
            this.farewell.advance(written.min(this.farewell.len()));
            if written == 0 {
                break;
            }
        }
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
