//! Which records carry the key, of a trail that has one.

use super::{Fault, Line, Scan, Wrong, is_hashed};
use crate::audit::{chain::Hasher, verify::Known};

/// Records at the beginning of what was read that carry no key: whoever can write the
/// trail could have made them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unkeyed {
    first: u64,
    last: Wrong,
}

impl Scan {
    pub(super) fn add_unkeyed(&mut self, (file, line): (&str, u64), seq: u64) {
        let unkeyed = self.unkeyed.get_or_insert_with(|| Unkeyed {
            first: seq,
            last: Wrong {
                file: file.to_owned(),
                line,
                seq: None,
                fault: Fault::UnkeyedUntil(seq),
            },
        });
        let last = &mut unkeyed.last;
        if last.file != file {
            file.clone_into(&mut last.file);
        }
        (last.line, last.seq, last.fault) = (line, Some(seq), Fault::UnkeyedUntil(seq));
    }

    /// The first and the last of the records at the beginning that carry no key.
    pub(in crate::audit) fn unkeyed(&self) -> Option<(u64, u64)> {
        let unkeyed = self.unkeyed.as_ref()?;
        Some((unkeyed.first, unkeyed.last.seq?))
    }

    /// Says which records carry no key, though the key is known; once all is read. Those
    /// before `keyed_from` need none. The writer reads its trail without asking for this:
    /// a trail may get its key later, and only who knows when can tell that from a rewrite.
    pub(in crate::audit) fn judge_key(&mut self, known: &Known) {
        let Some((_, last)) = self.unkeyed().filter(|_| known.mac_key.is_some()) else {
            return;
        };
        if self.keyed == 0 {
            let never = self.wrong_at_end(Fault::NeverKeyed);
            self.wrong.get_or_insert(never);
        } else if known.keyed_from.is_none_or(|from| last >= from)
            && let Some(unkeyed) = self.unkeyed.clone()
        {
            self.note_at(unkeyed.last);
        }
    }

    /// Whether the record with this number needs the key, as far as was read.
    pub(in crate::audit) fn is_keyed_at(&self, seq: u64) -> bool {
        self.keyed_from.is_some_and(|from| from <= seq)
    }
}

/// What is wrong with a line by itself, given without its end; that says nothing of its
/// place in the chain.
pub fn check_alone(line: &str, record: &Line<'_>, known: &Known) -> Result<(), Fault> {
    let whole = [line.as_bytes(), b"\n"].concat();
    if is_hashed(&whole, record, &Hasher::new(known.mac_key.as_ref())) {
        return Ok(());
    }
    if known.mac_key.is_none() || !is_hashed(&whole, record, &Hasher::Sha256) {
        return Err(Fault::Content);
    }
    match known.keyed_from {
        Some(from) if record.seq < from => Ok(()),
        _ => Err(Fault::UnkeyedUntil(record.seq)),
    }
}
