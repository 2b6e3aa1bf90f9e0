//! A look at the raw bytes of a connection, for what the HTTP library hides.
//!
//! hyper 1.12 takes some heads that a gateway must refuse, and does not show
//! the service that it did (read in its `proto/h1/role.rs` and in `http::Uri`):
//!
//! - `Content-Length` beside `Transfer-Encoding`: the length is removed. A
//!   proxy before us may have framed the message by it (RFC 9112 §6.1).
//! - a fragment (`#…`) in the request target: cut off (RFC 9112 §3.2 has none).
//! - a bare LF in a trailer: taken for a part of the field, where others see its
//!   end, so that the two differ about where the next request begins.
//!
//! - empty lines before a request (RFC 9112 §2.2): kept until one comes. For hyper
//!   they have begun it, so that it does not close such a connection at the end.
//!
//! The guard follows the framing of HTTP/1.1 just far enough to know where heads
//! are. But for those empty lines it only ever makes the gateway refuse: what it lets
//! pass is still parsed by hyper, and what it can't follow ends the connection there.

use super::progress::Seen;

/// So many bytes of empty lines may stand before a request: a few are a habit of old
/// clients, thousands cost us work and nobody else anything.
const EMPTY_BYTES_MAX: usize = 1024;

/// Follows the bytes of one HTTP/1.1 connection.
#[derive(Debug, Default)]
pub struct HeadGuard {
    state: State,
    head: Head,
    /// How many of the bytes seen last are empty lines before a request.
    empty: usize,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    BeforeRequest,
    /// A carriage return before a request, of an empty line if a line feed follows.
    EmptyLineCr,
    RequestLine,
    LineStart,
    Name,
    Value,
    Body {
        left: u64,
    },
    ChunkSize {
        size: u64,
        in_extension: bool,
    },
    ChunkData {
        left: u64,
    },
    TrailerStart,
    Trailer,
    /// A carriage return ended a trailer field, or `ends` all of them.
    TrailerCr {
        ends: bool,
    },
    Malformed(&'static str),
    /// Not HTTP any more; hyper says so by itself.
    Lost,
}

/// What matters of the head being read.
#[derive(Debug, Default)]
struct Head {
    name: Name,
    length: Option<u64>,
    chunked: bool,
    fragment: bool,
    digits: Digits,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Digits {
    #[default]
    None,
    Some(u64),
    Bad,
}

/// The beginning of a field name, in lower case.
#[derive(Debug, Default)]
struct Name {
    bytes: [u8; Self::KEPT],
    len: usize,
}

impl Name {
    /// One more than the longest name that matters, `transfer-encoding`.
    const KEPT: usize = 18;

    fn push(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(self.len) {
            *place = byte.to_ascii_lowercase();
            self.len += 1;
        }
    }

    fn is(&self, name: &[u8]) -> bool {
        self.bytes.get(..self.len) == Some(name)
    }
}

impl HeadGuard {
    /// How many of the bytes seen last stand before a request and say nothing: empty
    /// lines, or the carriage return that begins one.
    pub fn empty(&self) -> usize {
        self.empty
    }

    /// Whether the last byte that was seen is a carriage return before a request, of
    /// which the next one says whether it belongs there.
    pub fn is_within_empty_line(&self) -> bool {
        self.state == State::EmptyLineCr
    }

    /// Whether there are more empty lines than anybody has a use for.
    pub fn is_flood(&self) -> bool {
        self.empty > EMPTY_BYTES_MAX
    }

    /// Takes the next bytes of the connection.
    pub fn see(&mut self, mut bytes: &[u8]) -> Seen {
        while let [first, rest @ ..] = bytes {
            bytes = match self.state {
                State::Body { left } => self.skip(left, bytes, State::BeforeRequest, |left| {
                    State::Body { left }
                }),
                State::ChunkData { left } => {
                    let next = State::ChunkSize {
                        size: 0,
                        in_extension: false,
                    };
                    self.skip(left, bytes, next, |left| State::ChunkData { left })
                }
                State::Malformed(_) | State::Lost => break,
                // Of most values only the end matters.
                State::Value if *first != b'\n' && !self.head.name.is(b"content-length") => {
                    let end = memchr::memchr(b'\n', bytes).unwrap_or(bytes.len());
                    bytes.get(end..).unwrap_or_default()
                }
                State::RequestLine if !matches!(first, b'\n' | b'#') => {
                    let end = memchr::memchr2(b'\n', b'#', bytes).unwrap_or(bytes.len());
                    bytes.get(end..).unwrap_or_default()
                }
                _ => {
                    self.state = self.step(*first);
                    rest
                }
            };
        }
        match self.state {
            State::Malformed(what) => Seen::Malformed(what),
            State::RequestLine | State::LineStart | State::Name | State::Value => Seen::PartOfHead,
            _ => Seen::Whole,
        }
    }

