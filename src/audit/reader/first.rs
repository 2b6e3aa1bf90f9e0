//! How a segment begins, without reading the rest of it.

use std::{
    io::{self, BufRead, BufReader, Read},
    path::Path,
};

use super::{
    LINE_BYTES_MAX,
    checks::{check_line, is_hashed},
    file_name,
    keyed::Claim,
    lines::{Lines, Next},
};
use crate::{
    audit::{
        chain::{Hasher, Head},
        event,
        known::Known,
        record::Line,
        segment,
    },
    secret::MacKey,
};

/// So much of a segment is looked at for a record that can be read.
const LOOKED_AT_BYTES: u64 = 1 << 20;

/// Reads the first record of a segment, if it is one, and gives it to `with`.
pub fn first_record<T>(path: &Path, with: impl FnOnce(&Line<'_>) -> T) -> io::Result<Option<T>> {
    let line = first_line(path)?;
    let record = serde_json::from_slice(&line).ok();
    Ok(record.map(|record| with(&record)))
}

/// The same, if the record opens this very segment and was hashed so: what else was hashed
/// so may have stood anywhere.
pub fn opened<T>(
    path: &Path,
    hasher: &Hasher,
    with: impl FnOnce(&Line<'_>) -> T,
) -> io::Result<Option<T>> {
    let line = first_line(path)?;
    let opening = opening(&line, path).filter(|record| is_hashed(&line, record, hasher));
    Ok(opening.map(|record| with(&record)))
}

/// How a segment begins, as far as who may not have the key can know.
pub enum Opening<T> {
    /// With the record that opened it.
    Known(T),
    /// With what says that it opened it, with another key than the one given, or with none.
    OtherKey(T),
    /// With anything else.
    Unknown,
}

/// The same for who may not have the key: then it need only say that it opens this segment.
pub fn opened_as_known<T>(
    path: &Path,
    known: &Known,
    with: impl FnOnce(&Line<'_>) -> T,
) -> io::Result<Opening<T>> {
    let line = first_line(path)?;
    let Some(record) = opening(&line, path) else {
        return Ok(Opening::Unknown);
    };
    let is_right = known.mac_key.is_none() || check_line(&line, &record, known).is_ok();
    Ok(if is_right {
        Opening::Known(with(&record))
    } else if has_other_key(&line, &record, known) {
        Opening::OtherKey(with(&record))
    } else {
        Opening::Unknown
    })
}

/// Whether a record that opens a segment claims another key than the one given, or was hashed
/// without one, unless it is known from where on there is a key.
fn has_other_key(line: &[u8], record: &Line<'_>, known: &Known) -> bool {
    let given = known.mac_key.as_ref().map(MacKey::fingerprint);
    match Claim::of(record) {
        Some(claim) => Some(claim.stated()) != given.as_deref(),
        None => known.keyed_from.is_none() && is_hashed(line, record, &Hasher::Sha256),
    }
}

/// A line as the record that opens this segment, if it says that it does.
fn opening<'a>(line: &'a [u8], path: &Path) -> Option<Line<'a>> {
    let record: Line<'_> = serde_json::from_slice(line).ok()?;
    let is_opening = &*record.event == event::OPENED && names(line, path);
    is_opening.then_some(record)
}

/// Whether a line says that it is about this segment.
fn names(line: &[u8], path: &Path) -> bool {
    let fields = serde_json::from_slice::<serde_json::Value>(line);
    fields.is_ok_and(|fields| {
        let segment = fields.get("segment").and_then(serde_json::Value::as_str);
        segment == Some(&file_name(path))
    })
}

/// Reads the first record of a segment that can be read, for those who check no hashes, and
/// gives it to `with`; `None` if there is none yet, or if the first line is a record that says
/// nothing of this segment: somebody copied it, or a part of another.
pub fn first_own<T>(path: &Path, with: impl FnOnce(&Line<'_>) -> T) -> io::Result<Option<T>> {
    let Some(opened) = segment::open(path)? else {
        return Ok(None);
    };
    let mut lines = Lines::of(BufReader::new(opened.take(LOOKED_AT_BYTES)));
    loop {
        match lines.read()? {
            Next::Line => {
                if let Ok(record) = serde_json::from_slice::<Line<'_>>(&lines.line) {
                    // What opens a segment stands first, unless that was damaged.
                    let is_behind = lines.number > 1 && &*record.event != event::OPENED;
                    let is_own = is_behind || names(&lines.line, path);
                    return Ok(is_own.then(|| with(&record)));
                }
            }
            // What is damaged may be the first line alone.
            Next::TooLong => {}
            Next::Endless | Next::Unfinished(_) | Next::End => return Ok(None),
        }
    }
}

/// The number of that record.
pub fn own_seq(path: &Path) -> io::Result<Option<u64>> {
    first_own(path, |first| first.seq)
}

/// The first line; nothing if there is none, or the segment is no file.
fn first_line(path: &Path) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    if let Some(opened) = segment::open(path)? {
        BufReader::new(opened)
            .take(LINE_BYTES_MAX)
            .read_until(b'\n', &mut line)?;
    }
    Ok(line)
}

/// Whether so many freezes stand behind the first record of a segment, hashed so and each
/// behind the other: one of ours may have been put in the place of another.
pub fn restates(path: &Path, hasher: &Hasher, freezes: u64) -> io::Result<bool> {
    let Some(opened) = segment::open(path)? else {
        return Ok(false);
    };
    let mut lines = Lines::new(opened);
    let mut last: Option<Head> = None;
    for _ in 0..=freezes {
        if !matches!(lines.read()?, Next::Line) {
            return Ok(false);
        }
        let follows = |record: &Line<'_>| match &last {
            None => true,
            Some(last) => &*record.event == event::FROZEN && last.precedes(record),
        };
        last = serde_json::from_slice::<Line<'_>>(&lines.line)
            .ok()
            .filter(|record| is_hashed(&lines.line, record, hasher) && follows(record))
            .and_then(|record| Head::of(&record));
        if last.is_none() {
            return Ok(false);
        }
    }
    Ok(true)
}
