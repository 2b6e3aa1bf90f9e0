//! One attempt: a connection, a request, an answer read whole.

use std::{
    borrow::Cow,
    error::Error as _,
    mem,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use hyper::body::{Body as _, Incoming};
use tokio::time::Instant;

use super::{
    BODY_BYTES_MAX, Failure, Forwarder, UpstreamAnswer,
    driver::Driver,
    interim,
    pool::{ConnectError, Connection},
};
use crate::{
    audit::{OutcomeKind, Sent},
    config::snapshot::Target,
    key_ring::KeyRing,
    metrics::{Ended, UpstreamError},
    pipeline::{inject::UpstreamRequest, limit::Health, room::Room},
};

/// What became of one attempt.
#[derive(Debug)]
pub struct Attempt {
    /// Its end, for the trail.
    pub end: AttemptEnd,
    /// Whether a DELETE may have reached the upstream.
    pub sent: Sent,
    /// What it says of the credential.
    pub kind: OutcomeKind,
    /// Why its answer can't be passed on, if so.
    pub failure: Option<Failure>,
    /// For operators only.
    pub detail: Cow<'static, str>,
    /// How long after the first attempt it began.
    pub after: Duration,
    /// How long it took.
    pub took: Duration,
}

/// The end of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttemptEnd {
    /// The upstream answered with this status.
    Status(u16),
    /// The look-up failed.
    Dns,
    /// No address took the connection.
    Connect,
    /// The TLS handshake failed.
    Tls,
    /// There was no connection in time.
    ConnectTimeout,
    /// A kept-alive connection was closed before the request left.
    Closed,
    /// The connection broke after something was written.
    Reset,
    /// No whole answer in time, after something was written.
    Timeout,
    /// Something was answered that is no HTTP, or was cut short.
    Protocol(&'static str),
}

impl AttemptEnd {
    /// Its name in the trail: a status, or a word.
    pub fn as_str(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::Status(status) => return Cow::Owned(status.to_string()),
            Self::Dns => "dns",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::ConnectTimeout => "connect-timeout",
            Self::Closed => "closed",
            Self::Reset => "reset",
            Self::Timeout => "timeout",
            Self::Protocol(_) => "protocol",
        })
    }
}

impl AttemptEnd {
    /// What it counts as.
    pub fn counted(&self) -> Ended {
        match self {
            Self::Status(status) => Ok(*status),
            Self::Dns => Err(UpstreamError::Dns),
            Self::Connect => Err(UpstreamError::Connect),
            Self::Tls => Err(UpstreamError::Tls),
            Self::ConnectTimeout | Self::Timeout => Err(UpstreamError::Timeout),
            Self::Closed | Self::Reset => Err(UpstreamError::Reset),
            Self::Protocol(_) => Err(UpstreamError::Protocol),
        }
    }
}

impl Attempt {
    /// The upstream's status, if it answered with one.
    pub fn status(&self) -> Option<u16> {
        match self.end {
            AttemptEnd::Status(status) => Some(status),
            _ => None,
        }
    }

    /// What it shows of the upstream's health: time-outs and what keeps a
    /// connection from being made count, odd requests of one tenant do not.
    pub fn health(&self) -> Option<Health> {
        match self.end {
            AttemptEnd::Status(502..=504)
            | AttemptEnd::Dns
            | AttemptEnd::Connect
            | AttemptEnd::Tls
            | AttemptEnd::ConnectTimeout
            | AttemptEnd::Timeout => Some(Health::Failing),
            AttemptEnd::Status(_) => Some(Health::Working),
            AttemptEnd::Closed | AttemptEnd::Reset | AttemptEnd::Protocol(_) => None,
        }
    }

    fn failed(end: AttemptEnd, failure: Failure, detail: impl Into<Cow<'static, str>>) -> Self {
        let sent = match failure {
            Failure::Unreachable | Failure::DryRun => Sent::No,
            Failure::Timeout | Failure::Reset => Sent::Unknown,
            Failure::Protocol | Failure::RejectedKey => Sent::Yes,
        };
        let kind = if sent == Sent::No {
            OutcomeKind::Failed
        } else {
            OutcomeKind::InDoubt
        };
        Self {
            end,
            sent,
            kind,
            failure: Some(failure),
            detail: detail.into(),
            after: Duration::ZERO,
            took: Duration::ZERO,
        }
    }
}

/// An attempt that ended without an answer.
type Broken = Attempt;

impl Forwarder {
    /// Sends the request once. A kept-alive connection that turns out to be
    /// closed before the request left is no attempt: the next one is taken.
    pub(super) async fn attempt(
        &self,
        request: &UpstreamRequest,
        target: &Arc<Target>,
        keys: &KeyRing,
        deadline: Instant,
    ) -> (Attempt, Result<UpstreamAnswer, Failure>) {
        let ended = match self.exchange(request, target, deadline).await {
            Ok(answer) => return judged(answer, keys),
            Err(ended) => ended,
        };
        let failure = ended.failure.unwrap_or(Failure::Protocol);
        (ended, Err(failure))
    }

