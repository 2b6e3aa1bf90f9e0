//! What the writer does when the disk does not do as it is told.

use std::{
    io, mem,
    time::{Duration, Instant},
};

use super::{TICK, Writer, kept};
use crate::audit::{
    TrailOp,
    cause::{Misplaced, Unwritable},
    disk::Lock,
    event,
    queue::{CHANGES_MAX, Entry, Kind},
    reader::{Scope, scan_one},
    record::Fragment,
    segment::{self, Segment},
};

/// Bytes that one record takes at most, as far as the reserve is concerned.
const RECORD_BYTES: u64 = 1024;

/// Since when something can't be done, and why.
#[derive(Debug)]
pub struct Outage {
    pub(super) why: Unwritable,
    since: Instant,
    next_try: Instant,
    /// The segment that broke, and what is left of it, once it was read back: a later
    /// try may find one that a try before it began.
    broken: Option<(String, String)>,
    /// Records of changes that found no room.
    not_kept: u64,
}

impl Outage {
    fn new(why: Unwritable) -> Self {
        let now = Instant::now();
        Self {
            why,
            since: now,
            next_try: now + TICK,
            broken: None,
            not_kept: 0,
        }
    }

    /// It was tried again, and failed again.
    fn goes_on(&mut self, why: Unwritable) {
        self.why = why;
        self.next_try = Instant::now() + TICK;
    }

    fn unwritable_ms(&self) -> u64 {
        millis(self.since.elapsed())
    }
}

impl Writer {
    /// An outage begins.
    pub(super) fn fail(&mut self, error: &io::Error) {
        let why = Unwritable::of(error);
        tracing::error!(cause = why.cause, detail = %why, segment = %self.segment.name(), "the trail cannot be written: nothing is forwarded until it can");
        self.pruning.look_at_once();
        self.give_up(why);
    }

    /// Nothing of what was not confirmed counts any more. It is tried again in a while.
    fn give_up(&mut self, why: Unwritable) {
        self.queue.board.break_off(&why);
        self.queue.counts.failed(self.doing);
        self.head = self.confirmed;
        match &mut self.outage {
            Some(outage) => outage.goes_on(why),
            None => self.outage = Some(Outage::new(why)),
        }
        let pending = mem::take(&mut self.pending);
        self.keep(pending);
    }

    /// Intents and thaws are given up, since nothing was done yet and whoever waits
    /// is told so; everything else waits for the disk, as long as there is room.
    pub(super) fn keep(&mut self, entries: impl IntoIterator<Item = Entry>) {
        let is_change = |entry: &&Entry| entry.kind == Kind::Kept;
        let mut changes = self.pending.iter().filter(is_change).count();
        for entry in entries {
            match entry.kind {
                Kind::Intent | Kind::Thawed | Kind::Segment => {}
                // One for each call under way; one for each freeze, which stands already;
                // one for each write before the outage that found no room for changes.
                Kind::Outcome(_) | Kind::Frozen | Kind::Own => self.pending.push(entry),
                Kind::Kept if changes < CHANGES_MAX => {
                    changes += 1;
                    self.pending.push(entry);
                }
                Kind::Kept => {
                    if let Some(outage) = &mut self.outage {
                        outage.not_kept += 1;
                    }
                }
            }
        }
    }

    pub(super) fn try_again(&mut self, is_last: bool) {
        let Some(outage) = &self.outage else { return };
        if !is_last && Instant::now() < outage.next_try {
            return;
        }
        let cause_before = outage.why.cause;
        if outage.why.is_no_space() {
            self.make_room();
        }
        match self.begin_anew() {
            Ok(()) => {
                self.outage = None;
                tracing::info!(segment = %self.segment.name(), "the trail can be written again");
            }
            Err(error) => {
                let why = Unwritable::of(&error);
                if cause_before != why.cause {
                    tracing::error!(cause = why.cause, detail = %why, segment = %self.segment.name(), "the trail still cannot be written: nothing is forwarded until it can");
                }
                self.give_up(why);
            }
        }
    }

    /// A segment that failed is never written again: its good part is read back
    /// and stays, and what was not confirmed goes to a new one.
    fn begin_anew(&mut self) -> io::Result<()> {
        self.doing = TrailOp::Rotate;
        self.hold_the_lock()?;
        let found = (self.segment.name(), self.read_back()?);
        let (before, good_part) = match &mut self.outage {
            Some(outage) => outage.broken.get_or_insert(found).clone(),
            None => found,
        };
        let last = segment::list(&self.directory)?
            .last()
            .map(|(last, _)| *last);
        let next = segment::after(last.unwrap_or(self.segment.number()))?;
        self.segment = Segment::create(self.disk.as_mut(), &self.directory, next)?;
        let Some(outage) = &self.outage else {
            return Ok(());
        };
        let recovered = Fragment::now(event::RECOVERED)
            .text("segment_before", &before)
            .text("segment", &self.segment.name())
            .text("good_part", &good_part)
            .text("cause", outage.why.cause)
            .text("detail", &outage.why.detail)
            .number("unwritable_ms", outage.unwritable_ms())
            .optional_number("not_kept", Some(outage.not_kept).filter(|count| *count > 0));
        let recovered = Entry {
            fragment: recovered,
            reply: None,
            kind: Kind::Segment,
        };
        let mut beginning = self.beginning();
        beginning.push(recovered);
        self.pending.splice(0..0, beginning);
        self.write_from(0, true)
    }

