//! One attempt: a connection, a request, an answer read whole.

use std::{borrow::Cow, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    Failure, Forwarder, UpstreamAnswer,
    connection::{Broken, Connection},
    pool::ConnectError,
};
use crate::{
    audit::{OutcomeKind, Sent},
    key_ring::KeyRing,
    metrics::{Ended, UpstreamError},
    pipeline::{inject::UpstreamRequest, limit::Health},
    snapshot::{Target, Tenant},
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
    /// How long its answer asks to wait, passed on or not.
    pub asks_to_wait: Option<Duration>,
    /// For operators only.
    pub detail: Cow<'static, str>,
    /// How long after the first attempt it began.
    pub after: Duration,
    /// How long it took.
    pub took: Duration,
}

/// Which connections an attempt may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Connections {
    /// A kept-alive one, if there is one.
    Any,
    /// None that was used before.
    New,
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
    /// A new connection was closed before the request left.
    Closed,
    /// The tenant was frozen while the connection was made; nothing was written.
    Frozen,
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
            Self::Frozen => "frozen",
            Self::Reset => "reset",
            Self::Timeout => "timeout",
            Self::Protocol(_) => "protocol",
        })
    }
}

impl AttemptEnd {
    /// What it counts as; `None` if the upstream had no part in it.
    pub fn counted(&self) -> Option<Ended> {
        Some(match self {
            Self::Status(status) => Ok(*status),
            Self::Dns => Err(UpstreamError::Dns),
            Self::Connect => Err(UpstreamError::Connect),
            Self::Tls => Err(UpstreamError::Tls),
            Self::ConnectTimeout | Self::Timeout => Err(UpstreamError::Timeout),
            Self::Closed | Self::Reset => Err(UpstreamError::Reset),
            Self::Protocol(_) => Err(UpstreamError::Protocol),
            Self::Frozen => return None,
        })
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
            AttemptEnd::Closed
            | AttemptEnd::Frozen
            | AttemptEnd::Reset
            | AttemptEnd::Protocol(_) => None,
        }
    }

    fn failed(end: AttemptEnd, failure: Failure, detail: impl Into<Cow<'static, str>>) -> Self {
        let sent = match failure {
            Failure::Unreachable | Failure::DryRun | Failure::Frozen => Sent::No,
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
            asks_to_wait: None,
            detail: detail.into(),
            after: Duration::ZERO,
            took: Duration::ZERO,
        }
    }
}

impl Forwarder {
    /// Sends the request once; when that ended, and the answer or how it ended
    /// without one. A kept-alive connection that turns out to be closed before the
    /// request left is no attempt: the next one is taken. With `Connections::New` none
    /// of them is. Nor is anything written if the tenant was frozen while a connection
    /// was made. It is `at` now.
    pub(super) async fn exchange(
        &self,
        request: &UpstreamRequest<'_>,
        target: &Arc<Target>,
        tenant: &Tenant,
        at: Instant,
        deadline: Instant,
        connections: Connections,
    ) -> (Instant, Result<Box<UpstreamAnswer>, Attempt>) {
        let kept = match connections {
            Connections::Any => self.pool.take(target, at),
            Connections::New => None,
        };
        let mut connection = match kept {
            Some(kept) => kept,
            // Seldom, and large: not part of every call's future.
            None => match Box::pin(self.connect(target, tenant, deadline)).await {
                Ok(new) => new,
                Err(ended) => return (Instant::now(), Err(ended)),
            },
        };
        // From here on something may have been written: a byte that may have left is
        // never taken for unsent.
        let exchange = connection.exchange(request.bytes());
        let ended = self.timers.within(deadline, exchange).await;
        let now = Instant::now();
        let failed = match ended {
            Ok(Ok(whole)) => {
                if whole.stays_open {
                    self.pool.put_back(connection, now);
                }
                return (now, Ok(whole.answer));
            }
            Ok(Err(broken)) => unanswered(broken),
            Err(_) => Attempt::failed(
                AttemptEnd::Timeout,
                Failure::Timeout,
                "no whole answer within request_timeout",
            ),
        };
        self.judge_the_pool(&connection, &failed, at);
        (now, Err(failed))
    }

    /// A kept-alive connection that breaks, or says nothing, may be one of many that the
    /// upstream forgot: those that were unused when the attempt began, at `at`, are not
    /// tried one by one.
    fn judge_the_pool(&self, connection: &Connection, attempt: &Attempt, at: Instant) {
        let is_dead = match attempt.end {
            AttemptEnd::Reset => true,
            AttemptEnd::Timeout => connection.is_silent(),
            _ => false,
        };
        if is_dead && connection.is_reused() {
            self.pool.distrust(connection.target(), at);
        }
    }

    async fn connect(
        &self,
        target: &Arc<Target>,
        tenant: &Tenant,
        deadline: Instant,
    ) -> Result<Connection, Attempt> {
        let began = Instant::now();
        let connected = self.pool.connect(target, deadline).await;
        let ended = connected.as_ref().map(|_| ());
        self.counts
            .connection_tried(ended.map_err(ConnectError::counted), began.elapsed());
        let mut connection = connected.map_err(unreachable)?;
        if !connection.is_open() {
            return Err(Attempt::failed(
                AttemptEnd::Closed,
                Failure::Unreachable,
                "the upstream closed the connection before the request left",
            ));
        }
        // Whoever froze it was told so meanwhile, maybe.
        if tenant.is_frozen() {
            self.pool.put_back(connection, Instant::now());
            return Err(Attempt::failed(
                AttemptEnd::Frozen,
                Failure::Frozen,
                "the tenant was frozen before the request left",
            ));
        }
        Ok(connection)
    }
}

/// What an exchange means for the call. No answer passes that holds one of `keys`.
pub(super) fn judged(
    ended: Result<Box<UpstreamAnswer>, Attempt>,
    keys: &KeyRing,
) -> (Attempt, Result<Box<UpstreamAnswer>, Failure>) {
    let answer = match ended {
        Ok(answer) => answer,
        Err(ended) => {
            let failure = ended.failure.unwrap_or(Failure::Protocol);
            return (ended, Err(failure));
        }
    };
    let checked = answer.check(keys);
    let attempt = Attempt {
        end: AttemptEnd::Status(answer.status),
        sent: Sent::Yes,
        kind: answer.kind(),
        failure: checked.err().map(|(failure, _)| failure),
        asks_to_wait: answer.asks_to_wait(),
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

fn unreachable(error: ConnectError) -> Attempt {
    let end = match error {
        ConnectError::Dns(_) => AttemptEnd::Dns,
        ConnectError::Tcp(_) => AttemptEnd::Connect,
        ConnectError::Tls(_) => AttemptEnd::Tls,
        ConnectError::Timeout => AttemptEnd::ConnectTimeout,
    };
    Attempt::failed(end, Failure::Unreachable, error.to_string())
}

/// What an exchange without an answer means for the call.
fn unanswered(broken: Broken) -> Attempt {
    match broken {
        Broken::Reset(error) => {
            Attempt::failed(AttemptEnd::Reset, Failure::Reset, error.to_string())
        }
        Broken::Wrong(wrong) => Attempt::failed(
            AttemptEnd::Protocol(wrong.why),
            Failure::Protocol,
            wrong.detail,
        ),
    }
}
