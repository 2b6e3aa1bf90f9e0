//! A chunked body (RFC 9112 §7.1), without its chunks. Extensions and trailers are
//! dropped; whatever else differs from the grammar ends the answer.

use crate::pipeline::outcome::BODY_BYTES_MAX;

/// What extensions and trailers of one body may have, in bytes.
const DROPPED_BYTES_MAX: usize = 16 << 10;
/// The most digits of a chunk's size: leading zeros must not go on for ever.
const DIGITS_MAX: u8 = 16;

/// Follows the chunks of one body.
#[derive(Debug, Default)]
pub struct Chunks {
    state: State,
    dropped: usize,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Size { size: usize, digits: u8 },
    Extension { size: usize },
    SizeLf { size: usize },
    Data { left: usize },
    DataCr,
    DataLf,
    TrailerStart,
    Trailer,
    TrailerLf,
    EndLf,
}

impl Default for State {
    fn default() -> Self {
        Self::Size { size: 0, digits: 0 }
    }
}

impl Chunks {
    /// Takes the next bytes and adds what they hold of the body to `body`; once it
    /// is whole, the bytes that follow it.
    ///
    /// # Errors
    ///
    /// What is wrong with the chunks.
    pub fn take<'a>(
        &mut self,
        mut bytes: &'a [u8],
        body: &mut Vec<u8>,
    ) -> Result<Option<&'a [u8]>, &'static str> {
        while let [byte, rest @ ..] = bytes {
            if let State::Data { left } = self.state {
                let (data, rest) = bytes.split_at(left.min(bytes.len()));
                body.extend_from_slice(data);
                self.state = match left - data.len() {
                    0 => State::DataCr,
                    left => State::Data { left },
                };
                bytes = rest;
                continue;
            }
            if matches!((self.state, byte), (State::EndLf, b'\n')) {
                return Ok(Some(rest));
            }
            self.state = self.step(*byte, body.len())?;
            bytes = rest;
        }
        Ok(None)
    }

    fn step(&mut self, byte: u8, so_far: usize) -> Result<State, &'static str> {
        Ok(match (self.state, byte) {
            (State::Size { size, digits }, digit) if digit.is_ascii_hexdigit() => {
                let digit = char::from(digit).to_digit(16).unwrap_or_default();
                let size = size.saturating_mul(16).saturating_add(digit as usize);
                if size.saturating_add(so_far) > BODY_BYTES_MAX {
                    return Err("the answer's body is longer than 1 MiB");
                }
                if digits == DIGITS_MAX {
                    return Err("a chunk's size has too many digits");
                }
                State::Size {
                    size,
                    digits: digits + 1,
                }
            }
            (State::Size { size, digits: 1.. } | State::Extension { size }, b'\r') => {
                State::SizeLf { size }
            }
            (State::Size { size, digits: 1.. }, b';' | b' ' | b'\t') => State::Extension { size },
            (kept @ (State::Extension { .. } | State::Trailer), other) if !is_end(other) => {
                self.drop_one()?;
                kept
            }
            (State::SizeLf { size: 0 }, b'\n') => State::TrailerStart,
            (State::SizeLf { size }, b'\n') => State::Data { left: size },
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::default(),
            (State::TrailerStart, b'\r') => State::EndLf,
            (State::TrailerStart, other) if !is_end(other) => {
                self.drop_one()?;
                State::Trailer
            }
            (State::Trailer, b'\r') => State::TrailerLf,
            (State::TrailerLf, b'\n') => State::TrailerStart,
            _ => return Err("the answer's chunks are not framed as they must be"),
        })
    }

    fn drop_one(&mut self) -> Result<(), &'static str> {
        self.dropped += 1;
        if self.dropped > DROPPED_BYTES_MAX {
            return Err("the answer's chunks have too many extensions or trailers");
        }
        Ok(())
    }
}

fn is_end(byte: u8) -> bool {
    matches!(byte, b'\r' | b'\n')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The body and what follows it; however the bytes are cut, it is the same.
    fn read(bytes: &[u8]) -> Result<Option<(Vec<u8>, usize)>, &'static str> {
        let mut body = Vec::new();
        let whole = Chunks::default().take(bytes, &mut body);
        let whole = whole.map(|rest| rest.map(|rest| (body, rest.len())));
        let (mut chunks, mut body) = (Chunks::default(), Vec::new());
        let mut cut = Ok(None);
        for (at, byte) in bytes.iter().enumerate() {
            match chunks.take(std::slice::from_ref(byte), &mut body) {
                Ok(None) => {}
                Ok(Some(_)) => {
                    cut = Ok(Some((body, bytes.len() - at - 1)));
                    break;
                }
                Err(why) => {
                    cut = Err(why);
                    break;
                }
            }
        }
        assert_eq!(whole, cut, "{:?}", String::from_utf8_lossy(bytes));
        whole
    }

    #[test]
    fn bodies_are_put_together_and_extensions_and_trailers_dropped() {
        for (text, rest) in [
            ("5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", 0),
            ("0005 ;a=b\r\nhello\r\n6\t\r\n world\r\n0\r\n\r\n", 0),
            (
                "5\r\nhello\r\n6\r\n world\r\n0;x\r\nA: b\r\nC: d\r\n\r\nHTTP",
                4,
            ),
        ] {
            let found = read(text.as_bytes());
            assert_eq!(found, Ok(Some((b"hello world".to_vec(), rest))), "{text:?}");
        }
        assert_eq!(read(b"5\r\nhello\r\n"), Ok(None));
    }

    #[test]
    fn what_differs_from_the_grammar_ends_the_answer() {
        for text in [
            "\r\n",
            " 5\r\nhello\r\n",
            ";a\r\n",
            "zz\r\n",
            "-1\r\n",
            "5\nhello\r\n0\r\n\r\n",
            "5\r\nhello0\r\n\r\n",
            "5\r\nhello\n0\r\n\r\n",
            "5;a\n\r\nhello\r\n",
            "0\r\nA: b\n\r\n",
            "0\r\n\n",
            "0\r\n\rX",
            "00000000000000000\r\n\r\n",
            "100001\r\n",
            "ffffffffffffffff\r\n",
        ] {
            assert!(read(text.as_bytes()).is_err(), "{text:?}");
        }
        let longest = "a".repeat(DROPPED_BYTES_MAX);
        assert!(read(format!("0;{longest}\r\n\r\n").as_bytes()).is_ok());
        assert!(read(format!("0;{longest}a\r\n\r\n").as_bytes()).is_err());
        assert!(read(format!("0;a\r\n{longest}\r\n\r\n").as_bytes()).is_err());
    }

    #[test]
    fn all_chunks_together_are_bounded() {
        let half = format!("80000\r\n{}\r\n", "a".repeat(0x8_0000));
        assert!(read(format!("{half}{half}0\r\n\r\n").as_bytes()).is_ok());
        assert!(read(format!("{half}{half}1\r\na\r\n0\r\n\r\n").as_bytes()).is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_depend_on_how_they_are_cut(bytes: Vec<u8>) {
            let _ = read(&bytes);
        }

        #[test]
        fn nothing_like_chunks_does_either(text in "([0-9a-f]{0,2};?x?\r?\n?[ab]{0,3}){0,6}") {
            let _ = read(text.as_bytes());
        }
    }
}
