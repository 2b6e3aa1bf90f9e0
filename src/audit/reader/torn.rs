//! A line that has no end: what a crash leaves of a record, and what it does not.

use std::path::{Path, PathBuf};

use serde::de::IgnoredAny;

use super::{
    Fault, Scan,
    checks::{content, is_hashed},
    file_name,
    lines::Lines,
    strict,
    unread::Unread,
};
use crate::audit::{
    chain::Hasher,
    format::{BEFORE_SEQ, BEFORE_TIME},
};

/// An unfinished line at the end of the last segment.
#[derive(Debug)]
pub struct Torn {
    /// The segment.
    pub path: PathBuf,
    /// Up to where it is whole, in bytes.
    pub keep: u64,
    /// What stands after that, in bytes.
    pub bytes: u64,
    /// What it is.
    pub left: Left,
    /// The number of the line, from 1.
    pub(super) line: u64,
    /// The number of the record that it should be.
    pub(super) seq: Option<u64>,
}

/// What a line is that has no end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// The beginning of a record.
    Part,
    /// A record of so many bytes that follows the one before it: all but the line's end
    /// was written.
    Record(u64),
    /// As long as a record, but not the one that should stand there: no crash leaves that.
    Other,
}

impl Scan {
    /// Keeps an unfinished line as what a crash left, or says that it is none's.
    pub(super) fn note_unfinished<R>(
        &mut self,
        path: &Path,
        lines: &Lines<R>,
        unread: &Unread,
        hasher: &Hasher,
    ) {
        let (line, seq) = (lines.number + 1, self.next_seq());
        if !self.may_be_torn(&lines.line, unread.is_zeros) {
            self.note(&file_name(path), line, seq, Fault::Foreign);
            return;
        }
        let left = self.left(without_zeros(&lines.line), hasher);
        if left == Left::Other {
            self.note(&file_name(path), line, seq, Fault::Foreign);
        }
        self.torn = Some(Torn {
            left,
            path: path.to_owned(),
            keep: lines.bytes,
            bytes: lines.line.len() as u64 + unread.bytes,
            line,
            seq,
        });
    }

    /// Whether an unfinished line is what a crash leaves of the next record: its
    /// beginning, and zeros where bytes were announced to the disk and never came.
    fn may_be_torn(&self, line: &[u8], is_rest_zeros: bool) -> bool {
        let written = without_zeros(line);
        let begins = match self.next_seq() {
            Some(seq) => format!("{BEFORE_SEQ}{seq}{BEFORE_TIME}"),
            None => BEFORE_SEQ.to_owned(),
        };
        let in_common = written.len().min(begins.len());
        let is_beginning = written.get(..in_common) == begins.as_bytes().get(..in_common);
        let mut values = serde_json::Deserializer::from_slice(written).into_iter::<IgnoredAny>();
        let is_whole = matches!(values.next(), Some(Ok(_)));
        // Nothing else than a record comes to its end, and nothing behind that.
        let is_record = || values.byte_offset() == written.len() && strict::read(written).is_ok();
        is_rest_zeros && is_beginning && !strict::is_deep(written) && (!is_whole || is_record())
    }

    /// What an unfinished line is that [may be torn](Self::may_be_torn).
    fn left(&self, written: &[u8], hasher: &Hasher) -> Left {
        let Ok(record) = strict::read(written) else {
            return Left::Part;
        };
        let whole = [written, b"\n"].concat();
        let fits = |hasher: &Hasher| is_hashed(&whole, &record, hasher);
        let is_keyed = hasher.key_fingerprint().is_some();
        // Without the key nobody can tell; who has it can, later.
        let is_unknown = !is_keyed && self.claim.is_some() && content(&whole, &record).is_some();
        let is_hashed =
            fits(hasher) || is_unknown || (is_keyed && self.keyed == 0 && fits(&Hasher::Sha256));
        if is_hashed && self.is_next(&record) {
            Left::Record(written.len() as u64)
        } else {
            Left::Other
        }
    }
}

/// A line without the zeros at its end.
fn without_zeros(line: &[u8]) -> &[u8] {
    let end = line.iter().rposition(|&byte| byte != 0);
    line.get(..end.map_or(0, |at| at + 1)).unwrap_or_default()
}
