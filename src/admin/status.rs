//! `/status.json`: how the gateway is, for programs and for a look with curl.

use std::time::SystemTime;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{config::settings::Durability, reload::Reloader, server::Shared};

/// How the gateway is just now. Nothing in it is a secret, an id or a path.
pub fn status(shared: &Shared, reloader: &Reloader) -> Value {
    let settings = reloader.settings();
    let reload = reloader.last();
    let trail = shared.trail().status();
    let snapshot = shared.snapshot();
    let unready = shared.unready();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "ready": unready.is_none(),
        "unready_because": unready,
        "draining": shared.is_draining(),
        "config": {
            "sha256": snapshot.digest,
            "tenants": snapshot.tenants().len(),
            "last_load": {
                "at": time(reload.at),
                "by": reload.by,
                "succeeded": reload.problems.is_empty(),
                "problems": reload.problems.len(),
            },
            "needs_restart": reload.needs_restart,
        },
        "upstream": settings.upstream.url.authority(),
        "requests_in_flight": shared.requests_in_flight(),
        "connections": shared.connections(),
        "trail": {
            "durability": match settings.audit.durability {
                Durability::Strict => "strict",
                Durability::Relaxed => "relaxed",
            },
            "writable": trail.writable.is_ok(),
            "unwritable_because": trail.writable.err().map(|why| why.cause),
            "head": { "seq": trail.head.seq, "hash": trail.head.hash.as_str() },
            "last_sync": trail.last_sync.and_then(time),
            "queue_depth": trail.queue_depth,
            "records": trail.totals.records,
            "bytes": trail.totals.bytes,
            "syncs": trail.totals.syncs,
            "errors": trail.totals.errors,
        },
    })
}

fn time(at: SystemTime) -> Option<String> {
    let at = Timestamp::try_from(at).ok()?;
    Some(format!("{at:.3}"))
}
