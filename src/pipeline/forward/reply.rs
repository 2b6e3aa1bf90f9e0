//! The bytes of an upstream connection → the answer to the one request on it.
//!
//! httparse reads the heads, as it does for hyper; where a body ends is said by
//! RFC 9112 §6.3. This is not hyper's client, since that is a task, two channels
//! and a buffer of 8 KiB for each connection, made for any request and any answer:
//! it cost more than all the gateway's own stages together.

use std::{borrow::Cow, mem::MaybeUninit};

use bytes::Bytes;
use httparse::{Header, ParserConfig, Response, Status};
use memchr::memmem;

use super::chunks::Chunks;
use crate::pipeline::outcome::{BODY_BYTES_MAX, UpstreamAnswer};

/// The largest head of an upstream answer, in bytes.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// The most fields in the head of an upstream answer.
const HEAD_FIELDS_MAX: usize = 100;
/// Interim (1xx) answers that are skipped before the final one.
const INTERIM_MAX: u32 = 8;

/// The answer to one request, as far as it was read.
#[derive(Debug, Default)]
pub struct Reply {
    stage: Stage,
    interim: u32,
}

#[derive(Debug)]
enum Stage {
    /// Before the end of the final head; what was read of one that is not whole.
    Heads(Vec<u8>),
    /// Within the body.
    Body { head: Head, end: End, body: Vec<u8> },
}

impl Default for Stage {
    fn default() -> Self {
        Self::Heads(Vec::new())
    }
}

/// What a head says.
#[derive(Debug)]
struct Head {
    answer: Box<UpstreamAnswer>,
    /// Whether the connection may carry another request.
    stays_open: bool,
}

/// Where a body ends.
#[derive(Debug)]
enum End {
    /// After so many further bytes.
    Length(usize),
    /// After the last chunk.
    Chunks(Chunks),
    /// With the connection.
    Close,
}

/// An answer that was read to its end.
#[derive(Debug)]
pub struct Whole {
    /// The answer; boxed, since it is handed on from one to the other.
    pub answer: Box<UpstreamAnswer>,
    /// Whether the connection may carry another request.
    pub stays_open: bool,
}

/// Why what was read is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// In a word, for the trail.
    pub why: &'static str,
    /// For operators.
    pub detail: Cow<'static, str>,
}

impl From<&'static str> for Wrong {
    fn from(why: &'static str) -> Self {
        let detail = Cow::Borrowed(why);
        Self { why, detail }
    }
}

impl Reply {
    /// Takes the next bytes; the answer once it is whole.
    ///
    /// # Errors
    ///
    /// If this is no answer that can be passed on.
    pub fn take(&mut self, bytes: &[u8]) -> Result<Option<Whole>, Wrong> {
        match &mut self.stage {
            // Nearly always the whole answer comes at once, and nothing is copied.
            Stage::Heads(before) if before.is_empty() => self.heads(bytes),
            Stage::Heads(before) => {
                let new = before.len().saturating_sub(2);
                before.extend_from_slice(bytes);
                let ends = before.get(new..).is_some_and(ends_a_head);
                if !ends && before.len() < HEAD_BYTES_MAX {
                    return Ok(None);
                }
                let all = std::mem::take(before);
                self.heads(&all)
            }
            Stage::Body { end, body, .. } => {
                let excess = end.take(bytes, body)?;
                Ok(excess.and_then(|excess| self.finish(excess)))
            }
        }
    }

    /// The upstream has closed the connection: the answer, if it is whole with that.
    ///
    /// # Errors
    ///
    /// If what there is is no answer; a head that merely was cut short is none either,
    /// see [`has_begun`](Self::has_begun).
    pub fn close(mut self) -> Result<Option<Whole>, Wrong> {
        match &self.stage {
            Stage::Heads(before) => match head_in(before)? {
                None => Ok(None),
                Some(_) => Err("the answer's head has no end".into()),
            },
            Stage::Body {
                end: End::Close, ..
            } => Ok(self.finish(&[]).map(|whole| Whole {
                stays_open: false,
                ..whole
            })),
            Stage::Body { .. } => Err("the answer's body was cut short".into()),
        }
    }

