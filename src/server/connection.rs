//! One connection: HTTP/1.1, or HTTP/2 with prior knowledge.

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::Request;
use hyper::{
    body::{Body, Incoming},
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite},
    sync::watch,
    task::yield_now,
};

use super::{
    frame_guard::FrameGuard,
    guarded_stream::{Guard, GuardedStream},
    head_guard::HeadGuard,
    phases::Phase,
    progress::{LAST_WORDS, Progress, Word},
    rim::Rim,
    turn::Begin,
    watchdog::Watchdog,
};
use crate::{
    arrival::{Arrival, Caller, Peer},
    code::ConnectionEnd,
    config::settings::Bounds,
};

/// The HTTP/2 connection preface (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Streams of one HTTP/2 connection at once. A peer that never opens its window holds
/// all of their answers, some 8 KiB each, and needs no token for it: so fewer than the
/// usual hundred, which a caller with one kind of short call does not miss.
pub const H2_STREAMS_MAX: u32 = 32;
/// Streams that a peer may reset before we have looked at them (CVE-2023-44487).
const H2_PENDING_RESETS_MAX: usize = 20;
/// Streams that we may have to reset for a peer's errors.
const H2_OWN_RESETS_MAX: usize = 64;
/// What a peer may send of bodies before we read them; `body_bytes` is what we
/// would ever read.
const H2_WINDOW: u32 = 64 << 10;

/// What a worker's connections have in common.
#[derive(Debug, Clone)]
pub struct ConnectionContext {
    /// What answers their requests.
    pub rim: Arc<Rim>,
    /// What ends them when they have overstayed.
    pub watchdog: Watchdog,
    /// Says when the gateway stops.
    pub phase: watch::Receiver<Phase>,
}

/// Serves one connection until it ends, stands still too long, or the gateway
/// stops. Requests under way are still answered then.
///
/// # Errors
///
/// Why the connection was ended without an answer.
pub async fn serve<S>(
    stream: S,
    peer: Peer,
    bounds: &Bounds,
    context: ConnectionContext,
) -> Result<(), ConnectionEnd>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let ConnectionContext {
        rim,
        watchdog,
        phase,
    } = context;
    let Some(opening) = open(stream, bounds, phase).await? else {
        return Ok(());
    };
    let watched = watchdog.watch(opening.is_http2, bounds);
    let progress = &watched.progress;
    let requests = Arc::clone(progress);
    let caller = Caller::new(peer);
    let service = service_fn(move |request: Request<Incoming>| {
        let mut busy = requests.busy();
        let malformed = requests.share_malformed();
        let arrival = Arc::new(Arrival::new(&caller, &request, malformed));
        let begin = requests.turns().admit(!request.body().is_end_stream());
        let mut answer = rim.answer(arrival, request);
        let waits = match begin {
            Begin::Now(task) => {
                answer.begin(task);
                false
            }
            Begin::NextTurn => true,
        };
        async move {
            if waits {
                yield_now().await;
            }
            if !busy.turns().is_same() {
                // hyper polls in the turn in which it hands over. Should it ever not, the
                // work may have been woken for this very poll.
                answer.look_again();
            }
            let done = answer.await;
            if done.was_sent {
                busy.was_sent();
            } else {
                // hyper would go on with what is pipelined behind it: who sends thousands
                // of bad requests at once gets one answer a turn, as everybody does.
                yield_now().await;
            }
            drop(busy);
            Ok::<_, Infallible>(done.response)
        }
    });
    let guard = if opening.is_http2 {
        Guard::Frames(FrameGuard::new())
    } else {
        Guard::Heads(HeadGuard::default())
    };
    let io = TokioIo::new(GuardedStream::new(
        opening.stream,
        opening.first,
        guard,
        Arc::clone(progress),
    ));
    let ended = if opening.is_http2 {
        let connection = pin!(http2(bounds).serve_connection(io, service));
        // GOAWAY tells what was taken: nobody has to guess.
        drive(
            connection,
            http2::Connection::graceful_shutdown,
            progress,
            true,
        )
        .await
    } else {
        let connection = pin!(http1(bounds).serve_connection(io, service));
        // Closing under a request that is on its way would leave it without an
        // answer: the next one is answered 503 with `Connection: close`.
        drive(
            connection,
            http1::Connection::graceful_shutdown,
            progress,
            false,
        )
        .await
    };
    if progress.is_flooded() {
        return Err(ConnectionEnd::Flood);
    }
    ended
}

