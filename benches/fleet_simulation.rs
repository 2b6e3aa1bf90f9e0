//! How far the fleet's total strays from the limit, for one to 10,000 sidecars: the
//! product's own limits in simulated time.
//!
//! `cargo bench --bench fleet_simulation` prints the tables, and fails if any mode
//! admitted more than `check` says; `-- --write-docs` puts them and the plot into docs/.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_precision_loss,
    reason = "a benchmark that can't go on has nothing better to do"
)]

#[path = "fleet_simulation/model.rs"]
mod model;
#[path = "fleet_simulation/plot.rs"]
mod plot;
#[path = "fleet_simulation/report.rs"]
mod report;

use std::{fs, num::NonZeroU32, path::Path, thread, time::Duration};

use alloy_gateway::config::settings::Window;

use self::{
    model::{Bound, Load, Mode, Plan, modes, run},
    report::{Cell, Column, Row},
};

const BEGIN: &str = "<!-- fleet_simulation: begin -->\n";
const END: &str = "<!-- fleet_simulation: end -->\n";

fn main() {
    let columns = columns();
    let modes = modes();
    let rows: Vec<Row> = thread::scope(|scope| {
        let rows = modes.iter().map(|mode| {
            let columns = &columns;
            scope.spawn(move || Row {
                name: mode.name,
                about: mode.about,
                cells: columns.iter().map(|column| cell(mode, column)).collect(),
            })
        });
        let rows: Vec<_> = rows.collect();
        rows.into_iter()
            .map(|row| row.join().expect("a row"))
            .collect()
    });
    let tables = report::tables(&columns, &rows);
    println!("{tables}");
    if std::env::args().any(|it| it == "--write-docs") {
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
        let page = docs.join("fleet.md");
        let text = fs::read_to_string(&page).expect("docs/fleet.md");
        let (before, rest) = text.split_once(BEGIN).expect("the first marker");
        let (_, after) = rest.split_once(END).expect("the second marker");
        fs::write(page, format!("{before}{BEGIN}\n{tables}\n{END}{after}")).expect("docs/fleet.md");
        let plot = plot::draw(&columns, &rows);
        fs::write(docs.join("fleet-simulation.svg"), plot).expect("the plot");
    }
    let above: Vec<_> = rows
        .iter()
        .flat_map(|row| {
            let cells = row.cells.iter().zip(&columns);
            let above = cells.filter(|(cell, _)| cell.is_above_its_ceiling());
            above.map(|(cell, column)| format!("{}, {}: {cell:?}", row.name, column.sidecars))
        })
        .collect();
    assert!(above.is_empty(), "above the ceiling: {above:#?}");
}

/// Alloy's figure for all sizes, and a limit whose burst has a unit for each of many.
fn columns() -> Vec<Column> {
    let minute = |requests| {
        let requests = NonZeroU32::new(requests).expect("not zero");
        Window {
            requests,
            per: Duration::from_secs(60),
            burst: requests,
        }
    };
    let small = [1, 5, 50, 500, 10_000].map(|sidecars| Column {
        limit: minute(100),
        sidecars,
    });
    let large = Column {
        limit: minute(20_000),
        sidecars: 10_000,
    };
    small.into_iter().chain([large]).collect()
}

/// One mode with one number of sidecars; `None` if it would only take long.
fn cell(mode: &Mode, column: &Column) -> Cell {
    let Column { limit, sidecars } = column;
    let mut plan = mode.plan(*limit, *sidecars);
    let one = u64::from(limit.requests.get()) + u64::from(limit.burst.get());
    let ceiling = mode.ceiling(limit, *sidecars);
    let is_large = limit.requests.get() > 1000;
    if is_large && mode.bound == Bound::EachTheLimit {
        return Cell::of(one, ceiling);
    }
    if *sidecars > 1000 {
        plan.span = Duration::from_secs(150);
    }
    let outcome = run(&plan);
    let limit_rate = f64::from(limit.requests.get()) / limit.per.as_secs_f64();
    // What bursts left is used up by then.
    let from = Duration::from_secs(60);
    Cell {
        largest: Some(outcome.largest(limit.per)),
        rate: Some(outcome.rate(from, plan.span) / limit_rate),
        used: Some(used(mode, column)),
        ..Cell::of(one, ceiling)
    }
}

/// Of as many calls as the limit allows, which come to few sidecars mostly: how many
/// are admitted for each that one bucket admits.
fn used(mode: &Mode, column: &Column) -> f64 {
    let Column { limit, sidecars } = column;
    // Many sidecars look for the store as often as few: that is what takes long.
    let minutes = match (limit.requests.get(), sidecars) {
        (1001.., _) => 3,
        (_, 1001..) => 8,
        _ => 40,
    };
    let plan = Plan {
        load: Load::Uneven(limit.per / limit.requests.get()),
        span: Duration::from_secs(60 * minutes),
        ..mode.plan(*limit, *sidecars)
    };
    let outcome = run(&plan);
    outcome.admitted.len() as f64 / outcome.of_one_bucket(&plan.limits) as f64
}
