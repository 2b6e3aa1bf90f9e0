//! How a segment begins, without reading the rest of it.

use std::{
    io::{self, BufRead, BufReader, Read},
    path::Path,
};

use super::{LINE_BYTES_MAX, file_name, is_hashed};
use crate::audit::{chain::Hasher, record::Line, segment, standing};

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
    let Ok(record) = serde_json::from_slice::<Line<'_>>(&line) else {
        return Ok(None);
    };
    let names_it = || {
        let fields = serde_json::from_slice::<serde_json::Value>(&line);
        fields.is_ok_and(|fields| {
            let segment = fields.get("segment").and_then(serde_json::Value::as_str);
            segment == Some(&file_name(path))
        })
    };
    let is_opening =
        &*record.event == "trail.opened" && is_hashed(&line, &record, hasher) && names_it();
    Ok(is_opening.then(|| with(&record)))
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

/// Whether so many freezes stand behind the first record of a segment, hashed so.
pub fn restates(path: &Path, hasher: &Hasher, freezes: u64) -> io::Result<bool> {
    let Some(opened) = segment::open(path)? else {
        return Ok(false);
    };
    let mut reader = BufReader::new(opened);
    let mut line = Vec::new();
    for at in 0..=freezes {
        line.clear();
        (&mut reader)
            .take(LINE_BYTES_MAX)
            .read_until(b'\n', &mut line)?;
        let is_right = serde_json::from_slice::<Line<'_>>(&line).is_ok_and(|record| {
            (at == 0 || &*record.event == standing::FROZEN) && is_hashed(&line, &record, hasher)
        });
        if !is_right {
            return Ok(false);
        }
    }
    Ok(true)
}
