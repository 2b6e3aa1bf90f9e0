//! Which segments are old enough to be removed, and fit to be.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use jiff::Timestamp;

use super::{
    chain::{Hasher, Head},
    reader::{Scope, first_record, scan_one},
    segment,
};

/// A segment that may be removed.
#[derive(Debug)]
pub struct Removal {
    /// Its file name.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// Its last record.
    pub until: Head,
}

/// The oldest segments whose last record is older than `retention`. The list
/// ends at the first that does not verify, or was not closed: that one, and what
/// follows, stays until a person has looked at it.
///
/// # Errors
///
/// If a segment can't be read.
pub fn removable(
    directory: &Path,
    hasher: &Hasher,
    retention: Duration,
    current: u64,
) -> io::Result<Vec<Removal>> {
    let too_young = Timestamp::try_from(SystemTime::now())
        .ok()
        .and_then(|now| now.checked_sub(retention).ok())
        .unwrap_or(Timestamp::UNIX_EPOCH);
    let mut segments = segment::list(directory)?;
    // A crash at its very beginning leaves one in which nothing stands, not even a time:
    // it breaks no chain, and stays. At the front it may be one that somebody emptied,
    // unless nothing is missing.
    let is_empty = |path: &Path| fs::metadata(path).is_ok_and(|found| found.len() == 0);
    let begins_empty = segments.first().is_some_and(|(_, path)| is_empty(path));
    segments.retain(|(_, path)| !is_empty(path));
    if begins_empty && let Some((_, first)) = segments.first() {
        let first_of_all = first_record(first, |record| record.seq == 1)?;
        if first_of_all != Some(true) {
            return Ok(Vec::new());
        }
    }
    let mut removals = Vec::new();
    let mut before: Option<Head> = None;
    for pair in segments.windows(2) {
        let [(number, path), (_, next)] = pair else {
            break;
        };
        if *number >= current {
            break;
        }
        let mut last_time = None;
        let scope = Scope {
            hasher: hasher.clone(),
            from_segment: *number,
        };
        let scan = scan_one(path, &scope, |record, _| {
            last_time = record.time.parse::<Timestamp>().ok();
        })?;
        let follows = |head: &Head, path: &Path| {
            first_record(path, |first| {
                first.seq == head.seq + 1 && &*first.prev == head.hash.as_str()
            })
            .map(|follows| follows.unwrap_or(false))
        };
        let is_chained = match &before {
            Some(before) => follows(before, path)?,
            None => true,
        };
        // A segment that a crash ended has no seal; the one that follows vouches for it.
        let is_closed = follows(&scan.head, next)?;
        let is_old = last_time.is_some_and(|time| time < too_young);
        if !is_old {
            break;
        }
        if scan.wrong.is_some() || scan.torn.is_some() || !is_chained || !is_closed {
            tracing::warn!(
                segment = %segment::name(*number),
                "a segment that is old enough to be removed does not verify, and stays"
            );
            break;
        }
        removals.push(Removal {
            name: segment::name(*number),
            path: path.clone(),
            until: scan.head,
        });
        before = Some(scan.head);
    }
    Ok(removals)
}
