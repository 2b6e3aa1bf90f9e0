//! One attempt: a connection, the request and its answer, and what that means for the call.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    Forwarder,
    connect_error::ConnectError,
    connection::{Broken, Connection},
};
use crate::{
    audit::Sent,
    key_ring::KeyRing,
    pipeline::{
        inject::UpstreamRequest,
        outcome::{Attempt, AttemptEnd, Failure, UpstreamAnswer},
    },
    snapshot::{Target, Tenant},
};

/// Which connections an attempt may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Connections {
    /// A kept-alive one, if there is one.
    Any,
    /// None that was used before.
    New,
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
