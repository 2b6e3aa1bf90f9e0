//! Disks that turn read-only, for a while or for good.

use std::{fs, path::Path, time::Duration};

use alloy_gateway::simulated_alloy::Behaviour;
use tokio::sync::watch;

use crate::{
    disk::{assert_recovery_is_recorded, assert_unready, finish, generous, wait_until_back},
    support::{
        Connection, Gateway, Setup, USER, assert_refusal, delete,
        mount::{Mount, run},
        trail::sent,
    },
};

/// A call that Alloy answers once it is told to.
struct UnderWay {
    connection: Connection,
    release: watch::Sender<bool>,
}

/// A gateway on a disk, with one call done and one that is at Alloy.
fn with_a_call_under_way(directory: &Path) -> (Gateway, UnderWay) {
    let gateway = generous(
        Setup::default()
            .audit_directory(directory)
            .audit("outcome_wait: 300ms"),
    );
    assert_eq!(gateway.delete(USER, "c1").status, 200);
    let (release, held) = watch::channel(false);
    gateway.alloy.script([Behaviour::Held(held)]);
    let mut connection = gateway.connect();
    connection.send(delete(USER, "c2", gateway.token()));
    assert!(gateway.alloy.wait_for(2, Duration::from_secs(10)));
    let under_way = UnderWay {
        connection,
        release,
    };
    (gateway, under_way)
}

/// Calls are refused, nothing is sent, and the answer that was under way says
/// that it is not recorded.
#[track_caller]
fn assert_stopped(gateway: &Gateway, mut under_way: UnderWay) {
    let refused = gateway.delete(USER, "c3");
    assert_refusal(&refused, 503, "audit-unavailable", "no");
    under_way.release.send(true).unwrap();
    let answered = under_way.connection.receive();
    assert_eq!(answered.status, 200, "{}", answered.text());
    assert_eq!(
        answered.field("x-alloy-gateway-outcome"),
        Some("unrecorded")
    );
    assert_unready(gateway, "read-only");
    assert_eq!(gateway.delete(USER, "c4").status, 503);
    assert_eq!(sent(gateway), ["c1", "c2"]);
}

#[test]
fn files_that_nobody_may_write_stop_it_until_one_may() {
    let Some(mount) = Mount::of("ext4", 32) else {
        return;
    };
    let directory = mount.at.join("audit");
    let (gateway, under_way) = with_a_call_under_way(&directory);
    let segment = directory.join("0000000001.jsonl");
    let immutable =
        |how: &str| run("chattr", &[how], &segment) && run("chattr", &[how], &directory);
    if !immutable("+i") {
        eprintln!("skipped: no file can be made immutable here");
        return;
    }
    assert_stopped(&gateway, under_way);
    assert!(immutable("-i"));
    wait_until_back(&gateway);
    assert_recovery_is_recorded(&gateway, "read-only");
    finish(gateway, &["c1", "c2", "back"].map(ToOwned::to_owned));
}

/// The segment is still open, and readable: it moves to the new disk.
#[test]
fn a_disk_that_dies_and_is_replaced_loses_no_record_of_the_segment() {
    let Some(mount) = Mount::of("ext4", 32) else {
        return;
    };
    let (gateway, under_way) = with_a_call_under_way(&mount.at);
    if !mount.break_for_good() {
        eprintln!("skipped: no file system can be broken here");
        return;
    }
    assert_stopped(&gateway, under_way);
    mount.replace();
    wait_until_back(&gateway);
    assert_recovery_is_recorded(&gateway, "read-only");
    assert!(fs::exists(mount.at.join("0000000002.jsonl")).unwrap());
    finish(gateway, &["c1", "c2", "back"].map(ToOwned::to_owned));
}
