//! An upstream connection's bytes: counted on their way out, so that `sent` is a
//! fact and not a guess from an error's text, and looked at on their way in, for
//! a storm of interim answers.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::interim::Interim;

/// A stream that counts the bytes it was given to write. They are counted
/// before the write: a byte that may have left is never taken for unsent.
#[derive(Debug)]
pub struct Wire<S> {
    stream: S,
    written: Arc<AtomicU64>,
    interim: Interim,
}

impl<S> Wire<S> {
    /// Wraps a stream; the second value reads the count.
    pub fn new(stream: S) -> (Self, Arc<AtomicU64>) {
        let written = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&written);
        let wire = Self {
            stream,
            written,
            interim: Interim::default(),
        };
        (wire, count)
    }

    fn count(&mut self, bytes: usize) {
        self.written.fetch_add(bytes as u64, Ordering::AcqRel);
        self.interim.begin();
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        let new = buf.filled().get(before..).unwrap_or_default();
        Poll::Ready(self.interim.see(new))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.count(buf.len());
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.count(bufs.iter().map(|buf| buf.len()).sum());
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
