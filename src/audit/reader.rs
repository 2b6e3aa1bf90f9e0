//! Reading a trail: line by line, in constant memory, each line checked against
//! the chain.

mod checks;
mod fault;
mod first;
mod gaps;
mod keyed;
mod lines;
mod strict;
mod torn;
mod unread;

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
};

pub use self::{
    checks::check_alone,
    fault::{At, Fault, Wrong},
    first::{Opening, first_own, first_record, opened, opened_as_known, own_seq, restates},
    lines::{Lines, Next},
    strict::{is_too_long, read_alone},
    torn::{Left, Torn},
};
use self::{
    gaps::Gaps,
    keyed::{Claim, OtherKey, Unkeyed, false_claims},
};
use super::{
    chain::{Hasher, Head},
    record::Line,
    segment,
};

/// The longest line that is read; ours are below 4 KiB.
pub const LINE_BYTES_MAX: u64 = 64 << 10;

/// Which part of a trail is read, and how.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    /// How its records are hashed.
    pub hasher: Hasher,
    /// The number of the first segment to read; what is before is not looked at.
    pub from_segment: u64,
}

/// No trail has come this far, at a million records a second for a hundred thousand
/// years: a number above it is forged, and nothing may be counted on from there.
pub const SEQ_MAX: u64 = 1 << 62;

/// What reading a trail found.
#[derive(Debug)]
pub struct Scan {
    /// The last record that can be read and has a number that can be, whatever else is
    /// wrong with it: `wrong` says so.
    pub head: Head,
    /// The last record that stands in its place, or to which others led: the chain goes on
    /// behind it, whatever somebody put there. Nothing is if no record can be believed.
    pub onward: Head,
    /// How many segments there are.
    pub segments: u64,
    /// The last segment; `None` if there is none.
    pub last_segment: Option<(u64, PathBuf)>,
    /// Records that were hashed with the key.
    pub keyed: u64,
    /// The first of them.
    keyed_from: Option<u64>,
    /// Records before that, without the key.
    unkeyed: Option<Unkeyed>,
    /// The unfinished line at the very end, as a crash leaves it: what no crash leaves
    /// there is `wrong`, and evidence.
    pub torn: Option<Torn>,
    /// The first bad record.
    pub wrong: Option<Wrong>,
    /// All that is wrong is that its first records have another key than the one given.
    pub is_key_changed: bool,
    /// Bytes of the last segment up to its first bad or unfinished record.
    pub good_bytes: u64,
    last_line: u64,
    is_whole: bool,
    /// The last line that was read is what was hashed, and follows one that was read or
    /// behind which the chain goes on.
    is_sound: bool,
    /// A segment that was listed was not there any more.
    is_after_gap: bool,
    gaps: Gaps,
    claim: Option<Claim>,
    /// The segments that claim a key, and have a record without one.
    false_claims: BTreeSet<String>,
    other_key: Option<OtherKey>,
}

/// Reads the segments of a trail and gives each readable record to `each`, with
/// where it stands. A bad record does not end the reading: an auditor
/// wants to see the rest too.
pub fn scan(
    directory: &Path,
    scope: &Scope,
    mut each: impl FnMut(&Line<'_>, At<'_>),
) -> io::Result<Scan> {
    let segments = listed(directory, scope)?;
    scan_all(segments, scope, Scan::new(), &mut |record, at, _| {
        each(record, at);
    })
}

/// The same, and whether each record is what was hashed, and follows the one before it. For
/// that, segments that claim another key are read twice.
pub fn scan_judged(
    directory: &Path,
    scope: &Scope,
    mut each: impl FnMut(&Line<'_>, At<'_>, bool),
) -> io::Result<Scan> {
    let segments = listed(directory, scope)?;
    let scan = Scan {
        false_claims: false_claims(&segments, scope)?,
        ..Scan::new()
    };
    scan_all(segments, scope, scan, &mut each)
}

fn listed(directory: &Path, scope: &Scope) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut segments = segment::list(directory)?;
    segments.retain(|(number, _)| *number >= scope.from_segment);
    Ok(segments)
}

/// Reads one segment alone.
pub fn scan_one(
    path: &Path,
    scope: &Scope,
    mut each: impl FnMut(&Line<'_>, At<'_>),
) -> io::Result<Scan> {
    scan_all(
        vec![(scope.from_segment, path.to_owned())],
        scope,
        Scan::new(),
        &mut |record, at, _| each(record, at),
    )
}

fn scan_all(
    segments: Vec<(u64, PathBuf)>,
    scope: &Scope,
    scan: Scan,
    each: &mut impl FnMut(&Line<'_>, At<'_>, bool),
) -> io::Result<Scan> {
    let mut scan = Scan {
        segments: segments.len() as u64,
        last_segment: segments.last().cloned(),
        is_whole: scope.from_segment == 0,
        ..scan
    };
    let mut bytes = 0;
    for (_, path) in segments {
        // What was torn is not at the end if another segment follows with records.
        let torn_before = scan.torn.take();
        let read = match scan.segment(&path, scope, &mut bytes, each) {
            // Retention may take the oldest away while we read, and says so later on.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                scan.is_after_gap = true;
                continue;
            }
            read => read?,
        };
        if let Some(torn) = torn_before {
            if read == 0 && scan.torn.is_none() {
                scan.torn = Some(torn);
            } else {
                scan.note_cut(&torn);
            }
        }
    }
    scan.judge();
    Ok(scan)
}

