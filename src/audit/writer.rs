//! The writer: takes all records that wait, chains them, writes and syncs them at once,
//! and tells each worker once. One thread at a time has it, see `shared`.

mod outage;
mod pruning;
mod removing;
mod settling;
mod shared;
mod start;
mod upkeep;

use std::{
    collections::BTreeSet,
    io,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use smallvec::SmallVec;
use uuid::Uuid;

pub use self::shared::{Ended, SharedWriter};
use self::{
    outage::Outage,
    pruning::Pruning,
    settling::Settling,
    upkeep::{Checkpoints, WallClock},
};
use super::{
    Collected, TrailOp,
    chain::{Hasher, Head},
    disk::{Disk, Lock},
    event,
    format::{AFTER_HASH, BEFORE_HASH, BEFORE_SEQ, BEFORE_TIME, MAC},
    inbox::{Answer, Inbox},
    queue::{Entry, Kind, Queue},
    record::{Fragment, write_time},
    segment::Segment,
    standing::Standing,
};
use crate::config::settings::{Audit, Durability};

/// How long the writer sleeps without work; also the time between two tries to
/// write again after a failure.
const TICK: Duration = Duration::from_secs(1);
/// Records that nobody waits for are synced at last when so many are unsynced.
const UNSYNCED_MAX: usize = 4096;

/// The one writer of a trail.
#[derive(Debug)]
pub struct Writer {
    settings: Audit,
    directory: PathBuf,
    disk: Box<dyn Disk>,
    lock: Lock,
    lock_looked_at: Instant,
    hasher: Hasher,
    queue: Arc<Queue>,
    segment: Segment,
    /// The last record that counts as kept.
    confirmed: Head,
    /// The last record written.
    head: Head,
    /// Records that are to be written, or were written and not confirmed: after
    /// a failure they are written anew.
    pending: Vec<Entry>,
    /// Intents that are in the trail and have no outcome there yet.
    open: BTreeSet<u64>,
    /// Freezes that are in the trail and were not ended there yet.
    standing: Standing,
    /// Nothing can be written.
    outage: Option<Outage>,
    /// There is only the reserve to write to: outcomes, and no intents.
    shortage: Option<Outage>,
    checkpoints: Checkpoints,
    pruning: Pruning,
    /// The number of the oldest record, if that is known.
    oldest: Option<u64>,
    settling: Settling,
    /// The id under which the trail is collected, if it ever was.
    chain: Option<Uuid>,
    collected: Option<Arc<Collected>>,
    clock: WallClock,
    /// What it is at, should that fail.
    doing: TrailOp,
    /// The worker whose turn it is.
    worker: Option<Arc<Inbox>>,
    buffer: Vec<u8>,
}

impl Writer {
    /// One turn of the writer's thread.
    fn take_turn(&mut self, entries: &mut Vec<Entry>, is_closed: bool) {
        let is_idle = entries.is_empty();
        let of_notes = self.end_of_notes(entries);
        self.queue.board.begin_work();
        if self.outage.is_some() {
            self.keep(entries.drain(..));
            self.try_again(is_closed);
        } else {
            self.write(entries, is_idle);
            self.upkeep(is_idle);
        }
        let stalled = self.queue.board.end_work();
        let not_kept = self.queue.not_kept();
        self.note_stall(stalled, not_kept, of_notes);
    }

    /// One turn of a worker, which is not woken for its own records. Whether the writer's
    /// thread has something to do, too.
    fn take_turn_of(&mut self, worker: &Arc<Inbox>, entries: &mut Vec<Entry>) -> bool {
        let of_notes = self.end_of_notes(entries);
        self.queue.board.begin_work();
        if self.outage.is_some() {
            self.keep(entries.drain(..));
        } else {
            self.worker = Some(Arc::clone(worker));
            self.write(entries, false);
            self.worker = None;
        }
        let stalled = self.queue.board.end_work();
        // What was not kept is told by the thread, at its next turn.
        self.note_stall(stalled, 0, of_notes);
        let has_failed = self.outage.is_some() || self.shortage.is_some();
        has_failed || self.is_full() || self.checkpoints.are_enough()
    }

    /// Writes a batch. What nobody waits for is synced with what somebody waits
    /// for, or once there is nothing else to do.
    fn write(&mut self, entries: &mut Vec<Entry>, is_idle: bool) {
        let first = self.pending.len();
        self.pending.append(entries);
        let announced = self.pending.iter().skip(first);
        if announced.clone().any(|entry| entry.kind == Kind::Intent) {
            self.see_to_the_reserve();
            let has_room = self.shortage.is_none();
            // Nobody waits any more for an intent that waited too long.
            self.pending
                .retain(|entry| entry.kind != Kind::Intent || (has_room && !entry.is_given_up()));
        }
        if self.pending.is_empty() {
            return;
        }
        let is_awaited = self.pending.iter().any(|entry| entry.reply.is_some());
        let confirm = is_awaited || is_idle || self.pending.len() >= UNSYNCED_MAX;
        if let Err(error) = self.write_from(first, confirm) {
            self.fail(&error);
        }
    }

    /// Writes records about the trail itself, durably.
    fn write_own(&mut self, entries: impl IntoIterator<Item = Entry>) -> io::Result<()> {
        let first = self.pending.len();
        self.pending.extend(entries);
        self.write_from(first, true)
    }

    /// Writes the pending records from `first` on; with `confirm`, makes all of
    /// them durable and tells those who wait.
    fn write_from(&mut self, first: usize, confirm: bool) -> io::Result<()> {
        let is_strict = self.settings.durability == Durability::Strict;
        let mut head = self.head;
        self.buffer.clear();
        for entry in self.pending.iter().skip(first) {
            head = chain(&mut self.buffer, &entry.fragment, &head, &self.hasher);
        }
        self.doing = TrailOp::Write;
        if !self.buffer.is_empty() {
            let records = self.pending.len() - first;
            self.segment.append(self.disk.as_mut(), &self.buffer)?;
            self.queue.counts.batches.observe(records as u64);
        }
        self.head = head;
        if !confirm && is_strict {
            return Ok(());
        }
        if is_strict {
            self.doing = TrailOp::Fsync;
            let began = Instant::now();
            self.segment.sync(self.disk.as_mut())?;
            self.queue.counts.synced(began.elapsed());
            self.doing = TrailOp::Write;
        }
        self.segment.check_in_place()?;
        // Told first: who is answered next may ask at once.
        let shortage = self.shortage.as_ref().map(|shortage| &shortage.why);
        let bytes = self.segment.confirm();
        self.queue
            .board
            .advance(&self.head, bytes, is_strict, shortage);
        self.answer();
        self.confirmed = self.head;
        Ok(())
    }

    /// Tells those who wait for the pending records that these are durable: one
    /// wake for each worker.
    fn answer(&mut self) {
        let mut seq = self.confirmed.seq;
        let mut inboxes = SmallVec::<[_; 2]>::new();
        self.checkpoints.add(self.pending.len());
        for entry in self.pending.drain(..) {
            seq += 1;
            self.queue.counts.recorded(entry.fragment.event);
            match entry.kind {
                Kind::Intent => {
                    self.open.insert(seq);
                }
                Kind::Outcome(intent) => {
                    self.open.remove(&intent);
                }
                Kind::Frozen | Kind::Thawed => self.standing.follow_own(&entry.fragment),
                Kind::Kept | Kind::Own | Kind::Segment => {}
            }
            let Some(reply) = entry.reply else { continue };
            if let (true, Some(request_id)) = (reply.teller.is_given_up(), reply.intent_of) {
                self.queue.push_too_late(request_id, seq);
                continue;
            }
            let inbox = reply.inbox;
            let given_back = inbox.put(Answer {
                teller: reply.teller,
                intent_of: reply.intent_of,
                seq,
                written: entry.fragment,
            });
            if let Some(answer) = given_back {
                answer.hand_out(|id, seq| self.queue.push_too_late(id, seq));
                continue;
            }
            if !inboxes.iter().any(|known| Arc::ptr_eq(known, &inbox)) {
                inboxes.push(inbox);
            }
        }
        for inbox in inboxes {
            let is_mine = |worker| Arc::ptr_eq(worker, &inbox);
            if !self.worker.as_ref().is_some_and(is_mine) {
                inbox.wake();
            }
        }
    }

    /// The first records of each segment: what is needed to read it, and the
    /// freezes that stand.
    fn beginning(&self) -> Vec<Entry> {
        let opened = std::iter::once(self.opened());
        opened.chain(self.standing.anew()).collect()
    }

    fn opened(&self) -> Entry {
        let mac = self.hasher.key_fingerprint();
        let chain = self.chain.map(|chain| chain.to_string());
        let rests = self.pruning.left(Instant::now()).as_millis();
        let rests = u64::try_from(rests).ok().filter(|rests| *rests > 0);
        let fragment = Fragment::now(event::OPENED)
            .text("segment", &self.segment.name())
            .text("durability", self.settings.durability.as_str())
            .optional("mac", mac.map(|_| MAC))
            .optional("mac_key", mac)
            .optional_number("open", self.open.first().copied())
            .optional_number("frozen", self.standing.count())
            .optional("chain", chain.as_deref())
            .optional_number("oldest", self.oldest)
            .optional_number("retention_rests_ms", rests)
            .text("version", env!("CARGO_PKG_VERSION"));
        Entry {
            fragment,
            reply: None,
            kind: Kind::Segment,
        }
    }

    /// Writes what is left and seals the segment.
    fn close(mut self) -> Ended {
        // What the last batch brought about.
        let mut left = self.queue.take_rest();
        if self.outage.is_none() {
            self.write(&mut left, true);
        } else {
            self.keep(left);
        }
        // However this one ends.
        self.settling.wait();
        self.pruning.end();
        if self.outage.is_none()
            && let Err(error) = self.seal()
        {
            self.fail(&error);
        }
        if self.outage.is_none() {
            return Ended::Sealed;
        }
        if !self.pending.is_empty() {
            tracing::error!(
                records = self.pending.len(),
                "the trail ends without records that could not be written"
            );
        }
        Ended::Unsealed
    }
}

fn kept(fragment: Fragment) -> Entry {
    Entry {
        fragment,
        reply: None,
        kind: Kind::Kept,
    }
}

/// Writes the line that follows `before`, and returns the new head.
fn chain(buffer: &mut Vec<u8>, fragment: &Fragment, before: &Head, hasher: &Hasher) -> Head {
    let start = buffer.len();
    let seq = before.seq + 1;
    let mut digits = itoa::Buffer::new();
    for part in [BEFORE_SEQ, digits.format(seq), BEFORE_TIME] {
        buffer.extend_from_slice(part.as_bytes());
    }
    write_time(buffer, fragment.time_us);
    for part in [
        br#"","event":""#,
        fragment.event.as_bytes(),
        b"\"",
        fragment.fields.as_bytes(),
        br#","prev":""#,
        before.hash.as_bytes(),
        b"\"",
    ] {
        buffer.extend_from_slice(part);
    }
    let hash = hasher.hash(buffer.get(start..).unwrap_or_default());
    for part in [
        BEFORE_HASH.as_bytes(),
        hash.as_bytes(),
        AFTER_HASH.as_bytes(),
    ] {
        buffer.extend_from_slice(part);
    }
    Head { seq, hash }
}
