//! The store's protocol (RESP 2), as much of it as is spoken here.

use bytes::{Buf, BytesMut};

/// The longest answer that is read, in bytes: a table of some ten thousand names.
pub const REPLY_BYTES_MAX: usize = 4 << 20;
/// How deep answers nest: `CLUSTER SLOTS` comes to 4.
const DEPTH_MAX: usize = 6;

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

/// Reads answers out of bytes as they come. Each byte is looked at once, or twice,
/// however small the pieces are that a long answer comes in.
#[derive(Debug, Default)]
pub struct Reader {
    input: BytesMut,
    /// How much of `input` is known to hold no end of a line.
    searched: usize,
    /// The text that has begun, and how long it is.
    text: Option<usize>,
    /// Lists that have begun, the outermost first.
    lists: Vec<Begun>,
    /// The bytes of the answer that has begun, as far as they were read.
    taken: usize,
}

/// A list, and how many entries it still wants.
#[derive(Debug)]
struct Begun {
    list: Vec<Reply>,
    missing: usize,
}

/// What a line says.
enum Said {
    Reply(Reply),
    /// So many bytes follow.
    Text(usize),
    /// So many answers follow.
    List(usize),
}

impl Reader {
    /// More bytes have come.
    pub fn add(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
    }

    /// The next answer, once it is there as a whole.
    ///
    /// # Errors
    ///
    /// If it is none, or longer than [`REPLY_BYTES_MAX`].
    pub fn take(&mut self) -> Result<Option<Reply>, Malformed> {
        while let Some(reply) = self.leaf()? {
            if let Some(reply) = self.file(reply) {
                self.taken = 0;
                return Ok(Some(reply));
            }
        }
        match self.taken + self.input.len() > REPLY_BYTES_MAX {
            true => Err(Malformed),
            false => Ok(None),
        }
    }

    /// The next answer that holds no others; those that do are begun on the way.
    fn leaf(&mut self) -> Result<Option<Reply>, Malformed> {
        loop {
            if let Some(length) = self.text {
                return self.rest_of_text(length);
            }
            match self.line()? {
                None => return Ok(None),
                Some(Said::Reply(reply)) => return Ok(Some(reply)),
                Some(Said::Text(length)) => self.text = Some(length),
                Some(Said::List(0)) => return Ok(Some(Reply::List(Vec::new()))),
                Some(Said::List(_)) if self.lists.len() >= DEPTH_MAX => return Err(Malformed),
                Some(Said::List(missing)) => self.lists.push(Begun {
                    list: Vec::with_capacity(missing.min(64)),
                    missing,
                }),
            }
        }
    }

    fn line(&mut self) -> Result<Option<Said>, Malformed> {
        let fresh = self.input.get(self.searched..).unwrap_or_default();
        let Some(end) = memchr::memchr(b'\n', fresh) else {
            self.searched = self.input.len();
            return Ok(None);
        };
        let end = self.searched + end + 1;
        let said = said(self.input.get(..end).unwrap_or_default());
        self.searched = 0;
        self.go_on(end);
        said.map(Some)
    }

    fn rest_of_text(&mut self, length: usize) -> Result<Option<Reply>, Malformed> {
        let Some(text) = self.input.get(..length + 2) else {
            return Ok(None);
        };
        let text = text.strip_suffix(b"\r\n").ok_or(Malformed)?.to_vec();
        self.text = None;
        self.go_on(length + 2);
        Ok(Some(Reply::Text(text)))
    }

    fn go_on(&mut self, bytes: usize) {
        self.taken += bytes;
        self.input.advance(bytes);
    }

    /// Puts an answer where it belongs; returns the whole that it completes, if it does.
    fn file(&mut self, mut reply: Reply) -> Option<Reply> {
        while let Some(mut begun) = self.lists.pop() {
            begun.list.push(reply);
            begun.missing -= 1;
            if begun.missing > 0 {
                self.lists.push(begun);
                return None;
            }
            reply = Reply::List(begun.list);
        }
        Some(reply)
    }
}

fn said(line: &[u8]) -> Result<Said, Malformed> {
    let line = line.strip_suffix(b"\r\n").ok_or(Malformed)?;
    let (kind, line) = line.split_first().ok_or(Malformed)?;
    let whole = || -> Result<i64, Malformed> {
        let text = std::str::from_utf8(line).map_err(|_| Malformed)?;
        text.parse().map_err(|_| Malformed)
    };
    // Each entry of a list takes at least four bytes.
    let length = |max: usize| match usize::try_from(whole()?) {
        Ok(length) if length > max => Err(Malformed),
        length => Ok(length.ok()),
    };
    let nothing = Said::Reply(Reply::Nothing);
    Ok(match kind {
        b'+' => Said::Reply(Reply::Text(line.to_vec())),
        b'-' => Said::Reply(Reply::Error(String::from_utf8_lossy(line).into_owned())),
        b':' => Said::Reply(Reply::Number(whole()?)),
        b'$' => length(REPLY_BYTES_MAX)?.map_or(nothing, Said::Text),
        b'*' => length(REPLY_BYTES_MAX / 4)?.map_or(nothing, Said::List),
        _ => return Err(Malformed),
    })
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
            let (mut reader, mut found) = (Reader::default(), Vec::new());
            for piece in bytes.chunks(step) {
                reader.add(piece);
                while let Some(reply) = reader.take().unwrap() {
                    found.push(reply);
                }
            }
            prop_assert_eq!(found, replies);
            prop_assert!(reader.input.is_empty() && reader.lists.is_empty());
            prop_assert_eq!((reader.searched, reader.text, reader.taken), (0, None, 0));
        }

        #[test]
        fn any_bytes_are_an_answer_or_none_but_never_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut reader = Reader::default();
            reader.add(&bytes);
            while let Ok(Some(_)) = reader.take() {}
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
            assert_eq!(first(bad.as_bytes()), Err(Malformed), "{bad:?}");
        }
        let deep = "*1\r\n".repeat(9);
        assert_eq!(first(deep.as_bytes()), Err(Malformed));
        // Neither a line nor a list without an end is kept for ever.
        let line = [b"+".to_vec(), vec![b'x'; REPLY_BYTES_MAX]].concat();
        assert_eq!(first(&line), Err(Malformed));
        let list = [b"*900000\r\n".to_vec(), b"+abc\r\n".repeat(700_000)].concat();
        assert!(list.len() > REPLY_BYTES_MAX);
        assert_eq!(first(&list), Err(Malformed));
    }

    fn first(bytes: &[u8]) -> Result<Option<Reply>, Malformed> {
        let mut reader = Reader::default();
        reader.add(bytes);
        reader.take()
    }

    /// Not by the clock: what is looked at again is what stays in `input`.
    #[test]
    fn nothing_of_a_long_answer_is_read_twice_however_it_comes() {
        let mut bytes = BytesMut::new();
        begin(&mut bytes, 20_000);
        for n in 0..20_000 {
            part(&mut bytes, format!("tenant:{n}").as_bytes());
        }
        let (mut reader, mut replies) = (Reader::default(), 0);
        for piece in bytes.chunks(7) {
            reader.add(piece);
            replies += usize::from(reader.take().unwrap().is_some());
            assert!(reader.input.len() < 32, "{}", reader.input.len());
        }
        assert_eq!(replies, 1);
        // Nor of a text, or a line: where to go on is known.
        reader.add(b"$100\r\nabc");
        assert_eq!((reader.take(), reader.text), (Ok(None), Some(100)));
        let mut reader = Reader::default();
        reader.add(b"+abc");
        assert_eq!((reader.take(), reader.searched), (Ok(None), 4));
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
