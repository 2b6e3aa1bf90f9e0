//! Interim (1xx) answers: skipped up to a small number, as the HTTP library
//! skips them without end. A storm of them would have no end but the deadline.

use std::{error::Error, fmt, io};

/// Interim answers that are skipped before the final one.
const SKIPPED_MAX: u32 = 8;
/// What comes before the status in a status line (RFC 9112 §4).
const BEFORE_STATUS: usize = "HTTP/1.1 ".len();

/// Follows the heads that come before the final answer to one request.
#[derive(Debug, Default)]
pub struct Interim {
    state: State,
    skipped: u32,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    /// So many bytes into a status line.
    StatusLine(usize),
    /// In the head of an interim answer, after so many of the bytes that end it.
    Head(usize),
    /// In the final answer, or between two requests.
    #[default]
    Rest,
}

impl Interim {
    /// A request is being written: what is read next answers it.
    pub fn begin(&mut self) {
        self.state = State::StatusLine(0);
        self.skipped = 0;
    }

    /// Takes the next bytes that were read.
    ///
    /// # Errors
    ///
    /// If too many interim answers came.
    pub fn see(&mut self, bytes: &[u8]) -> io::Result<()> {
        for byte in bytes {
            self.state = match (self.state, byte) {
                (State::Rest, _) => return Ok(()),
                // The library skips empty lines before a status line.
                (State::StatusLine(0), b'\r' | b'\n') => State::StatusLine(0),
                (State::StatusLine(BEFORE_STATUS), b'1') => {
                    self.skipped += 1;
                    if self.skipped > SKIPPED_MAX {
                        return Err(io::Error::new(io::ErrorKind::InvalidData, Storm));
                    }
                    State::Head(0)
                }
                (State::StatusLine(BEFORE_STATUS), _) => State::Rest,
                (State::StatusLine(at), _) => State::StatusLine(at + 1),
                // An empty line ends a head; the library takes a bare LF too.
                (State::Head(1), b'\n') => State::StatusLine(0),
                (State::Head(_), b'\n') => State::Head(1),
                (State::Head(line_ended), b'\r') => State::Head(line_ended),
                (State::Head(_), _) => State::Head(0),
            };
        }
        Ok(())
    }
}

/// Whether it was a storm of interim answers that ended a connection.
pub fn is_storm(error: &hyper::Error) -> bool {
    error
        .source()
        .and_then(|source| source.downcast_ref::<io::Error>())
        .and_then(io::Error::get_ref)
        .is_some_and(|inner| inner.is::<Storm>())
}

#[derive(Debug)]
struct Storm;

impl Error for Storm {}

impl fmt::Display for Storm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("too many interim answers")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERIM: &str = "HTTP/1.1 103 Early Hints\r\nlink: </a>; rel=b\r\n\r\n";
    const FINAL: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

    /// Whatever the pieces, the verdict is the same.
    fn is_refused(answer: &str) -> bool {
        let seen = |piece_bytes: usize| {
            let mut interim = Interim::default();
            interim.begin();
            let mut pieces = answer.as_bytes().chunks(piece_bytes);
            pieces.any(|piece| interim.see(piece).is_err())
        };
        let whole = seen(answer.len());
        assert_eq!(whole, seen(1));
        assert_eq!(whole, seen(7));
        whole
    }

    #[test]
    fn a_few_interim_answers_pass_and_a_storm_does_not() {
        assert!(!is_refused(FINAL));
        let skipped = usize::try_from(SKIPPED_MAX).unwrap();
        assert!(!is_refused(&(INTERIM.repeat(skipped) + FINAL)));
        assert!(is_refused(&(INTERIM.repeat(skipped + 1) + FINAL)));
        assert!(is_refused(&"HTTP/1.1 100\n\n".repeat(skipped + 1)));
        for empty in ["\n", "\r\n", "\n\r\n\n"] {
            assert!(is_refused(&format!("{empty}{INTERIM}").repeat(skipped + 1)));
        }
    }

    #[test]
    fn what_looks_interim_in_a_body_is_not() {
        assert!(!is_refused(&(FINAL.to_owned() + &INTERIM.repeat(50))));
        let mut interim = Interim::default();
        // Nothing was asked: the library has its own word for what comes then.
        assert!(interim.see(INTERIM.repeat(50).as_bytes()).is_ok());
    }
}
