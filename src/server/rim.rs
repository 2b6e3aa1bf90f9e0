//! Around the pipeline: a bound on requests in flight that sheds what is above
//! it, a net for panics, and care for callers that leave.

use std::{
    future::Future,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::FutureExt;
use http::{Request, Response};
use hyper::body::Incoming;

use super::{arrival::Arrival, gateway::Shared};
use crate::{
    audit::Sent,
    logging::access,
    metrics::Shard,
    pipeline::{Answer, Pipeline, code::Code, refusal::Refusal, respond},
    traces::{Finished, Traces},
};

/// The rim of one worker.
#[derive(Debug)]
pub struct Rim {
    shared: Arc<Shared>,
    pipeline: Arc<Pipeline>,
    counts: Arc<Shard>,
}

impl Rim {
    /// Puts the rim around a worker's pipeline. The bound on requests in flight
    /// is shared by all workers.
    pub fn new(shared: Arc<Shared>, pipeline: Arc<Pipeline>, counts: Arc<Shard>) -> Self {
        Self {
            shared,
            pipeline,
            counts,
        }
    }

    /// Answers one request, whatever happens.
    ///
    /// The future may be dropped at any time: between intent and outcome the
    /// work then goes on by itself, its place in flight included.
    pub fn answer(self: &Arc<Self>, arrival: Arc<Arrival>, request: Request<Incoming>) -> Uncut {
        let rim = Arc::clone(self);
        let shared = Arc::clone(&arrival);
        Uncut {
            arrival,
            work: Some(Box::pin(async move { rim.run(&shared, request).await })),
        }
    }

    async fn run(&self, arrival: &Arrival, request: Request<Incoming>) -> Response<respond::Body> {
        let traces = self.shared.traces();
        let begin = |traces: &Arc<Traces>| traces.begin(request.headers(), arrival.request_id);
        let trace = traces.and_then(begin);
        let mut waiting = Waiting {
            counts: &self.counts,
            arrival,
            is_answered: false,
        };
        let decided = AssertUnwindSafe(self.decide(arrival, request)).catch_unwind();
        let answer = decided.await.unwrap_or_else(|_| {
            let sent = if arrival.is_committed() {
                Sent::Unknown
            } else {
                Sent::No
            };
            arrival.conclude();
            self.counts.panicked();
            tracing::error!(request.id = %arrival.request_id, "a bug was caught");
            self.pipeline
                .refuse_unread(arrival, Refusal::InternalError(sent))
        });
        waiting.is_answered = true;
        let trace = traces.zip(trace).map(|(traces, trace)| {
            let is_known = answer.tenant.is_some();
            traces.judged(trace, arrival.request_id, is_known)
        });
        if access::is_wanted(answer.response.status().as_u16()) {
            let digest = &self.shared.snapshot().digest;
            access::answered(arrival, &answer, trace.as_ref(), digest);
        }
        if answer.upstream.is_none() {
            // It was answered without waiting for anything, and hyper would go on with
            // what is pipelined behind it: who sends thousands of bad requests at once
            // gets one answer a turn, as everybody does.
            tokio::task::yield_now().await;
        }
        match (traces, trace) {
            (Some(traces), Some(trace)) if trace.is_sampled => {
                let (response, call) = Finished::of(trace, arrival, answer);
                traces.finish(call);
                response
            }
            _ => answer.response,
        }
    }

    /// What is shed or comes too late is refused before anything is looked at.
    async fn decide(&self, arrival: &Arrival, request: Request<Incoming>) -> Answer {
        let Some(_place) = self.shared.in_flight().enter() else {
            return self.pipeline.refuse_unread(arrival, Refusal::Overloaded);
        };
        if self.shared.is_draining() {
            return self.pipeline.refuse_unread(arrival, Refusal::Draining);
        }
        let snapshot = self.shared.snapshot();
        self.pipeline.answer(&snapshot, arrival, request).await
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
