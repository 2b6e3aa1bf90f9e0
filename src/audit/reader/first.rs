//! How a segment begins, without reading the rest of it.

use std::{
    io::{self, BufRead, BufReader, Read},
    path::Path,
};

use super::{LINE_BYTES_MAX, is_hashed};
use crate::audit::{chain::Hasher, record::Line, segment};

/// Reads the first record of a segment, if it is one, and gives it to `with`.
pub fn first_record<T>(path: &Path, with: impl FnOnce(&Line<'_>) -> T) -> io::Result<Option<T>> {
    let line = first_line(path)?;
    let record = serde_json::from_slice(&line).ok();
    Ok(record.map(|record| with(&record)))
}

/// The same, and whether it was hashed so.
pub fn first_hashed<T>(
    path: &Path,
    hasher: &Hasher,
    with: impl FnOnce(&Line<'_>, bool) -> T,
) -> io::Result<Option<T>> {
    let line = first_line(path)?;
    let record = serde_json::from_slice(&line).ok();
    Ok(record.map(|record| with(&record, is_hashed(&line, &record, hasher))))
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

/// Whether a segment begins with so many records that can be read.
pub fn begins_with(path: &Path, records: u64) -> io::Result<bool> {
    let Some(opened) = segment::open(path)? else {
        return Ok(false);
    };
    let mut reader = BufReader::new(opened);
    let mut line = Vec::new();
    for _ in 0..records {
        line.clear();
        (&mut reader)
            .take(LINE_BYTES_MAX)
            .read_until(b'\n', &mut line)?;
        let is_record = serde_json::from_slice::<Line<'_>>(&line).is_ok();
        if !is_record || line.last() != Some(&b'\n') {
            return Ok(false);
        }
    }
    Ok(true)
}
