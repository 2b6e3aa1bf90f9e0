//! From where on a start reads the trail.

use std::{
    io,
    path::{Path, PathBuf},
};

use jiff::Timestamp;

use crate::audit::{
    chain::Hasher,
    reader::{SEQ_MAX, first_record, opened, restates},
    segment,
};

/// What the first record of a segment says.
struct Opened {
    /// The segment's number.
    segment: u64,
    /// The record's own.
    seq: u64,
    time: Option<Timestamp>,
    /// The oldest call that had no outcome then.
    oldest_open: Option<u64>,
}

/// The first segment that may hold a call without an outcome, an intent that
/// counts for a limit, or a freeze that stands. Not the whole trail: it may be
/// very long.
pub fn first_needed(directory: &Path, hasher: &Hasher, counted_from: Timestamp) -> io::Result<u64> {
    let segments = segment::list(directory)?;
    let begins = begins(&segments, hasher)?;
    let all = segments.first().map_or(0, |(number, _)| *number);
    let Some(last) = begins.last() else {
        return Ok(all);
    };
    let oldest_open = last.oldest_open.unwrap_or(last.seq);
    let holds_open = begins.iter().rposition(|begin| begin.seq <= oldest_open);
    // The first that begins late enough, from the front: the clock may have been
    // set back.
    let is_late = |time: Option<Timestamp>| time.is_none_or(|time| time > counted_from);
    let begins_late = begins.iter().position(|begin| is_late(begin.time));
    let holds_counted = begins_late.unwrap_or(begins.len()).saturating_sub(1);
    let holds_standing = last_that_says_all(&segments, &begins, hasher)?;
    let first = holds_open
        .unwrap_or(0)
        .min(holds_counted)
        .min(holds_standing);
    Ok(begins
        .get(first)
        .filter(|_| first > 0)
        .map_or(all, |begin| begin.segment))
}

/// How segments begin from whose first record on may be read: that record must be the one
/// that opened this segment, as it was hashed. Whoever has no key could else make a start
/// overlook what was before, and so could a line that the disk lost. Of a trail that got its
/// key later all of the past is read, once.
fn begins(segments: &[(u64, PathBuf)], hasher: &Hasher) -> io::Result<Vec<Opened>> {
    let mut begins: Vec<Opened> = Vec::new();
    for (number, path) in segments {
        let begin = opened(path, hasher, |record| Opened {
            segment: *number,
            seq: record.seq,
            time: record.time.parse().ok(),
            oldest_open: record.open,
        })?;
        let Some(begin) = begin else {
            continue;
        };
        // What is wrong with it is found by reading.
        let before = begins.last().map_or(0, |last| last.seq);
        if before < begin.seq && begin.seq <= SEQ_MAX {
            begins.push(begin);
        }
    }
    Ok(begins)
}

/// The last of the segments that begin with all freezes that stood then: a crash may have
/// cut the records with which the last ones begin, or somebody changed one.
fn last_that_says_all(
    segments: &[(u64, PathBuf)],
    begins: &[Opened],
    hasher: &Hasher,
) -> io::Result<usize> {
    for (at, begin) in begins.iter().enumerate().rev() {
        let mut segments = segments.iter();
        let Some((_, path)) = segments.find(|(number, _)| *number == begin.segment) else {
            continue;
        };
        let frozen = first_record(path, |record| record.frozen)?.flatten();
        if restates(path, hasher, frozen.unwrap_or(0))? {
            return Ok(at);
        }
    }
    Ok(0)
}
