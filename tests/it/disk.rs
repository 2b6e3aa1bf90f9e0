//! Disks that really fill, freeze and vanish under the running gateway: nothing
//! is forwarded that is not recorded, and all is well again by itself.

use std::{
    fs,
    io::Write,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use alloy_gateway::simulated_alloy::Behaviour;
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, prlimit};

use crate::support::{
    Connection, Gateway, Setup, USER, assert_refusal, binary, delete,
    mount::Mount,
    trail::{assert_nothing_lost, sent},
};

/// What design.md promises for the disk's return, and as much again for a busy machine.
const BACK_WITHIN: Duration = Duration::from_secs(10);

/// Calls one after another until one is refused; how many went through.
#[track_caller]
fn call_until_refused(gateway: &Gateway, prefix: &str) -> Vec<String> {
    let mut connection = gateway.connect();
    let mut done = Vec::new();
    for n in 0..20_000 {
        let credential = format!("{prefix}-{n}");
        let response = connection
            .send(delete(USER, &credential, gateway.token()))
            .receive();
        if response.status == 503 {
            assert_refusal(&response, 503, "audit-unavailable", "no");
            return done;
        }
        assert_eq!(response.status, 200);
        assert_eq!(response.field("x-alloy-gateway-outcome"), None);
        done.push(credential);
    }
    panic!("no call was refused");
}

