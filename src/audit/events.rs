//! What else a trail tells beside calls.

use std::{io, path::Path};

use jiff::Timestamp;

use super::{
    chain::Hasher,
    event,
    known::Known,
    query::first_segment,
    reader::{Scope, Wrong, scan},
    record::Line,
};

/// Gives each record to `each`, as it was written, that came at `since` or later and is
/// about no call: freezes and their ends, configs, keys, starts, outages, guesses at the
/// admin token. `progress` hears the bytes read so far. Returns the first bad record of what
/// was read.
///
/// # Errors
///
/// If a segment can't be read.
pub fn events(
    directory: &Path,
    known: &Known,
    since: Option<Timestamp>,
    mut each: impl FnMut(&str),
    mut progress: impl FnMut(u64),
) -> io::Result<Option<Wrong>> {
    let scope = Scope {
        hasher: Hasher::new(known.mac_key.as_ref()),
        from_segment: first_segment(directory, known, since)?,
    };
    let mut scan = scan(directory, &scope, |record, at| {
        let is_early = || since.is_some_and(|since| is_before(record, since));
        if is_event(record) && !is_early() {
            each(String::from_utf8_lossy(at.raw).trim_end());
        }
        progress(at.bytes);
    })?;
    scan.judge_key(known);
    Ok(scan.wrong)
}

/// Calls are for [`query`](super::query()), and checkpoints only number them.
fn is_event(record: &Line<'_>) -> bool {
    &*record.event != event::CHECKPOINT && !record.is_of_calls()
}

/// What can't be dated must not be hidden.
fn is_before(record: &Line<'_>, since: Timestamp) -> bool {
    let time = record.time.parse::<Timestamp>();
    time.is_ok_and(|time| time < since)
}
