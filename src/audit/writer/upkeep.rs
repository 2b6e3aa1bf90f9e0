//! What the writer does beside writing: new segments, checkpoints, retention,
//! and a look at whether all is where it should be.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use super::{TICK, Writer, kept, settling::ToSettle};
use crate::{
    audit::{
        TrailOp,
        cause::Misplaced,
        event,
        queue::{Entry, Kind},
        record::Fragment,
        segment::{self, Sealed, Segment},
    },
    config::settings::{Checkpoint, Durability},
};

/// A difference between the clocks that is no drift.
const STEP: Duration = Duration::from_secs(1);

/// When the next checkpoint is due.
#[derive(Debug)]
pub struct Checkpoints {
    settings: Checkpoint,
    records: u64,
    since: Instant,
}

impl Checkpoints {
    pub(super) fn new(settings: Checkpoint) -> Self {
        Self {
            settings,
            records: 0,
            since: Instant::now(),
        }
    }

    pub(super) fn add(&mut self, records: usize) {
        self.records += records as u64;
    }

    fn is_due(&self) -> bool {
        let is_time = self.records > 0 && self.since.elapsed() >= self.settings.every;
        is_time || self.are_enough()
    }

    /// Whether there are enough records for the next, whatever the time.
    pub(super) fn are_enough(&self) -> bool {
        self.records >= u64::from(self.settings.records)
    }

    fn restart(&mut self) {
        self.records = 0;
        self.since = Instant::now();
    }
}

/// The wall clock against the monotonic one.
#[derive(Debug)]
pub struct WallClock {
    /// What it said at the last look.
    pub(super) wall: SystemTime,
    /// When that was.
    pub(super) monotonic: Instant,
}

impl WallClock {
    pub(super) fn now() -> Self {
        Self {
            wall: SystemTime::now(),
            monotonic: Instant::now(),
        }
    }

    /// By how many ms the wall clock was set since the last look.
    fn stepped_ms(&mut self) -> Option<i64> {
        let now = Self::now();
        let expected = self.wall + (now.monotonic - self.monotonic);
        let (by, sign) = match now.wall.duration_since(expected) {
            Ok(by) => (by, 1),
            Err(back) => (back.duration(), -1),
        };
        *self = now;
        (by > STEP).then(|| sign * i64::try_from(by.as_millis()).unwrap_or(i64::MAX))
    }
}

impl Writer {
    pub(super) fn upkeep(&mut self, is_idle: bool) {
        if self.outage.is_some() {
            return;
        }
        self.note_clock();
        self.doing = TrailOp::Write;
        if let Err(error) = self.do_upkeep(is_idle) {
            self.fail(&error);
        }
    }

    fn do_upkeep(&mut self, is_idle: bool) -> io::Result<()> {
        self.end_shortage()?;
        if is_idle {
            self.segment.check_in_place()?;
        }
        self.look_at_the_lock(is_idle)?;
        if self.checkpoints.is_due() {
            self.checkpoint()?;
        }
        self.settling.look();
        let is_full = self.is_full() || self.segment.age() >= self.settings.segment_age;
        // A new segment begins without the reserve of the old one, and on a full disk gets
        // none: the outcomes of calls that were sent would find no room.
        if is_full && self.shortage.is_none() {
            self.rotate()?;
        }
        self.prune()
    }

    /// Whether the segment is as long as it is to be.
    pub(super) fn is_full(&self) -> bool {
        self.segment.len() >= self.settings.segment_size
    }

    /// Whoever removed the lock may have begun to write the same trail, also while calls
    /// come so fast that there is never nothing to do.
    fn look_at_the_lock(&mut self, is_idle: bool) -> io::Result<()> {
        let now = self.clock.monotonic;
        if is_idle || now.duration_since(self.lock_looked_at) >= TICK {
            self.lock_looked_at = now;
            if !self.lock.is_in(&self.directory) {
                return Err(Misplaced::Lock.into());
            }
        }
        Ok(())
    }

    /// The clock that records are dated by may be set; their order is their
    /// number's.
    fn note_clock(&mut self) {
        if let Some(by_ms) = self.clock.stepped_ms() {
            tracing::warn!(
                by_ms,
                "the system's clock was set: times in the trail step with it, numbers go on"
            );
            let fragment = Fragment::now(event::CLOCK_STEPPED).signed("by_ms", by_ms);
            self.queue.push_change(fragment);
            self.pruning.distrust(self.clock.monotonic);
        }
    }

    /// States the head, to be noted outside.
    fn checkpoint(&mut self) -> io::Result<()> {
        let fragment = Fragment::now(event::CHECKPOINT).number("records", self.checkpoints.records);
        self.write_own([kept(fragment)])?;
        self.checkpoints.restart();
        tracing::info!(trail.seq = self.head.seq, trail.hash = %self.head.hash.as_str(), "checkpoint");
        Ok(())
    }

    /// Seals the segment and makes it durable, and its name.
    pub(super) fn seal(&mut self) -> io::Result<()> {
        self.write_seal()?;
        self.segment.settle(self.disk.as_mut())?;
        match self.settings.durability {
            // It was when the segment was made.
            Durability::Strict => Ok(()),
            Durability::Relaxed => self.disk.sync_directory(&self.directory),
        }
    }

    /// The segment's last record; its hash vouches for all of it.
    fn write_seal(&mut self) -> io::Result<()> {
        let sealed = Entry {
            fragment: Fragment::now(event::SEALED).text("segment", &self.segment.name()),
            reply: None,
            kind: Kind::Segment,
        };
        self.write_own([sealed])?;
        self.doing = TrailOp::Rotate;
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.settling.wait();
        self.write_seal()?;
        let next = segment::after(self.segment.number())?;
        let disk = self.disk.as_mut();
        match self.settings.durability {
            // All but the seal was synced before.
            Durability::Strict => {
                self.segment.settle(disk)?;
                self.segment = Segment::create(disk, &self.directory, next)?;
            }
            // Nothing was, and calls need not wait until all of it is.
            Durability::Relaxed => {
                let sealed = self.segment.sealed()?;
                self.segment = Segment::create_unsynced(disk, &self.directory, next)?;
                self.settle_beside(Some(sealed));
            }
        }
        let beginning = self.beginning();
        self.write_own(beginning)?;
        self.pruning.look_at_once();
        Ok(())
    }

    /// With `relaxed`: makes a full segment, and the name of the new one, durable.
    pub(super) fn settle_beside(&mut self, sealed: Option<Sealed>) {
        let work = ToSettle {
            sealed,
            directory: self.directory.clone(),
            queue: Arc::clone(&self.queue),
        };
        self.settling.begin(work, self.disk.as_mut());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_is_noticed_either_way_and_once() {
        let hour = Duration::from_secs(3600);
        let mut clock = WallClock::now();
        assert_eq!(clock.stepped_ms(), None);
        clock.wall += hour;
        let back = clock.stepped_ms().unwrap();
        assert!((-3_600_100..=-3_599_000).contains(&back), "{back}");
        assert_eq!(clock.stepped_ms(), None);
        clock.wall -= hour;
        let on = clock.stepped_ms().unwrap();
        assert!((3_599_000..=3_600_100).contains(&on), "{on}");
    }
}
