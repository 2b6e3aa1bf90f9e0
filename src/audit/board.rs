//! What the writer tells everybody: where the trail stands, and whether it can
//! be written.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use super::{
    cause::Unwritable,
    chain::{Hash, Head},
};

/// What the writer tells everybody.
#[derive(Debug)]
pub struct Board {
    broken: AtomicBool,
    /// When the writer began what it is at, in ms since `born`; 0 while it waits.
    /// A disk that does not answer blocks it, and then nobody else can tell.
    at_work_since_ms: AtomicU64,
    /// After how long at work it counts as stalled.
    stalled_after: Duration,
    is_stall_told: AtomicBool,
    born: Instant,
    notice: Mutex<Notice>,
}

/// Where the trail stands.
#[derive(Debug, Clone)]
pub struct Notice {
    /// The last record that is durable.
    pub head: Head,
    /// Whether what the start read of it verified.
    pub verified: bool,
    /// Why intents are refused.
    pub unwritable: Option<Unwritable>,
    /// When it was synced last.
    pub last_sync: Option<SystemTime>,
    /// What was done since the start.
    pub totals: Totals,
}

/// What was done since the start.
#[derive(Debug, Clone, Default)]
pub struct Totals {
    /// Records that were made durable.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Syncs that this took.
    pub syncs: u64,
    /// How often it could not be written, by cause.
    pub errors: BTreeMap<&'static str, u64>,
}

impl Board {
    /// Nothing written, and nothing wrong.
    pub fn new(stalled_after: Duration) -> Self {
        Self {
            broken: AtomicBool::new(false),
            at_work_since_ms: AtomicU64::new(0),
            stalled_after,
            is_stall_told: AtomicBool::new(false),
            born: Instant::now(),
            notice: Mutex::new(Notice {
                head: Head {
                    seq: 0,
                    hash: Hash::first(),
                },
                verified: true,
                unwritable: None,
                last_sync: None,
                totals: Totals::default(),
            }),
        }
    }

    /// Whether the writer said that it can't write.
    pub fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }

    /// Whether intents are refused: the writer can't write, or takes too long to.
    pub fn is_unwritable(&self) -> bool {
        self.is_broken() || self.stalled().is_some()
    }

    /// Where the trail stands, as of now.
    pub fn read(&self) -> Notice {
        let stalled = self.stalled();
        let mut notice = self.notice().clone();
        if let (None, Some(span)) = (&notice.unwritable, stalled) {
            notice.unwritable = Some(Unwritable {
                cause: Unwritable::SLOW,
                detail: format!("the disk has not answered for {} ms", span.as_millis()),
            });
        }
        notice
    }

    /// The writer tells up to where the trail is durable, and why intents can't
    /// be taken all the same.
    pub fn advance(&self, head: &Head, bytes: u64, synced: bool, shortage: Option<&Unwritable>) {
        self.broken.store(shortage.is_some(), Ordering::Release);
        let mut notice = self.notice();
        notice.totals.records += head.seq.saturating_sub(notice.head.seq);
        notice.totals.bytes += bytes;
        notice.head.clone_from(head);
        notice.unwritable = shortage.cloned();
        if synced {
            notice.totals.syncs += 1;
            notice.last_sync = Some(SystemTime::now());
        }
    }

    /// The writer tells from where it begins, and whether what is before verified.
    pub fn begin_at(&self, head: &Head, verified: bool) {
        let mut notice = self.notice();
        notice.head.clone_from(head);
        notice.verified = verified;
    }

    /// The writer tells that the trail can't be written, and why.
    pub fn break_off(&self, why: &Unwritable) {
        self.broken.store(true, Ordering::Release);
        let mut notice = self.notice();
        *notice.totals.errors.entry(why.cause).or_default() += 1;
        notice.unwritable = Some(why.clone());
    }

    /// The writer begins to write.
    pub fn begin_work(&self) {
        self.at_work_since_ms
            .store(self.now_ms(), Ordering::Release);
    }

    /// The writer waits again; how long it wrote, if that was too long.
    pub fn end_work(&self) -> Option<Duration> {
        let since = self.at_work_since_ms.swap(0, Ordering::AcqRel);
        self.is_stall_told.store(false, Ordering::Release);
        let took = Duration::from_millis(self.now_ms().saturating_sub(since));
        (took > self.stalled_after).then_some(took)
    }

    /// How long the writer has been writing, if that is too long. The first who
    /// notices says so in the log.
    fn stalled(&self) -> Option<Duration> {
        let since = self.at_work_since_ms.load(Ordering::Acquire);
        if since == 0 {
            return None;
        }
        let span = Duration::from_millis(self.now_ms().saturating_sub(since));
        if span <= self.stalled_after {
            return None;
        }
        if !self.is_stall_told.swap(true, Ordering::AcqRel) {
            *self
                .notice()
                .totals
                .errors
                .entry(Unwritable::SLOW)
                .or_default() += 1;
            tracing::error!(
                cause = Unwritable::SLOW,
                "the trail cannot be written: nothing is forwarded until it can"
            );
        }
        Some(span)
    }

    fn now_ms(&self) -> u64 {
        // Never 0, which means that nothing is being written.
        u64::try_from(self.born.elapsed().as_millis())
            .unwrap_or(u64::MAX)
            .max(1)
    }

    fn notice(&self) -> MutexGuard<'_, Notice> {
        self.notice.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
