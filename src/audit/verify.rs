//! Whether a trail is as it was written.

mod expected;

use std::{collections::HashSet, fmt, io, path::Path};

use self::expected::{Expected, Noted};
use super::{
    chain::{Hasher, Head},
    event,
    known::Known,
    reader::{At, Fault, Scan, Scope, Torn, Wrong, is_too_long, scan},
    record::{Line, OutcomeKind, Refused},
};

/// Calls under way at once that the verifier keeps in mind.
const OPEN_MAX: usize = 1 << 20;

/// What is in a trail, and whether it is as it was written.
#[derive(Debug)]
pub struct Report {
    /// Readable records.
    pub records: u64,
    /// Calls that were about to be sent.
    pub intents: u64,
    /// How they ended.
    pub outcomes: Outcomes,
    /// Intents that have no outcome yet: calls under way, or cut by a crash.
    pub open: u64,
    /// Requests that were refused, the coalesced ones included.
    pub refusals: u64,
    /// Connections that ended before there was a request, the coalesced ones included.
    pub connections_refused: u64,
    /// Guesses at the admin token, the coalesced ones included.
    pub guesses: u64,
    /// Records whose hash needed the key.
    pub keyed: u64,
    /// The first and the last of the records at the beginning that carry no key: the
    /// chain alone vouches for them, which whoever can write the trail can make anew.
    pub unkeyed: Option<(u64, u64)>,
    /// Segment files.
    pub segments: u64,
    /// The last record: note it elsewhere, and a cut tail can be noticed.
    pub head: Head,
    /// The first bad record.
    pub wrong: Option<Wrong>,
    /// The `trail.pruned` that names the head that was noted elsewhere, if retention
    /// removed that record.
    pub expected_removed_by: Option<u64>,
    /// Bytes of an unfinished last line; a crash leaves that, it is no tampering.
    pub torn_bytes: u64,
}

/// Outcomes by kind.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Outcomes {
    /// Confirmed deletions.
    pub deleted: u64,
    /// May have been carried out, never confirmed.
    pub in_doubt: u64,
    /// The upstream said no.
    pub not_deleted: u64,
    /// Nothing reached the upstream.
    pub failed: u64,
    /// Nothing was to be sent.
    pub dry_run: u64,
}

/// Reads the whole trail in `directory` and checks every record, in constant
/// memory; `progress` hears the bytes read so far.
///
/// A bare chain shows edits. It does not show a cut tail, nor a rewrite by
/// somebody who can write the directory: that needs a head noted elsewhere, or
/// the key.
///
/// # Errors
///
/// If a segment can't be read.
pub fn verify(
    directory: &Path,
    known: &Known,
    mut progress: impl FnMut(u64),
) -> io::Result<Report> {
    let mut counts = Counts::default();
    let mut expected = known.head.as_ref().map(Expected::new);
    let scope = Scope {
        hasher: Hasher::new(known.mac_key.as_ref()),
        ..Scope::default()
    };
    let mut scan = scan(directory, &scope, |record, at| {
        counts.add(record);
        if let Some(expected) = &mut expected {
            expected.look_at(record, at);
        }
        progress(at.bytes);
    })?;
    scan.judge_key(known);
    Ok(counts.report(scan, expected))
}

/// Checks lines of one chain that come from elsewhere than segment files, one by one
/// and in constant memory.
#[derive(Debug)]
pub struct LineCheck {
    name: String,
    hasher: Hasher,
    known: Known,
    line: u64,
    scan: Scan,
    counts: Counts,
    expected: Option<Expected>,
}

impl LineCheck {
    /// Nothing read yet; `name` stands where a segment's file name would.
    pub fn new(name: String, known: &Known) -> Self {
        Self {
            name,
            hasher: Hasher::new(known.mac_key.as_ref()),
            known: known.clone(),
            line: 0,
            scan: Scan::new(),
            counts: Counts::default(),
            expected: known.head.as_ref().map(Expected::new),
        }
    }