    /// Whether a whole head was read: the upstream has answered.
    pub fn has_begun(&self) -> bool {
        matches!(self.stage, Stage::Body { .. })
    }

    /// Takes heads until the final one, and what follows it.
    fn heads(&mut self, mut bytes: &[u8]) -> Result<Option<Whole>, Wrong> {
        while !bytes.is_empty() {
            let Some((head, end, length)) = head_in(bytes)? else {
                if bytes.len() >= HEAD_BYTES_MAX {
                    return Err("the answer's head is too large".into());
                }
                self.stage = Stage::Heads(bytes.to_vec());
                break;
            };
            bytes = bytes.get(length..).unwrap_or_default();
            if !matches!(head.answer.status, 100 | 102..=199) {
                return self.begin_body(head, end, bytes);
            }
            self.interim += 1;
            if self.interim > INTERIM_MAX {
                return Err("too many interim answers".into());
            }
        }
        Ok(None)
    }

    fn begin_body(
        &mut self,
        mut head: Head,
        mut end: End,
        bytes: &[u8],
    ) -> Result<Option<Whole>, Wrong> {
        if let End::Length(length) = end
            && let Some((body, excess)) = bytes.split_at_checked(length)
        {
            // As nearly always.
            head.answer.body = text(body);
            return Ok(Some(head.whole(excess)));
        }
        // At most `BODY_BYTES_MAX`.
        let length = match end {
            End::Length(length) => length,
            End::Chunks(_) | End::Close => 0,
        };
        let mut body = Vec::with_capacity(length);
        let excess = end.take(bytes, &mut body)?;
        self.stage = Stage::Body { head, end, body };
        Ok(excess.and_then(|excess| self.finish(excess)))
    }

    fn finish(&mut self, excess: &[u8]) -> Option<Whole> {
        let Stage::Body { mut head, body, .. } = std::mem::take(&mut self.stage) else {
            return None;
        };
        head.answer.body = body.into();
        Some(head.whole(excess))
    }
}

impl Head {
    /// Bytes behind an answer never become the next one.
    fn whole(self, excess: &[u8]) -> Whole {
        Whole {
            stays_open: self.stays_open && excess.is_empty(),
            answer: self.answer,
        }
    }
}

impl End {
    /// Adds what belongs to it to `body`; at its end, the bytes behind it.
    fn take<'a>(
        &mut self,
        bytes: &'a [u8],
        body: &mut Vec<u8>,
    ) -> Result<Option<&'a [u8]>, &'static str> {
        match self {
            Self::Length(left) => {
                let (here, excess) = bytes.split_at((*left).min(bytes.len()));
                body.extend_from_slice(here);
                *left -= here.len();
                Ok((*left == 0).then_some(excess))
            }
            Self::Chunks(chunks) => chunks.take(bytes, body),
            Self::Close if body.len().saturating_add(bytes.len()) > BODY_BYTES_MAX => {
                Err("the answer's body is longer than 1 MiB")
            }
            Self::Close => {
                body.extend_from_slice(bytes);
                Ok(None)
            }
        }
    }
}

/// Whether an empty line is in it, which may end a head.
fn ends_a_head(bytes: &[u8]) -> bool {
    memmem::find(bytes, b"\n\r\n").is_some() || memmem::find(bytes, b"\n\n").is_some()
}