impl Scan {
    /// Of a whole trail, before anything of it was read.
    pub fn new() -> Self {
        Self {
            head: Head::empty(),
            onward: Head::empty(),
            segments: 0,
            last_segment: None,
            keyed: 0,
            keyed_from: None,
            unkeyed: None,
            torn: None,
            wrong: None,
            is_key_changed: false,
            good_bytes: 0,
            last_line: 0,
            is_whole: true,
            is_sound: false,
            is_after_gap: false,
            gaps: Gaps::default(),
            claim: None,
            false_claims: BTreeSet::new(),
            other_key: None,
        }
    }

    /// Reads one segment; how many lines it has.
    fn segment(
        &mut self,
        path: &Path,
        scope: &Scope,
        bytes: &mut u64,
        each: &mut impl FnMut(&Line<'_>, At<'_>, bool),
    ) -> io::Result<u64> {
        let file = file_name(path);
        let Some(opened) = segment::open(path)? else {
            self.note(&file, 1, self.next_seq(), Fault::NoFile);
            return Ok(0);
        };
        let bytes_before = *bytes;
        let mut lines = Lines::new(opened);
        self.good_bytes = 0;
        loop {
            let next = lines.read()?;
            if matches!(next, Next::Line | Next::TooLong) {
                self.last_line = lines.number;
                *bytes = bytes_before + lines.bytes;
            }
            match next {
                Next::Line => {
                    let at = At {
                        file: &file,
                        line: lines.number,
                        bytes: *bytes,
                        raw: &lines.line,
                    };
                    if let Some(record) = self.line(at, &lines.line, &scope.hasher) {
                        if self.wrong.is_none() {
                            self.good_bytes = lines.bytes;
                        }
                        each(&record, at, self.is_sound);
                    }
                }
                Next::TooLong => {
                    self.note(&file, lines.number, self.next_seq(), Fault::TooLong);
                }
                Next::Endless => {
                    self.note(&file, lines.number + 1, self.next_seq(), Fault::TooLong);
                    return Ok(lines.number);
                }
                Next::Unfinished(unread) => {
                    self.note_unfinished(path, &lines, &unread, &scope.hasher);
                    return Ok(lines.number);
                }
                Next::End => return Ok(lines.number),
            }
        }
    }

    /// What is wrong with the trail as a whole, and seen at its end.
    pub fn wrong_at_end(&self, fault: Fault) -> Wrong {
        let last = self.last_segment.as_ref();
        Wrong {
            file: last.map_or_else(String::new, |(_, path)| file_name(path)),
            line: self.last_line,
            seq: Some(self.head.seq),
            fault,
        }
    }

    /// The number of the record that should come next, if that is known.
    fn next_seq(&self) -> Option<u64> {
        (self.head.seq > 0).then(|| self.head.seq.saturating_add(1))
    }

    /// Whether a record follows the head, or is the first that is read.
    fn is_next(&self, record: &Line<'_>) -> bool {
        self.head.seq == 0 || self.head.precedes(record)
    }

    /// What is told to have been before the first record, if that is not number 1.
    pub fn removed(&self) -> Option<Head> {
        self.gaps.first_removed()
    }

    /// Whether a record is one of those that are told to have been removed.
    pub(super) fn is_in_gap(&self, seq: u64) -> bool {
        self.gaps.holds(seq)
    }

    /// Something else than a record explains what is missing before the first one.
    pub fn explain_beginning(&mut self) {
        self.gaps.explain_first();
    }

    /// Says what only all records together show; once all is read.
    pub fn judge(&mut self) {
        if let Some(place) = self.gaps.unexplained().cloned() {
            self.note_at(place);
        }
        self.tell_other_key();
    }

    /// A line was cut short that is not, or will not be, the trail's last.
    pub fn note_cut(&mut self, torn: &Torn) {
        self.note(&file_name(&torn.path), torn.line, torn.seq, Fault::Cut);
    }

    /// Keeps what is wrong with a record, if nothing before it is.
    pub fn note(&mut self, file: &str, line: u64, seq: Option<u64>, fault: Fault) {
        // Nearly always there is none, or one before it already.
        if self
            .wrong
            .as_ref()
            .is_none_or(|wrong| wrong.is_after(file, line))
        {
            self.note_at(Wrong {
                file: file.to_owned(),
                line,
                seq,
                fault,
            });
        }
    }

    /// Keeps the earlier one: that a line was cut, or that no record explains a
    /// gap, is known only further on.
    fn note_at(&mut self, found: Wrong) {
        let is_first = |wrong: &Wrong| wrong.is_after(&found.file, found.line);
        if self.wrong.as_ref().is_none_or(is_first) {
            self.wrong = Some(found);
        }
    }
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}
