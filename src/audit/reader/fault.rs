//! What can be wrong with a trail, and where, in words for people.

use std::fmt::{self, Write};

use super::LINE_BYTES_MAX;
use crate::audit::format::VERSION;

/// Where a record stands.
#[derive(Debug, Clone, Copy)]
pub struct At<'a> {
    /// The segment's file name.
    pub file: &'a str,
    /// The line, from 1.
    pub line: u64,
    /// Bytes read so far, of all segments.
    pub bytes: u64,
    /// The line as it stands there.
    pub raw: &'a [u8],
}

/// The first record that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// The segment's file name.
    pub file: String,
    /// The line, from 1.
    pub line: u64,
    /// The number that the record gives itself, or that it should have.
    pub seq: Option<u64>,
    /// What is wrong with it.
    pub fault: Fault,
}

/// What is wrong with a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Not JSON, or without the fields that each record has.
    #[error("not a record: {0}")]
    Unreadable(String),
    /// A pipe, a link, a directory: the writer makes none of them.
    #[error("it is not a regular file")]
    NoFile,
    /// Longer than any record.
    #[error("a line of more than {LINE_BYTES_MAX} bytes")]
    TooLong,
    /// Written by a later version.
    #[error("format version {0}, this program reads version {VERSION}")]
    Version(u32),
    /// Its own hash is not that of its bytes.
    #[error("its content is not what was hashed")]
    Content,
    /// It was hashed with a key that was not given.
    #[error("it was hashed with the mac_key {0}, which is not the one given")]
    Key(String),
    /// Records before it were hashed with the key, this one was not.
    #[error("it was hashed without the mac_key, the records before it with it")]
    Unkeyed,
    /// A key was given, and no record was hashed with it.
    #[error("no record was hashed with the mac_key")]
    NeverKeyed,
    /// A key was given, and the records up to this one carry none.
    #[error(
        "the records up to {0} carry no key, so whoever can write the trail could have made them; if it got its key behind them, and you noted that elsewhere, say so: --keyed-from {next}",
        next = .0.saturating_add(1)
    )]
    UnkeyedUntil(u64),
    /// Its number does not follow.
    #[error("record {expected} should stand here")]
    Number {
        /// The number that should stand here.
        expected: u64,
    },
    /// It follows another record than the one before it.
    #[error("the record before it is not the one that it was chained to")]
    Chain,
    /// Records before it were removed, and no record says so.
    #[error("the records up to {0} are missing, and no trail.pruned accounts for them")]
    Beginning(u64),
    /// The line ends early, and it is not the trail's last.
    #[error("the line is cut short")]
    Cut,
    /// What stands behind the last record is not the beginning of the next.
    #[error("it is neither a record nor the beginning of one, as a crash leaves it")]
    Foreign,
    /// In the database: a column says something else than its line.
    #[error("its column {0} is not what its line says")]
    Column(&'static str),
    /// In the database: the records end elsewhere than the chain's own row says.
    #[error("the last record should be {0}: what follows is missing, or was put in")]
    Ends(String),
    /// A head that was noted elsewhere is not there, and only a record without a key says why.
    #[error(
        "retention removed the expected record {0}, says this record alone: it carries no key, so whoever can write the trail could have put it there; expect a head that is still in the trail"
    )]
    OnlyNamed(u64),
    /// A head that was noted elsewhere is not in the trail.
    #[error("record {seq} should have the hash {expected}, {found}")]
    Expected {
        /// The record's number.
        seq: u64,
        /// The hash that was noted.
        expected: String,
        /// What there is.
        found: String,
    },
}

impl Wrong {
    /// Whether it stands behind this line; of segments' names the longer ones are later.
    pub(super) fn is_after(&self, file: &str, line: u64) -> bool {
        (self.file.len(), self.file.as_str(), self.line) > (file.len(), file, line)
    }

    /// Whether the trail could not be checked at all for want of its key, which
    /// says nothing of it.
    pub fn is_want_of_key(&self) -> bool {
        matches!(self.fault, Fault::Key(_))
    }

    /// Whether nothing was found to be changed, and nothing shows that it was not.
    pub(crate) fn is_unproven(&self) -> bool {
        matches!(self.fault, Fault::Key(_) | Fault::OnlyNamed(_))
    }
}

impl fmt::Display for Wrong {
    /// Whoever can write the trail is not to write to the terminal of who reads it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut f = Tame(f);
        write!(f, "{} line {}", self.file, self.line)?;
        if let Some(seq) = self.seq {
            write!(f, " (seq {seq})")?;
        }
        write!(f, ": {}", self.fault)
    }
}

/// Passes on text with its control characters escaped.
struct Tame<'a, 'b>(&'a mut fmt::Formatter<'b>);

impl Write for Tame<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.chars().try_for_each(|character| {
            if character.is_control() {
                write!(self.0, "{}", character.escape_unicode())
            } else {
                self.0.write_char(character)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_what_is_wrong_is_acted_on_by_a_terminal() {
        let wrong = Wrong {
            file: "a\u{1b}]0;x\u{7}".to_owned(),
            line: 1,
            seq: None,
            fault: Fault::Key("\u{9b}2J".to_owned()),
        };
        let told = wrong.to_string();
        assert!(!told.chars().any(char::is_control), "{told}");
        assert!(told.contains(r"a\u{1b}]0;x\u{7} line 1") && told.contains(r"\u{9b}2J"));
    }
}
