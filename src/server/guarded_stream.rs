//! A connection's stream, as hyper sees it: a guard looks at all that is read.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
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
                    self.progress.flooded();
                }
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for GuardedStream<S> {
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

impl<S: AsyncWrite + Unpin> AsyncWrite for GuardedStream<S> {
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
