//! One log line as it is put together: straight into a buffer, without anything
//! in between.

use std::{fmt, io::Write, net::IpAddr, str};

use jiff::Timestamp;

/// The longest text of one field, in characters: callers can influence some.
const TEXT_MAX: usize = 256;

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One flat JSON object.
    Json,
    /// `time LEVEL message key=value …`
    Text,
}

/// A line that is being put together at the end of a buffer.
#[derive(Debug)]
pub struct Line<'a> {
    out: &'a mut Vec<u8>,
    format: Format,
}

/// What everything about a line begins with.
#[derive(Debug, Clone, Copy)]
pub struct Opening<'a> {
    /// `2026-11-23T18:22:53`
    pub second: &'a [u8],
    /// Microseconds of it.
    pub micros: u32,
    /// `info`
    pub level: &'static str,
}

/// Writes the name of a field that is known when the program is built.
macro_rules! field {
    ($line:expr, $name:literal) => {
        $line.raw_key(concat!(",\"", $name, "\":"), concat!(" ", $name, "="))
    };
}
pub(crate) use field;

impl<'a> Line<'a> {
    /// Begins a line in JSON, up to where the message stands.
    pub fn begin_json(out: &'a mut Vec<u8>, opening: Opening<'_>) -> Self {
        out.extend_from_slice(b"{\"timestamp\":\"");
        stamp(out, opening);
        out.extend_from_slice(b"\",\"level\":\"");
        out.extend_from_slice(opening.level.as_bytes());
        out.extend_from_slice(b"\",\"message\":");
        Self {
            out,
            format: Format::Json,
        }
    }

    /// Begins a line of text, up to where the message stands.
    pub fn begin_text(out: &'a mut Vec<u8>, opening: Opening<'_>, color: bool) -> Self {
        stamp(out, opening);
        let (before, word, after) = match opening.level {
            "error" => ("\x1b[31m", " ERROR ", "\x1b[0m"),
            "warn" => ("\x1b[33m", "  WARN ", "\x1b[0m"),
            "info" => ("\x1b[32m", "  INFO ", "\x1b[0m"),
            "debug" => ("\x1b[34m", " DEBUG ", "\x1b[0m"),
            _ => ("\x1b[35m", " TRACE ", "\x1b[0m"),
        };
        for part in [before, word, after] {
            if color || part == word {
                out.extend_from_slice(part.as_bytes());
            }
        }
        Self {
            out,
            format: Format::Text,
        }
    }

    /// The message; in text it stands bare, but never with control bytes.
    pub fn message(&mut self, message: &str) {
        match self.format {
            Format::Json => self.text(message),
            Format::Text => escape(self.out, message, TEXT_MAX * 4, false),
        }
    }

    /// Where the line comes from.
    pub fn target(&mut self, target: &str) {
        if self.format == Format::Json {
            field!(self, "target");
            self.text(target);
        }
    }

    /// The name of a field as it stands in both formats.
    pub fn raw_key(&mut self, json: &'static str, text: &'static str) {
        let key = match self.format {
            Format::Json => json,
            Format::Text => text,
        };
        self.out.extend_from_slice(key.as_bytes());
    }

    /// The name of a field.
    pub fn key(&mut self, name: &str) {
        match self.format {
            Format::Json => {
                self.out.push(b',');
                self.text(name);
                self.out.push(b':');
            }
            Format::Text => {
                self.out.push(b' ');
                escape(self.out, name, TEXT_MAX, false);
                self.out.push(b'=');
            }
        }
    }

    /// A text, cut and escaped. In the text format it stands in quotes only where
    /// it has to.
    pub fn text(&mut self, text: &str) {
        let quoted = self.format == Format::Json || text.is_empty() || !text.bytes().all(is_bare);
        if quoted {
            self.out.push(b'"');
        }
        escape(self.out, text, TEXT_MAX, quoted);
        if quoted {
            self.out.push(b'"');
        }
    }

    /// A text that is known to need neither quotes nor escapes: a word of the code,
    /// digits, or a name whose letters the config restricts.
    pub fn plain(&mut self, text: &str) {
        debug_assert!(text.bytes().all(is_bare), "{text}");
        match self.format {
            Format::Json => {
                self.out.push(b'"');
                self.out.extend_from_slice(text.as_bytes());
                self.out.push(b'"');
            }
            Format::Text => self.out.extend_from_slice(text.as_bytes()),
        }
    }

    /// A value that is written without quotes in both formats.
    pub fn bare(&mut self, value: fmt::Arguments<'_>) {
        // Writing to a vector can't fail.
        let _ = self.out.write_fmt(value);
    }

    /// A whole number.
    pub fn number(&mut self, number: u64) {
        decimal(self.out, number);
    }

    /// Microseconds as milliseconds with three decimals.
    pub fn millis(&mut self, micros: u64) {
        decimal(self.out, micros / 1000);
        self.out.push(b'.');
        padded(self.out, micros % 1000, 100);
    }

    /// An IP address.
    pub fn ip(&mut self, ip: IpAddr) {
        let is_json = self.format == Format::Json;
        if is_json {
            self.out.push(b'"');
        }
        match ip {
            IpAddr::V4(ip) => {
                for (at, octet) in ip.octets().into_iter().enumerate() {
                    if at > 0 {
                        self.out.push(b'.');
                    }
                    decimal(self.out, octet.into());
                }
            }
            IpAddr::V6(ip) => self.bare(format_args!("{ip}")),
        }
        if is_json {
            self.out.push(b'"');
        }
    }

