//! The gateway itself: its trail, its config, its version.

use std::sync::atomic::Ordering;

use super::{
    get,
    text::{Kind, Text},
};
use crate::{
    audit::{self, Cause, DiskSpace},
    histogram::{self, Merged},
    logging,
    metrics::seconds_since_epoch,
    server::Shared,
    ship::Reason,
    snapshot::Snapshot,
    traces::Counts,
};

/// The trail and its disk.
pub fn trail(text: &mut Text, shared: &Shared, disk: Option<DiskSpace>) {
    let status = shared.trail().status();
    let counts = shared.trail().counts();
    text.family(
        "audit_records",
        Kind::Counter,
        "Records made durable, by event",
    );
    for (event, count) in counts.events() {
        text.number(&[("event", event)], count);
    }
    text.family("audit_bytes", Kind::Counter, "Bytes made durable");
    text.number(&[], status.totals.bytes);
    text.family(
        "audit_errors",
        Kind::Counter,
        "How often the trail could not be written, by what failed",
    );
    for (op, count) in counts.errors() {
        text.number(&[("op", op.as_str())], count);
    }
    text.family(
        "audit_fsync_duration_seconds",
        Kind::Histogram,
        "How long syncs took",
    );
    text.spans(&[], &Merged::of(&histogram::SYNC, [&counts.syncs]));
    text.family("audit_batch_size", Kind::Histogram, "Records of one write");
    text.numbers(&[], &Merged::of(&histogram::BATCH, [&counts.batches]));
    text.family(
        "audit_queue_depth",
        Kind::Gauge,
        "Records that wait to be written",
    );
    text.number(&[], status.queue_depth as u64);
    text.family(
        "audit_queue_capacity",
        Kind::Gauge,
        "Records that may wait before calls are refused",
    );
    text.number(&[], audit::QUEUE_CAPACITY as u64);
    text.family(
        "audit_last_fsync_timestamp_seconds",
        Kind::Gauge,
        "When the trail was synced last, in Unix time; 0 if never",
    );
    text.figure(&[], status.last_sync.map_or(0.0, seconds_since_epoch));
    text.family(
        "audit_sequence",
        Kind::Gauge,
        "The number of the trail's last record",
    );
    text.number(&[], status.head.seq);
    text.family(
        "audit_writable",
        Kind::Gauge,
        "Whether the trail can be written",
    );
    text.flag(&[], status.writable.is_ok());
    text.family(
        "audit_verified",
        Kind::Gauge,
        "Whether what the last start read of the trail verified",
    );
    text.flag(&[], status.verified);
    text.family(
        "audit_unwritable",
        Kind::Gauge,
        "Why the trail can't be written just now: 1 for the cause",
    );
    let cause_now = status.writable.err().map(|why| why.cause);
    for cause in Cause::ALL.map(Cause::as_str) {
        text.flag(&[("cause", cause)], cause_now == Some(cause));
    }
    if let Some(disk) = disk {
        text.family(
            "audit_disk_free_bytes",
            Kind::Gauge,
            "What is free on the trail's disk",
        );
        text.number(&[], disk.free);
        text.family(
            "audit_disk_size_bytes",
            Kind::Gauge,
            "How large the trail's disk is",
        );
        text.number(&[], disk.size);
    }
}

