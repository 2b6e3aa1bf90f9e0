//! Which segments are old enough to be removed, and fit to be.

use std::{
    io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use jiff::Timestamp;

use super::{
    chain::{Hasher, Head},
    event,
    reader::{Scope, first_record, scan_one},
    record::Line,
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

/// For so long nothing is removed once the clock may have been wrong.
pub const REST: Duration = Duration::from_secs(86_400);

/// What is left of a [`REST`] when a run ends, as its records tell.
#[derive(Debug, Default)]
pub struct Rest {
    left: Duration,
    since: Option<Timestamp>,
    /// When the last record was made.
    last: Option<Timestamp>,
}

impl Rest {
    /// Takes a record that is in the trail.
    pub fn follow(&mut self, record: &Line<'_>) {
        let time = record.time.parse().ok();
        let left = match &*record.event {
            event::OPENED => Some(Duration::from_millis(
                record.retention_rests_ms.unwrap_or(0),
            )),
            event::CLOCK_STEPPED => Some(REST),
            _ => None,
        };
        if let Some(left) = left {
            (self.left, self.since) = (left.min(REST), time);
        }
        self.last = time.or(self.last);
    }

    /// What is left of it for a run that starts now: all of it if the clock is far ahead
    /// of the last record. The gateway was off for long, or the clock is wrong.
    pub fn at_start(&self, now: SystemTime) -> Duration {
        let now = Timestamp::try_from(now).unwrap_or(Timestamp::MAX);
        let span = |from: Timestamp, to: Timestamp| {
            Duration::try_from(to.duration_since(from)).unwrap_or_default()
        };
        match (self.since, self.last) {
            (_, Some(last)) if span(last, now) > REST => REST,
            (Some(since), Some(last)) => self.left.saturating_sub(span(since, last)),
            _ => Duration::ZERO,
        }
    }
}

/// The oldest segments whose records are all older than `is_old_before`. The list
/// ends at the first that does not verify, or was not closed: that one, and what
/// follows, stays until a person has looked at it. `oldest` is the number of the oldest
/// record that was not removed, if that is known.
///
/// # Errors
///
/// If a segment can't be read.
pub fn removable(
    directory: &Path,
    hasher: &Hasher,
    is_old_before: Timestamp,
    current: u64,
    oldest: Option<u64>,
) -> io::Result<Vec<Removal>> {
    let mut segments = segment::list(directory)?;
    // A crash at its very beginning leaves one in which nothing stands, not even a time:
    // it breaks no chain, and stays. At the front it may be one that somebody emptied,
    // unless nothing is missing.
    let begins_empty = segments.first();
    let begins_empty = begins_empty.is_some_and(|(_, path)| segment::is_empty(path));
    segments.retain(|(_, path)| !segment::is_empty(path));
    if begins_empty && let Some((number, first)) = segments.first() {
        let found = first_record(first, |record| record.seq)?;
        if found != oldest.or(Some(1)) {
            tracing::warn!(segment = %segment::name(*number), "the oldest segment is empty, and so may have been emptied: nothing is removed before it is taken away");
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
        let mut newest = None;
        let scope = Scope {
            hasher: hasher.clone(),
            from_segment: *number,
        };
        let scan = scan_one(path, &scope, |record, _| {
            // The clock may have been wrong when the last one was made.
            newest = newest.max(record.time.parse::<Timestamp>().ok());
        })?;
        let follows = |head: &Head, path: &Path| {
            first_record(path, |first| head.precedes(first)).map(Option::unwrap_or_default)
        };
        let is_chained = match &before {
            Some(before) => follows(before, path)?,
            None => true,
        };
        // A segment that a crash ended has no seal; the one that follows vouches for it.
        let is_closed = follows(&scan.head, next)?;
        let is_old = newest.is_some_and(|time| time < is_old_before);
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

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: u64 = 86_400_000;

    fn left_of(records: &[(&str, &str, u64)], now: &str) -> u64 {
        let mut rest = Rest::default();
        for (time, event, rests) in records {
            let line = format!(
                r#"{{"v":1,"seq":1,"time":"{time}","event":"{event}","retention_rests_ms":{rests},"prev":"0","hash":"0"}}"#
            );
            rest.follow(&serde_json::from_str(&line).unwrap());
        }
        let now: Timestamp = now.parse().unwrap();
        u64::try_from(rest.at_start(now.into()).as_millis()).unwrap()
    }

    #[test]
    fn a_start_that_is_dated_far_ahead_of_the_last_record_rests_for_a_day() {
        let last = [("2026-11-01T00:00:00Z", "trail.sealed", 0)];
        assert_eq!(left_of(&last, "2026-11-01T23:00:00Z"), 0);
        assert_eq!(left_of(&last, "2026-11-02T01:00:00Z"), DAY_MS);
        assert_eq!(left_of(&last, "2027-12-06T00:00:00Z"), DAY_MS);
        // Set back: nothing looks older for it.
        assert_eq!(left_of(&last, "2026-10-01T00:00:00Z"), 0);
        assert_eq!(left_of(&[], "2026-11-02T01:00:00Z"), 0);
    }

    /// Else a gateway that restarts in a loop, with a clock that is wrong, would remove all.
    #[test]
    fn a_restart_does_not_end_the_rest() {
        let opened = ("2026-11-01T00:00:00Z", "trail.opened", DAY_MS);
        let hour_later = ("2026-11-01T01:00:00Z", "checkpoint", 0);
        let stepped = ("2026-11-01T01:00:00Z", "clock.stepped", 0);
        let now = "2026-11-01T01:00:01Z";
        assert_eq!(left_of(&[opened], now), DAY_MS);
        assert_eq!(left_of(&[opened, hour_later], now), DAY_MS - 3_600_000);
        assert_eq!(left_of(&[opened, stepped], now), DAY_MS);
        let next = ("2026-11-01T01:00:00Z", "trail.opened", 0);
        assert_eq!(left_of(&[opened, next], now), 0);
    }
}