    /// Checks the next line, which is given without its end; `columns` tells which of
    /// the columns beside it says something else than the line.
    pub fn add(&mut self, line: &str, columns: impl FnOnce(&Line<'_>) -> Option<&'static str>) {
        self.line += 1;
        let at = At {
            file: &self.name,
            line: self.line,
            bytes: 0,
            raw: line.as_bytes(),
        };
        if is_too_long(line) {
            let seq = self.scan.head.seq.checked_add(1);
            self.scan.note(&self.name, self.line, seq, Fault::TooLong);
            return;
        }
        let whole = [line.as_bytes(), b"\n"].concat();
        let Some(record) = self.scan.line(at, &whole, &self.hasher) else {
            return;
        };
        if let Some(column) = columns(&record) {
            let fault = Fault::Column(column);
            self.scan
                .note(&self.name, self.line, Some(record.seq), fault);
        }
        self.counts.add(&record);
        if let Some(expected) = &mut self.expected {
            expected.look_at(&record, at);
        }
    }

    /// The record before the first one, if that is not number 1.
    pub fn begins_behind(&self) -> Option<Head> {
        self.scan.removed()
    }

    /// The beginning is explained by something else than a record.
    pub fn explain_beginning(&mut self) {
        self.scan.explain_beginning();
    }

    /// Whether the head that was noted elsewhere is in it. In which of many chains it is
    /// may not be known: so it is no fault of one that it is not.
    pub fn holds_expected(&self) -> bool {
        let noted = self.expected.as_ref();
        let noted = noted.map(|expected| expected.noted(&self.scan));
        matches!(noted, Some(Noted::Held | Noted::Removed { .. }))
    }

    /// What was found. The last record must be `end`, if that is known.
    pub fn finish(mut self, end: Option<&Head>) -> Report {
        if let Some(end) = end.filter(|end| **end != self.scan.head) {
            let seq = Some(self.scan.head.seq);
            self.scan
                .note(&self.name, self.line + 1, seq, Fault::Ends(end.to_string()));
        }
        self.scan.judge();
        self.scan.judge_key(&self.known);
        let mut report = self.counts.report(self.scan, None);
        if let Some(wrong) = &mut report.wrong
            && wrong.file.is_empty()
        {
            wrong.file.clone_from(&self.name);
        }
        report
    }
}

#[derive(Debug, Default)]
struct Counts {
    records: u64,
    intents: u64,
    outcomes: Outcomes,
    refusals: u64,
    connections_refused: u64,
    guesses: u64,
    open: HashSet<u64>,
}

impl Counts {
    fn add(&mut self, record: &Line<'_>) {
        self.records += 1;
        match &*record.event {
            event::INTENT => {
                self.intents += 1;
                if self.open.len() < OPEN_MAX {
                    self.open.insert(record.seq);
                }
            }
            event::OUTCOME => {
                if let Some(intent) = record.intent {
                    self.open.remove(&intent);
                }
                self.outcomes.add(record.outcome.as_deref());
            }
            // Readers accept events that they don't know.
            _ => {}
        }
        if let Some((what, count)) = record.refused() {
            let sum = match what {
                Refused::Calls => &mut self.refusals,
                Refused::Connections => &mut self.connections_refused,
                Refused::Guesses => &mut self.guesses,
            };
            // Somebody may have written any number.
            *sum = sum.saturating_add(count);
        }
    }
}

impl Counts {
    fn report(self, mut scan: Scan, expected: Option<Expected>) -> Report {
        let noted = expected.map(|expected| expected.noted(&scan));
        let (missing, expected_removed_by) = match noted {
            Some(Noted::Not(wrong)) => (Some(wrong), None),
            Some(Noted::Removed { by }) => (None, Some(by)),
            Some(Noted::Held) | None => (None, None),
        };
        // What is missing shows without the key, too.
        if missing.is_some() {
            scan.wrong.take_if(|wrong| wrong.is_want_of_key());
        }
        scan.wrong = scan.wrong.or(missing);
        Report {
            keyed: scan.keyed,
            unkeyed: scan.unkeyed(),
            records: self.records,
            intents: self.intents,
            outcomes: self.outcomes,
            open: self.open.len() as u64,
            refusals: self.refusals,
            connections_refused: self.connections_refused,
            guesses: self.guesses,
            segments: scan.segments,
            head: scan.head,
            wrong: scan.wrong,
            expected_removed_by,
            torn_bytes: scan.torn.as_ref().map_or(0, |torn: &Torn| torn.bytes),
        }
    }
}

impl Outcomes {
    fn add(&mut self, outcome: Option<&str>) {
        let count = match outcome.map(OutcomeKind::read) {
            Some(OutcomeKind::Deleted) => &mut self.deleted,
            Some(OutcomeKind::NotDeleted) => &mut self.not_deleted,
            Some(OutcomeKind::Failed) => &mut self.failed,
            Some(OutcomeKind::DryRun) => &mut self.dry_run,
            // What does not say how it ended was not confirmed.
            Some(OutcomeKind::InDoubt) | None => &mut self.in_doubt,
        };
        *count += 1;
    }
}

impl Report {
    /// Whether every record is as it was written.
    pub fn is_intact(&self) -> bool {
        self.wrong.is_none()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.wrong {
            Some(wrong) if wrong.is_unproven() => write!(f, "NOT VERIFIED: {wrong}; ")?,
            Some(wrong) => write!(f, "TAMPERED at {wrong}; ")?,
            None => f.write_str("intact: ")?,
        }
        let Outcomes {
            deleted,
            in_doubt,
            not_deleted,
            failed,
            dry_run,
        } = self.outcomes;
        write!(
            f,
            "{} records{}, {} intents (",
            self.records,
            match self.segments {
                // Not from files.
                0 if self.records > 0 => String::new(),
                segments => format!(" in {segments} segment(s)"),
            },
            self.intents
        )?;
        write!(
            f,
            "{deleted} deleted, {not_deleted} not deleted, {failed} failed, {in_doubt} in doubt"
        )?;
        write!(
            f,
            ", {dry_run} dry-run, {} open), {} refusals",
            self.open, self.refusals
        )?;
        for (count, what) in [
            (self.connections_refused, "refused connections"),
            (self.guesses, "guesses at the admin token"),
        ] {
            if count > 0 {
                write!(f, ", {count} {what}")?;
            }
        }
        if self.torn_bytes > 0 {
            write!(f, ", an unfinished last line of {} bytes", self.torn_bytes)?;
        }
        write!(f, ", head {}:{}", self.head.seq, self.head.hash.as_str())?;
        if let Some(by) = self.expected_removed_by {
            write!(
                f,
                "; retention removed the expected record: trail.pruned (seq {by}) names it, hashed with the key"
            )?;
        }
        Ok(())
    }
}
