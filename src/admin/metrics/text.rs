//! Metrics as text: OpenMetrics 1.0, or the older Prometheus format for those
//! who do not ask for it.

use std::fmt::{self, Write};

use http::{HeaderMap, header};

use crate::histogram::Merged;

/// What every name begins with, but those that are standard for processes.
const PREFIX: &str = "alloy_gateway_";

/// How the text is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Prometheus' text format 0.0.4.
    Prometheus,
}

impl Format {
    /// OpenMetrics for those who ask for it, as Prometheus does, and for those
    /// who ask for nothing.
    pub fn accepted(fields: &HeaderMap) -> Self {
        let accept = fields.get(header::ACCEPT);
        match accept.and_then(|accept| accept.to_str().ok()) {
            None | Some("*/*") => Self::OpenMetrics,
            Some(types) if types.contains("application/openmetrics-text") => Self::OpenMetrics,
            Some(_) => Self::Prometheus,
        }
    }

    /// Its media type.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// What kind of figure a family holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It only grows.
    Counter,
    /// It goes up and down.
    Gauge,
    /// It is 1, and its labels say something.
    Info,
    /// It counts observations by size.
    Histogram,
}

/// Labels with their values.
pub type Labels<'a> = &'a [(&'static str, &'a str)];

/// Text that grows by one family of metrics after another.
#[derive(Debug)]
pub struct Text {
    format: Format,
    out: String,
    name: String,
    suffix: &'static str,
}

impl Text {
    /// Nothing yet.
    pub fn new(format: Format) -> Self {
        Self {
            format,
            out: String::with_capacity(64 << 10),
            name: String::new(),
            suffix: "",
        }
    }

    /// Begins a family; `name` is without prefix and without the suffix of its kind.
    pub fn family(&mut self, name: &str, kind: Kind, help: &str) {
        let prefix = if name.starts_with("process_") {
            ""
        } else {
            PREFIX
        };
        self.name.clear();
        self.name.push_str(prefix);
        self.name.push_str(name);
        self.suffix = match kind {
            Kind::Counter => "_total",
            Kind::Info => "_info",
            Kind::Gauge | Kind::Histogram => "",
        };
        let word = match (kind, self.format) {
            (Kind::Counter, _) => "counter",
            (Kind::Info, Format::OpenMetrics) => "info",
            (Kind::Info, Format::Prometheus) | (Kind::Gauge, _) => "gauge",
            (Kind::Histogram, _) => "histogram",
        };
        let name = &self.name;
        // The older format has no families: there each suffix is part of the name.
        let suffix = match self.format {
            Format::OpenMetrics => "",
            Format::Prometheus => self.suffix,
        };
        // Writing to a string can't fail.
        let _ = writeln!(self.out, "# HELP {name}{suffix} {help}");
        let _ = writeln!(self.out, "# TYPE {name}{suffix} {word}");
        let units = ["seconds", "bytes"];
        let unit = units.into_iter().find(|unit| self.name.ends_with(unit));
        if let (Some(unit), Format::OpenMetrics) = (unit, self.format) {
            let _ = writeln!(self.out, "# UNIT {name} {unit}");
        }
    }

    /// A whole number of the family.
    pub fn number(&mut self, labels: Labels<'_>, value: u64) {
        self.sample(self.suffix, labels, None, value);
    }

    /// A figure of the family.
    pub fn figure(&mut self, labels: Labels<'_>, value: f64) {
        self.sample(self.suffix, labels, None, value);
    }

    /// 1 or 0.
    pub fn flag(&mut self, labels: Labels<'_>, value: bool) {
        self.number(labels, value.into());
    }

    /// A histogram of spans; its values are ns.
    pub fn spans(&mut self, labels: Labels<'_>, merged: &Merged) {
        self.histogram(labels, merged, 1e-9);
    }

