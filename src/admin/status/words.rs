//! Figures and texts as people read them.

use std::{
    fmt::{self, Display, Write},
    time::Duration,
};

use jiff::Timestamp;

use super::until;

/// Text that is no HTML.
pub struct Text<'a>(pub &'a str);

impl Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '&' => f.write_str("&amp;"),
                '<' => f.write_str("&lt;"),
                '>' => f.write_str("&gt;"),
                '"' => f.write_str("&quot;"),
                '\'' => f.write_str("&#39;"),
                other => f.write_char(other),
            }?;
        }
        Ok(())
    }
}

/// A time to the second.
pub fn moment(at: Timestamp) -> String {
    format!("{at:.0}")
}

/// How long ago something was.
pub fn since(now: Timestamp, then: Timestamp) -> String {
    span(until(then, now))
}

/// A span in its largest whole unit.
pub fn span(span: Duration) -> String {
    match span.as_secs() {
        0 if span.is_zero() => "0 s".to_owned(),
        0 => format!("{} ms", span.as_millis()),
        seconds @ 1..=119 => format!("{seconds} s"),
        seconds @ 120..=7199 => format!("{} min", seconds / 60),
        seconds @ 7200..=172_799 => format!("{} h", seconds / 3600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

/// Bytes in the unit that gives a small number.
#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
pub fn bytes(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    let digits = usize::from(value < 10.0 && unit > 0);
    format!(
        "{value:.digits$} {}",
        units.get(unit).copied().unwrap_or_default()
    )
}

/// A span in ms or s, with a digit behind the point.
pub fn seconds(seconds: f64) -> String {
    if seconds >= 1.0 {
        format!("{seconds:.1} s")
    } else {
        format!("{:.1} ms", seconds * 1e3)
    }
}

/// A rate, with a digit behind the point where that says something.
pub fn rate(rate: f64) -> String {
    let digits = usize::from(rate < 100.0);
    format!("{rate:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_become_markup() {
        assert_eq!(
            Text("<script>\"a\" & 'b'</script>").to_string(),
            "&lt;script&gt;&quot;a&quot; &amp; &#39;b&#39;&lt;/script&gt;"
        );
    }

    #[test]
    fn figures_are_short() {
        let text = |seconds| span(Duration::from_secs_f64(seconds));
        assert_eq!(
            [0.0, 0.25, 59.0, 3600.0, 86_400.0, 864_000.0].map(text),
            ["0 s", "250 ms", "59 s", "60 min", "24 h", "10 days"]
        );
        assert_eq!(
            [0, 1023, 1536, 10 << 20, u64::MAX].map(bytes),
            ["0 B", "1023 B", "1.5 KiB", "10 MiB", "16384 PiB"]
        );
        assert_eq!(
            [0.0004, 0.0123, 2.0].map(seconds),
            ["0.4 ms", "12.3 ms", "2.0 s"]
        );
    }
}
