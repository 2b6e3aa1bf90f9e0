//! How a writer begins: behind what an earlier run left, in a segment of its own.

use std::{fs, io, path::Path, sync::Arc};

use super::{
    Checkpoints, Pruning, Settling, WallClock, Writer, kept,
    pruning::{make_first, pruned},
};
use crate::{
    audit::{
        Options, TrailOp,
        chain::Hasher,
        collected::new_chain,
        disk::{Disk, Lock},
        queue::{Entry, Kind, Queue},
        record::Fragment,
        recover::{EarlierRun, Replayed, recover},
        retention::removable,
        segment::Segment,
    },
    config::settings::{Audit, Durability},
};

impl Writer {
    /// Brings in order what an earlier run left and begins a new segment.
    pub fn open(
        mut disk: Box<dyn Disk>,
        lock: Lock,
        options: Options,
        queue: Arc<Queue>,
        replay: &mut dyn FnMut(Replayed<'_>),
    ) -> io::Result<Self> {
        let Options {
            mut settings,
            mac_key,
            usage,
            collected,
        } = options;
        let directory = settings.directory.clone();
        let hasher = Hasher::new(mac_key.as_ref());
        // Else limits would be full again after a restart.
        settings.retention = settings.retention.map(|kept| kept.max(usage));
        let clock = WallClock::now();
        let found = recover(
            disk.as_mut(),
            &directory,
            &hasher,
            usage,
            clock.wall,
            replay,
        )?;
        tell(&found, &settings, &directory);
        let is_relaxed = settings.durability == Durability::Relaxed;
        let pruning = Pruning::resting(clock.monotonic, found.rest);
        // What the database of `audit.ship` has is not known yet: nothing goes before.
        let is_old_before = pruning
            .is_old_before(&settings, &clock)
            .filter(|_| collected.is_none());
        let next = found.next_segment;
        let (segment, gone) = make_first(
            disk.as_mut(),
            |disk| match is_relaxed {
                true => Segment::create_unsynced(disk, &directory, next),
                false => Segment::create(disk, &directory, next),
            },
            || match is_old_before {
                Some(before) => removable(&directory, &hasher, before, next, found.oldest),
                None => Ok(Vec::new()),
            },
        )?;
        let mut writer = Self {
            directory,
            disk,
            lock,
            lock_looked_at: clock.monotonic,
            hasher,
            queue,
            segment,
            confirmed: found.head,
            head: found.head,
            pending: Vec::new(),
            open: found.open.keys().copied().collect(),
            standing: found.standing,
            outage: None,
            shortage: None,
            checkpoints: Checkpoints::new(settings.checkpoint),
            pruning,
            oldest: match gone.last() {
                Some(last) => Some(last.until.seq + 1),
                None => found.oldest.or(Some(1).filter(|_| found.head.seq == 0)),
            },
            settling: Settling::default(),
            chain: found
                .chain
                .or_else(|| collected.as_ref().map(|_| new_chain())),
            collected,
            clock,
            doing: TrailOp::Write,
            worker: None,
            buffer: Vec::new(),
            settings,
        };
        if let (Some(collected), Some(chain)) = (&writer.collected, writer.chain) {
            collected.set_chain(chain);
        }
        writer.queue.board.begin_at(
            &writer.confirmed,
            found.wrong.is_none() || found.is_key_changed,
        );
        let pruned = gone.iter().map(|gone| kept(pruned(&gone.name, gone)));
        let in_doubt = found.open.iter().map(|(seq, call)| Entry {
            fragment: Fragment::in_doubt(&call.request_id, *seq, Some(&call.time)),
            reply: None,
            kind: Kind::Outcome(*seq),
        });
        let first = writer.beginning().into_iter().chain(pruned);
        let first = first.chain(found.note.map(kept)).chain(in_doubt);
        if let Err(error) = writer.write_own(first) {
            writer.take_back(!gone.is_empty());
            return Err(error);
        }
        if is_relaxed {
            // A start need not wait for it, either.
            writer.settle_beside(None);
        }
        tell_in_doubt(found.open.len());
        Ok(writer)
    }
}

impl Writer {
    /// Removes the segment of a start that failed, which nobody was told of: a loop of
    /// restarts would gather them without end. Unless part of it is there, and may be all
    /// that says which segments were removed.
    fn take_back(&mut self, says_what_is_gone: bool) {
        let found = fs::symlink_metadata(self.segment.path());
        let is_empty = found.is_ok_and(|found| found.len() == 0);
        if (is_empty || !says_what_is_gone)
            && let Err(error) = self.segment.cut(self.disk.as_mut(), 0)
        {
            tracing::warn!(segment = %self.segment.name(), %error, "the segment of a start that failed stays");
        }
    }
}

/// What whoever operates it has to know of the run before.
fn tell(found: &EarlierRun, settings: &Audit, directory: &Path) {
    if settings.retention.is_some() && !found.rest.is_zero() {
        tracing::warn!(
            for_s = found.rest.as_secs(),
            "audit.retention removes nothing for now: the clock was set, or is more than a day ahead of the trail's last record"
        );
    }
    if found.head.seq == 0 {
        tracing::info!(trail.directory = %directory.display(), "a new trail begins: nothing is known of earlier calls, budgets and freezes");
    }
    if let Some(wrong) = found.wrong.as_ref().filter(|_| found.is_key_changed) {
        tracing::warn!(%wrong, "the trail has another mac_key, or had: was it changed? What is before can be verified with that one only, and retention leaves it");
    } else if let Some(wrong) = &found.wrong {
        tracing::error!(%wrong, "the trail does not verify: somebody changed it, or the disk did. It goes on behind what is wrong, and calls are taken; see alloy-gateway audit verify, and treat it as an incident");
    }
    if let Some(until) = found.unkeyed_until.filter(|_| found.wrong.is_none()) {
        tracing::warn!(until = %found.head, "the trail has a mac_key from here on, and records up to number {until} have none: who can write the directory could have changed them. Note this head");
    }
}

/// Told once they are closed in the trail.
fn tell_in_doubt(calls: usize) {
    if calls > 0 {
        tracing::warn!(
            calls,
            "calls that an earlier run began and never finished are in doubt: ask Alloy about those of alloy-gateway audit query --outcome in-doubt"
        );
    }
}
