//! The task that sends spans.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{
    Traces,
    encode::Message,
    finished::Finished,
    post::{Collector, Delivery},
};
use crate::{config::settings::Otlp, ids::random, snapshot::otlp::Way};

/// How long spans wait for others.
const GATHER: Duration = Duration::from_secs(1);
/// Tries to deliver the same spans; meanwhile others wait in the queue.
const TRIES_MAX: u32 = 5;
/// The pause after the first try; doubled for each further one, and jittered.
const BACK_OFF: Duration = Duration::from_secs(1);
/// How long the end waits for the last spans.
const CLOSE_WAIT: Duration = Duration::from_secs(3);

/// The running task. It has to be told to end.
#[derive(Debug)]
pub struct Exporter {
    closing: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// What the task works with.
struct Work {
    traces: Arc<Traces>,
    collector: Collector,
    service: String,
    closing: watch::Receiver<bool>,
    is_failing: bool,
    has_rejected: bool,
}

impl Exporter {
    /// Starts sending what `traces` is given, on the runtime that this is called on.
    pub fn start(traces: Arc<Traces>, settings: &Otlp, way: Way) -> Self {
        let (closing, closes) = watch::channel(false);
        let work = Work {
            traces,
            collector: Collector::new(settings.clone(), way),
            service: settings.service_name.clone(),
            closing: closes,
            is_failing: false,
            has_rejected: false,
        };
        Self {
            closing,
            task: tokio::spawn(work.run()),
        }
    }

    /// Sends what is left, as far as that takes no longer than `CLOSE_WAIT`.
    pub async fn close(mut self) {
        self.closing.send_replace(true);
        if timeout(CLOSE_WAIT, &mut self.task).await.is_err() {
            self.task.abort();
        }
    }
}

impl Work {
    async fn run(mut self) {
        loop {
            let traces = Arc::clone(&self.traces);
            let is_closing = tokio::select! {
                () = sleep(GATHER) => false,
                () = traces.queue.filled.notified() => false,
                _ = self.closing.wait_for(|closing| *closing) => true,
            };
            loop {
                let calls = traces.queue.take();
                if calls.is_empty() {
                    break;
                }
                self.deliver(&calls).await;
            }
            if is_closing {
                return;
            }
        }
    }

    async fn deliver(&mut self, calls: &[Finished]) {
        let spans = calls.iter().map(Finished::spans).sum();
        let body = Bytes::from(self.request(calls));
        let mut tries = 0;
        loop {
            tries += 1;
            match self.collector.post(body.clone()).await {
                Delivery::Taken(rejected, why) => {
                    self.traces.counts().delivered(spans, rejected);
                    self.taken(rejected, &why);
                    return;
                }
                Delivery::Refused(why) => {
                    self.traces.counts().gave_up(spans);
                    return self.failed(&why, "the collector refuses them");
                }
                Delivery::Later(why, after) => {
                    self.failed(&why, "they are tried again and, if that lasts, dropped");
                    let pause = after.unwrap_or_else(|| back_off(tries));
                    if tries >= TRIES_MAX || !self.pause(pause).await {
                        return self.traces.counts().gave_up(spans);
                    }
                }
            }
        }
    }

    /// False if the end came first.
    async fn pause(&mut self, span: Duration) -> bool {
        let until = Instant::now() + span;
        tokio::select! {
            () = sleep_until(until) => true,
            _ = self.closing.wait_for(|closing| *closing) => false,
        }
    }

    /// Said once for each outage.
    fn failed(&mut self, why: &str, what: &'static str) {
        if !self.is_failing {
            self.is_failing = true;
            tracing::warn!(
                why,
                "spans cannot be delivered to otlp.endpoint: {what}. Calls are not touched by it; look at the collector"
            );
        }
    }

    fn taken(&mut self, rejected: u64, why: &str) {
        if self.is_failing {
            self.is_failing = false;
            tracing::info!("spans are delivered to otlp.endpoint again");
        }
        if rejected > 0 && !self.has_rejected {
            self.has_rejected = true;
            tracing::warn!(
                rejected,
                why,
                "the collector of otlp.endpoint rejects some spans; this is said once, the metrics count them"
            );
        }
    }

    /// An `ExportTraceServiceRequest`.
    fn request(&self, calls: &[Finished]) -> Vec<u8> {
        let mut request = Message::default();
        request.message(1, |resource_spans| {
            resource_spans.message(1, |resource| {
                resource.text_attribute(1, "service.name", &self.service);
                resource.text_attribute(1, "service.version", env!("CARGO_PKG_VERSION"));
            });
            resource_spans.message(2, |scope_spans| {
                scope_spans.message(1, |scope| {
                    scope.bytes(1, "alloy-gateway");
                    scope.bytes(2, env!("CARGO_PKG_VERSION"));
                });
                for call in calls {
                    call.write(scope_spans);
                }
            });
        });
        request.into_bytes()
    }
}

/// Between half and one and a half times the pause, so that gateways that failed
/// together do not come back together.
fn back_off(tries: u32) -> Duration {
    let span = BACK_OFF * 2_u32.saturating_pow(tries.saturating_sub(1).min(4));
    let [random] = random::<1>();
    span / 2 + span * u32::from(random) / 256
}