    /// The end of the line.
    pub fn end(self) {
        let end: &[u8] = match self.format {
            Format::Json => b"}\n",
            Format::Text => b"\n",
        };
        self.out.extend_from_slice(end);
    }
}

/// The second of a moment as text, `2026-11-23T18:22:53`.
pub fn second(seconds: i64) -> [u8; 19] {
    let mut text = [b'0'; 19];
    let moment = Timestamp::from_second(seconds).unwrap_or(Timestamp::UNIX_EPOCH);
    // Bounded: what does not fit is cut.
    let _ = write!(text.as_mut_slice(), "{moment:.0}");
    text
}

/// Whether a byte needs neither quotes nor an escape in either format.
fn is_bare(b: u8) -> bool {
    b.is_ascii_graphic() && !b"\"=\\".contains(&b)
}

fn stamp(out: &mut Vec<u8>, opening: Opening<'_>) {
    out.extend_from_slice(opening.second);
    out.push(b'.');
    padded(out, opening.micros.into(), 100_000);
    out.push(b'Z');
}

/// A number with as many digits as `highest` has.
fn padded(out: &mut Vec<u8>, number: u64, mut highest: u64) {
    while highest > 0 {
        out.push(digit(number / highest % 10));
        highest /= 10;
    }
}

fn decimal(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut begin = digits.len();
    for place in digits.iter_mut().rev() {
        *place = digit(number % 10);
        begin -= 1;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(begin..).unwrap_or_default());
}

fn digit(value: u64) -> u8 {
    b'0' + u8::try_from(value).unwrap_or(0)
}

/// At most `max` characters. Control characters, those of Unicode (C1) too, are
/// escaped: a line stays one line, and a terminal is not told anything.
fn escape(out: &mut Vec<u8>, text: &str, max: usize, quoted: bool) {
    let is_plain = |b: u8| (0x20..0x7f).contains(&b) && b != b'"' && b != b'\\';
    if text.len() <= max && text.bytes().all(is_plain) {
        out.extend_from_slice(text.as_bytes());
        return;
    }
    for c in text.chars().take(max) {
        match c {
            '"' | '\\' if quoted => {
                out.push(b'\\');
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            }
            '\n' => out.extend_from_slice(b"\\n"),
            '\t' => out.extend_from_slice(b"\\t"),
            c if c.is_control() || is_unseen(c) => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

/// Line and paragraph separators, and what turns the direction of writing.
fn is_unseen(c: char) -> bool {
    matches!(c, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    const OPENING: Opening<'static> = Opening {
        second: b"2026-11-23T18:22:53",
        micros: 42,
        level: "info",
    };

    fn json(fill: impl FnOnce(&mut Line<'_>)) -> Value {
        let mut out = Vec::new();
        let mut line = Line::begin_json(&mut out, OPENING);
        line.message("m");
        fill(&mut line);
        line.end();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text.matches('\n').count(), 1, "{text}");
        assert!(
            text.chars().all(|c| c == '\n' || !c.is_control()),
            "{text:?}"
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn a_line_stays_one_line_of_json_whatever_a_text_holds() {
        let nasty: String = (0..=0xff_u8).map(char::from).collect();
        for text in [
            &*nasty,
            "",
            "\u{2028}\u{202e}x",
            "\"\\",
            "ü€𐍈",
            "\r\n\x1b[31m",
        ] {
            let line = json(|line| {
                line.key(text);
                line.text(text);
            });
            let text: String = text.chars().take(TEXT_MAX).collect();
            assert_eq!(line[&text], text);
        }
    }

    #[test]
    fn texts_are_cut_at_256_characters() {
        let line = json(|line| {
            field!(line, "long");
            line.text(&"ü".repeat(1000));
        });
        assert_eq!(line["long"], "ü".repeat(256));
    }

    #[test]
    fn numbers_times_and_addresses_are_written_as_others_would() {
        for number in [0, 7, 10, 12_345, u64::MAX] {
            let line = json(|line| {
                field!(line, "n");
                line.number(number);
                field!(line, "ms");
                line.millis(number);
            });
            assert_eq!(line["n"], number);
            let millis = line["ms"].as_f64().unwrap();
            let expected = (u128::from(number) as f64) / 1000.0;
            assert!(
                (millis - expected).abs() <= expected * 1e-12,
                "{number} {millis}"
            );
        }
        for ip in ["127.0.0.1", "255.10.0.99", "::1", "2001:db8::ff"] {
            let line = json(|line| {
                field!(line, "ip");
                line.ip(ip.parse().unwrap());
            });
            assert_eq!(line["ip"], ip);
        }
        assert_eq!(&second(1_795_458_173), b"2026-11-23T18:22:53");
        assert_eq!(json(|_| {})["timestamp"], "2026-11-23T18:22:53.000042Z");
    }

    #[test]
    fn a_line_of_text_tells_a_terminal_nothing() {
        let mut out = Vec::new();
        let mut line = Line::begin_text(&mut out, OPENING, false);
        line.message("two\nlines \x1b[31m\u{9b}31m");
        field!(line, "a");
        line.text("b c");
        line.end();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(
            text,
            "2026-11-23T18:22:53.000042Z  INFO two\\nlines \\u001b[31m\\u009b31m a=\"b c\"\n"
        );
    }
}
