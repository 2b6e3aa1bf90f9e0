//! How far a connection got, for the bounds on its time.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::Notify,
    time::Instant,
};

use super::{
    frame_guard::FrameGuard,
    head_guard::{HeadGuard, Seen},
};
use crate::config::settings::Bounds;

/// Shared by a connection's stream, its requests and its watchdog.
#[derive(Debug)]
pub struct Progress {
    start: Instant,
    /// When bytes last moved, in ms since `start`.
    moved_ms: AtomicU64,
    /// Since when a head is open, in ms since `start`, plus one; 0 if none is.
    head_ms: AtomicU64,
    requests: AtomicU32,
    /// Whether requests come one after another: HTTP/1.
    in_turn: bool,
    malformed: OnceLock<&'static str>,
    flooded: AtomicBool,
    changed: Notify,
}

/// A request being worked on: meanwhile the connection is not idle.
pub struct Busy(Arc<Progress>);

impl Progress {
    /// A connection that has just been opened.
    pub fn new(is_http2: bool) -> Self {
        Self {
            start: Instant::now(),
            moved_ms: AtomicU64::new(0),
            head_ms: AtomicU64::new(0),
            requests: AtomicU32::new(0),
            in_turn: !is_http2,
            malformed: OnceLock::new(),
            flooded: AtomicBool::new(false),
            changed: Notify::new(),
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

    /// Notes that a request is being worked on.
    pub fn busy(self: &Arc<Self>) -> Busy {
        self.requests.fetch_add(1, Ordering::AcqRel);
        Busy(Arc::clone(self))
    }

    /// Resolves when the connection has overstayed, with the reason. Costs a
    /// timer now and then, not one for each request.
    pub async fn overstayed(&self, bounds: &Bounds) -> &'static str {
        loop {
            let now = Instant::now();
            let (due, reason) = self.due(now, bounds);
            if due <= now {
                return reason;
            }
            tokio::select! {
                () = tokio::time::sleep_until(due) => {}
                () = self.changed.notified() => {}
            }
        }
    }

    /// When this connection is over if nothing moves any more, and why.
    fn due(&self, now: Instant, bounds: &Bounds) -> (Instant, &'static str) {
        let at = |ms: u64| self.start + std::time::Duration::from_millis(ms);
        let requests = self.requests.load(Ordering::Acquire);
        let head = self.head_ms.load(Ordering::Acquire);
        // A pipelined head is read on only when its turn comes.
        if head > 0 && (requests == 0 || !self.in_turn) {
            return (at(head - 1) + bounds.header_timeout, "header-timeout");
        }
        let since = match requests {
            0 => at(self.moved_ms.load(Ordering::Acquire)),
            // The request has time-outs of its own.
            _ => now,
        };
        (since + bounds.idle_timeout, "idle-timeout")
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn moved(&self) {
        self.moved_ms.store(self.now_ms(), Ordering::Release);
    }

    fn restart_head(&self) {
        self.head_ms.store(self.now_ms() + 1, Ordering::Release);
    }

    fn saw(&self, seen: Seen) {
        let open = self.head_ms.load(Ordering::Acquire) > 0;
        match seen {
            Seen::PartOfHead if !open => {
                self.restart_head();
                self.changed.notify_one();
            }
            Seen::Whole if open => {
                self.head_ms.store(0, Ordering::Release);
                self.changed.notify_one();
            }
            Seen::Malformed(what) => {
                let _ = self.malformed.set(what);
            }
            Seen::PartOfHead | Seen::Whole => {}
        }
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
        if is_head_open {
            progress.changed.notify_one();
        }
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

    fn see(&mut self, new: &[u8]) {
        self.progress.moved();
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
        self.progress.moved();
        Poll::Ready(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, bufs));
        self.progress.moved();
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
