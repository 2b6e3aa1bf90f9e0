//! What the process asks of the system at its start, and how a verb waits for others.

use std::{io, os::fd::AsFd};

use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, setrlimit};

use super::output::errln;
use crate::config::settings::Bounds;

/// Descriptors for everything but connections: listeners, runtimes, the trail, logs.
const OTHERS: u64 = 64;

/// Descriptors that a runtime and its signals take, and some more.
const FEWEST: u32 = 16;

/// Key material must not end up in a core dump, nor be read by a debugger of
/// the same user.
pub fn harden() {
    let not_dumpable = DumpableBehavior::NotDumpable;
    if let Err(error) = rustix::process::set_dumpable_behavior(not_dumpable) {
        errln!("alloy-gateway: cannot switch core dumps off: {error}");
    }
}

/// Runs what a verb does that waits for others, on this thread.
pub fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(work)
}

/// Makes sure that a start gets as far as to saying what it lacks: the runtime ends the
/// process where it cannot have the few descriptors that it begins with.
///
/// # Errors
///
/// If there are not even these.
pub fn has_few_descriptors() -> io::Result<()> {
    let few: io::Result<Vec<_>> = (0..FEWEST)
        .map(|_| io::stderr().as_fd().try_clone_to_owned())
        .collect();
    few.map(drop)
}

/// Takes all file descriptors that the process may have, and says so if the
/// bounds of the config need more: then a caller could take them all, and new
/// connections would wait although there were places.
pub fn take_descriptors(bounds: &Bounds) {
    let limit = getrlimit(Resource::Nofile);
    let all = Rlimit {
        current: limit.maximum,
        ..limit
    };
    // Where it may not be raised, what there is decides.
    let _ = setrlimit(Resource::Nofile, all);
    let have = getrlimit(Resource::Nofile).current;
    // A call holds the caller's connection and one of its own.
    let need = u64::from(bounds.connections) + u64::from(bounds.requests_in_flight) + OTHERS;
    if let Some(have) = have.filter(|have| *have < need) {
        tracing::warn!(
            have,
            need,
            "too few file descriptors for bounds.connections and requests_in_flight: raise the limit (ulimit -n, LimitNOFILE) or lower the bounds"
        );
    }
}
