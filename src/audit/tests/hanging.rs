//! A disk that hangs in one sync or write, for as long as it likes.

use std::sync::Condvar;

use super::*;
use crate::audit::{disk::Disk, queue::CHANGES_MAX};

/// A disk whose syncs, or writes, wait while it hangs.
#[derive(Debug, Default, Clone)]
pub(super) struct Hanging(Arc<(Mutex<State>, Condvar)>);

#[derive(Debug, Default)]
struct State {
    in_writes: bool,
    hangs: bool,
    is_held: bool,
}

impl Hanging {
    /// One whose writes wait.
    pub(super) fn in_writes() -> Self {
        let disk = Self::default();
        disk.0.0.lock().unwrap().in_writes = true;
        disk
    }

    pub(super) fn hang(&self, hangs: bool) {
        self.0.0.lock().unwrap().hangs = hangs;
        self.0.1.notify_all();
    }

    fn hold(&self, in_writes: bool) {
        let mut state = self.0.0.lock().unwrap();
        if state.in_writes == in_writes {
            state.is_held = state.hangs;
            self.0.1.notify_all();
            drop(self.0.1.wait_while(state, |state| state.hangs).unwrap());
        }
    }

    /// Waits until the writer is in such a sync.
    pub(super) fn wait_until_held(&self) {
        let state = self.0.0.lock().unwrap();
        let held = self.0.1.wait_while(state, |state| !state.is_held);
        drop(held.unwrap());
    }
}

impl Disk for Hanging {
    fn append(&mut self, file: &fs::File, bytes: &[u8]) -> io::Result<()> {
        self.hold(true);
        System.append(file, bytes)
    }

    fn sync(&mut self, file: &fs::File) -> io::Result<()> {
        self.hold(false);
        System.sync(file)
    }

    fn beside(&self) -> Box<dyn Disk> {
        Box::new(self.clone())
    }
}

/// With `relaxed`, nothing but the end of a full segment syncs.
#[tokio::test]
async fn a_full_segment_that_hangs_at_its_end_holds_nobody_up_before_the_next_is_full() {
    let directory = tempfile::tempdir().unwrap();
    let disk = Hanging::default();
    let mut options = options(directory.path());
    options.settings.durability = Durability::Relaxed;
    options.settings.segment_size = 64 << 10;
    let trail = Trail::open_on(Box::new(disk.clone()), options, &mut |_| {}).unwrap();
    let worker = trail.for_worker();
    let calls = async || {
        let begun = worker.intent(intent(RequestId::next())).await?;
        worker.outcome(begun, deleted()).await;
        Ok::<_, Unavailable>(())
    };
    let segments = || segment::list(directory.path()).unwrap().len();
    disk.hang(true);
    while segments() < 2 {
        calls().await.unwrap();
    }
    disk.wait_until_held();
    // Half of the next one.
    for _ in 0..40 {
        calls().await.unwrap();
    }
    // At its end calls are refused, and not left without an answer.
    let mut before = 0;
    while calls().await.is_ok() {
        before += 1;
        assert!(before < 10_000, "the next one was never full");
    }
    assert_eq!(segments(), 2);
    disk.hang(false);
    while calls().await.is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    trail.close();
    let report = verify(directory.path()).unwrap();
    assert!(report.is_intact(), "{report}");
}

#[tokio::test]
async fn while_one_sync_hangs_changes_are_bounded_and_every_outcome_and_freeze_is_kept() {
    const MORE: usize = 500;
    let directory = tempfile::tempdir().unwrap();
    let disk = Hanging::default();
    let mut options = options(directory.path());
    options.settings.outcome_wait = Duration::from_millis(50);
    let trail = Trail::open_on(Box::new(disk.clone()), options, &mut |_| {}).unwrap();
    let worker = trail.for_worker();
    let mut begun = Vec::new();
    for _ in 0..20 {
        begun.push(worker.intent(intent(RequestId::next())).await.unwrap());
    }
    disk.hang(true);
    let first = begun.pop().unwrap();
    assert_eq!(
        worker.outcome(first, deleted()).await,
        OutcomeWritten::Pending
    );
    disk.wait_until_held();
    for n in 0..CHANGES_MAX + MORE {
        trail.config_loaded("9f2c1a7b03de", None, n, "file");
    }
    // Also behind all of these.
    for intent in begun {
        assert_eq!(
            worker.outcome(intent, deleted()).await,
            OutcomeWritten::Pending
        );
    }
    let freeze = FrozenRecord {
        id: "0199a0c4-7c62-7000-8000-000000000001",
        tenant: Some("billing"),
        by: "unix:uid=0",
        on_behalf_of: None,
        reason: "a drill",
        since: None,
    };
    let frozen = trail.frozen(&freeze);
    assert_eq!(trail.status().queue_depth, CHANGES_MAX + 19 + 1);
    assert!(worker.intent(intent(RequestId::next())).await.is_err());
    disk.hang(false);
    frozen.durable().await.unwrap();
    // There is room again.
    trail.config_loaded("9f2c1a7b03de", None, usize::MAX, "socket");
    tokio::task::spawn_blocking(move || trail.close())
        .await
        .unwrap();
    let report = verify(directory.path()).unwrap();
    assert!(report.is_intact(), "{report}");
    assert_eq!((report.intents, report.open), (20, 0), "{report}");
    let lines = lines(directory.path());
    let of = |event: &str| {
        let event = format!("\"event\":\"{event}\"");
        lines.iter().filter(move |line| line.contains(&event))
    };
    let deleted = of("request.outcome").filter(|line| line.contains("\"deleted\""));
    assert_eq!(deleted.count(), 20);
    assert_eq!(of("tenant.frozen").count(), 1);
    assert_eq!(of("config.loaded").count(), CHANGES_MAX + 1);
    let recovered: Vec<_> = of("trail.recovered").collect();
    let expected = format!("\"not_kept\":{MORE}");
    let told = recovered.iter().filter(|line| line.contains(&expected));
    assert_eq!(told.count(), 1, "{recovered:?}");
}
