//! The plot: how far the fleet strays, over its size.

use std::fmt::Write as _;

use super::report::{Column, Row, grouped};

const LEFT: f64 = 76.0;
const TOP: f64 = 44.0;
const WIDTH: f64 = 470.0;
const HEIGHT: f64 = 330.0;
/// The axis goes from the limit itself to so many times it.
const TIMES_MAX: f64 = 10_000.0;
const COLORS: usize = 11;

/// An SVG that can be read on light and dark pages.
pub fn draw(columns: &[Column], rows: &[Row]) -> String {
    let first = columns.first().expect("a column").limit;
    // The sizes under the first limit.
    let sizes: Vec<_> = columns
        .iter()
        .take_while(|column| column.limit == first)
        .map(|column| column.sidecars as f64)
        .collect();
    let most = sizes.last().copied().unwrap_or(1.0);
    let x = |size: f64| LEFT + size.ln() / most.ln() * WIDTH;
    let y = |times: f64| {
        let part = times.max(0.5).ln() - 0.5_f64.ln();
        TOP + HEIGHT - part / (TIMES_MAX.ln() - 0.5_f64.ln()) * HEIGHT
    };
    let mut out = head();
    for size in &sizes {
        let (x, end) = (x(*size), TOP + HEIGHT);
        let text = grouped(*size as u64);
        let _ = writeln!(
            out,
            r#"<path class="grid" d="M{x:.1} {TOP}V{end}"/><text class="text" x="{x:.1}" y="{}" text-anchor="middle">{text}</text>"#,
            end + 18.0
        );
    }
    for times in [1.0, 2.0, 10.0, 100.0, 1000.0, 10_000.0] {
        let (y, end) = (y(times), LEFT + WIDTH);
        let class = if times == 1.0 { "limit" } else { "grid" };
        let text = grouped(times as u64);
        let _ = writeln!(
            out,
            r#"<path class="{class}" d="M{LEFT} {y:.1}H{end}"/><text class="text" x="{}" y="{:.1}" text-anchor="end">{text} ×</text>"#,
            LEFT - 8.0,
            y + 4.0
        );
    }
    for (number, row) in rows.iter().enumerate() {
        let times = row.cells.iter().zip(&sizes);
        let points = times.filter_map(|(cell, size)| Some((x(*size), y(cell.strayed()?))));
        let points: Vec<_> = points.collect();
        let line = points.iter().map(|(x, y)| format!("{x:.1},{y:.1} "));
        let line: String = line.collect();
        let color = number % COLORS;
        let _ = writeln!(
            out,
            r#"<polyline class="c{color} line" points="{}"/>"#,
            line.trim()
        );
        for (x, y) in points {
            let _ = writeln!(
                out,
                r#"<circle class="c{color}" cx="{x:.1}" cy="{y:.1}" r="3"/>"#
            );
        }
        let (x, y) = (LEFT + WIDTH + 24.0, TOP + 14.0 + 22.0 * number as f64);
        let _ = writeln!(
            out,
            r#"<path class="c{color} line" d="M{x} {:.1}h22"/><text class="text" x="{}" y="{y:.1}">{}</text>"#,
            y - 4.0,
            x + 30.0,
            row.name
        );
    }
    let _ = writeln!(
        out,
        r#"<text class="text" x="{LEFT}" y="{}">sidecars; limit: {} in {} s, with a burst of as many</text></svg>"#,
        TOP + HEIGHT + 40.0,
        first.requests,
        first.per.as_secs()
    );
    out
}

fn head() -> String {
    let (width, height) = (LEFT + WIDTH + 200.0, TOP + HEIGHT + 56.0);
    let mut out = format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="13" role="img">
<title>The most that a fleet was admitted in a span, against one bucket of the limit</title>
<style>
.back {{ fill: #fff }} .text {{ fill: #222 }} .grid {{ stroke: #ddd }} .limit {{ stroke: #888; stroke-dasharray: 5 4 }}
.line {{ stroke-width: 2; fill: none }} circle {{ stroke: none }}
@media (prefers-color-scheme: dark) {{ .back {{ fill: #161b22 }} .text {{ fill: #e6edf3 }} .grid {{ stroke: #30363d }} .limit {{ stroke: #aaa }} }}
"##
    );
    for color in 0..COLORS {
        // Hues far apart, neither too light for white nor too dark for black.
        let hue = color * 360 / COLORS;
        let _ = writeln!(
            out,
            ".c{color} {{ stroke: hsl({hue} 65% 50%); fill: hsl({hue} 65% 50%) }} .line.c{color} {{ fill: none }}"
        );
    }
    out.push_str(
        "</style>\n<rect class=\"back\" width=\"100%\" height=\"100%\"/><text class=\"text\" x=\"12\" y=\"24\" font-size=\"15\">The most admitted in any span of the limit, against one bucket (less is better)</text>\n",
    );
    out
}