    fn skip<'a>(
        &mut self,
        left: u64,
        bytes: &'a [u8],
        then: State,
        more: impl Fn(u64) -> State,
    ) -> &'a [u8] {
        let here = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        let left = left - here as u64;
        self.state = if left == 0 { then } else { more(left) };
        bytes.get(here..).unwrap_or_default()
    }

    fn step(&mut self, byte: u8) -> State {
        match (self.state, byte) {
            (State::BeforeRequest | State::EmptyLineCr, b'\n') => {
                self.empty += 1;
                State::BeforeRequest
            }
            (State::BeforeRequest, b'\r') => {
                self.empty += 1;
                State::EmptyLineCr
            }
            (State::BeforeRequest, _) => {
                self.empty = 0;
                self.head = Head::default();
                State::RequestLine
            }
            // hyper says so by itself.
            (State::EmptyLineCr, _) => {
                self.empty = 0;
                State::Lost
            }
            (State::RequestLine, b'#') => {
                self.head.fragment = true;
                State::RequestLine
            }
            (State::RequestLine | State::Value, b'\n') => {
                self.end_of_line();
                State::LineStart
            }
            (State::RequestLine, _) => State::RequestLine,
            (State::LineStart, b'\n') => self.end_of_head(),
            (State::LineStart, b'\r') => State::LineStart,
            (State::LineStart | State::Name, b':') => State::Value,
            (State::LineStart, other) => {
                self.head.name = Name::default();
                self.head.digits = Digits::None;
                self.head.name.push(other);
                match other.to_ascii_lowercase() {
                    b'c' | b't' => State::Name,
                    // No name that matters: of the rest of the line only the end does.
                    _ => State::Value,
                }
            }
            (State::Name, b'\n') => State::LineStart,
            (State::Name, other) => {
                self.head.name.push(other);
                State::Name
            }
            (State::Value, other) => {
                self.head.digits = self.head.digits.and(other);
                State::Value
            }
            (State::ChunkSize { size, in_extension }, _) => {
                Self::chunk_size(size, in_extension, byte)
            }
            (State::TrailerStart, b'\r') => State::TrailerCr { ends: true },
            (State::Trailer, b'\r') => State::TrailerCr { ends: false },
            (State::TrailerStart | State::Trailer, b'\n') => {
                State::Malformed("a bare LF in a trailer")
            }
            (State::TrailerStart | State::Trailer, _) => State::Trailer,
            (State::TrailerCr { ends: true }, b'\n') => State::BeforeRequest,
            (State::TrailerCr { ends: false }, b'\n') => State::TrailerStart,
            // hyper says so by itself.
            (State::TrailerCr { .. }, _) => State::Lost,
            (
                kept @ (State::Body { .. }
                | State::ChunkData { .. }
                | State::Malformed(_)
                | State::Lost),
                _,
            ) => kept,
        }
    }

    fn end_of_line(&mut self) {
        if self.head.name.is(b"content-length") {
            self.head.length = match self.head.digits {
                Digits::Some(length) => Some(length),
                // hyper refuses these; until then nothing may be skipped.
                Digits::None | Digits::Bad => Some(0),
            };
        } else if self.head.name.is(b"transfer-encoding") {
            self.head.chunked = true;
        }
    }

    fn end_of_head(&mut self) -> State {
        // Said only now, so that hyper has a whole head to be answered to.
        if self.head.fragment {
            return State::Malformed("a fragment in the request target");
        }
        match (self.head.chunked, self.head.length) {
            (true, Some(_)) => State::Malformed("Content-Length beside Transfer-Encoding"),
            (true, None) => State::ChunkSize {
                size: 0,
                in_extension: false,
            },
            (false, Some(left)) if left > 0 => State::Body { left },
            (false, _) => State::BeforeRequest,
        }
    }

    fn chunk_size(size: u64, in_extension: bool, byte: u8) -> State {
        match byte {
            b'\n' if size == 0 => State::TrailerStart,
            // The data and the line end behind it.
            b'\n' => size
                .checked_add(2)
                .map_or(State::Lost, |left| State::ChunkData { left }),
            b'\r' => State::ChunkSize { size, in_extension },
            _ if in_extension => State::ChunkSize { size, in_extension },
            b';' | b' ' | b'\t' => State::ChunkSize {
                size,
                in_extension: true,
            },
            digit => char::from(digit)
                .to_digit(16)
                .and_then(|digit| size.checked_mul(16)?.checked_add(u64::from(digit)))
                .map_or(State::Lost, |size| State::ChunkSize {
                    size,
                    in_extension: false,
                }),
        }
    }
}

