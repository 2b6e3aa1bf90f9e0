//! Small plots as SVG: lines over the last minutes. Drawn by attributes alone, so
//! that the page's policy can forbid inline styles.

use std::fmt::Write;

const WIDTH: f64 = 300.0;
const HEIGHT: f64 = 64.0;
/// How many points fill the whole width.
const POINTS: usize = 60;

/// One line: its class, and its values with the oldest first; where one is
/// missing, the line has a gap.
pub struct Line<'a> {
    /// The class that gives it its colour.
    pub class: &'a str,
    /// Its values.
    pub values: Vec<Option<f64>>,
}

/// Draws lines on one scale from 0 to the largest value; `label` is for those who
/// can't see it.
pub fn plot(out: &mut String, label: &str, lines: &[Line<'_>]) {
    let values = lines.iter().flat_map(|line| line.values.iter().flatten());
    let top = values.copied().fold(0.0, f64::max);
    let top = if top > 0.0 { top } else { 1.0 };
    // Writing to a string can't fail.
    let _ = write!(
        out,
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{label}\"><path class=\"axis\" d=\"M0 {base}H{WIDTH}\"/>",
        base = HEIGHT - 1.0,
    );
    for line in lines {
        let _ = write!(
            out,
            "<path class=\"{}\" d=\"{}\"/>",
            line.class,
            path(&line.values, top)
        );
    }
    out.push_str("</svg>");
}

/// The newest value stands at the right edge.
#[expect(clippy::cast_precision_loss, reason = "a few dozen points")]
fn path(values: &[Option<f64>], top: f64) -> String {
    let step = WIDTH / (POINTS - 1) as f64;
    let mut path = String::new();
    let mut pen_is_up = true;
    for (at, value) in values.iter().enumerate() {
        let Some(value) = value else {
            pen_is_up = true;
            continue;
        };
        let x = WIDTH - step * (values.len() - 1 - at) as f64;
        let y = 2.0 + (HEIGHT - 4.0) * (1.0 - value / top);
        let next = values.get(at + 1).copied().flatten();
        let is_alone = pen_is_up && next.is_none();
        let _ = write!(path, "{}{x:.1} {y:.1}", if pen_is_up { "M" } else { "L" });
        if is_alone {
            // A point without neighbours would be nothing: a short stroke instead.
            path.push_str("h-4");
        }
        pen_is_up = false;
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_ends_at_the_right_edge_and_has_gaps_where_nothing_is_known() {
        let values = [Some(0.0), Some(4.0), None, Some(2.0)];
        assert_eq!(path(&values, 4.0), "M284.7 62.0L289.8 2.0M300.0 32.0h-4");
    }

    #[test]
    fn without_values_there_is_an_empty_plot() {
        let mut out = String::new();
        let (class, values) = ("a", vec![None, None]);
        plot(&mut out, "calls", &[Line { class, values }]);
        assert!(out.contains("d=\"\""), "{out}");
        assert!(!out.contains("NaN"), "{out}");
    }
}
