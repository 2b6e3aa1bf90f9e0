//! The writer: one thread that takes all records that wait, chains them, writes
//! and syncs them at once, and tells each worker once.

use std::{
    io, mem,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    OpenError,
    chain::{AFTER_HASH, BEFORE_HASH, Hash, Head},
    queue::{Entry, Kind, Queue},
    record::{Fragment, time},
    recover::recover,
    segment::{self, Segment},
};
use crate::config::settings::Durability;

/// How long the writer sleeps without work; also the time between two tries to
/// write again after a failure.
const TICK: Duration = Duration::from_secs(1);
/// Records that nobody waits for are synced at last when so many are unsynced.
const UNSYNCED_MAX: usize = 4096;

/// The one writer of a trail.
#[derive(Debug)]
pub struct Writer {
    directory: PathBuf,
    durability: Durability,
    queue: Arc<Queue>,
    segment: Segment,
    /// The last record that counts as kept.
    confirmed: Head,
    /// The last record written.
    head: Head,
    /// Records that are to be written, or were written and not confirmed: after
    /// a failure they are written anew.
    pending: Vec<Entry>,
    failure: Option<Failure>,
    buffer: Vec<u8>,
}

#[derive(Debug)]
struct Failure {
    cause: String,
    since: Instant,
    next_try: Instant,
}

impl Writer {
    /// Brings in order what an earlier run left and begins a new segment.
    pub fn open(
        directory: &Path,
        durability: Durability,
        queue: Arc<Queue>,
    ) -> Result<Self, OpenError> {
        let unusable = |error| OpenError::Directory {
            directory: directory.to_owned(),
            error,
        };
        let found = recover(directory).map_err(unusable)?;
        if let Some(wrong) = &found.wrong {
            tracing::error!(%wrong, "the trail does not verify; it goes on behind what is wrong, and says so");
        }
        let segment = Segment::create(directory, found.next_segment).map_err(unusable)?;
        let opened = Fragment::now("trail.opened")
            .text("segment", &segment.name())
            .text("durability", name(durability))
            .text("version", env!("CARGO_PKG_VERSION"));
        let mut writer = Self {
            directory: directory.to_owned(),
            durability,
            queue,
            segment,
            confirmed: found.head.clone(),
            head: found.head,
            pending: std::iter::once(opened)
                .chain(found.records)
                .map(unwaited)
                .collect(),
            failure: None,
            buffer: Vec::new(),
        };
        writer.write_pending(true).map_err(unusable)?;
        Ok(writer)
    }

    /// Writes until the queue is closed and all is written.
    pub fn run(mut self) {
        loop {
            let batch = self.queue.take(TICK);
            let is_idle = batch.entries.is_empty();
            if self.failure.is_some() {
                self.keep(batch.entries);
                self.try_again(batch.closed);
            } else {
                self.write(batch.entries, is_idle);
            }
            if batch.closed {
                return self.seal();
            }
        }
    }

    /// Writes a batch. What nobody waits for is synced with what somebody waits
    /// for, or once there is nothing else to do.
    fn write(&mut self, entries: Vec<Entry>, is_idle: bool) {
        let written_before = self.pending.len();
        let is_awaited = entries.iter().any(|entry| entry.reply.is_some());
        self.pending.extend(entries);
        if self.pending.is_empty() {
            return;
        }
        let confirm = is_awaited || is_idle || self.pending.len() >= UNSYNCED_MAX;
        if let Err(error) = self.write_from(written_before, confirm) {
            self.fail(&error);
        }
    }

    fn write_pending(&mut self, confirm: bool) -> io::Result<()> {
        self.write_from(0, confirm)
    }

    /// Writes the pending records from `first` on; with `confirm`, makes all of
    /// them durable and tells those who wait.
    fn write_from(&mut self, first: usize, confirm: bool) -> io::Result<()> {
        let mut head = self.head.clone();
        self.buffer.clear();
        for entry in self.pending.iter().skip(first) {
            head = chain(&mut self.buffer, &entry.fragment, &head);
        }
        let is_new = !self.buffer.is_empty();
        if is_new {
            self.segment.append(&self.buffer)?;
        }
        self.head = head;
        if !confirm && self.durability == Durability::Strict {
            self.queue.publish(&self.head, false);
            return Ok(());
        }
        if self.durability == Durability::Strict {
            self.segment.sync()?;
        }
        self.segment.check_in_place()?;
        self.segment.confirm();
        self.answer();
        self.confirmed = self.head.clone();
        self.queue
            .publish(&self.head, self.durability == Durability::Strict);
        Ok(())
    }

