//! Retention: when old segments are looked for, and what accounts for those that go.

use std::{
    io,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use jiff::Timestamp;

use super::{
    Writer, kept,
    removing::{Removing, ToRemove},
    upkeep::WallClock,
};
use crate::{
    audit::{
        cause::Unwritable,
        disk::Disk,
        event,
        queue::{Entry, Kind},
        record::Fragment,
        retention::{self, REST, Removal},
        segment::Segment,
    },
    config::settings::{Audit, Durability},
};

/// How often retention looks for segments that are old enough.
const PRUNE_EVERY: Duration = Duration::from_secs(3600);
/// The same while a full disk waits for room.
const PRUNE_EVERY_IF_FULL: Duration = Duration::from_secs(60);

/// Old segments are looked for on a thread of its own, since that reads them all, and
/// removed on another.
#[derive(Debug, Default)]
pub struct Pruning {
    looked_at: Option<Instant>,
    is_held: bool,
    found: Option<mpsc::Receiver<Vec<Removal>>>,
    removing: Removing,
    /// Until then the clock may be wrong, and nothing is removed.
    rests_until: Option<Instant>,
}

impl Pruning {
    /// It rests for so long, from `now` on.
    pub(super) fn resting(now: Instant, left: Duration) -> Self {
        Self {
            rests_until: Some(now + left).filter(|_| !left.is_zero()),
            ..Self::default()
        }
    }

    /// The clock was set: what was found by it does not count.
    pub(super) fn distrust(&mut self, now: Instant) {
        self.found = None;
        self.removing.stop();
        self.rests_until = Some(now + REST);
    }

    /// Removes nothing any more.
    pub(super) fn end(&mut self) {
        self.removing.end();
    }

    /// How long it rests yet.
    pub(super) fn left(&self, now: Instant) -> Duration {
        self.rests_until
            .map_or(Duration::ZERO, |until| until.saturating_duration_since(now))
    }

    /// Records from before that are too old; `None` if nothing may be removed now.
    pub(super) fn is_old_before(&self, settings: &Audit, clock: &WallClock) -> Option<Timestamp> {
        let retention = settings
            .retention
            .filter(|_| !self.rests(clock.monotonic))?;
        let now = Timestamp::try_from(clock.wall).ok()?;
        now.checked_sub(retention).ok()
    }

    fn rests(&self, now: Instant) -> bool {
        !self.left(now).is_zero()
    }

    /// It does not wait until the next look is due.
    pub(super) fn look_at_once(&mut self) {
        self.looked_at = None;
    }
}

impl Writer {
    /// Removes segments that are older than `audit.retention`, after writing down
    /// which, and what their last record was.
    pub(super) fn prune(&mut self) -> io::Result<()> {
        match self.look_for_old() {
            Some(removals) => self.remove(removals),
            None => Ok(()),
        }
    }

    /// The same on a disk that takes no record any more: one segment goes before it is
    /// written down, which makes the room for that.
    pub(super) fn make_room(&mut self) {
        let Some(removals) = self.look_for_old() else {
            return;
        };
        let Some(oldest) = removals.first() else {
            return;
        };
        if remove_first(self.disk.as_mut(), oldest) {
            // One may not be enough.
            self.pruning.look_at_once();
            self.pending.push(Entry {
                fragment: pruned(&oldest.name, oldest),
                reply: None,
                kind: Kind::Own,
            });
            self.oldest = Some(oldest.until.seq + 1);
        }
    }

    /// What was found since this was asked last. Nothing is looked for, or found, while
    /// segments are being removed.
    fn look_for_old(&mut self) -> Option<Vec<Removal>> {
        let is_old_before = self.pruning.is_old_before(&self.settings, &self.clock)?;
        if self.pruning.removing.is_under_way() {
            return None;
        }
        if let Some(found) = &self.pruning.found {
            let removals = match found.try_recv() {
                Ok(removals) => removals,
                Err(mpsc::TryRecvError::Empty) => return None,
                Err(mpsc::TryRecvError::Disconnected) => Vec::new(),
            };
            self.pruning.found = None;
            let removals = self.collected_of(removals);
            return Some(removals);
        }
        let is_full = self.outage.is_some() || self.shortage.is_some();
        let every = if is_full {
            PRUNE_EVERY_IF_FULL
        } else {
            PRUNE_EVERY
        };
        let is_due = |at: Instant| at.elapsed() >= every;
        if !self.pruning.looked_at.is_none_or(is_due) {
            return None;
        }
        self.pruning.looked_at = Some(Instant::now());
        let (sender, found) = mpsc::channel();
        let (directory, hasher, oldest) =
            (self.directory.clone(), self.hasher.clone(), self.oldest);
        let current = self.segment.number();
        let cannot = |error: io::Error| tracing::warn!(%error, "audit.retention: old segments cannot be looked for; nothing is removed until they can");
        let look =
            move || match retention::removable(&directory, &hasher, is_old_before, current, oldest)
            {
                // Nobody hears it if the gateway stops meanwhile.
                Ok(removals) => drop(sender.send(removals)),
                Err(error) => cannot(error),
            };
        let thread = thread::Builder::new().name("trail-prune".to_owned());
        match thread.spawn(look) {
            Ok(_) => self.pruning.found = Some(found),
            // No fault of the trail's.
            Err(error) => cannot(error),
        }
        None
    }

    /// Those of the segments that the database of `audit.ship` has, if there is one: the
    /// others wait for it, however old they are.
    fn collected_of(&mut self, mut removals: Vec<Removal>) -> Vec<Removal> {
        let Some(collected) = &self.collected else {
            return removals;
        };
        let until = collected.until();
        let kept = removals.partition_point(|removal| removal.until.seq <= until);
        let held = removals.split_off(kept).len();
        collected.hold(held);
        if (held > 0) != self.pruning.is_held {
            self.pruning.is_held = held > 0;
            if held > 0 {
                tracing::warn!(
                    segments = held,
                    "old segments are not removed: the database of audit.ship does not have them yet"
                );
            } else {
                tracing::info!("no old segment waits for the database of audit.ship any more");
            }
        }
        removals
    }

    /// One record for each: a crash, or a disk that fails, leaves a trail that one
    /// of them accounts for.
    fn remove(&mut self, removals: Vec<Removal>) -> io::Result<()> {
        let (Some(first), Some(last)) = (removals.first(), removals.last()) else {
            return Ok(());
        };
        let oldest = last.until.seq + 1;
        let pruned = |removal| kept(pruned(&first.name, removal));
        self.write_own(removals.iter().map(pruned))?;
        self.oldest = Some(oldest);
        if let Err(error) = self.remove_beside(removals) {
            // No fault of the trail's.
            tracing::warn!(%error, "audit.retention: old segments cannot be removed for now, and stay; their removal is in the trail already");
        }
        Ok(())
    }

    fn remove_beside(&mut self, removals: Vec<Removal>) -> io::Result<()> {
        let unsynced = match self.settings.durability {
            Durability::Strict => None,
            Durability::Relaxed => Some(self.segment.file_beside()?),
        };
        let work = ToRemove {
            removals,
            directory: self.directory.clone(),
            unsynced,
        };
        self.pruning.removing.begin(work, self.disk.beside())
    }
}

/// Says that a segment is removed, with all from `first` on.
pub(super) fn pruned(first: &str, removal: &Removal) -> Fragment {
    Fragment::now(event::PRUNED)
        .text("from_segment", first)
        .text("until_segment", &removal.name)
        .number("until_seq", removal.until.seq)
        .text("until_hash", removal.until.hash.as_str())
}

/// Makes the first segment of a run. If the disk is full, the oldest of those that may be
/// removed go first, as few as are needed, and before that is written down: there is no
/// room to do so. Which went.
pub(super) fn make_first(
    disk: &mut dyn Disk,
    make: impl Fn(&mut dyn Disk) -> io::Result<Segment>,
    look: impl FnOnce() -> io::Result<Vec<Removal>>,
) -> io::Result<(Segment, Vec<Removal>)> {
    let mut made = make(disk);
    let mut gone = Vec::new();
    if !lacks_room(disk, &mut made) {
        return Ok((made?, gone));
    }
    let removals = look().inspect_err(|_| {
        if let Ok(segment) = &made {
            // What matters is why there are none.
            let _ = segment.cut(disk, 0);
        }
    })?;
    for removal in removals {
        if let Ok(segment) = &made {
            segment.cut(disk, 0)?;
        }
        let is_gone = remove_first(disk, &removal);
        made = make(disk);
        if !is_gone {
            break;
        }
        gone.push(removal);
        if !lacks_room(disk, &mut made) {
            break;
        }
    }
    Ok((made?, gone))
}

/// Removes a segment before that is written down; whether it is gone, and that is to be
/// written.
fn remove_first(disk: &mut dyn Disk, oldest: &Removal) -> bool {
    let removed = disk.remove(&oldest.path);
    // It may be gone, and not durably.
    let is_gone = removed.is_ok() || !oldest.path.exists();
    if is_gone {
        tracing::info!(segment = %oldest.name, until = %oldest.until, "an old segment was removed to make room on a full disk");
    } else if let Err(error) = removed {
        tracing::warn!(segment = %oldest.name, %error, "audit.retention: an old segment cannot be removed, and stays");
    }
    is_gone
}

fn lacks_room(disk: &mut dyn Disk, made: &mut io::Result<Segment>) -> bool {
    let is_full = |error: &io::Error| Unwritable::of(error).is_no_space();
    match made {
        Ok(segment) => segment.reserve(disk, 0).is_err_and(|error| is_full(&error)),
        Err(error) => is_full(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_the_clock_was_set_nothing_is_removed_for_a_day() {
        let now = Instant::now();
        let mut pruning = Pruning::resting(now, Duration::ZERO);
        let (_sender, found) = mpsc::channel();
        pruning.found = Some(found);
        assert!(!pruning.rests(now));
        pruning.distrust(now);
        assert!(pruning.found.is_none(), "what was found by a wrong clock");
        assert!(pruning.rests(now + REST - Duration::from_secs(1)));
        assert!(!pruning.rests(now + REST));
        let restarted = Pruning::resting(now, pruning.left(now + REST / 2));
        assert!(restarted.rests(now) && !restarted.rests(now + REST / 2));
    }
}
