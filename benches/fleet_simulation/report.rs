//! The tables, in Markdown.

use std::fmt::Write as _;

use alloy_gateway::config::settings::Window;

/// One number of sidecars under one limit.
#[derive(Debug)]
pub struct Column {
    /// The limit.
    pub limit: Window,
    /// How many sidecars.
    pub sidecars: usize,
}

/// One mode.
#[derive(Debug)]
pub struct Row {
    /// Its name.
    pub name: &'static str,
    /// What it is.
    pub about: &'static str,
    /// What came of it in each column.
    pub cells: Vec<Cell>,
}

/// What came of one mode with one number of sidecars.
#[derive(Debug)]
pub struct Cell {
    /// What one bucket of the limit admits at most in a span of its length.
    pub one: u64,
    /// What the fleet may be admitted at most.
    pub ceiling: u64,
    /// What it was.
    pub largest: Option<u64>,
    /// The rate after the first burst, against the limit's.
    pub rate: Option<f64>,
    /// What is admitted of an uneven load, against what one bucket admits of it.
    pub used: Option<f64>,
}

impl Cell {
    /// Nothing but the bounds.
    pub fn of(one: u64, ceiling: u64) -> Self {
        Self {
            one,
            ceiling,
            largest: None,
            rate: None,
            used: None,
        }
    }

    /// Whether more was admitted than may be.
    pub fn is_above_its_ceiling(&self) -> bool {
        self.largest.is_some_and(|largest| largest > self.ceiling)
    }

    /// The most that was admitted, in buckets.
    pub fn strayed(&self) -> Option<f64> {
        Some(self.largest? as f64 / self.one as f64)
    }
}

/// All tables.
pub fn tables(columns: &[Column], rows: &[Row]) -> String {
    let mut out = String::new();
    out.push_str("The most that was admitted in any span of the limit's length, divided by what one bucket admits (1.00 is the limit kept exactly); in brackets what `check` says at most:\n\n");
    table(&mut out, columns, rows, |cell| {
        let ceiling = cell.ceiling as f64 / cell.one as f64;
        Some(format!("{} ({})", number(cell.strayed()?), number(ceiling)))
    });
    out.push_str("\nThe rate in the long run while every sidecar has more calls than it may send, divided by the limit's:\n\n");
    table(&mut out, columns, rows, |cell| cell.rate.map(number));
    out.push_str("\nOf a load as large as the limit that comes to few sidecars mostly (Zipf), what is admitted against what one bucket admits of it:\n\n");
    table(&mut out, columns, rows, |cell| {
        cell.used.map(|used| format!("{:.1} %", 100.0 * used))
    });
    out
}

fn table(
    out: &mut String,
    columns: &[Column],
    rows: &[Row],
    text: impl Fn(&Cell) -> Option<String>,
) {
    let heads = columns.iter().map(|column| {
        let per = column.limit.per.as_secs();
        let (sidecars, requests) = (
            grouped(column.sidecars as u64),
            grouped(column.limit.requests.get().into()),
        );
        format!(" {sidecars}, {requests} in {per} s |")
    });
    let _ = writeln!(out, "| |{}", heads.collect::<String>());
    let _ = writeln!(out, "|---|{}", "---:|".repeat(columns.len()));
    for row in rows {
        let cells = row.cells.iter().map(|cell| {
            let text = text(cell).unwrap_or_else(|| "–".to_owned());
            format!(" {text} |")
        });
        let cells: String = cells.collect();
        let _ = writeln!(out, "| **{}**: {} |{cells}", row.name, row.about);
    }
}

/// Two decimals, or none where they would say nothing.
fn number(value: f64) -> String {
    if value < 100.0 {
        format!("{value:.2}")
    } else {
        grouped(value.round() as u64)
    }
}

/// With a comma after each thousand.
pub fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
