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

/// Where a record stands that says it has another key than the one given.
#[derive(Debug)]
pub struct OtherKey {
    first: Wrong,
    /// Records before it have the key that was given.
    is_behind_ours: bool,
    stated: String,
}

impl Scan {
    /// The key that was not given says nothing of a record: what else is wrong counts first.
    pub(super) fn note_other_key(&mut self, (file, line): (&str, u64), seq: u64, stated: String) {
        let is_behind_ours = self.keyed > 0;
        // One that was before ours is a key that was changed, maybe: what is claimed behind
        // ours is told apart from it.
        let is_kept = |held: &OtherKey| held.is_behind_ours || !is_behind_ours;
        if self.other_key.as_ref().is_some_and(is_kept) {
            return;
        }
        self.other_key = Some(OtherKey {
            first: Wrong {
                file: file.to_owned(),
                line,
                seq: Some(seq),
                fault: Fault::Key(stated.clone()),
            },
            is_behind_ours,
            stated,
        });
    }

    /// A record has the key that was given. Who can't compute it could claim another one
    /// for what they changed; but a trail that changed its key does not change it back, nor
    /// within a segment.
    pub(super) fn judge_other_key(&mut self) {
        let is_claimed = |other: &mut OtherKey| {
            other.is_behind_ours || self.stated_mac.as_ref() == Some(&other.stated)
        };
        if let Some(other) = self.other_key.take_if(is_claimed) {
            let fault = Fault::Content;
            self.note_at(Wrong {
                fault,
                ..other.first
            });
        }
    }

    /// Says that the key was not given, if nothing else is wrong; once all is read.
    pub(super) fn tell_other_key(&mut self) {
        if let Some(other) = self.other_key.take() {
            // Behind records with the key that was given it may be a claim.
            self.is_key_changed = self.wrong.is_none() && !other.is_behind_ours;
            self.wrong.get_or_insert(other.first);
        }
    }

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
