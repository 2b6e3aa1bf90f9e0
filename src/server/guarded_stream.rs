//! A connection's stream, as hyper sees it: a guard looks at all that is read.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{frame_guard::FrameGuard, head_guard::HeadGuard, progress::Progress};
use crate::one_write::poll_write_together;

/// A connection's stream that tells its [`Progress`]; what was read to find out
/// the protocol comes first.
#[derive(Debug)]
pub struct GuardedStream<S> {
    stream: S,
    first: Bytes,
    guard: Guard,
    farewell: Bytes,
    /// Whether something is yet to be written that the peer does not take.
    is_writing: bool,
    /// Who asked for more while the end waited for an answer.
    awaits_end: Option<Waker>,
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

impl<S> GuardedStream<S> {
    /// Guards a stream of which `first` was read already.
    pub fn new(stream: S, first: Bytes, guard: Guard, progress: Arc<Progress>) -> Self {
        Self {
            stream,
            first,
            guard,
            farewell: Bytes::new(),
            is_writing: false,
            awaits_end: None,
            progress,
        }
    }

    /// Of HTTP/1 each byte is of use. Over HTTP/2 a peer that never opens its window
    /// can keep answers unwritten and a connection busy with PINGs for as long as it
    /// likes: there only requests count, when they begin and when they are answered. At
    /// the gateway's stop, which is bounded by itself, so does what a caller with a token
    /// reads.
    fn bytes_moved(&self) {
        let counts = match self.guard {
            Guard::Heads(_) => true,
            Guard::Frames(_) => self.progress.delivers(),
        };
        if counts {
            self.progress.moved();
        }
    }

    /// Looks at what was read; how much of its end is kept from hyper.
    fn see(&mut self, new: &[u8]) -> usize {
        match &mut self.guard {
            Guard::Heads(heads) => {
                self.progress.saw(heads.see(new));
                if heads.is_flood() {
                    self.progress.flooded();
                }
                let empty = heads.empty().min(new.len());
                if empty < new.len() {
                    self.progress.moved();
                }
                empty
            }
            Guard::Frames(frames) => {
                self.progress.saw(frames.see(new));
                if frames.is_flood() {
                    self.farewell = Bytes::copy_from_slice(&frames.go_away());
                    self.progress.flooded();
                }
                0
            }
        }
    }

    /// Whether nothing more is read, and what hyper is told then: the end, as far as
    /// anyone behind this is concerned.
    fn is_over(&mut self, cx: &Context<'_>) -> Option<Poll<io::Result<()>>> {
        if self.progress.malformed().is_none() && !self.progress.is_flooded() {
            return None;
        }
        // hyper drops an HTTP/1 answer that is not yet written when it finds the end: so
        // that comes only once none is due any more. It is woken for it then: having
        // found nothing to read, it does not ask again by itself.
        let is_http1 = matches!(self.guard, Guard::Heads(_));
        if is_http1 && self.is_answer_due() {
            self.awaits_end = Some(cx.waker().clone());
            return Some(Poll::Pending);
        }
        Some(Poll::Ready(Ok(())))
    }

    fn is_answer_due(&self) -> bool {
        self.progress.is_busy() || self.is_writing
    }
}

impl<S: AsyncRead + Unpin> GuardedStream<S> {
    /// Reads what comes next, first what was read already.
    fn poll_next(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.first.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let here = self.first.len().min(buf.remaining());
        buf.put_slice(self.first.get(..here).unwrap_or_default());
        self.first.advance(here);
        Poll::Ready(Ok(()))
    }