impl Digits {
    fn and(self, byte: u8) -> Self {
        match (self, byte) {
            (kept, b' ' | b'\t' | b'\r') => kept,
            (Self::None, b'0'..=b'9') => Self::Some(u64::from(byte - b'0')),
            (Self::Some(value), b'0'..=b'9') => value
                .checked_mul(10)
                .and_then(|value| value.checked_add(u64::from(byte - b'0')))
                .map_or(Self::Bad, Self::Some),
            _ => Self::Bad,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: Seen = Seen::Malformed("Content-Length beside Transfer-Encoding");

    /// However the bytes are cut, the verdict is the same.
    fn verdict(bytes: &[u8]) -> Seen {
        let whole = HeadGuard::default().see(bytes);
        let mut guard = HeadGuard::default();
        let mut last = Seen::Whole;
        for byte in bytes {
            last = guard.see(std::slice::from_ref(byte));
        }
        assert_eq!(whole, last);
        whole
    }

    #[test]
    fn both_framings_are_malformed_in_either_order_and_any_spelling() {
        for head in [
            "DELETE / HTTP/1.1\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
            "DELETE / HTTP/1.1\r\nTRANSFER-ENCODING:chunked\r\nHost: a\r\ncontent-length:0\r\n\r\n",
            "DELETE / HTTP/1.1\nContent-Length: 2\nTransfer-Encoding: identity\n\n",
            "\r\n\r\nGET / HTTP/1.1\r\ncontent-length: x\r\ntransfer-encoding: x\r\n\r\n",
        ] {
            assert_eq!(verdict(head.as_bytes()), BOTH, "{head}");
        }
    }

    #[test]
    fn a_fragment_in_the_target_is_malformed() {
        let seen = verdict(b"DELETE /users/a/credentials/b#c HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(seen, Seen::Malformed("a fragment in the request target"));
    }

    #[test]
    fn bodies_are_skipped_so_that_they_are_not_taken_for_heads() {
        let inside = "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n";
        let fixed = format!(
            "DELETE / HTTP/1.1\r\nContent-Length: {}\r\n\r\n{inside}",
            inside.len()
        );
        let chunked = format!(
            "DELETE / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{:x};a=b\r\n{inside}\r\n0\r\nTrailer: #\r\n\r\n",
            inside.len()
        );
        assert_eq!(verdict(fixed.as_bytes()), Seen::Whole);
        assert_eq!(verdict(chunked.as_bytes()), Seen::Whole);
        // And what comes behind a body is a head again.
        let bad = "DELETE / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(verdict(format!("{fixed}{chunked}{bad}").as_bytes()), BOTH);
    }

    #[test]
    fn a_bare_lf_in_a_trailer_is_malformed() {
        let head = "DELETE / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n";
        for trailer in ["\n", "X-A: b\n\r\n", "X-A: b\r\n\n"] {
            let seen = verdict(format!("{head}{trailer}").as_bytes());
            assert_eq!(
                seen,
                Seen::Malformed("a bare LF in a trailer"),
                "{trailer:?}"
            );
        }
        let good = format!("{head}X-A: b\r\nX-B: c\r\n\r\nDELETE /");
        assert_eq!(verdict(good.as_bytes()), Seen::PartOfHead);
    }

    #[test]
    fn a_head_is_open_until_its_empty_line() {
        let mut guard = HeadGuard::default();
        assert_eq!(guard.see(b""), Seen::Whole);
        assert_eq!(guard.see(b"D"), Seen::PartOfHead);
        assert_eq!(
            guard.see(b"ELETE / HTTP/1.1\r\nHost: a\r\n"),
            Seen::PartOfHead
        );
        assert_eq!(guard.see(b"\r\n"), Seen::Whole);
    }

    #[test]
    fn empty_lines_are_those_before_a_request_alone() {
        let empty = |bytes: &[u8]| {
            let mut guard = HeadGuard::default();
            guard.see(bytes);
            (guard.empty(), guard.is_within_empty_line())
        };
        let head = "DELETE / HTTP/1.1\r\n";
        assert_eq!(empty(b"\r\n\n\r"), (4, true));
        assert_eq!(empty(b"\r\nD"), (0, false));
        assert_eq!(empty(format!("{head}\r\n").as_bytes()), (0, false));
        assert_eq!(empty(format!("{head}\r\n\r\n").as_bytes()), (2, false));
        let body = format!("{head}Content-Length: 2\r\n\r\n\r\n");
        assert_eq!(empty(body.as_bytes()), (0, false));
        assert_eq!(empty(format!("{body}\r").as_bytes()), (1, true));
        let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
        assert_eq!(empty(chunked.as_bytes()), (0, false));
        assert_eq!(empty(format!("{chunked}\n").as_bytes()), (1, false));
        // Of what hyper refuses nothing is kept.
        for refused in ["\r\r\n", "\r\n\r \r\n"] {
            assert_eq!(empty(refused.as_bytes()), (0, false), "{refused:?}");
        }
        let bad = format!("{head}Content-Length: 1\r\nTransfer-Encoding: x\r\n\r\n\r\n");
        assert_eq!(empty(bad.as_bytes()), (0, false));
    }

    #[test]
    fn names_that_only_begin_alike_do_not_matter() {
        let head = "DELETE / HTTP/1.1\r\nContent-Length-Of: 1\r\nTransfer-Encodings: chunked\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(verdict(head.as_bytes()), Seen::Whole);
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_depend_on_how_they_are_cut(bytes: Vec<u8>) {
            verdict(&bytes);
        }
    }
}
