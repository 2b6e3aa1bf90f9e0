//! What callers can make the gateway hold, against what the system lets it have.

use std::{fs, path::Path};

use crate::{
    admin,
    config::settings::Bounds,
    server::{H2_STREAMS_MAX, SEND_BUFFER_BYTES},
};

/// What it takes without callers, a thousand tenants included.
const ITSELF: u64 = 16 << 20;
/// Answers on the admin listener that nobody reads; the system doubles a socket's buffer
/// (socket(7), `SO_SNDBUF`).
const ADMIN: u64 = (admin::CONNECTIONS_MAX * 2 * SEND_BUFFER_BYTES) as u64;
/// A connection beside its head: hyper's and ours.
const PER_CONNECTION: u64 = 8 << 10;
/// An answer over HTTP/2 that its caller does not read: measured, 5.4 to 7.5 KiB.
const PER_STREAM: u64 = 8 << 10;
/// A call at a slow upstream: itself, its connection there and the TLS of that.
const PER_CALL: u64 = 64 << 10;
/// A cgroup without a limit says `max`, or in version 1 about 2^63.
const UNLIMITED: u64 = 1 << 60;

/// About the most bytes that callers can make the gateway hold, when all of `bounds`
/// are taken at once: while a head comes in, hyper holds up to twice as much; over
/// HTTP/2 there are as many answers as streams.
/// Answers of the upstream are not in it, since no caller makes them large: each may be up
/// to 1 MiB. A call gives its place in flight back when its answer goes to hyper, so there
/// may be as many of them as connections over HTTP/1.1, or streams over HTTP/2, beside
/// those of calls in flight.
pub fn bytes_max(bounds: &Bounds) -> u64 {
    let head = 2 * u64::from(bounds.header_bytes);
    let connection = head.max(u64::from(H2_STREAMS_MAX) * PER_STREAM) + PER_CONNECTION;
    let connections = u64::from(bounds.connections).saturating_mul(connection);
    let calls = u64::from(bounds.requests_in_flight).saturating_mul(PER_CALL);
    (ITSELF + ADMIN)
        .saturating_add(connections)
        .saturating_add(calls)
}

/// Says so if the memory that the process may have is less than callers can take of
/// it: then they can have it killed.
pub fn warn_if_short(bounds: &Bounds) {
    let need = bytes_max(bounds);
    if let Some(have) = limit().filter(|have| *have < need) {
        tracing::warn!(
            have_mib = have >> 20,
            need_mib = need >> 20,
            "callers can take more memory than there is (memory limit of the container or unit): raise it, or lower bounds.connections, requests_in_flight or header_bytes"
        );
    }
}

/// The memory limit of the process's cgroup, in bytes, if it has one.
fn limit() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let limits = groups.lines().filter_map(|line| {
        // hierarchy:controllers:path; version 2 names no controller (cgroups(7)).
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        let (root, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            _ if controllers.split(',').any(|name| name == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => return None,
        };
        // In a container the path is often that of the host: there it is the root.
        let own = Path::new(root).join(path.trim_start_matches('/'));
        let read = |directory: &Path| fs::read_to_string(directory.join(file)).ok();
        let text = read(&own).or_else(|| read(Path::new(root)))?;
        text.trim().parse().ok()
    });
    limits.filter(|limit| *limit < UNLIMITED).min()
}