    /// A histogram of whole numbers.
    pub fn numbers(&mut self, labels: Labels<'_>, merged: &Merged) {
        self.histogram(labels, merged, 1.0);
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "sums above 2^53 ns, 104 days, lose what nobody looks at"
    )]
    fn histogram(&mut self, labels: Labels<'_>, merged: &Merged, scale: f64) {
        let mut below = 0;
        let bounds = merged
            .bounds
            .iter()
            .map(|bound| bound_text(*bound as f64 * scale));
        let bounds = bounds.chain(["+Inf".to_owned()]);
        for (bound, count) in bounds.zip(&merged.buckets) {
            below += count;
            self.sample("_bucket", labels, Some(&bound), below);
        }
        self.sample("_count", labels, None, below);
        self.sample("_sum", labels, None, merged.sum as f64 * scale);
    }

    fn sample(
        &mut self,
        suffix: &str,
        labels: Labels<'_>,
        bound: Option<&str>,
        value: impl fmt::Display,
    ) {
        let (out, name) = (&mut self.out, &self.name);
        let _ = write!(out, "{name}{suffix}");
        let bound = bound.map(|bound| ("le", bound));
        let mut before = '{';
        for (label, value) in labels.iter().copied().chain(bound) {
            let _ = write!(out, "{before}{label}=\"{}\"", Escaped(value));
            before = ',';
        }
        let end = if before == '{' { "" } else { "}" };
        let _ = writeln!(out, "{end} {value}");
    }

    /// The whole text.
    pub fn finish(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.out.push_str("# EOF\n");
        }
        self.out
    }
}

/// A bucket's bound in OpenMetrics' canonical form: `0.0001`, `1.0`, `1e-05`.
fn bound_text(bound: f64) -> String {
    // Nine digits: what a multiplication left behind them is no part of it.
    let bound: f64 = format!("{bound:.9}").parse().unwrap_or(bound);
    let text = format!("{bound:?}");
    match text.split_once("e-") {
        Some((mantissa, exponent)) => format!("{mantissa}e-{exponent:0>2}"),
        None => text,
    }
}

/// A label's value, escaped.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '\\' => f.write_str("\\\\"),
                '"' => f.write_str("\\\""),
                '\n' => f.write_str("\\n"),
                other => f.write_char(other),
            }?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::histogram::{BATCH, Histogram, OVERHEAD, REQUEST};

    #[test]
    fn a_label_cannot_break_out_of_its_quotes() {
        let mut text = Text::new(Format::OpenMetrics);
        text.family("config", Kind::Info, "What is in effect");
        text.number(&[("sha256", "a\"b\\c\nd")], 1);
        assert_eq!(
            text.finish(),
            "# HELP alloy_gateway_config What is in effect\n\
             # TYPE alloy_gateway_config info\n\
             alloy_gateway_config_info{sha256=\"a\\\"b\\\\c\\nd\"} 1\n\
             # EOF\n"
        );
    }

    /// OpenMetrics: "The Number Format of le: … canonical".
    #[test]
    fn bounds_are_canonical_numbers_of_seconds() {
        let text = |bounds: &[u64]| {
            let bounds = bounds.iter().map(|bound| bound_text(*bound as f64 * 1e-9));
            bounds.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(
            text(&OVERHEAD),
            "1e-05 2.5e-05 5e-05 0.0001 0.00025 0.0005 0.001 0.0025 0.005 0.01 0.05"
        );
        assert_eq!(
            text(&REQUEST),
            "0.0005 0.001 0.0025 0.005 0.01 0.025 0.05 0.075 0.1 0.25 0.5 0.75 1.0 2.5 5.0 7.5 10.0"
        );
    }

    #[test]
    fn buckets_are_cumulative_and_end_with_the_count() {
        let histogram = Histogram::new(&BATCH);
        for value in [1, 3, 5000] {
            histogram.observe(value);
        }
        let mut text = Text::new(Format::Prometheus);
        text.family("audit_batch_size", Kind::Histogram, "Records of a write");
        text.numbers(&[], &Merged::of(&BATCH, [&histogram]));
        let text = text.finish();
        for line in [
            "alloy_gateway_audit_batch_size_bucket{le=\"1.0\"} 1",
            "alloy_gateway_audit_batch_size_bucket{le=\"2.0\"} 1",
            "alloy_gateway_audit_batch_size_bucket{le=\"1024.0\"} 2",
            "alloy_gateway_audit_batch_size_bucket{le=\"+Inf\"} 3",
            "alloy_gateway_audit_batch_size_count 3",
            "alloy_gateway_audit_batch_size_sum 5004",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in {text}");
        }
    }
}
