//! The store's protocol (RESP 2), as much of it as is spoken here.

use bytes::{Buf, BytesMut};

/// The longest answer that is read, in bytes: a table of some ten thousand names.
pub const REPLY_BYTES_MAX: usize = 4 << 20;
/// How deep answers nest: `CLUSTER SLOTS` comes to 4.
const DEPTH_MAX: u32 = 6;

/// An answer of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// A text, of either kind.
    Text(Vec<u8>),
    /// A whole number.
    Number(i64),
    /// What the store has against the command.
    Error(String),
    /// Several answers.
    List(Vec<Reply>),
    /// Nothing there.
    Nothing,
}

/// Bytes that are no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

impl Reply {
    /// The text, if it is one.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => std::str::from_utf8(text).ok(),
            _ => None,
        }
    }

    /// The number, if it is one.
    pub fn number(&self) -> Option<i64> {
        match self {
            Self::Number(number) => Some(*number),
            _ => None,
        }
    }

    /// The list; of anything else an empty one.
    pub fn list(&self) -> &[Reply] {
        match self {
            Self::List(list) => list,
            _ => &[],
        }
    }

    /// The first word of an error, such as `NOSCRIPT`.
    pub fn error_kind(&self) -> Option<&str> {
        match self {
            Self::Error(text) => text.split(' ').next(),
            _ => None,
        }
    }
}

/// Begins a command of so many parts.
pub fn begin(out: &mut BytesMut, parts: usize) {
    count(out, b'*', parts);
}

/// One part of a command.
pub fn part(out: &mut BytesMut, bytes: &[u8]) {
    count(out, b'$', bytes.len());
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

/// One part of a command: a whole number.
pub fn number(out: &mut BytesMut, number: u64) {
    part(out, itoa::Buffer::new().format(number).as_bytes());
}

/// A whole command.
pub fn command(out: &mut BytesMut, parts: &[&[u8]]) {
    begin(out, parts.len());
    for bytes in parts {
        part(out, bytes);
    }
}

fn count(out: &mut BytesMut, kind: u8, count: usize) {
    out.extend_from_slice(&[kind]);
    out.extend_from_slice(itoa::Buffer::new().format(count).as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Takes one answer from the front of `input`, once it is there as a whole.
///
/// # Errors
///
/// If it is none, or longer than [`REPLY_BYTES_MAX`].
pub fn take(input: &mut BytesMut) -> Result<Option<Reply>, Malformed> {
    let mut rest: &[u8] = input;
    match parse(&mut rest, 0)? {
        Some(reply) => {
            let taken = input.len() - rest.len();
            input.advance(taken);
            Ok(Some(reply))
        }
        None if input.len() > REPLY_BYTES_MAX => Err(Malformed),
        None => Ok(None),
    }
}

fn parse(rest: &mut &[u8], depth: u32) -> Result<Option<Reply>, Malformed> {
    let Some(end) = memchr::memchr(b'\n', rest) else {
        return Ok(None);
    };
    let (line, after) = rest.split_at_checked(end + 1).ok_or(Malformed)?;
    let line = line.strip_suffix(b"\r\n").ok_or(Malformed)?;
    let (kind, line) = line.split_first().ok_or(Malformed)?;
    *rest = after;
    let whole = || -> Result<i64, Malformed> {
        let text = std::str::from_utf8(line).map_err(|_| Malformed)?;
        text.parse().map_err(|_| Malformed)
    };
    Ok(Some(match kind {
        b'+' => Reply::Text(line.to_vec()),
        b'-' => Reply::Error(String::from_utf8_lossy(line).into_owned()),
        b':' => Reply::Number(whole()?),
        b'$' => match usize::try_from(whole()?) {
            Err(_) => Reply::Nothing,
            Ok(length) if length > REPLY_BYTES_MAX => return Err(Malformed),
            Ok(length) => {
                let Some((text, after)) = rest.split_at_checked(length) else {
                    return Ok(None);
                };
                if after.len() < 2 {
                    return Ok(None);
                }
                *rest = after.strip_prefix(b"\r\n").ok_or(Malformed)?;
                Reply::Text(text.to_vec())
            }
        },
        b'*' => match usize::try_from(whole()?) {
            Err(_) => Reply::Nothing,
            // Each entry takes at least four bytes.
            Ok(length) if length > REPLY_BYTES_MAX / 4 || depth == DEPTH_MAX => {
                return Err(Malformed);
            }
            Ok(length) => {
                let mut list = Vec::with_capacity(length.min(64));
                for _ in 0..length {
                    match parse(rest, depth + 1)? {
                        Some(reply) => list.push(reply),
                        None => return Ok(None),
                    }
                }
                Reply::List(list)
            }
        },
        _ => return Err(Malformed),
    }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reply() -> impl Strategy<Value = Reply> {
        let leaf = prop_oneof![
            any::<i64>().prop_map(Reply::Number),
            proptest::collection::vec(any::<u8>(), 0..20).prop_map(Reply::Text),
            "[A-Z]{1,8} [a-z ]{0,8}".prop_map(Reply::Error),
            Just(Reply::Nothing),
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            proptest::collection::vec(inner, 0..4).prop_map(Reply::List)
        })
    }

    fn write(reply: &Reply, out: &mut BytesMut) {
        match reply {
            Reply::Text(text) => part(out, text),
            Reply::Number(number) => out.extend_from_slice(format!(":{number}\r\n").as_bytes()),
            Reply::Error(text) => out.extend_from_slice(format!("-{text}\r\n").as_bytes()),
            Reply::Nothing => out.extend_from_slice(b"$-1\r\n"),
            Reply::List(list) => {
                begin(out, list.len());
                list.iter().for_each(|reply| write(reply, out));
            }
        }
    }

    proptest! {
        #[test]
        fn an_answer_is_read_back_however_it_is_cut(replies in proptest::collection::vec(reply(), 1..5), step in 1_usize..9) {
            let mut bytes = BytesMut::new();
            replies.iter().for_each(|reply| write(reply, &mut bytes));
            let (mut input, mut found) = (BytesMut::new(), Vec::new());
            for piece in bytes.chunks(step) {
                input.extend_from_slice(piece);
                while let Some(reply) = take(&mut input).unwrap() {
                    found.push(reply);
                }
            }
            prop_assert_eq!(found, replies);
            prop_assert!(input.is_empty());
        }

        #[test]
        fn any_bytes_are_an_answer_or_none_but_never_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut input = BytesMut::from(&bytes[..]);
            while let Ok(Some(_)) = take(&mut input) {}
        }
    }

    #[test]
    fn what_is_no_answer_or_too_long_is_told() {
        for bad in [
            "x\r\n",
            "+text\n",
            ":1x\r\n",
            "$3\r\nabcde",
            "$99999999\r\n",
            "*99999999\r\n",
            "\r\n",
        ] {
            assert_eq!(take(&mut BytesMut::from(bad)), Err(Malformed), "{bad:?}");
        }
        let deep = "*1\r\n".repeat(9);
        assert_eq!(take(&mut BytesMut::from(&*deep)), Err(Malformed));
    }

    #[test]
    fn a_command_is_its_parts() {
        let mut out = BytesMut::new();
        begin(&mut out, 2);
        part(&mut out, b"GET");
        number(&mut out, 12);
        assert_eq!(&out[..], b"*2\r\n$3\r\nGET\r\n$2\r\n12\r\n");
    }
}
