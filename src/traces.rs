//! Traces: W3C Trace Context in, spans out by OTLP/HTTP.
//!
//! A span is made after its call was answered, of what is known by then, and put
//! into a bounded queue (`queue`); one task on the main runtime encodes and sends
//! (`export`). A collector that is slow or gone costs spans, never a call, and
//! what is lost is counted.
//!
//! Why not the OpenTelemetry SDK: its batch exporter wants a thread and an HTTP
//! client of its own, and `opentelemetry-proto` alone, for its types, brings tonic
//! and the SDK: 68 crates, more than a third of what the whole program has. The
//! part of OTLP that is needed here are nine messages of four kinds of fields:
//! `encode` is one short file without a dependency, and the tests have its bytes
//! read by the official schema.
//!
//! Nothing of a trace goes to the upstream: no header of a caller does.

mod context;
mod encode;
mod export;
mod finished;
mod post;
mod queue;

use std::sync::Arc;

use http::HeaderMap;

use self::queue::Queue;
pub use self::{context::Context, export::Exporter, finished::Finished, queue::Counts};
use crate::{config::settings::Otlp, ids::RequestId};

/// What workers know of tracing.
#[derive(Debug)]
pub struct Traces {
    queue: Queue,
    /// A trace begun here is sent if the random part of its id is below this.
    below: u64,
}

/// How many bits of a trace's id are random, see `context::random_part`.
const RANDOM_BITS: u32 = 56;

impl Traces {
    /// Nothing is traced yet.
    pub fn new(settings: &Otlp) -> Arc<Self> {
        let all = (1_u64 << RANDOM_BITS) as f64;
        Arc::new(Self {
            queue: Queue::default(),
            // Between 0 and 2^56: checked with the config.
            below: (settings.sampling * all) as u64,
        })
    }

    /// The trace that a request belongs to: its caller's, or one of its own.
    /// `None` if neither is to be told.
    pub fn begin(&self, fields: &HeaderMap, request_id: RequestId) -> Option<Context> {
        if let Some(context) = Context::continued(fields) {
            return Some(context);
        }
        let is_ours = self.is_among_ours(request_id);
        is_ours.then(|| Context::new(request_id))
    }

    /// What is told of a call, now that it is known who sent it: what a caller's flag
    /// says counts only if the token was good. A stranger must not be able to fill
    /// the queue, so strangers' calls are sampled as those without a trace are.
    pub fn judged(&self, context: Context, request_id: RequestId, is_known: bool) -> Context {
        Context {
            is_sampled: context.is_sampled && (is_known || self.is_among_ours(request_id)),
            ..context
        }
    }

    /// Whether a trace that begins with this request is among those that are sent.
    fn is_among_ours(&self, request_id: RequestId) -> bool {
        context::random_part(&request_id.bytes()) < self.below
    }

    /// Takes what became of a call of a sampled trace.
    pub fn finish(&self, call: Finished) {
        self.queue.push(call);
    }

    /// What was sent and lost since the start.
    pub fn counts(&self) -> &Counts {
        self.queue.counts()
    }
}