/// The head that `bytes` begin with, if it is whole, where the body ends, and how
/// long the head is.
fn head_in(bytes: &[u8]) -> Result<Option<(Head, End, usize)>, Wrong> {
    let mut fields = [const { MaybeUninit::uninit() }; HEAD_FIELDS_MAX];
    let mut head = Response::new(&mut []);
    let parsed =
        ParserConfig::default().parse_response_with_uninit_headers(&mut head, bytes, &mut fields);
    let length = match parsed {
        Ok(Status::Complete(length)) => length,
        Ok(Status::Partial) => return Ok(None),
        Err(error) => {
            return Err(Wrong {
                why: "not HTTP",
                detail: format!("not HTTP: {error}").into(),
            });
        }
    };
    let status = head
        .code
        .filter(|status| *status >= 100)
        .ok_or("not HTTP")?;
    let is_http_1_1 = head.version == Some(1);
    let end = end(status, is_http_1_1, head.headers)?;
    let is_both = is(head.headers, "transfer-encoding") && is(head.headers, "content-length");
    let contradicts_itself = is_both || (has_no_body(status) && declares_a_body(head.headers));
    let stays_open = is_http_1_1
        && status != 101
        && !contradicts_itself
        && !matches!(end, End::Close)
        && !values(head.headers, "connection")
            .flat_map(|value| value.split(|byte| *byte == b','))
            .any(|word| word.trim_ascii().eq_ignore_ascii_case(b"close"));
    let head = Head {
        answer: Box::new(UpstreamAnswer::new(status, head.headers)),
        stays_open,
    };
    Ok(Some((head, end, length)))
}

/// Where the body of such an answer to a DELETE ends (RFC 9112 §6.3).
fn end(status: u16, is_http_1_1: bool, fields: &[Header<'_>]) -> Result<End, &'static str> {
    if has_no_body(status) {
        return Ok(End::Length(0));
    }
    let mut codings = values(fields, "transfer-encoding");
    if let Some(coding) = codings.next() {
        let is_chunked = coding.eq_ignore_ascii_case(b"chunked") && codings.next().is_none();
        return match is_chunked && is_http_1_1 {
            true => Ok(End::Chunks(Chunks::default())),
            false => Err("a transfer-encoding that was not asked for"),
        };
    }
    let mut lengths = values(fields, "content-length")
        .flat_map(|value| value.split(|byte| *byte == b','))
        .map(|value| length(value.trim_ascii()));
    let Some(length) = lengths.next() else {
        return Ok(End::Close);
    };
    match length {
        Some(length) if lengths.all(|other| other == Some(length)) => match length {
            0..=BODY_BYTES_MAX => Ok(End::Length(length)),
            _ => Err("the answer's body is longer than 1 MiB"),
        },
        _ => Err("the answer's length is none"),
    }
}

/// Whether an answer with this status ends with its head, whatever its fields say.
fn has_no_body(status: u16) -> bool {
    matches!(status, 100..=199 | 204 | 304)
}

/// Whether a body may follow by what the fields say: it would be read as the next answer.
fn declares_a_body(fields: &[Header<'_>]) -> bool {
    let mut lengths =
        values(fields, "content-length").flat_map(|value| value.split(|byte| *byte == b','));
    is(fields, "transfer-encoding") || lengths.any(|value| length(value.trim_ascii()) != Some(0))
}

/// Digits only: neither a sign nor a space.
fn length(digits: &[u8]) -> Option<usize> {
    let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    let digits = std::str::from_utf8(digits).ok().filter(|_| is_number)?;
    Some(digits.parse().unwrap_or(usize::MAX))
}

fn values<'a>(fields: &'a [Header<'_>], name: &'static str) -> impl Iterator<Item = &'a [u8]> {
    fields
        .iter()
        .filter(move |field| field.name.eq_ignore_ascii_case(name))
        .map(|field| field.value)
}

fn is(fields: &[Header<'_>], name: &'static str) -> bool {
    values(fields, name).next().is_some()
}

/// In memory of its own.
fn text(body: &[u8]) -> Bytes {
    match body {
        b"" => Bytes::new(),
        UpstreamAnswer::SUCCESS => Bytes::from_static(UpstreamAnswer::SUCCESS),
        other => Bytes::copy_from_slice(other),
    }
}

#[cfg(test)]
mod tests;