/// Waits until calls go through again.
#[track_caller]
pub fn wait_until_back(gateway: &Gateway) {
    let end = Instant::now() + BACK_WITHIN;
    while gateway.admin("/readyz").status != 200 {
        assert!(
            Instant::now() < end,
            "not back:\n{}",
            gateway.process.output()
        );
        thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(gateway.delete(USER, "back").status, 200);
}

#[track_caller]
pub fn assert_unready(gateway: &Gateway, cause: &str) {
    // Whoever waits for the disk may give up a little earlier than it is told.
    let end = Instant::now() + BACK_WITHIN;
    while gateway.admin("/readyz").status != 503 {
        assert!(Instant::now() < end, "ready:\n{}", gateway.process.output());
        thread::sleep(Duration::from_millis(10));
    }
    let metrics = gateway.admin("/metrics").text();
    let gauge = format!("alloy_gateway_audit_unwritable{{cause=\"{cause}\"}} 1");
    assert!(metrics.contains(&gauge), "{gauge} in\n{metrics}");
    assert_status(gateway, cause);
    let line = gateway
        .process
        .wait_for(|line| line["level"] == "error" && line["cause"] == cause);
    assert!(
        line["message"]
            .as_str()
            .unwrap()
            .contains("nothing is forwarded")
    );
}

#[track_caller]
fn assert_status(gateway: &Gateway, cause: &str) {
    let text = gateway.admin("/status.json").text();
    let status: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(status["trail"]["unwritable_because"], cause);
    assert_eq!(status["ready"], false);
    // One cause is told once.
    assert!(!text.contains("The trail's disk does not answer"), "{text}");
}

#[track_caller]
pub fn assert_recovery_is_recorded(gateway: &Gateway, cause: &str) {
    gateway.record("the recovery", |record| {
        record["event"] == "trail.recovered" && record["cause"] == cause
    });
}

pub fn generous(setup: Setup) -> Gateway {
    let gateway = setup.start();
    gateway
        .alloy
        .always(Behaviour::answer(200, "", r#"{"success":true}"#));
    gateway
}

#[test]
fn a_start_that_finds_no_file_in_the_locks_place_ends_and_says_what_to_do() {
    let mut gateway = Gateway::start();
    assert!(gateway.stop().success());
    let lock = gateway.audit().join("lock");
    fs::remove_file(&lock).unwrap();
    assert!(
        Command::new("mkfifo")
            .arg(&lock)
            .status()
            .unwrap()
            .success()
    );
    gateway.process = crate::support::gateway::Process::spawn(&gateway.config_path(), "info");
    assert_eq!(gateway.process.wait().code(), Some(1));
    let told = gateway.process.output();
    assert!(
        told.contains("lock is a FIFO") && told.contains("remove it"),
        "{told}"
    );
    fs::remove_file(&lock).unwrap();
    gateway.start_again();
    assert_eq!(gateway.delete(USER, "c1").status, 200);
}

#[test]
fn a_full_disk_still_takes_the_outcomes_of_what_was_sent() {
    let Some(mount) = Mount::of("tmpfs", 6) else {
        return;
    };
    let gateway = generous(Setup::default().audit_directory(&mount.at.join("audit")));
    let mut promised = vec!["c1".to_owned()];
    assert_eq!(gateway.delete(USER, "c1").status, 200);
    // Calls that are at Alloy when the disk fills.
    let mut under_way: Vec<_> = (0..20).map(|_| gateway.connect()).collect();
    let (release, held) = tokio::sync::watch::channel(false);
    gateway.alloy.script(vec![Behaviour::Held(held); 20]);
    for (n, connection) in under_way.iter_mut().enumerate() {
        connection.send(delete(USER, &format!("late-{n}"), gateway.token()));
    }
    assert!(gateway.alloy.wait_for(21, Duration::from_secs(10)));
    let filler = mount.at.join("filler");
    fill(&filler);
    promised.extend(call_until_refused(&gateway, "full"));
    assert_unready(&gateway, "no-space");
    let before = sent(&gateway).len();
    release.send(true).unwrap();
    for connection in &mut under_way {
        // Alloy of the script knows no such credential, and says so: recorded all the same.
        let response = connection.receive();
        assert_eq!(
            response.field("x-alloy-gateway-outcome"),
            None,
            "{}",
            response.text()
        );
    }
    assert_eq!(gateway.delete(USER, "refused").status, 503);
    assert_eq!(
        sent(&gateway).len(),
        before,
        "something was sent on a full disk"
    );
    fs::remove_file(filler).unwrap();
    wait_until_back(&gateway);
    assert_recovery_is_recorded(&gateway, "no-space");
    finish(gateway, &promised);
}

fn fill(filler: &Path) {
    let mut filler = fs::File::create(filler).unwrap();
    while filler.write_all(&[0; 4096]).is_ok() {}
    while filler.write_all(&[0]).is_ok() {}
}

#[track_caller]
pub fn finish(mut gateway: Gateway, promised: &[String]) {
    assert!(gateway.stop().success(), "{}", gateway.process.output());
    assert_nothing_lost(&gateway, promised);
}

/// Lets no file of the gateway's grow beyond so many bytes; what was allowed before.
fn limit_files(gateway: &Gateway, bytes: Option<u64>) -> Option<u64> {
    let id = Pid::from_raw(i32::try_from(gateway.process.id()).unwrap());
    let limit = Rlimit {
        current: bytes,
        maximum: getrlimit(Resource::Fsize).maximum,
    };
    prlimit(id, Resource::Fsize, limit).unwrap().current
}

#[test]
fn a_limit_on_file_sizes_is_like_a_full_disk_and_no_reason_to_die() {
    let gateway = generous(Setup::default());
    let used = fs::metadata(gateway.audit().join("0000000001.jsonl"))
        .unwrap()
        .len();
    let before = limit_files(&gateway, Some(used + 100_000));
    let promised = call_until_refused(&gateway, "limited");
    assert_unready(&gateway, "no-space");
    limit_files(&gateway, before);
    wait_until_back(&gateway);
    assert_recovery_is_recorded(&gateway, "no-space");
    finish(gateway, &promised);
}

#[test]
fn a_frozen_disk_refuses_calls_and_lets_answers_go_unrecorded() {
    on_a_frozen_disk("strict");
}

/// There the worker writes itself, and hangs with the disk: its calls go on all the same.
#[test]
fn a_frozen_disk_holds_up_no_call_with_relaxed_either() {
    on_a_frozen_disk("relaxed");
}

fn on_a_frozen_disk(durability: &str) {
    let Some(mount) = Mount::of("ext4", 32) else {
        return;
    };
    let gateway = generous(
        Setup::default()
            .workers(1)
            .audit_directory(&mount.at.join("audit"))
            .audit(&format!("durability: {durability}"))
            .audit("intent_wait: 1500ms")
            .audit("outcome_wait: 300ms"),
    );
    assert_eq!(gateway.delete(USER, "c1").status, 200);
    let (release, held) = tokio::sync::watch::channel(false);
    gateway.alloy.script([Behaviour::Held(held)]);
    let mut under_way = gateway.connect();
    under_way.send(delete(USER, "c2", gateway.token()));
    assert!(gateway.alloy.wait_for(2, Duration::from_secs(10)));
    if !mount.freeze(true) {
        eprintln!("skipped: no file system can be frozen here");
        return;
    }
    // First at the disk: an intent behind something else that hangs is never written.
    let refused = gateway.delete(USER, "c3");
    assert_refusal(&refused, 503, "audit-unavailable", "no");
    release.send(true).unwrap();
    // The deletion went through, and its caller hears so.
    let answered = under_way.receive();
    assert_eq!(answered.status, 200, "{}", answered.text());
    assert_eq!(
        answered.field("x-alloy-gateway-outcome"),
        Some("unrecorded")
    );
    assert_unready(&gateway, "slow");
    // What needs no disk is decided as ever.
    let mut stranger = gateway.connect();
    let stranger = stranger.send(delete(USER, "c5", "agw_nobody")).receive();
    assert_refusal(&stranger, 401, "unauthenticated", "no");
    // Once the disk is known not to answer, nobody waits for it any more.
    let start = Instant::now();
    assert_eq!(gateway.delete(USER, "c4").status, 503);
    assert!(
        start.elapsed() < Duration::from_millis(1500),
        "it waited for intent_wait"
    );
    mount.freeze(false);
    wait_until_back(&gateway);
    assert_recovery_is_recorded(&gateway, "slow");
    // The outcome that waited is written, the intent that came too late is closed.
    let outcome = |credential: &str| {
        let intent = gateway.record("intent", |record| {
            record["event"] == "request.intent" && record["credential"] == credential
        });
        gateway.record("outcome", |record| record["intent"] == intent["seq"])
    };
    assert_eq!(outcome("c2")["outcome"], "deleted");
    let too_late = outcome("c3");
    assert_eq!(
        (&too_late["outcome"], &too_late["sent"]),
        (&"failed".into(), &"no".into())
    );
    assert_eq!(sent(&gateway), ["c1", "c2", "back"]);
    finish(gateway, &["c1".to_owned(), "c2".to_owned()]);
}

/// The kernel lets nobody out of a frozen file system, so that the process is gone
/// only once it thaws: that it wanted to go before is in the log.
#[test]
fn a_disk_that_does_not_answer_does_not_hold_up_the_end() {
    let Some(mount) = Mount::of("ext4", 32) else {
        return;
    };
    let mut gateway = generous(
        Setup::default()
            .audit_directory(&mount.at.join("audit"))
            .audit("intent_wait: 2s")
            .bound("drain_timeout: 300ms"),
    );
    assert_eq!(gateway.delete(USER, "c1").status, 200);
    if !mount.freeze(true) {
        eprintln!("skipped: no file system can be frozen here");
        return;
    }
    assert_eq!(gateway.delete(USER, "c2").status, 503);
    gateway.process.signal(Signal::TERM);
    let stopped = gateway
        .process
        .wait_for(|line| line["message"] == "stopped");
    assert_eq!(stopped["clean"], false);
    mount.freeze(false);
    assert_eq!(gateway.process.wait().code(), Some(1));
}

/// Its caller does not hear that the call was carried out: the log must not say that it was not.
#[test]
fn a_stop_that_cuts_a_call_whose_outcome_is_late_says_where_it_stands() {
    let Some(mount) = Mount::of("ext4", 32) else {
        return;
    };
    let mut gateway = generous(
        Setup::default()
            .audit_directory(&mount.at.join("audit"))
            .audit("outcome_wait: 30s")
            .bound("drain_timeout: 300ms"),
    );
    let (release, held) = tokio::sync::watch::channel(false);
    gateway.alloy.script([Behaviour::Held(held)]);
    let mut under_way = gateway.connect();
    under_way.send(delete(USER, "c1", gateway.token()));
    assert!(gateway.alloy.wait_for(1, Duration::from_secs(10)));
    if !mount.freeze(true) {
        eprintln!("skipped: no file system can be frozen here");
        return;
    }
    release.send(true).unwrap();
    // Long enough for the answer to come, and for `drain_timeout` to pass.
    thread::sleep(Duration::from_secs(1));
    gateway.process.signal(Signal::TERM);
    thread::sleep(Duration::from_secs(2));
    mount.freeze(false);
    let told = gateway.process.wait_for(|line| line["in_doubt"] == 0);
    assert_eq!(
        (&told["level"], &told["calls"], &told["by"]),
        (&"warn".into(), &1.into(), &"bounds.drain_timeout".into()),
        "{told}"
    );
    let message = told["message"].as_str().unwrap();
    assert!(
        message
            .starts_with("calls were cut without an answer: `alloy-gateway audit query --since "),
        "{told}"
    );
    assert_eq!(gateway.process.wait().code(), Some(1));
    let outcome = gateway.record("outcome", |record| record["event"] == "request.outcome");
    assert_eq!(outcome["outcome"], "deleted");
}

/// Every call was answered; what came of one is nowhere but in the caller's hands.
#[test]
fn a_stop_that_loses_an_outcome_is_no_clean_one() {
    let mut gateway = generous(Setup::default().audit("outcome_wait: 100ms"));
    let (release, held) = tokio::sync::watch::channel(false);
    gateway.alloy.script([Behaviour::Held(held)]);
    let mut under_way = gateway.connect();
    under_way.send(delete(USER, "c1", gateway.token()));
    assert!(gateway.alloy.wait_for(1, Duration::from_secs(10)));
    limit_files(&gateway, Some(0));
    release.send(true).unwrap();
    let answered = under_way.receive();
    assert_eq!(
        answered.field("x-alloy-gateway-outcome"),
        Some("unrecorded")
    );
    assert_eq!(gateway.stop().code(), Some(1));
    let stopped = gateway
        .process
        .wait_for(|line| line["message"] == "stopped");
    assert_eq!(stopped["clean"], false);
    gateway.process.wait_for(|line| {
        let message = line["message"].as_str().unwrap_or_default();
        message.starts_with("the trail was not closed in order")
    });
    // It was said, and the next start says it, too.
    gateway.start_again();
    let outcome = gateway.record("outcome", |record| record["event"] == "request.outcome");
    assert_eq!(outcome["outcome"], "in-doubt");
    assert!(gateway.verify().is_intact());
}

#[test]
fn a_directory_that_vanishes_is_waited_for() {
    let gateway = generous(Setup::default());
    let promised = vec!["c1".to_owned(), "back".to_owned()];
    assert_eq!(gateway.delete(USER, "c1").status, 200);
    let away = gateway.path("elsewhere");
    fs::rename(gateway.audit(), &away).unwrap();
    assert_eq!(gateway.delete(USER, "c2").status, 503);
    thread::sleep(Duration::from_millis(1500));
    assert_unready(&gateway, "directory-removed");
    assert_eq!(sent(&gateway), ["c1"]);
    fs::rename(&away, gateway.audit()).unwrap();
    wait_until_back(&gateway);
    assert_recovery_is_recorded(&gateway, "directory-removed");
    finish(gateway, &promised);
}

/// Nothing was sent: what a caller may send in a day is still there afterwards.
#[test]
fn a_call_that_the_trail_refuses_spends_no_budget() {
    let gateway = generous(
        Setup::default()
            .key_limits("[ { requests: 6, per: 1h } ]")
            .tenant(
                "billing",
                &["users: all", "limits: [ { requests: 3, per: 1d } ]"],
            ),
    );
    assert_eq!(gateway.delete(USER, "c1").status, 200);
    let away = gateway.path("elsewhere");
    fs::rename(gateway.audit(), &away).unwrap();
    for n in 0..10 {
        let response = gateway.delete(USER, &format!("refused-{n}"));
        assert_refusal(&response, 503, "audit-unavailable", "no");
        let levels = response.field("ratelimit").unwrap();
        assert_eq!(levels, "\"key-3600s\";r=5, \"tenant-1d\";r=2");
    }
    fs::rename(&away, gateway.audit()).unwrap();
    wait_until_back(&gateway);
    assert_eq!(gateway.delete(USER, "c2").status, 200);
    assert_eq!(gateway.delete(USER, "c3").status, 429);
    assert_eq!(sent(&gateway), ["c1", "back", "c2"]);
}

#[test]
fn a_directory_put_in_its_place_is_locked_and_gets_what_was_written() {
    let gateway = generous(Setup::default());
    assert_eq!(gateway.delete(USER, "c1").status, 200);
    fs::remove_dir_all(gateway.audit()).unwrap();
    assert_eq!(gateway.delete(USER, "c2").status, 503);
    fs::create_dir(gateway.audit()).unwrap();
    wait_until_back(&gateway);
    let second = Command::new(binary())
        .args(["serve", "-c"])
        .arg(gateway.config_path())
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&second.stderr).contains("another process"));
    // Even the segment that was deleted is there again: it was still open.
    finish(gateway, &["c1".to_owned(), "back".to_owned()]);
}

#[test]
fn a_segment_that_is_deleted_is_written_anew() {
    let gateway = generous(Setup::default());
    assert_eq!(gateway.delete(USER, "c1").status, 200);
    fs::remove_file(gateway.audit().join("0000000001.jsonl")).unwrap();
    assert_eq!(gateway.delete(USER, "c2").status, 503);
    assert_eq!(sent(&gateway), ["c1"]);
    wait_until_back(&gateway);
    assert_recovery_is_recorded(&gateway, "deleted");
    finish(gateway, &["c1".to_owned(), "back".to_owned()]);
}

#[test]
fn a_segment_cut_or_replaced_by_another_hand_stops_it_and_the_verifier_shows_where() {
    type Tamper = fn(&Path);
    let tamper: [(&str, Tamper); 2] = [
        ("truncated", |segment| {
            let file = fs::OpenOptions::new().write(true).open(segment).unwrap();
            let text = fs::read_to_string(segment).unwrap();
            let last = text.trim_end().rfind('\n').unwrap() as u64 + 1;
            file.set_len(last).unwrap();
        }),
        ("replaced", |segment| {
            let text = fs::read_to_string(segment).unwrap();
            fs::remove_file(segment).unwrap();
            fs::write(segment, text.replacen("billing", "selling", 1)).unwrap();
        }),
    ];
    for (cause, tamper) in tamper {
        let mut gateway = generous(Setup::default());
        assert_eq!(gateway.delete(USER, "c1").status, 200);
        tamper(&gateway.audit().join("0000000001.jsonl"));
        assert_eq!(gateway.delete(USER, "c2").status, 503);
        assert_eq!(sent(&gateway), ["c1"], "{cause}");
        wait_until_back(&gateway);
        let record = gateway.record("recovery", |record| record["event"] == "trail.recovered");
        assert_eq!(record["cause"], cause);
        assert_ne!(record["good_part"], "intact");
        assert!(gateway.stop().success());
        let report = gateway.verify();
        assert!(!report.is_intact(), "{cause}: {report}");
    }
}

#[test]
fn a_lock_that_is_removed_is_taken_again() {
    let gateway = generous(Setup::default());
    fs::remove_file(gateway.audit().join("lock")).unwrap();
    gateway
        .process
        .wait_for(|line| line["level"] == "error" && line["cause"] == "lock-lost");
    wait_until_back(&gateway);
    assert!(gateway.audit().join("lock").exists());
    finish(gateway, &["back".to_owned()]);
}

/// A stranger who floods the gateway buys neither syncs nor disk.
#[test]
fn a_flood_of_bad_tokens_costs_little_disk() {
    let gateway = Gateway::start();
    let syncs = || {
        let metrics = gateway.admin("/metrics").text();
        let line = metrics
            .lines()
            .find(|line| line.starts_with("alloy_gateway_audit_fsync_duration_seconds_count "));
        line.unwrap()
            .rsplit(' ')
            .next()
            .unwrap()
            .parse::<u64>()
            .unwrap()
    };
    let before = syncs();
    let start = Instant::now();
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let address = gateway.data;
            thread::spawn(move || {
                let mut connection = Connection::open(address);
                for n in 0..5000 {
                    let bad = format!("agw_{n:049}");
                    let status = connection.send(delete(USER, "c1", &bad)).receive().status;
                    assert!(status == 401 || status == 429, "{status}");
                }
            })
        })
        .collect();
    for caller in callers {
        caller.join().unwrap();
    }
    // Those of a second are recorded together, at its end.
    let end = Instant::now() + Duration::from_secs(60);
    let mut report = gateway.verify();
    while report.refusals < 20_000 && Instant::now() < end {
        thread::sleep(Duration::from_millis(100));
        report = gateway.verify();
    }
    assert_eq!(report.refusals, 20_000, "{report}");
    let syncs = syncs() - before;
    let seconds = start.elapsed().as_secs() + 1;
    let bytes = gateway.trail_text().len() as u64;
    let bound = (200 << 10) + (seconds << 13);
    assert!(bytes < bound, "{bytes} bytes in {seconds} s");
    assert!(syncs <= seconds * 2 + 4, "{syncs} syncs in {seconds} s");
}