/// The trail's way into the database of `audit.ship`; all zero if it has none.
pub fn ship(text: &mut Text, shared: &Shared) {
    let shipping = shared.shipping();
    text.family(
        "audit_ship_up",
        Kind::Gauge,
        "Whether the database of audit.ship takes records",
    );
    text.flag(&[], shipping.is_some_and(|shipping| shipping.is_up()));
    text.family(
        "audit_ship_records",
        Kind::Counter,
        "Records written to the database of audit.ship",
    );
    text.number(&[], shipping.map_or(0, |shipping| shipping.records()));
    let head = shared.trail().status().head.seq;
    let lag = shipping.map(|shipping| shipping.lag(head));
    let (records, span) = lag.unwrap_or_default();
    text.family(
        "audit_ship_lag_records",
        Kind::Gauge,
        "Records that the database of audit.ship does not have yet; all of them before it was asked",
    );
    text.number(&[], records);
    text.family(
        "audit_ship_lag_seconds",
        Kind::Gauge,
        "For how long the database of audit.ship has not had every record; 0 if it has",
    );
    text.figure(&[], span.as_secs_f64());
    text.family(
        "audit_ship_errors",
        Kind::Counter,
        "How often records could not be written to the database of audit.ship, by reason",
    );
    for (at, reason) in Reason::ALL.into_iter().enumerate() {
        let count = shipping.and_then(|shipping| shipping.errors().nth(at));
        let count = count.map_or(0, |(_, count)| count);
        text.number(&[("reason", reason.as_str())], count);
    }
    text.family(
        "audit_ship_held_segments",
        Kind::Gauge,
        "Segments that retention would remove, if the database of audit.ship had them",
    );
    text.number(
        &[],
        shipping.map_or(0, |shipping| shipping.collected().held()),
    );
}

/// The config and its reloads.
pub fn config(text: &mut Text, shared: &Shared, snapshot: &Snapshot) {
    let reloads = &shared.metrics().reloads;
    text.family(
        "config_last_reload_successful",
        Kind::Gauge,
        "Whether the last try to load a config succeeded",
    );
    text.flag(&[], reloads.is_last_good.load(Ordering::Relaxed));
    text.family(
        "config_last_reload_success_timestamp_seconds",
        Kind::Gauge,
        "When a config was loaded last, in Unix time",
    );
    #[expect(clippy::cast_precision_loss, reason = "exact for ages to come")]
    let seconds = get(&reloads.last_good_ms) as f64 / 1e3;
    text.figure(&[], seconds);
    text.family(
        "config_reloads",
        Kind::Counter,
        "Tries to load another config, by result",
    );
    text.number(&[("result", "success")], get(&reloads.succeeded));
    text.number(&[("result", "failure")], get(&reloads.failed));
    text.family("config", Kind::Info, "The config in effect");
    text.number(&[("sha256", &snapshot.digest)], 1);
}

/// The process as a whole.
pub fn about(text: &mut Text, shared: &Shared) {
    text.family("build", Kind::Info, "The running version");
    let labels = [
        ("version", env!("CARGO_PKG_VERSION")),
        ("revision", crate::REVISION),
    ];
    text.number(&labels, 1);
    text.family("ready", Kind::Gauge, "Whether calls are taken");
    text.flag(&[], shared.readiness().unready().is_none());
    text.family("draining", Kind::Gauge, "Whether the gateway is stopping");
    text.flag(&[], shared.is_draining());
    text.family(
        "log_lines_dropped",
        Kind::Counter,
        "Lines of the log that were dropped, since they could not be written as fast as they came",
    );
    text.number(&[], logging::lines_dropped());
    text.family(
        "log_lines_left_out",
        Kind::Counter,
        "Lines of the log that requests without a good token did not get, since they came too fast",
    );
    text.number(&[], logging::lines_left_out());
    let none = Counts::default();
    spans(
        text,
        shared.traces().map_or(&none, |traces| traces.counts()),
    );
    text.family("panics", Kind::Counter, "Bugs caught");
    let shards = shared.metrics().shards().iter();
    text.number(&[], shards.map(|shard| get(&shard.panics)).sum());
}

/// What went to the collector of `otlp`; nothing if there is none.
fn spans(text: &mut Text, counts: &Counts) {
    text.family(
        "trace_spans_exported",
        Kind::Counter,
        "Spans that the collector of otlp took",
    );
    text.number(&[], counts.exported());
    text.family(
        "trace_spans_dropped",
        Kind::Counter,
        "Spans that were lost: the queue was full, they could not be delivered, or the collector rejected them",
    );
    for (reason, spans) in counts.dropped() {
        text.number(&[("reason", reason)], spans);
    }
}
