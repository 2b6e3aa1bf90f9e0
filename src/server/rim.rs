//! Around the pipeline: a bound on requests in flight that sheds what is above
//! it, a net for panics, and care for callers that leave.

mod berths;

use std::{
    future::Future,
    mem,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use futures_util::FutureExt;
use http::{Request, Response};
use hyper::body::Incoming;

use self::berths::{Berths, Work};
use super::{access_line, shared::Shared};
use crate::{
    arrival::Arrival,
    audit::Sent,
    code::Code,
    metrics::Shard,
    pipeline::{Answer, Pipeline, refusal::Refusal, respond},
    snapshot::Snapshot,
    traces::{Finished, Traces},
};

/// The rim of one worker.
#[derive(Debug)]
pub struct Rim {
    shared: Arc<Shared>,
    pipeline: Arc<Pipeline>,
    counts: Arc<Shard>,
    berths: Berths<Given, Done>,
}

/// What came of a call.
#[derive(Debug)]
pub struct Done {
    /// The answer.
    pub response: Response<respond::Body>,
    /// It was sent on. Else it was answered without waiting for anybody else.
    pub was_sent: bool,
}

/// What the work of a call begins with.
type Given = (Arc<Rim>, Arc<Arrival>, Request<Incoming>);

impl Rim {
    /// Puts the rim around a worker's pipeline. The bound on requests in flight
    /// is shared by all workers.
    pub fn new(shared: Arc<Shared>, pipeline: Arc<Pipeline>, counts: Arc<Shard>) -> Self {
        Self {
            shared,
            pipeline,
            counts,
            berths: Berths::default(),
        }
    }

    /// Answers one request, whatever happens.
    ///
    /// The future may be dropped at any time: between intent and outcome the
    /// work then goes on by itself, its place in flight included.
    pub fn answer(self: &Arc<Self>, arrival: Arc<Arrival>, request: Request<Incoming>) -> Uncut {
        let given = (Arc::clone(self), Arc::clone(&arrival), request);
        let work = self
            .berths
            .begin(given, |(rim, arrival, request)| async move {
                rim.run(&arrival, request).await
            });
        Uncut {
            rim: Arc::clone(self),
            arrival,
            work: Some(work),
            done: None,
            is_polled: false,
        }
    }

    async fn run(&self, arrival: &Arrival, request: Request<Incoming>) -> Done {
        let traces = self.shared.traces();
        let begin = |traces: &Arc<Traces>| traces.begin(request.headers(), arrival.request_id);
        let trace = traces.and_then(begin);
        let mut waiting = Waiting {
            counts: &self.counts,
            arrival,
            is_answered: false,
        };
        let snapshot = self.shared.snapshot();
        let decided = AssertUnwindSafe(self.decide(&snapshot, arrival, request)).catch_unwind();
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
        access_line::answered(arrival, &answer, trace.as_ref(), &snapshot.digest);
        let was_sent = answer.upstream.is_some();
        let response = match (traces, trace) {
            (Some(traces), Some(trace)) if trace.is_sampled => {
                let (response, call) = Finished::of(trace, arrival, answer, &snapshot.upstream);
                traces.finish(call);
                response
            }
            _ => answer.response,
        };
        Done { response, was_sent }
    }

    /// What is shed or comes too late is refused before anything is looked at.
    async fn decide<'a>(
        &self,
        snapshot: &'a Snapshot,
        arrival: &Arrival,
        request: Request<Incoming>,
    ) -> Answer<'a> {
        let Some(_place) = self.shared.enter() else {
            return self.pipeline.refuse_unread(arrival, Refusal::Overloaded);
        };
        if self.shared.is_draining() {
            return self.pipeline.refuse_unread(arrival, Refusal::Draining);
        }
        self.pipeline.answer(snapshot, arrival, request).await
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
    rim: Arc<Rim>,
    arrival: Arc<Arrival>,
    work: Option<Work<Given, Done>>,
    done: Option<Done>,
    /// Whether the next poll has nothing to do: `begin` polled the work already, in the
    /// same turn and for the same task, which the work wakes when there is more.
    is_polled: bool,
}

impl Uncut {
    /// Goes as far as it can at once; it has to be polled all the same, and soon. hyper
    /// reads on as soon as it has handed over a request, and takes new memory for that
    /// as long as the head of this one is held. `task` is the one that will poll it in
    /// this very [turn](super::turn), if that is known: then that first poll has nothing
    /// to do.
    pub fn begin(&mut self, task: Option<&Waker>) {
        let mut cx = Context::from_waker(task.unwrap_or(Waker::noop()));
        match Pin::new(&mut *self).poll(&mut cx) {
            Poll::Ready(done) => self.done = Some(done),
            Poll::Pending => self.is_polled = task.is_some(),
        }
    }

    /// The next poll looks at the work, whoever polled it before.
    pub fn look_again(&mut self) {
        self.is_polled = false;
    }
}

impl Future for Uncut {
    type Output = Done;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Done> {
        if let Some(done) = self.done.take() {
            return Poll::Ready(done);
        }
        if mem::take(&mut self.is_polled) {
            return Poll::Pending;
        }
        let Some(work) = &mut self.work else {
            return Poll::Pending;
        };
        work.as_mut().poll(cx).map(|done| {
            if let Some(work) = self.work.take() {
                self.rim.berths.put_back(work);
            }
            done
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
