//! An open connection to the upstream, and one exchange after another on it.
//!
//! The call that has it moves it: no task, no channel. An unused connection is not
//! polled at all; that it was closed meanwhile shows when it is looked at.

use std::{
    future::poll_fn,
    io,
    mem::MaybeUninit,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};

use tokio::{
    io::{AsyncBufRead, AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::TcpStream,
    time::Instant,
};

use super::reply::{Reply, Whole, Wrong};
use crate::{
    one_write::Together,
    snapshot::Target,
    tls::{ClientStream, beneath_if_drained},
};

/// How much is read at once without TLS, in bytes.
const READ_BYTES: usize = 8 << 10;

/// An open connection. Dropped, it is closed at once: nothing half-read is reused.
#[derive(Debug)]
pub struct Connection {
    stream: Stream,
    target: Arc<Target>,
    /// From then on it is too old to be used.
    old_at: Instant,
    /// And from then on, unless it is used before.
    stale_at: Instant,
    /// Since when it is unused, or was before it was taken; `None` until it first was.
    rested_at: Option<Instant>,
    /// Whether nothing of an answer came in the exchange that was begun last.
    is_silent: bool,
}

/// What it goes over.
#[derive(Debug)]
pub enum Stream {
    /// TLS; boxed, since connections are moved.
    Tls(Box<ClientStream<Together<TcpStream>>>),
    /// Plaintext, for an upstream on this machine.
    Plain(TcpStream),
}

/// How an exchange ended that has no answer. Something may have been written.
#[derive(Debug)]
pub enum Broken {
    /// The connection ended before there was one.
    Reset(io::Error),
    /// What was read is none that can be passed on.
    Wrong(Wrong),
}

impl Connection {
    /// A connection that has just been opened.
    pub fn new(stream: Stream, target: &Arc<Target>) -> Self {
        let old_at = Instant::now() + target.settings.connection_max_age;
        Self {
            stream,
            target: Arc::clone(target),
            old_at,
            stale_at: old_at,
            rested_at: None,
            is_silent: false,
        }
    }

    /// Where it goes to.
    pub fn target(&self) -> &Arc<Target> {
        &self.target
    }

    /// Nobody uses it from now on.
    pub fn rest(&mut self, now: Instant) {
        self.stale_at = self.old_at.min(now + self.target.settings.idle_timeout);
        self.rested_at = Some(now);
    }

    /// Whether it lay unused before.
    pub fn is_reused(&self) -> bool {
        self.rested_at.is_some()
    }

    /// Whether it was unused at `time`, and ever since if it is unused now.
    pub fn is_unused_since(&self, time: Instant) -> bool {
        self.rested_at.is_some_and(|rested_at| rested_at < time)
    }

    /// Whether nothing of an answer came in the exchange that was begun last.
    pub fn is_silent(&self) -> bool {
        self.is_silent
    }

    /// Whether it is young enough to be used.
    pub fn is_fresh(&self, now: Instant) -> bool {
        now < self.stale_at
    }

    /// Whether the upstream has it open and has said nothing unasked, as far as can
    /// be seen without waiting.
    pub fn is_open(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        self.stream.is_quiet() || self.stream.poll_read(&mut cx, |_| ()).is_pending()
    }

    /// Writes a request and reads its answer whole.
    ///
    /// # Errors
    ///
    /// If there is no whole answer. The connection is of no use then.
    pub async fn exchange(&mut self, request: &[u8]) -> Result<Whole, Broken> {
        let Self {
            stream, is_silent, ..
        } = self;
        *is_silent = true;
        let mut unwritten = request;
        let mut reply = Reply::default();
        poll_fn(|cx| {
            ready!(stream.poll_write_all(cx, &mut unwritten)).map_err(Broken::Reset)?;
            loop {
                let read = ready!(stream.poll_read(cx, |bytes| {
                    *is_silent &= bytes.is_empty();
                    let taken = (!bytes.is_empty()).then(|| reply.take(bytes));
                    taken.transpose()
                }));
                match read {
                    Ok(Ok(None)) => return Poll::Ready(closed(std::mem::take(&mut reply))),
                    Ok(Ok(Some(None))) => {}
                    Ok(Ok(Some(Some(whole)))) => return Poll::Ready(Ok(whole)),
                    Ok(Err(wrong)) => return Poll::Ready(Err(Broken::Wrong(wrong))),
                    Err(_) if reply.has_begun() => {
                        return Poll::Ready(Err(Broken::Wrong(
                            "the answer's body was cut short".into(),
                        )));
                    }
                    Err(error) => return Poll::Ready(Err(Broken::Reset(error))),
                }
            }
        })
        .await
    }
}

/// What it means that the upstream has closed the connection after this much.
fn closed(reply: Reply) -> Result<Whole, Broken> {
    match reply.close() {
        Ok(Some(whole)) => Ok(whole),
        Ok(None) => Err(Broken::Reset(io::ErrorKind::UnexpectedEof.into())),
        Err(wrong) => Err(Broken::Wrong(wrong)),
    }
}

impl Stream {
    /// Whether nothing came since it was read last. Nearly always nothing did, and to find
    /// that out by reading takes much longer.
    fn is_quiet(&self) -> bool {
        let socket = match self {
            Self::Tls(stream) => match beneath_if_drained(stream) {
                Some(Together(socket)) => socket,
                None => return false,
            },
            Self::Plain(socket) => socket,
        };
        // The runtime only says what it knows already: no system call.
        socket.try_io(Interest::READABLE, || Ok(())).is_err()
    }

    /// Hands what can be read to `see`: nothing at the end.
    fn poll_read<T>(
        &mut self,
        cx: &mut Context<'_>,
        see: impl FnOnce(&[u8]) -> T,
    ) -> Poll<io::Result<T>> {
        match self {
            Self::Tls(stream) => {
                let mut stream = Pin::new(&mut **stream);
                let bytes = ready!(stream.as_mut().poll_fill_buf(cx))?;
                let (length, seen) = (bytes.len(), see(bytes));
                stream.consume(length);
                Poll::Ready(Ok(seen))
            }
            Self::Plain(stream) => {
                let mut space = [const { MaybeUninit::uninit() }; READ_BYTES];
                let mut buffer = ReadBuf::uninit(&mut space);
                ready!(Pin::new(stream).poll_read(cx, &mut buffer))?;
                Poll::Ready(Ok(see(buffer.filled())))
            }
        }
    }

    fn poll_write_all(&mut self, cx: &mut Context<'_>, bytes: &mut &[u8]) -> Poll<io::Result<()>> {
        match self {
            Self::Tls(stream) => write_all(Pin::new(&mut **stream), cx, bytes),
            Self::Plain(stream) => write_all(Pin::new(stream), cx, bytes),
        }
    }
}

fn write_all(
    mut stream: Pin<&mut impl AsyncWrite>,
    cx: &mut Context<'_>,
    bytes: &mut &[u8],
) -> Poll<io::Result<()>> {
    while !bytes.is_empty() {
        let written = ready!(stream.as_mut().poll_write(cx, bytes))?;
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        *bytes = bytes.get(written..).unwrap_or_default();
    }
    stream.poll_flush(cx)
}
