//! A head that was noted elsewhere, looked for in a trail.

use crate::audit::{
    chain::{Hash, Head},
    event,
    reader::{At, Fault, Scan, Wrong},
    record::Line,
};

/// Looks for a head that was noted elsewhere.
#[derive(Debug)]
pub struct Expected {
    head: Head,
    is_found: bool,
    /// Where it should be stands another record.
    instead: Option<Wrong>,
    /// The last `trail.pruned` that names it, and one that names another hash.
    named_by: Option<Wrong>,
    misnamed_by: Option<Wrong>,
}

/// What a trail has of a head that was noted elsewhere.
#[derive(Debug)]
pub enum Noted {
    /// The record itself.
    Held,
    /// The word of a record that was hashed with the key: retention removed it.
    Removed {
        /// The number of that `trail.pruned`.
        by: u64,
    },
    /// Nothing that counts.
    Not(Wrong),
}

impl Expected {
    pub fn new(head: &Head) -> Self {
        Self {
            head: *head,
            is_found: *head == Head::empty(),
            instead: None,
            named_by: None,
            misnamed_by: None,
        }
    }

    pub fn look_at(&mut self, record: &Line<'_>, at: At<'_>) {
        if record.seq == self.head.seq {
            if &*record.hash == self.head.hash.as_str() {
                self.is_found = true;
            } else {
                let other = self.other(&record.hash, record, at);
                self.instead.get_or_insert(other);
            }
        }
        // Only the record that retention writes says what retention removed.
        if let (Some(seq), Some(hash)) = (record.until_seq, &record.until_hash)
            && &*record.event == event::PRUNED
            && seq == self.head.seq
        {
            if &**hash == self.head.hash.as_str() {
                let fault = Fault::OnlyNamed(self.head.seq);
                self.named_by = Some(wrong(record, at, fault));
            } else {
                self.misnamed_by = Some(self.other(hash, record, at));
            }
        }
    }

    /// What the trail has of it, once all is read. A record that is there and another
    /// one is wrong whatever else is said of it. That it was removed counts only where
    /// the trail begins behind it: nothing else can explain that it is not there.
    pub fn noted(&self, scan: &Scan) -> Noted {
        if let Some(instead) = &self.instead {
            return Noted::Not(instead.clone());
        }
        if self.is_found {
            return Noted::Held;
        }
        let is_removed = scan.is_in_gap(self.head.seq);
        match (&self.misnamed_by, &self.named_by) {
            (Some(misnamed), _) if is_removed => Noted::Not(misnamed.clone()),
            (None, Some(named)) if is_removed => match named.seq {
                Some(by) if scan.is_keyed_at(by) => Noted::Removed { by },
                _ => Noted::Not(named.clone()),
            },
            _ => {
                let found = if self.head.seq > scan.head.seq {
                    format!("the trail ends at {}", scan.head.seq)
                } else {
                    "the trail does not hold it any more".to_owned()
                };
                Noted::Not(scan.wrong_at_end(self.fault(found)))
            }
        }
    }

    fn other(&self, hash: &str, record: &Line<'_>, at: At<'_>) -> Wrong {
        let found = match Hash::parse(hash) {
            Some(hash) => format!("it has {}", hash.as_str()),
            None => "it has none that could be one".to_owned(),
        };
        wrong(record, at, self.fault(found))
    }

    fn fault(&self, found: String) -> Fault {
        Fault::Expected {
            seq: self.head.seq,
            expected: self.head.hash.as_str().to_owned(),
            found,
        }
    }
}

fn wrong(record: &Line<'_>, at: At<'_>, fault: Fault) -> Wrong {
    Wrong {
        file: at.file.to_owned(),
        line: at.line,
        seq: Some(record.seq),
        fault,
    }
}