    /// The directory may be another one by now, and somebody else's.
    fn hold_the_lock(&mut self) -> io::Result<()> {
        if self.lock.is_in(&self.directory) {
            return Ok(());
        }
        if !self.directory.is_dir() {
            return Err(Misplaced::Directory.into());
        }
        self.lock = Lock::take(&self.directory)?.ok_or(Misplaced::Taken)?;
        Ok(())
    }

    /// After a failed sync the kernel may have dropped pages: whether what counts
    /// as kept is there is known only after reading it. What does not count is
    /// cut; what is said of the rest.
    fn read_back(&mut self) -> io::Result<String> {
        self.segment.put_in_place(self.disk.as_mut())?;
        let confirmed = self.segment.confirmed_len();
        if confirmed == 0 {
            self.segment.cut(self.disk.as_mut(), 0)?;
            return Ok("empty".to_owned());
        }
        let scope = Scope {
            hasher: self.hasher.clone(),
            from_segment: self.segment.number(),
        };
        let mut last = None;
        let found = scan_one(self.segment.path(), &scope, |record, _| {
            if record.seq == self.confirmed.seq {
                last = Some(&*record.hash == self.confirmed.hash.as_str());
            }
        })?;
        let is_intact = last == Some(true) && found.good_bytes >= confirmed;
        // What stands behind a record that is wrong was promised, too, and is evidence;
        // unless the file is another than was written up to there.
        let keep = match last {
            Some(true) => confirmed,
            _ => confirmed.min(found.good_bytes),
        };
        self.segment.cut(self.disk.as_mut(), keep)?;
        if is_intact {
            return Ok("intact".to_owned());
        }
        let what = found.wrong.map_or_else(
            || format!("ends at {}, not {}", found.head.seq, self.confirmed.seq),
            |wrong| wrong.to_string(),
        );
        tracing::error!(segment = %self.segment.name(), %what, "the trail lost records that had been written");
        Ok(what)
    }

    /// Takes room for outcomes before more intents are written.
    pub(super) fn see_to_the_reserve(&mut self) {
        let more = self.pending.len() as u64 * RECORD_BYTES;
        if self.shortage.is_some() {
            return;
        }
        if let Err(error) = self.segment.reserve(self.disk.as_mut(), more) {
            let why = Unwritable::of(&error);
            tracing::error!(cause = why.cause, detail = %why, segment = %self.segment.name(), "the trail has only its reserve left: nothing is forwarded until there is more");
            self.queue.board.break_off(&why);
            self.queue.counts.failed(TrailOp::Write);
            self.shortage = Some(Outage::new(why));
            self.pruning.look_at_once();
        }
    }

    /// Looks whether there is room for more than outcomes again.
    pub(super) fn end_shortage(&mut self) -> io::Result<()> {
        let Some(shortage) = &mut self.shortage else {
            return Ok(());
        };
        if Instant::now() < shortage.next_try {
            return Ok(());
        }
        shortage.next_try = Instant::now() + TICK;
        if self.segment.reserve(self.disk.as_mut(), 0).is_err() {
            return Ok(());
        }
        let recovered = Fragment::now(event::RECOVERED)
            .text("segment", &self.segment.name())
            .text("cause", shortage.why.cause)
            .text("detail", &shortage.why.detail)
            .number("unwritable_ms", shortage.unwritable_ms());
        self.shortage = None;
        tracing::info!(segment = %self.segment.name(), "the trail has room again");
        self.write_own([kept(recovered)])
    }

    /// The number of the last record after a turn that writes nothing but what the writer
    /// itself has to say; `None` if there is anything else, or nothing.
    pub(super) fn end_of_notes(&self, entries: &[Entry]) -> Option<u64> {
        let mut all = self.pending.iter().chain(entries);
        let notes = self.pending.len() + entries.len();
        let is_such = notes > 0 && all.all(|entry| entry.kind == Kind::Own);
        is_such.then(|| self.confirmed.seq + notes as u64)
    }

    /// A write took so long that intents were refused meanwhile, if `stalled` says so,
    /// or so many records of changes found no room. That it was one of such notes alone,
    /// which ended with the record number `of_notes`, is not noted: each would bring about
    /// the next.
    pub(super) fn note_stall(
        &mut self,
        stalled: Option<Duration>,
        not_kept: u64,
        of_notes: Option<u64>,
    ) {
        if let Some(outage) = &mut self.outage {
            outage.not_kept += not_kept;
            return;
        }
        if let Some(took) = stalled {
            self.queue.counts.failed(self.doing);
            tracing::info!(took_ms = millis(took), "the disk answers again");
        }
        let stalled = stalled.filter(|_| of_notes != Some(self.head.seq));
        if stalled.is_some() || not_kept > 0 {
            let recovered = Fragment::now(event::RECOVERED)
                .text("segment", &self.segment.name())
                .text("cause", Unwritable::SLOW)
                .number("unwritable_ms", millis(stalled.unwrap_or_default()))
                .optional_number("not_kept", Some(not_kept).filter(|count| *count > 0));
            self.queue.push_own(recovered);
        }
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
