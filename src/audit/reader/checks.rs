//! Whether a line is what was hashed, and stands where it belongs.

use std::mem;

use super::{At, Fault, SEQ_MAX, Scan, keyed::Claim, strict};
use crate::audit::{
    chain::{Hash, Hasher, Head},
    format::{AFTER_HASH, BEFORE_HASH, VERSION},
    known::Known,
    record::Line,
};

impl Scan {
    /// Checks a whole line, with its end; what it says, if that can be read.
    pub fn line<'a>(&mut self, at: At<'_>, line: &'a [u8], hasher: &Hasher) -> Option<Line<'a>> {
        match strict::read(line) {
            Ok(record) => {
                self.record(at.file, at.line, line, &record, hasher);
                Some(record)
            }
            Err(what) => {
                let fault = Fault::Unreadable(what);
                self.note(at.file, at.line, self.next_seq(), fault);
                None
            }
        }
    }

    /// Checks a record as the one that follows the head, and makes it the head.
    fn record(&mut self, file: &str, number: u64, line: &[u8], record: &Line<'_>, hasher: &Hasher) {
        self.is_sound = false;
        if record.seq > SEQ_MAX {
            // Nothing follows it, and nothing that it says counts.
            let expected = self.head.seq + 1;
            self.note(file, number, Some(record.seq), Fault::Number { expected });
            return;
        }
        self.hear_claim(file, number, record);
        let keyed = self.keyed;
        let content = self.check_content((file, number), line, record, hasher);
        let is_believed = match &content {
            Ok(()) => true,
            // The trail has another key, or had one: nobody can tell here.
            Err(Fault::Key(_)) => self.keyed == 0,
            Err(_) => false,
        };
        // What carries no key says nothing of where the first one stands that does.
        let is_first = self.onward.seq == 0 || (keyed == 0 && self.keyed > 0);
        let is_in_place = self.onward.precedes(record);
        let is_led_to = self.head.precedes(record) && record.seq > self.onward.seq;
        self.is_sound = is_believed && (is_first || is_in_place || is_led_to);
        let place = match content {
            Ok(()) => self.check_place(file, number, record),
            Err(Fault::Key(stated)) => {
                self.note_other_key((file, number), record.seq, stated);
                self.check_place(file, number, record)
            }
            Err(fault) => Err(fault),
        };
        if let Err(fault) = place {
            self.note(file, number, Some(record.seq), fault);
        }
        if let Some(head) = Head::of(record) {
            self.head = head;
            if is_in_place || self.is_sound {
                self.onward = self.head;
            }
        }
        self.gaps.explain(record);
    }

    fn check_content(
        &mut self,
        place: (&str, u64),
        line: &[u8],
        record: &Line<'_>,
        hasher: &Hasher,
    ) -> Result<(), Fault> {
        if record.v != VERSION {
            return Err(Fault::Version(record.v));
        }
        let content = content(line, record).ok_or(Fault::Content)?;
        let fits = |hasher: &Hasher| hasher.hash(content).as_str() == &*record.hash;
        if fits(hasher) {
            if hasher.key_fingerprint().is_some() {
                self.keyed += 1;
                self.keyed_from.get_or_insert(record.seq);
                self.judge_other_key();
            } else {
                self.judge_claim(place.0);
                self.add_unkeyed(place, record.seq);
            }
            return Ok(());
        }
        if hasher.key_fingerprint().is_some() && fits(&Hasher::Sha256) {
            // A trail may have got its key later; from then on it keeps it.
            if self.keyed > 0 {
                return Err(Fault::Unkeyed);
            }
            self.judge_claim(place.0);
            self.add_unkeyed(place, record.seq);
            return Ok(());
        }
        let claimed = self.claim.as_ref().map(Claim::stated);
        Err(match claimed {
            Some(stated) if hasher.key_fingerprint() != Some(stated) => {
                Fault::Key(stated.to_owned())
            }
            _ => Fault::Content,
        })
    }

    fn check_place(&mut self, file: &str, line: u64, record: &Line<'_>) -> Result<(), Fault> {
        let is_first = self.head.seq == 0;
        let is_after_gap = mem::take(&mut self.is_after_gap) && record.seq > self.head.seq + 1;
        if (is_first && record.seq > 1) || is_after_gap {
            let hash = Hash::parse(&record.prev).ok_or(Fault::Chain)?;
            if self.is_whole || is_after_gap {
                self.gaps.add(self.head.seq, (record, hash), file, line);
            }
            return Ok(());
        }
        let before = &self.head;
        if before.seq.checked_add(1) != Some(record.seq) {
            return Err(Fault::Number {
                expected: before.seq.saturating_add(1),
            });
        }
        if &*record.prev != before.hash.as_str() {
            return Err(Fault::Chain);
        }
        Ok(())
    }
}

/// What was hashed of a whole line. The hash stands last, and nothing may hide behind it.
pub fn content<'a>(line: &'a [u8], record: &Line<'_>) -> Option<&'a [u8]> {
    line.strip_suffix(AFTER_HASH.as_bytes())
        .and_then(|line| line.strip_suffix(record.hash.as_bytes()))
        .and_then(|line| line.strip_suffix(BEFORE_HASH.as_bytes()))
}

/// Whether a whole line is what was hashed, so. That says nothing of its place in the chain.
pub fn is_hashed(line: &[u8], record: &Line<'_>, hasher: &Hasher) -> bool {
    content(line, record).is_some_and(|content| hasher.hash(content).as_str() == &*record.hash)
}

/// What is wrong with a line by itself, given without its end; that says nothing of its
/// place in the chain.
pub fn check_alone(line: &str, record: &Line<'_>, known: &Known) -> Result<(), Fault> {
    check_line(&[line.as_bytes(), b"\n"].concat(), record, known)
}

/// The same of a whole line.
pub fn check_line(line: &[u8], record: &Line<'_>, known: &Known) -> Result<(), Fault> {
    if is_hashed(line, record, &Hasher::new(known.mac_key.as_ref())) {
        return Ok(());
    }
    if known.mac_key.is_none() || !is_hashed(line, record, &Hasher::Sha256) {
        return Err(Fault::Content);
    }
    match known.keyed_from {
        Some(from) if record.seq < from => Ok(()),
        _ => Err(Fault::UnkeyedUntil(record.seq)),
    }
}
