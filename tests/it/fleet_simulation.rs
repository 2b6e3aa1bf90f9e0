//! The model of a fleet (benches/fleet_simulation.rs), in small: what `check` says is
//! the most is the most.

#[allow(dead_code, reason = "the benchmark uses all of it")]
#[path = "../../benches/fleet_simulation/model.rs"]
mod model;

use std::{num::NonZeroU32, time::Duration};

use alloy_gateway::config::settings::Window;

use self::model::{Bound, Load, Mode, Plan, modes, run};

const MINUTE: Duration = Duration::from_secs(60);

fn window(requests: u32, burst: u32, per: Duration) -> Window {
    Window {
        requests: NonZeroU32::new(requests).unwrap(),
        per,
        burst: NonZeroU32::new(burst).unwrap(),
    }
}

fn mode(bound: Bound) -> Mode {
    modes()
        .into_iter()
        .find(|mode| mode.bound == bound)
        .unwrap()
}

#[test]
fn no_mode_admits_more_than_check_says() {
    for mode in modes() {
        for sidecars in [1, 2, 5, 12] {
            for (requests, burst) in [(100, 100), (100, 7), (40, 90)] {
                let limit = window(requests, burst, MINUTE);
                let plan = Plan {
                    seed: u64::from(burst) + sidecars as u64,
                    ..mode.plan(limit, sidecars)
                };
                let (most, ceiling) = (run(&plan).largest(MINUTE), mode.ceiling(&limit, sidecars));
                assert!(
                    most <= ceiling,
                    "{}, {sidecars} sidecars, {requests} in a minute, {burst} at once: {most}, not {ceiling}",
                    mode.name
                );
            }
        }
    }
}

#[test]
fn each_of_two_windows_keeps_its_own_ceiling() {
    let limits = [window(5, 5, Duration::from_secs(1)), window(90, 60, MINUTE)];
    for mode in modes() {
        // Shorter windows are full again after a restart, and after one of the store.
        if mode.name.contains("roll-out") || mode.name == "all together" {
            continue;
        }
        let plan = Plan {
            limits: limits.to_vec(),
            ..mode.plan(limits[1], 4)
        };
        let outcome = run(&plan);
        for limit in &limits {
            let (most, ceiling) = (outcome.largest(limit.per), mode.ceiling(limit, 4));
            assert!(
                most <= ceiling,
                "{}, {limit:?}: {most}, not {ceiling}",
                mode.name
            );
        }
    }
}

#[test]
fn greedy_callers_get_all_that_the_ceiling_allows() {
    // Or the model would show nothing.
    let limit = window(100, 100, MINUTE);
    for (bound, part) in [
        (Bound::EachTheLimit, 0.98),
        (Bound::WithoutStore, 0.95),
        (Bound::WithStore, 0.98),
    ] {
        let mode = mode(bound);
        let most = run(&mode.plan(limit, 5)).largest(MINUTE) as f64;
        let ceiling = mode.ceiling(&limit, 5) as f64;
        assert!(most >= part * ceiling, "{bound:?}: {most} of {ceiling}");
    }
    let outcome = run(&mode(Bound::WithStore).plan(limit, 5));
    assert_eq!(outcome.by_store, outcome.admitted.len() as u64);
}

#[test]
fn an_uneven_load_passes_as_one_bucket_lets_it_and_shares_alone_waste_the_limit() {
    let limit = window(100, 100, MINUTE);
    let used = |bound| {
        let plan = Plan {
            load: Load::Uneven(limit.per / 100),
            span: 30 * MINUTE,
            ..mode(bound).plan(limit, 20)
        };
        let outcome = run(&plan);
        outcome.admitted.len() as f64 / outcome.of_one_bucket(&plan.limits) as f64
    };
    let (shared, shares) = (used(Bound::WithStore), used(Bound::WithoutStore));
    assert!((shared - 1.0).abs() < 0.01, "{shared}");
    assert!(shares < 0.8, "{shares}");
}

#[test]
fn the_same_plan_has_the_same_outcome() {
    let mode = modes().into_iter().last().unwrap();
    let plan = mode.plan(window(100, 100, MINUTE), 12);
    assert_eq!(run(&plan), run(&plan));
    let other = Plan {
        seed: 8,
        ..plan.clone()
    };
    assert_ne!(run(&plan), run(&other));
}
