//! A stand-in for a collector of spans: OTLP/HTTP over real sockets, with a reader
//! of Protocol Buffers that shares nothing with the writer under test.

use std::{
    collections::VecDeque,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

/// No request takes longer, or the test fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a request is answered.
#[derive(Debug, Clone)]
pub enum Reply {
    /// With a status, further fields (each with its CRLF) and a body.
    Status(u16, &'static str, Vec<u8>),
    /// Not at all; the connection stays open.
    Silence,
    /// Not at all; the connection is closed.
    Close,
}

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Posted {
    pub head: String,
    pub body: Vec<u8>,
}

#[derive(Debug, Default)]
struct State {
    posted: Vec<Posted>,
    replies: VecDeque<Reply>,
}

/// A running collector; its threads end with the test's process.
pub struct Collector {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Collector {
    /// Answers with these, one after another, and then with 200.
    pub fn start(replies: impl IntoIterator<Item = Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State {
            posted: Vec::new(),
            replies: replies.into_iter().collect(),
        }));
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let state = Arc::clone(&shared);
                thread::spawn(move || serve(&stream.unwrap(), &state));
            }
        });
        Self { address, state }
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Every request so far, refused ones too.
    pub fn posted(&self) -> Vec<Posted> {
        self.state.lock().unwrap().posted.clone()
    }

    /// Waits for so many requests.
    #[track_caller]
    pub fn wait_for(&self, requests: usize) -> Vec<Posted> {
        let end = Instant::now() + PATIENCE;
        loop {
            let posted = self.posted();
            if posted.len() >= requests {
                return posted;
            }
            assert!(Instant::now() < end, "only {} came", posted.len());
            thread::sleep(Duration::from_millis(5));
        }
    }
}

fn serve(stream: &TcpStream, state: &Mutex<State>) {
    let mut reader = BufReader::new(stream);
    loop {
        let (mut head, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if line == "\r\n" {
                break;
            }
            head += &line;
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let reply = {
            let mut state = state.lock().unwrap();
            state.posted.push(Posted { head, body });
            let reply = state.replies.pop_front();
            reply.unwrap_or(Reply::Status(200, "", Vec::new()))
        };
        match reply {
            Reply::Status(status, fields, body) => {
                let head = format!(
                    "HTTP/1.1 {status} x\r\n{fields}Content-Length: {}\r\n\r\n",
                    body.len()
                );
                let mut stream = stream;
                let _ = stream.write_all(&[head.as_bytes(), &body].concat());
            }
            Reply::Silence => thread::sleep(PATIENCE),
            Reply::Close => return,
        }
    }
}

/// A field of a message, by its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proto {
    Number(u64),
    Bytes(Vec<u8>),
}

/// Reads a message whole; anything that is none fails the test.
pub fn read(mut bytes: &[u8]) -> Vec<(u64, Proto)> {
    fn varint(bytes: &mut &[u8]) -> u64 {
        let (mut value, mut shift) = (0, 0);
        loop {
            let byte = bytes[0];
            *bytes = &bytes[1..];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return value;
            }
            shift += 7;
        }
    }
    fn little_endian(bytes: &mut &[u8], length: usize) -> u64 {
        let value = bytes[..length].iter().rev();
        let value = value.fold(0, |value, byte| value << 8 | u64::from(*byte));
        *bytes = &bytes[length..];
        value
    }
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes);
        let value = match tag & 7 {
            0 => Proto::Number(varint(&mut bytes)),
            1 => Proto::Number(little_endian(&mut bytes, 8)),
            5 => Proto::Number(little_endian(&mut bytes, 4)),
            2 => {
                let length = usize::try_from(varint(&mut bytes)).unwrap();
                let (value, rest) = bytes.split_at(length);
                bytes = rest;
                Proto::Bytes(value.to_vec())
            }
            other => panic!("wire type {other}"),
        };
        fields.push((tag >> 3, value));
    }
    fields
}

/// The messages, texts or bytes of a field.
pub fn all(message: &[u8], field: u64) -> Vec<Vec<u8>> {
    let fields = read(message).into_iter();
    fields
        .filter_map(|(number, value)| match value {
            Proto::Bytes(bytes) if number == field => Some(bytes),
            _ => None,
        })
        .collect()
}

/// The numbers of a field.
pub fn number(message: &[u8], field: u64) -> Option<u64> {
    read(message)
        .into_iter()
        .find_map(|(at, value)| match value {
            Proto::Number(number) if at == field => Some(number),
            _ => None,
        })
}

/// A span, with the field numbers of opentelemetry/proto/trace/v1/trace.proto.
#[derive(Debug, Clone)]
pub struct Span {
    pub trace_id: String,
    pub span_id: String,
    pub parent: String,
    pub name: String,
    pub kind: u64,
    pub start: u64,
    pub end: u64,
    pub flags: u64,
    pub is_error: bool,
    attributes: Vec<(String, String)>,
}

impl Span {
    pub fn attribute(&self, key: &str) -> Option<&str> {
        let mut found = self.attributes.iter().filter(|(name, _)| name == key);
        let value = found.next().map(|(_, value)| value.as_str());
        assert!(found.next().is_none(), "{key} stands twice");
        value
    }
}

/// The attributes (`KeyValue`) in a field, numbers as text.
pub fn attributes(message: &[u8], field: u64) -> Vec<(String, String)> {
    let pairs = all(message, field).into_iter();
    pairs
        .map(|pair| {
            let any = &all(&pair, 2)[0];
            let value = match all(any, 1).first() {
                Some(value) => text(value),
                None => number(any, 3).unwrap().to_string(),
            };
            (text(&all(&pair, 1)[0]), value)
        })
        .collect()
}

/// The spans of an `ExportTraceServiceRequest`.
pub fn spans(request: &[u8]) -> Vec<Span> {
    let scopes = all(request, 1)
        .into_iter()
        .flat_map(|resource_spans| all(&resource_spans, 2));
    let spans = scopes.flat_map(|scope_spans| all(&scope_spans, 2));
    spans
        .map(|span| Span {
            trace_id: hex(&all(&span, 1)[0]),
            span_id: hex(&all(&span, 2)[0]),
            parent: all(&span, 4).first().map_or_else(String::new, |id| hex(id)),
            name: text(&all(&span, 5)[0]),
            kind: number(&span, 6).unwrap(),
            start: number(&span, 7).unwrap(),
            end: number(&span, 8).unwrap(),
            flags: number(&span, 16).unwrap(),
            is_error: all(&span, 15)
                .iter()
                .any(|status| number(status, 3) == Some(2)),
            attributes: attributes(&span, 9),
        })
        .collect()
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