    async fn exchange(
        &self,
        request: &UpstreamRequest,
        target: &Arc<Target>,
        deadline: Instant,
    ) -> Result<UpstreamAnswer, Broken> {
        let now = Instant::now();
        let mut connection = loop {
            let Some(mut kept) = self.pool.take(target, now) else {
                // Seldom, and large: not part of every call's future.
                let connecting = Box::pin(self.connect(target, deadline));
                break connecting.await?;
            };
            if kept.sender.is_ready() {
                break kept;
            }
            // Resolves at once; an error means that it was closed meanwhile.
            let Connection { sender, driver, .. } = &mut kept;
            let is_ready = driver.until(|cx| sender.poll_ready(cx));
            if let Ok(Ok(())) = self.timers.within(deadline, is_ready).await {
                break kept;
            }
        };
        let exchange = exchange_on(&mut connection, request);
        match self.timers.within(deadline, exchange).await {
            Ok(Ok(answer)) => {
                self.pool.put_back(connection, Instant::now());
                Ok(answer)
            }
            Ok(Err(ended)) => Err(ended),
            Err(_) if connection.is_unwritten() => Err(Attempt::failed(
                AttemptEnd::ConnectTimeout,
                Failure::Unreachable,
                "the deadline passed before anything was written",
            )),
            Err(_) => Err(Attempt::failed(
                AttemptEnd::Timeout,
                Failure::Timeout,
                "no whole answer within request_timeout",
            )),
        }
    }
}

impl Forwarder {
    async fn connect(&self, target: &Arc<Target>, deadline: Instant) -> Result<Connection, Broken> {
        let began = Instant::now();
        let connected = self
            .pool
            .connect(target, deadline)
            .await
            .map_err(unreachable);
        let ended = match &connected {
            Ok(_) => Ok(()),
            Err(broken) => broken.end.counted().map(|_| ()),
        };
        self.counts.connection_tried(ended, began.elapsed());
        connected
    }
}

async fn exchange_on(
    connection: &mut Connection,
    request: &UpstreamRequest,
) -> Result<UpstreamAnswer, Broken> {
    connection.mark_written();
    let response = {
        let Connection {
            sender,
            driver,
            room,
            ..
        } = &mut *connection;
        let request = request.attempt(mem::take(room));
        let mut sending = pin!(sender.try_send_request(request));
        driver.until(|cx| sending.as_mut().poll(cx)).await
    };
    match response {
        Ok(response) => {
            let (head, body) = response.into_parts();
            let body = match head.status.is_informational() {
                true => Bytes::new(),
                false => read_whole(&mut connection.driver, body).await?,
            };
            let answer = UpstreamAnswer::new(head.status.as_u16(), &head.headers, body);
            connection.room = Room::emptied(head.headers);
            Ok(answer)
        }
        Err(mut error) => {
            let unsent = error.take_message().is_some() || connection.is_unwritten();
            Err(broken(error.error(), unsent))
        }
    }
}

async fn read_whole(driver: &mut Driver, mut body: Incoming) -> Result<Bytes, Broken> {
    let cut = |why| {
        let end = AttemptEnd::Protocol(why);
        Err(Attempt::failed(end, Failure::Protocol, why))
    };
    // Copied: a piece would keep all of the connection's buffer.
    let mut whole = BytesMut::new();
    while !body.is_end_stream() {
        let Some(frame) = driver.until(|cx| Pin::new(&mut body).poll_frame(cx)).await else {
            break;
        };
        let Ok(frame) = frame else {
            return cut("the answer's body was cut short");
        };
        // Trailers are dropped.
        let Ok(piece) = frame.into_data() else {
            continue;
        };
        if whole.len() + piece.len() > BODY_BYTES_MAX {
            return cut("the answer's body is longer than 1 MiB");
        }
        if whole.is_empty() && body.is_end_stream() {
            // As nearly always.
            return Ok(Bytes::copy_from_slice(&piece));
        }
        whole.extend_from_slice(&piece);
    }
    Ok(whole.freeze())
}

fn judged(answer: UpstreamAnswer, keys: &KeyRing) -> (Attempt, Result<UpstreamAnswer, Failure>) {
    let checked = answer.check(keys);
    let attempt = Attempt {
        end: AttemptEnd::Status(answer.status),
        sent: Sent::Yes,
        kind: answer.kind(),
        failure: checked.err().map(|(failure, _)| failure),
        detail: checked.err().map_or("", |(_, why)| why).into(),
        after: Duration::ZERO,
        took: Duration::ZERO,
    };
    let result = match checked {
        Ok(()) => Ok(answer),
        Err((failure, _)) => Err(failure),
    };
    (attempt, result)
}

fn unreachable(error: ConnectError) -> Broken {
    let end = match error {
        ConnectError::Dns(_) => AttemptEnd::Dns,
        ConnectError::Tcp(_) => AttemptEnd::Connect,
        ConnectError::Tls(_) => AttemptEnd::Tls,
        ConnectError::Timeout => AttemptEnd::ConnectTimeout,
    };
    Attempt::failed(end, Failure::Unreachable, error.to_string())
}

/// What an error of hyper means for the call.
fn broken(error: &hyper::Error, unsent: bool) -> Broken {
    let source = error.source().map(ToString::to_string).unwrap_or_default();
    let detail = format!("{error} {source}");
    if unsent {
        Attempt::failed(AttemptEnd::Closed, Failure::Unreachable, detail)
    } else if interim::is_storm(error) {
        let why = "too many interim answers";
        Attempt::failed(AttemptEnd::Protocol(why), Failure::Protocol, why)
    } else if error.is_parse() {
        Attempt::failed(AttemptEnd::Protocol("not HTTP"), Failure::Protocol, detail)
    } else {
        Attempt::failed(AttemptEnd::Reset, Failure::Reset, detail)
    }
}
