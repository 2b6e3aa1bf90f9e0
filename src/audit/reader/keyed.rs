//! Which records carry the key, of a trail that has one.

use std::{collections::BTreeSet, io, path::PathBuf};

use super::{Fault, Line, Scan, Scope, Wrong, first_record, scan_one};
use crate::{
    audit::{event, known::Known},
    secret::MacKey,
};

/// Records at the beginning of what was read that carry no key: whoever can write the
/// trail could have made them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unkeyed {
    first: u64,
    last: Wrong,
}

/// What the first record of a segment says of a key.
#[derive(Debug)]
pub struct Claim {
    stated: String,
    /// The first record that has another key than the one given, by this.
    excused: Option<Wrong>,
}

impl Claim {
    /// What a `trail.opened` says; `None` if that is nothing, or can be no fingerprint.
    pub fn of(record: &Line<'_>) -> Option<Self> {
        let stated = record.mac_key.as_ref().map(ToString::to_string);
        let stated = stated.filter(|stated| MacKey::is_fingerprint(stated))?;
        let excused = None;
        Some(Self { stated, excused })
    }

    /// The fingerprint of the key.
    pub fn stated(&self) -> &str {
        &self.stated
    }
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
        let first = || Wrong {
            file: file.to_owned(),
            line,
            seq: Some(seq),
            fault: Fault::Key(stated.clone()),
        };
        if let Some(claim) = &mut self.claim {
            claim.excused.get_or_insert_with(first);
        }
        // One that was before ours is a key that was changed, maybe: what is claimed behind
        // ours is told apart from it.
        let is_kept = |held: &OtherKey| held.is_behind_ours || !is_behind_ours;
        if self.other_key.as_ref().is_some_and(is_kept) {
            return;
        }
        self.other_key = Some(OtherKey {
            first: first(),
            is_behind_ours,
            stated,
        });
    }

    /// A record has the key that was given. Who can't compute it could claim another one
    /// for what they changed; but a trail that changed its key does not change it back, nor
    /// within a segment.
    pub(super) fn judge_other_key(&mut self) {
        let is_claimed = |other: &mut OtherKey| {
            let is_stated_here = |claim: &Claim| claim.stated == other.stated;
            other.is_behind_ours || self.claim.as_ref().is_some_and(is_stated_here)
        };
        if let Some(other) = self.other_key.take_if(is_claimed) {
            let fault = Fault::Content;
            self.note_at(Wrong {
                fault,
                ..other.first
            });
        }
    }

    /// The first record of a segment says of a key what others of it may show to be false; of
    /// lines that are in no file, each that opens a segment is its first.
    pub(super) fn hear_claim(&mut self, file: &str, line: u64, record: &Line<'_>) {
        let is_first = line == 1 || self.segments == 0;
        if is_first && &*record.event == event::OPENED {
            self.claim = Claim::of(record).filter(|_| !self.false_claims.contains(file));
        }
    }

    /// A record has no key. A segment is written with one key or with none: what its first
    /// record says of one is no excuse for others.
    pub(super) fn judge_claim(&mut self, file: &str) {
        let excused = self.claim.take().and_then(|claim| claim.excused);
        // One that excuses no record of this segment is left of the segment before.
        if let Some(excused) = excused.filter(|excused| excused.file == file) {
            self.other_key.take_if(|other| other.first == excused);
            self.false_claims.insert(file.to_owned());
            let fault = Fault::Content;
            self.note_at(Wrong { fault, ..excused });
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

/// The segments that claim another key than the one given and have a record without one: else
/// what stands before that record would be believed when it is read.
pub(super) fn false_claims(
    segments: &[(u64, PathBuf)],
    scope: &Scope,
) -> io::Result<BTreeSet<String>> {
    let given = scope.hasher.key_fingerprint();
    let claims = |record: &Line<'_>| {
        let stated = record.mac_key.as_deref();
        stated.is_some() && stated != given
    };
    let mut found = BTreeSet::new();
    for (_, path) in segments {
        if first_record(path, claims)? == Some(true) {
            found.append(&mut scan_one(path, scope, |_, _| {})?.false_claims);
        }
    }
    Ok(found)
}
