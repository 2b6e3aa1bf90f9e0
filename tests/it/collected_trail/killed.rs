//! Whoever is killed, paused and started again meanwhile.

use std::{
    thread,
    time::{Duration, Instant},
};

use alloy_gateway::audit;

use super::{assert_collected, assert_verifies, shipping, wait_until_whole};
use crate::support::{Gateway, USER, delete, postgres::Postgres};

/// The long run: `COLLECTED_TRAIL_SECONDS=260 cargo test --test it -- --nocapture collected_trail::killed`.
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
                call(&gateways, &mut random, &mut calls);
                thread::sleep(Duration::from_millis(random.below(2000)));
                postgres.resume();
                outages += 1;
            }
            2 => {
                postgres.stop();
                call(&gateways, &mut random, &mut calls);
                postgres.run();
                outages += 1;
            }
            3 | 4 => {
                let at = usize::try_from(random.below(3)).unwrap();
                gateways[at].kill();
                gateways[at].start_again();
                kills += 1;
            }
            _ => call(&gateways, &mut random, &mut calls),
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

/// Calls of all gateways at once, none of which may fail whatever the database does.
fn call(gateways: &[Gateway], random: &mut Random, calls: &mut u64) {
    let first = random.below(900);
    thread::scope(|scope| {
        for gateway in gateways {
            scope.spawn(move || {
                let mut connection = gateway.connect();
                for n in first..first + 20 {
                    let request = delete(USER, &format!("c{n}"), gateway.token());
                    let status = connection.send(request).receive().status;
                    assert!(status == 200 || status == 404, "{status}");
                }
            });
        }
    });
    *calls += 60;
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