/// Polls the connection to its end, and does what the watchdog says. hyper's two kinds
/// share no trait: so `leave` is how this one is told to end.
fn drive<C: Future<Output = hyper::Result<()>>>(
    mut connection: Pin<&mut C>,
    leave: impl Fn(Pin<&mut C>),
    progress: &Progress,
    leaves_early: bool,
) -> impl Future<Output = Result<(), ConnectionEnd>> {
    let mut is_leaving = false;
    poll_fn(move |cx| {
        progress.turns().next(cx.waker());
        let leaves = match progress.word() {
            Word::None => false,
            Word::Drain => leaves_early,
            Word::Stop => true,
            Word::Over => return Poll::Ready(Ok(())),
            Word::Idle => return Poll::Ready(Err(ConnectionEnd::IdleTimeout)),
            Word::SlowHead => return Poll::Ready(Err(ConnectionEnd::HeaderTimeout)),
        };
        let mut ended = connection.as_mut().poll(cx);
        // Only now: hyper closes a connection from which it has read nothing, and
        // on one that begins while the gateway stops a request is waiting.
        if ended.is_pending() && leaves && !is_leaving {
            is_leaving = true;
            leave(connection.as_mut());
            ended = connection.as_mut().poll(cx);
        }
        // Now: with the connection, hyper drops what works on its requests.
        ended.map(|ended| ended.map_err(|error| ConnectionEnd::of(&error, progress.has_served())))
    })
}

/// A stream whose protocol is known.
struct Opening<S> {
    stream: S,
    first: Bytes,
    is_http2: bool,
}

/// Resolves once the gateway stops, and whoever has just connected has had the time to say
/// something.
pub async fn last_words(mut phase: watch::Receiver<Phase>) {
    // An error means that the gateway is gone.
    let _ = phase.wait_for(|phase| *phase == Phase::Stopping).await;
    tokio::time::sleep(LAST_WORDS).await;
}

/// Reads until it is clear which protocol is spoken. `None`: the peer left, or
/// the gateway stops, before enough was said.
async fn open<S: AsyncRead + Unpin>(
    mut stream: S,
    bounds: &Bounds,
    phase: watch::Receiver<Phase>,
) -> Result<Option<Opening<S>>, ConnectionEnd> {
    let mut first = BytesMut::with_capacity(1024);
    let is_http2 = tokio::select! {
        biased;
        is_http2 = first_words(&mut stream, &mut first, bounds) => is_http2?,
        () = last_words(phase) => None,
    };
    Ok(is_http2.map(|is_http2| Opening {
        stream,
        first: first.freeze(),
        is_http2,
    }))
}

/// Reads the beginning into `first`; whether HTTP/2 is spoken, or `None` if the peer left.
async fn first_words<S: AsyncRead + Unpin>(
    stream: &mut S,
    first: &mut BytesMut,
    bounds: &Bounds,
) -> Result<Option<bool>, ConnectionEnd> {
    match within(bounds.idle_timeout, stream.read_buf(first)).await {
        None => return Err(ConnectionEnd::IdleTimeout),
        Some(Err(_) | Ok(0)) => return Ok(None),
        Some(Ok(_)) => {}
    }
    // A few bytes are enough for anything but the preface itself.
    let undecided = |first: &BytesMut| first.len() < PREFACE.len() && PREFACE.starts_with(first);
    let decided = async {
        while undecided(first) {
            if stream.read_buf(first).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        io::Result::Ok(())
    };
    match within(bounds.header_timeout, decided).await {
        None => Err(ConnectionEnd::HeaderTimeout),
        Some(Err(_)) => Err(ConnectionEnd::CutHead),
        Some(Ok(())) => Ok(Some(first.starts_with(PREFACE))),
    }
}

async fn within<T>(span: Duration, work: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(span, work).await.ok()
}

fn http1(bounds: &Bounds) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        // The watchdog tells idle from slow; hyper's timer can't.
        .header_read_timeout(None)
        .half_close(false)
        .keep_alive(true)
        .auto_date_header(false)
        // Above our own bounds, so that the 431 with an explanation is ours; and up
        // to 100, hyper allocates nothing for them.
        .max_headers(match size(bounds.headers) {
            few @ ..90 => few.max(90) + 10,
            many => many.saturating_mul(2),
        })
        .max_buf_size(size(bounds.header_bytes).saturating_mul(2).max(16 << 10))
        .pipeline_flush(false);
    builder
}

fn http2(bounds: &Bounds) -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .auto_date_header(false)
        .max_concurrent_streams(H2_STREAMS_MAX)
        .max_header_list_size(bounds.header_bytes.saturating_mul(2))
        .max_pending_accept_reset_streams(H2_PENDING_RESETS_MAX)
        .max_local_error_reset_streams(H2_OWN_RESETS_MAX)
        .initial_stream_window_size(H2_WINDOW)
        .initial_connection_window_size(H2_WINDOW)
        .max_frame_size(16 << 10)
        .max_send_buf_size(64 << 10);
    builder
}

fn size(bytes: u32) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
