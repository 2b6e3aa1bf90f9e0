//! What is missing before the first record of a trail, or within it, and what accounts
//! for it.

use super::{Fault, Line, Wrong};
use crate::audit::{
    chain::{Hash, Head},
    event,
};

/// A trail whose first record is not number 1, or whose oldest segments went
/// while it was read: right if a record says that what was before was removed.
#[derive(Debug)]
struct Gap {
    /// The last record before it that was read.
    behind: u64,
    removed: Head,
    place: Wrong,
    is_explained: bool,
}

/// All of a trail, in their order.
#[derive(Debug, Default)]
pub struct Gaps(Vec<Gap>);

impl Gaps {
    /// One that ends with the record before `record`, whose hash is `prev`; `behind` is the
    /// number of the last one that was read before it.
    pub fn add(&mut self, behind: u64, (record, prev): (&Line<'_>, Hash), file: &str, line: u64) {
        let seq = record.seq - 1;
        self.0.push(Gap {
            behind,
            removed: Head { seq, hash: prev },
            place: Wrong {
                file: file.to_owned(),
                line,
                seq: Some(record.seq),
                fault: Fault::Beginning(seq),
            },
            is_explained: false,
        });
    }

    /// Looks at a record whether it accounts for one.
    pub fn explain(&mut self, record: &Line<'_>) {
        if let (Some(seq), Some(hash)) = (record.until_seq, &record.until_hash)
            && &*record.event == event::PRUNED
        {
            for gap in &mut self.0 {
                let Head {
                    seq: last,
                    hash: of,
                } = gap.removed;
                gap.is_explained |= (last, of.as_str()) == (seq, hash);
            }
        }
    }

    /// Something else than a record accounts for the first one.
    pub fn explain_first(&mut self) {
        if let Some(gap) = self.0.first_mut() {
            gap.is_explained = true;
        }
    }

    /// Where the first one is that nothing accounts for.
    pub fn unexplained(&self) -> Option<&Wrong> {
        let gap = self.0.iter().find(|gap| !gap.is_explained)?;
        Some(&gap.place)
    }

    /// The last record of the first one.
    pub fn first_removed(&self) -> Option<Head> {
        self.0.first().map(|gap| gap.removed)
    }

    /// Whether a record with this number is in one.
    pub fn holds(&self, seq: u64) -> bool {
        let holds = |gap: &Gap| gap.behind < seq && seq <= gap.removed.seq;
        self.0.iter().any(holds)
    }
}
