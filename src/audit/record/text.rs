//! Times and texts as they stand in a line.

use std::{cell::RefCell, fmt::Write};

use jiff::Timestamp;

/// The longest text of one field, in bytes; what is longer is cut.
pub const TEXT_BYTES_MAX: usize = 256;

/// A time as it stands in the trail: UTC, always six decimals, so that lines sort.
pub fn time(time_us: i64) -> String {
    let mut text = Vec::with_capacity("1970-01-01T00:00:00.000000Z".len());
    write_time(&mut text, time_us);
    String::from_utf8(text).unwrap_or_default()
}

/// Writes a time as [`time`] gives it.
pub fn write_time(out: &mut Vec<u8>, time_us: i64) {
    thread_local! {
        // The second that was written last: most records share it with the one before.
        static SECOND: RefCell<(i64, String)> = const { RefCell::new((i64::MIN, String::new())) };
    }
    let (second, micros) = (time_us.div_euclid(1_000_000), time_us.rem_euclid(1_000_000));
    SECOND.with_borrow_mut(|(known, text)| {
        if *known != second {
            *known = second;
            *text = Timestamp::from_second(second).map_or_else(
                |_| String::new(),
                |time| format!("{time:.0}").trim_end_matches('Z').to_owned(),
            );
        }
        // With a 1 before them, the digits keep their zeros.
        let mut digits = itoa::Buffer::new();
        let micros = digits.format(1_000_000 + micros).get(1..);
        for part in [text, ".", micros.unwrap_or_default(), "Z"] {
            out.extend_from_slice(part.as_bytes());
        }
    });
}

/// Writes a JSON string (RFC 8259 §7), cut at a bound.
pub(super) fn escape(out: &mut String, text: &str) {
    let mut end = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let text = text.get(..end).unwrap_or_default();
    out.push('"');
    // Nearly all text is plain.
    if is_plain(text) {
        out.push_str(text);
        out.push('"');
        return;
    }
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            control if control.is_control() => {
                let _ = write!(out, "\\u{:04x}", u32::from(control));
            }
            other => out.push(other),
        }
    }
    out.push('"');
}

/// Whether a text stands in a line as it is: printable ASCII, without what JSON escapes.
fn is_plain(text: &str) -> bool {
    /// As many bytes as a vector has: they are looked at together.
    const TOGETHER: usize = 16;
    let are_odd = |bytes: &[u8; TOGETHER]| {
        bytes.iter().fold(0, |odd, &b| {
            odd | u8::from(b < b' ')
                | u8::from(b > b'~')
                | u8::from(b == b'"')
                | u8::from(b == b'\\')
        })
    };
    let (whole, rest) = text.as_bytes().as_chunks();
    let mut last = [b' '; TOGETHER];
    for (place, b) in last.iter_mut().zip(rest) {
        *place = *b;
    }
    whole
        .iter()
        .fold(are_odd(&last), |odd, bytes| odd | are_odd(bytes))
        == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::record::Fragment;

    #[test]
    fn times_have_six_decimals_always() {
        assert_eq!(time(0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(time(1_795_458_173_123_456), "2026-11-23T18:22:53.123456Z");
    }

    #[test]
    fn one_odd_character_anywhere_is_seen_and_reads_back() {
        for length in 1..40 {
            for at in 0..length {
                for odd in ['\u{1f}', '\u{7f}', '"', '\\', 'ü'] {
                    let text = format!("{}{odd}{}", "~".repeat(at), " ".repeat(length - at - 1));
                    assert!(!is_plain(&text), "{text:?}");
                    let mut written = String::new();
                    escape(&mut written, &text);
                    let read: String = serde_json::from_str(&written).unwrap();
                    assert_eq!(read, text);
                }
            }
            assert!(is_plain(&"a".repeat(length)));
        }
        assert!(is_plain(""));
    }

    proptest::proptest! {
        #[test]
        fn any_text_reads_back_as_it_was_up_to_the_bound(text: String) {
            let written = Fragment::now("x").text("field", &text).fields;
            let read: serde_json::Value = serde_json::from_str(&format!("{{{}}}", &written[1..])).unwrap();
            let read = read["field"].as_str().unwrap();
            assert!(text.starts_with(read));
            assert!(read.len() == text.len() || read.len() > TEXT_BYTES_MAX - 4);
            assert!(!written.contains('\n'));
        }
    }
}