    /// Gives hyper the carriage return that was kept from it, if what has come next shows
    /// that it began no empty line: hyper refuses it. What came waits until after that.
    fn give_back(&mut self, before: usize, buf: &mut ReadBuf<'_>) {
        let new = buf.filled().get(before..).unwrap_or_default();
        let is_kept = matches!(&self.guard, Guard::Heads(heads) if heads.is_within_empty_line());
        if !is_kept || matches!(new, [] | [b'\n', ..]) {
            return;
        }
        let rest = std::mem::take(&mut self.first);
        self.first = [new, &rest].concat().into();
        buf.set_filled(before);
        buf.put_slice(b"\r");
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for GuardedStream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        loop {
            if let Some(over) = this.is_over(cx) {
                return over;
            }
            ready!(this.poll_next(cx, buf))?;
            this.give_back(before, buf);
            let new = buf.filled().get(before..).unwrap_or_default();
            let kept = this.see(new);
            let is_end = new.is_empty();
            buf.set_filled(buf.filled().len() - kept);
            // Nothing would be the end.
            if is_end || buf.filled().len() > before {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for GuardedStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.is_writing = written.is_pending();
        let written = ready!(written);
        self.bytes_moved();
        Poll::Ready(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = poll_write_together(&mut self.stream, cx, bufs);
        self.is_writing = written.is_pending();
        let written = ready!(written);
        self.bytes_moved();
        Poll::Ready(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        // hyper flushes once all that it has of an answer is written.
        if !self.is_answer_due()
            && let Some(waits) = self.awaits_end.take()
        {
            waits.wake();
        }
        Poll::Ready(Ok(()))
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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt, DuplexStream, duplex};

    use super::*;
    use crate::{
        config::settings::testing,
        server::{head_guard::HeadGuard, watchdog::Watchdog},
    };

    const MALFORMED: &[u8] = b"DELETE /#a HTTP/1.1\r\nHost: a\r\n\r\n";

    /// A connection that has begun with these bytes, and a peer that takes so many.
    fn begun(bytes: &'static [u8], takes: usize) -> (GuardedStream<DuplexStream>, DuplexStream) {
        let watchdog = Watchdog::new();
        let progress = Arc::clone(&watchdog.watch(false, &testing::bounds()).progress);
        let (stream, peer) = duplex(takes);
        let guard = Guard::Heads(HeadGuard::default());
        let first = Bytes::from_static(bytes);
        (GuardedStream::new(stream, first, guard, progress), peer)
    }

    /// How many bytes can be read.
    fn read(stream: &mut GuardedStream<DuplexStream>) -> Poll<usize> {
        let mut bytes = [0; 100];
        let mut buf = ReadBuf::new(&mut bytes);
        let mut cx = Context::from_waker(Waker::noop());
        let read = Pin::new(stream).poll_read(&mut cx, &mut buf);
        read.map(|result| result.map(|()| buf.filled().len()).unwrap())
    }

    fn write(stream: &mut GuardedStream<DuplexStream>, bytes: &[u8]) -> Poll<usize> {
        let mut cx = Context::from_waker(Waker::noop());
        let written = Pin::new(stream).poll_write(&mut cx, bytes);
        written.map(Result::unwrap)
    }

    #[tokio::test]
    async fn after_what_is_malformed_the_end_comes_once_no_answer_is_due() {
        let (mut stream, mut peer) = begun(MALFORMED, 1);
        let busy = stream.progress.busy();
        assert_eq!(read(&mut stream), Poll::Ready(MALFORMED.len()));
        assert!(read(&mut stream).is_pending(), "a request is worked on");
        assert_eq!(write(&mut stream, b"ab"), Poll::Ready(1));
        assert!(write(&mut stream, b"b").is_pending());
        drop(busy);
        assert!(read(&mut stream).is_pending(), "its answer is on its way");
        tokio::io::AsyncReadExt::read_u8(&mut peer).await.unwrap();
        assert_eq!(write(&mut stream, b"b"), Poll::Ready(1));
        assert_eq!(read(&mut stream), Poll::Ready(0));
    }

    #[tokio::test]
    async fn empty_lines_before_a_request_are_not_handed_on_and_move_nothing() {
        let (mut stream, mut peer) = begun(b"\r\n\n\r\n", 100);
        assert!(read(&mut stream).is_pending());
        for part in [&b"\r\n"[..], b"\r", b"\n"] {
            peer.write_all(part).await.unwrap();
            assert!(read(&mut stream).is_pending());
        }
        assert!(!stream.progress.has_moved());
        peer.write_all(b"DELETE / HTTP/1.1\r\n\r\n\r\n\r")
            .await
            .unwrap();
        assert_eq!(read(&mut stream), Poll::Ready(21), "and none behind it");
        assert!(stream.progress.has_moved());
        peer.write_all(b"\nDELETE").await.unwrap();
        assert_eq!(read(&mut stream), Poll::Ready(7), "as it came");
        drop(peer);
        assert_eq!(read(&mut stream), Poll::Ready(0));
    }

    #[tokio::test]
    async fn a_carriage_return_alone_is_handed_on_for_hyper_to_refuse() {
        let (mut stream, mut peer) = begun(b"\r\n\r", 100);
        assert!(read(&mut stream).is_pending());
        peer.write_all(b"DELETE").await.unwrap();
        assert_eq!(read(&mut stream), Poll::Ready(1));
        assert_eq!(read(&mut stream), Poll::Ready(6));
    }

    #[tokio::test]
    async fn what_nobody_answers_ends_at_once() {
        let (mut stream, _peer) = begun(MALFORMED, 1);
        assert_eq!(read(&mut stream), Poll::Ready(MALFORMED.len()));
        assert_eq!(read(&mut stream), Poll::Ready(0));
    }
}
