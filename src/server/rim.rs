//! Around the pipeline: a bound on requests in flight that sheds what is above
//! it, a net for panics, and care for callers that leave.

use std::{
    convert::Infallible,
    future::Future,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::FutureExt;
use http::{Request, Response};
use hyper::body::Incoming;
use tower::{
    Service, ServiceBuilder, ServiceExt,
    limit::{ConcurrencyLimit, GlobalConcurrencyLimitLayer},
    load_shed::LoadShed,
};

use super::{arrival::Arrival, gateway::Shared};
use crate::{
    audit::Sent,
    logging::access,
    metrics::Shard,
    pipeline::{Answer, Pipeline, code::Code, refusal::Refusal, respond},
};

/// The rim of one worker.
#[derive(Debug, Clone)]
pub struct Rim {
    inner: LoadShed<ConcurrencyLimit<Decide>>,
    decide: Decide,
    counts: Arc<Shard>,
}

/// A request with what is known of its arrival.
type Arrived = (Arc<Arrival>, Request<Incoming>);

impl Rim {
    /// Puts the rim around a worker's pipeline. The bound on requests in flight
    /// is shared by all workers.
    pub fn new(shared: Arc<Shared>, pipeline: Arc<Pipeline>, counts: Arc<Shard>) -> Self {
        let decide = Decide { shared, pipeline };
        let in_flight = Arc::clone(decide.shared.in_flight());
        Self {
            inner: ServiceBuilder::new()
                .load_shed()
                .layer(GlobalConcurrencyLimitLayer::with_semaphore(in_flight))
                .service(decide.clone()),
            decide,
            counts,
        }
    }

    /// Answers one request, whatever happens.
    ///
    /// The future may be dropped at any time: between intent and outcome the
    /// work then goes on by itself, its place in flight included.
    pub fn answer(&self, arrival: Arc<Arrival>, request: Request<Incoming>) -> Uncut {
        let rim = self.clone();
        let shared = Arc::clone(&arrival);
        Uncut {
            arrival,
            work: Some(Box::pin(async move { rim.run(shared, request).await })),
        }
    }

    async fn run(
        self,
        arrival: Arc<Arrival>,
        request: Request<Incoming>,
    ) -> Response<respond::Body> {
        let mut waiting = Waiting {
            counts: &self.counts,
            arrival: &arrival,
            is_answered: false,
        };
        let decided = AssertUnwindSafe(self.inner.oneshot((Arc::clone(&arrival), request)))
            .catch_unwind()
            .await;
        let pipeline = &self.decide.pipeline;
        let answer = match decided {
            Ok(Ok(answer)) => answer,
            // The only error there is: the limit shed the request.
            Ok(Err(_)) => pipeline.refuse_unread(&arrival, Refusal::Overloaded),
            Err(_) => {
                let sent = if arrival.is_committed() {
                    Sent::Unknown
                } else {
                    Sent::No
                };
                arrival.conclude();
                self.counts.panicked();
                tracing::error!(request.id = %arrival.request_id, "a bug was caught");
                pipeline.refuse_unread(&arrival, Refusal::InternalError(sent))
            }
        };
        waiting.is_answered = true;
        if access::is_wanted(answer.response.status().as_u16()) {
            let snapshot = self.decide.shared.snapshot.load();
            access::answered(&arrival, &answer, &snapshot.digest);
        }
        answer.response
    }
}

/// A caller that waits for its answer; dropped before there is one, it left.
struct Waiting<'a> {
    counts: &'a Shard,
    arrival: &'a Arrival,
    is_answered: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if !self.is_answered {
            let took = self.arrival.started.elapsed();
            self.counts.answered(None, Code::ClientClosed, 0, took);
        }
    }
}

/// The inmost service: the pipeline with the current snapshot.
#[derive(Debug, Clone)]
struct Decide {
    shared: Arc<Shared>,
    pipeline: Arc<Pipeline>,
}

impl Service<Arrived> for Decide {
    type Response = Answer;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, Infallible>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (arrival, request): Arrived) -> Self::Future {
        let Self { shared, pipeline } = self.clone();
        Box::pin(async move {
            if shared.is_draining() {
                return Ok(pipeline.refuse_unread(&arrival, Refusal::Draining));
            }
            let snapshot = shared.snapshot();
            Ok(pipeline.answer(&snapshot, &arrival, request).await)
        })
    }
}

/// Work that survives its caller: dropped between intent and outcome, it goes
/// on as a task of its own; dropped before, nothing was sent and it ends.
pub struct Uncut {
    arrival: Arc<Arrival>,
    work: Option<Pin<Box<dyn Future<Output = Response<respond::Body>> + Send>>>,
}

impl Future for Uncut {
    type Output = Response<respond::Body>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(work) = &mut self.work else {
            return Poll::Pending;
        };
        work.as_mut().poll(cx).map(|response| {
            self.work = None;
            response
        })
    }
}

impl Drop for Uncut {
    fn drop(&mut self) {
        let Some(work) = self.work.take() else { return };
        if self.arrival.is_committed() {
            tokio::spawn(work);
        }
    }
}