    /// Tells those who wait for the pending records that these are durable: one
    /// wake for each worker.
    fn answer(&mut self) {
        let mut seq = self.confirmed.seq;
        let mut inboxes = Vec::new();
        for entry in self.pending.drain(..) {
            seq += 1;
            let Some(reply) = entry.reply else { continue };
            reply.inbox.put(reply.sender, seq);
            if !inboxes.iter().any(|inbox| Arc::ptr_eq(inbox, &reply.inbox)) {
                inboxes.push(reply.inbox);
            }
        }
        for inbox in inboxes {
            inbox.wake();
        }
    }

    /// Nothing of what was not confirmed counts any more.
    fn fail(&mut self, error: &io::Error) {
        let cause = error.to_string();
        tracing::error!(%cause, segment = %self.segment.name(), "the trail cannot be written: nothing is forwarded until it can");
        self.queue.publish_broken(&cause);
        self.head = self.confirmed.clone();
        let now = Instant::now();
        self.failure = Some(Failure {
            cause,
            since: now,
            next_try: now + TICK,
        });
        let pending = mem::take(&mut self.pending);
        self.keep(pending);
    }

    /// Intents are given up, since nothing was done yet and their callers are
    /// told so; everything else waits for the disk.
    fn keep(&mut self, entries: Vec<Entry>) {
        self.pending
            .extend(entries.into_iter().filter(|entry| entry.kind == Kind::Kept));
    }

    fn try_again(&mut self, is_last: bool) {
        let Some(failure) = self.failure.as_ref() else {
            return;
        };
        if !is_last && Instant::now() < failure.next_try {
            return;
        }
        let recovered = Fragment::now("trail.recovered")
            .text("segment_before", &self.segment.name())
            .text("cause", &failure.cause)
            .number(
                "unwritable_ms",
                u64::try_from(failure.since.elapsed().as_millis()).unwrap_or(u64::MAX),
            )
            .text("durability", name(self.durability));
        match self.begin_anew(recovered) {
            Ok(()) => {
                self.failure = None;
                tracing::info!(segment = %self.segment.name(), "the trail can be written again");
            }
            Err(error) => {
                let cause = error.to_string();
                self.queue.publish_broken(&cause);
                self.head = self.confirmed.clone();
                if let Some(failure) = &mut self.failure {
                    failure.cause = cause;
                    failure.next_try = Instant::now() + TICK;
                }
            }
        }
    }

    /// A segment that failed is never written again: its good part stays, and
    /// what was not confirmed goes to a new one.
    fn begin_anew(&mut self, recovered: Fragment) -> io::Result<()> {
        self.segment.cut_to_confirmed()?;
        let last = segment::list(&self.directory)?
            .last()
            .map_or(0, |(number, _)| *number);
        self.segment = Segment::create(&self.directory, last.max(self.segment.number()) + 1)?;
        let recovered = recovered.text("segment", &self.segment.name());
        self.pending.insert(0, unwaited(recovered));
        let written = self.write_pending(true);
        if written.is_err() {
            // The next try makes its own.
            self.pending.remove(0);
        }
        written
    }

    fn seal(mut self) {
        if self.failure.is_none() {
            self.pending.push(unwaited(
                Fragment::now("trail.sealed").text("segment", &self.segment.name()),
            ));
            let first = self.pending.len() - 1;
            if let Err(error) = self
                .write_from(first, true)
                .and_then(|()| self.segment.sync())
            {
                self.fail(&error);
            }
        }
        if self.failure.is_some() && !self.pending.is_empty() {
            tracing::error!(
                records = self.pending.len(),
                "the trail ends without records that could not be written"
            );
        }
    }
}

fn unwaited(fragment: Fragment) -> Entry {
    Entry {
        fragment,
        reply: None,
        kind: Kind::Kept,
    }
}

fn name(durability: Durability) -> &'static str {
    match durability {
        Durability::Strict => "strict",
        Durability::Relaxed => "relaxed",
    }
}

/// Writes the line that follows `before`, and returns the new head.
fn chain(buffer: &mut Vec<u8>, fragment: &Fragment, before: &Head) -> Head {
    let start = buffer.len();
    let seq = before.seq + 1;
    let Fragment {
        event,
        time_us,
        fields,
    } = fragment;
    let time = time(*time_us);
    let prev = before.hash.as_str();
    let line =
        format!(r#"{{"v":1,"seq":{seq},"time":"{time}","event":"{event}"{fields},"prev":"{prev}""#);
    buffer.extend_from_slice(line.as_bytes());
    let hash = Hash::of(buffer.get(start..).unwrap_or_default());
    for part in [BEFORE_HASH, hash.as_str(), AFTER_HASH] {
        buffer.extend_from_slice(part.as_bytes());
    }
    Head { seq, hash }
}
