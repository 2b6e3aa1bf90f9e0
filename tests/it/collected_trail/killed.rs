//! Whoever is killed, paused and started again meanwhile.

use std::{
    thread,
    time::{Duration, Instant},
};

use alloy_gateway::audit;
use rustix::process::Signal;

use super::{assert_collected, assert_verifies, shipping, wait_until_whole};
use crate::support::{Connection, Gateway, USER, delete, postgres::Postgres};

/// The long run: `COLLECTED_TRAIL_SECONDS=250 cargo test --test it -- --nocapture collected_trail::killed`.
#[test]
fn nothing_is_lost_or_doubled_while_database_and_gateways_are_killed_at_random() {
    let Some(postgres) = Postgres::start() else {
        return;
    };
    let mut postgres = postgres.with_tables();
    let seconds = std::env::var("COLLECTED_TRAIL_SECONDS");
    let seconds = seconds.map_or(20, |text| text.parse().unwrap());
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut gateways: Vec<_> = (0..3)
        .map(|n| {
            shipping(&postgres, &format!("gateway-{n}"))
                .workers(1)
                .audit("segment_size: 64KiB")
                .start()
        })
        .collect();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let (mut calls, mut kills, mut outages) = (0, 0, 0);
    while Instant::now() < end {
        match random.below(12) {
            0 => {
                postgres.kill();
                thread::sleep(Duration::from_millis(random.below(1500)));
                postgres.run();
                outages += 1;
            }
            1 => {
                postgres.pause();
                call(&gateways, &mut random, &mut calls, None);
                thread::sleep(Duration::from_millis(random.below(2000)));
                postgres.resume();
                outages += 1;
            }
            2 => {
                postgres.stop();
                call(&gateways, &mut random, &mut calls, None);
                postgres.run();
                outages += 1;
            }
            kind @ (3 | 4) => {
                let at = usize::try_from(random.below(3)).unwrap();
                if kind == 3 {
                    call(&gateways, &mut random, &mut calls, Some(at));
                }
                gateways[at].kill();
                gateways[at].start_again();
                kills += 1;
            }
            _ => call(&gateways, &mut random, &mut calls, None),
        }
    }
    assert!(
        calls > 100 && kills > 0 && outages > 0,
        "{calls} {kills} {outages}"
    );
    for gateway in &mut gateways {
        wait_until_whole(gateway);
        assert_eq!(gateway.stop().code(), Some(0));
        assert_collected(&postgres, gateway);
        let report = audit::verify(gateway.audit(), &audit::Known::default(), |_| {}).unwrap();
        assert!(report.is_intact(), "{report}");
    }
    let rows = postgres.sql("SELECT count(*) FROM alloy_gateway.record");
    let records: i64 = rows[0].get(0);
    let there: usize = gateways.iter().map(|gateway| gateway.trail().len()).sum();
    assert_eq!(records, i64::try_from(there).unwrap(), "and nothing else");
    assert_verifies(&postgres);
    println!("{calls} calls, {kills} gateways killed, {outages} outages: {records} records");
}

/// Calls of all gateways at once, none of which may fail whatever the database does, but
/// for those of the one that is killed meanwhile.
fn call(gateways: &[Gateway], random: &mut Random, calls: &mut u64, killed: Option<usize>) {
    let first = random.below(900);
    let until_then = Duration::from_millis(random.below(80));
    let connections: Vec<_> = gateways.iter().map(Gateway::connect).collect();
    *calls += thread::scope(|scope| {
        let callers = gateways.iter().zip(connections).enumerate();
        let callers: Vec<_> = callers
            .map(|(at, (gateway, connection))| {
                let is_killed = killed == Some(at);
                scope.spawn(move || call_one(gateway, connection, first, is_killed))
            })
            .collect();
        if let Some(killed) = killed {
            thread::sleep(until_then);
            gateways[killed].process.signal(Signal::KILL);
        }
        let answered = callers.into_iter().map(|caller| caller.join().unwrap());
        answered.sum::<u64>()
    });
}

/// How many of them were answered.
fn call_one(gateway: &Gateway, mut connection: Connection, first: u64, is_killed: bool) -> u64 {
    for n in 0..20 {
        let request = delete(USER, &format!("c{}", first + n), gateway.token());
        let Some(response) = connection.send(request).try_receive() else {
            assert!(is_killed, "not answered");
            return n;
        };
        let status = response.status;
        assert!(status == 200 || status == 404, "{status}");
    }
    20
}

/// The same each time.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}
