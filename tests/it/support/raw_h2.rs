//! HTTP/2 frame by frame, for what no client library would send.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

/// Frame types and flags of RFC 9113 §6.
pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;
pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const PADDED: u8 = 8;
pub const END_HEADERS: u8 = 4;
/// RFC 9113 §7.
pub const ENHANCE_YOUR_CALM: u32 = 0x0b;
pub const PROTOCOL_ERROR: u32 = 1;
pub const NO_ERROR: u32 = 0;

/// One frame as it came.
pub struct Frame {
    pub kind: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

/// A connection on which any frame can be sent.
pub struct Raw(TcpStream);

impl Raw {
    pub fn open(address: SocketAddr) -> Self {
        let mut stream = TcpStream::connect(address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        stream
            .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            .unwrap();
        let mut raw = Self(stream);
        raw.send(SETTINGS, 0, 0, &[]);
        raw
    }

    /// Sends a frame; whether the other side still took it.
    pub fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> bool {
        let [_, l2, l1, l0] = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = vec![l2, l1, l0, kind, flags];
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        self.0.write_all(&frame).is_ok()
    }

    pub fn headers(&mut self, stream: u32, fields: &[(&str, &str)]) -> bool {
        self.send(HEADERS, END_HEADERS | END_STREAM, stream, &block(fields))
    }

    /// The next frame; `None` when the connection is at its end.
    pub fn receive(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).ok()?;
        let len = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let mut payload = vec![0; len];
        self.0.read_exact(&mut payload).ok()?;
        Some(Frame {
            kind: head[3],
            stream: u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]),
            payload,
        })
    }

    /// Reads to the end; the error of the GOAWAY, if there was one.
    pub fn goaway(&mut self) -> Option<u32> {
        let mut error = None;
        let end = Instant::now() + Duration::from_secs(20);
        while let Some(frame) = self.receive() {
            assert!(Instant::now() < end, "the connection never ended");
            if frame.kind == GOAWAY {
                let code: [u8; 4] = frame.payload[4..8].try_into().unwrap();
                error = Some(u32::from_be_bytes(code));
            }
        }
        error
    }

    /// What becomes of a stream: its status, or that it was reset or the connection ended.
    pub fn fate(&mut self, stream: u32) -> Option<u16> {
        while let Some(frame) = self.receive() {
            match frame.kind {
                HEADERS if frame.stream == stream => return Some(status(&frame.payload)),
                RST_STREAM if frame.stream == stream => return None,
                GOAWAY => return None,
                _ => {}
            }
        }
        None
    }
}

/// Literal fields without indexing, new names, no Huffman coding (RFC 7541 §6.2.2).
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            // An integer with a 7-bit prefix (RFC 7541 §5.1).
            if text.len() < 127 {
                block.push(u8::try_from(text.len()).unwrap());
            } else {
                block.push(127);
                let mut rest = text.len() - 127;
                while rest >= 128 {
                    block.push(u8::try_from(rest % 128).unwrap() | 128);
                    rest /= 128;
                }
                block.push(u8::try_from(rest).unwrap());
            }
            block.extend(text.as_bytes());
        }
    }
    block
}

/// The status of an answer: indexed (RFC 7541 appendix A), or with a literal value.
pub fn status(block: &[u8]) -> u16 {
    match block[0] {
        0x88 => 200,
        0x8b => 304,
        0x8c => 400,
        0x8d => 404,
        0x8e => 500,
        // Literal with the indexed name `:status`, three digits, Huffman coded or not.
        0x08 | 0x48 if block[1] == 3 => std::str::from_utf8(&block[2..5]).unwrap().parse().unwrap(),
        // Huffman: digits are 5 or 6 bits (RFC 7541 appendix B).
        0x08 | 0x48 => huffman_digits(&block[2..2 + usize::from(block[1] & 0x7f)]),
        other => panic!("status begins with {other:#x}"),
    }
}

fn huffman_digits(bytes: &[u8]) -> u16 {
    let bits: Vec<u8> = bytes
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1))
        .collect();
    let take = |from: usize, len: usize| {
        let bits = bits.get(from..from + len)?;
        Some(
            bits.iter()
                .fold(0_u16, |sum, bit| sum << 1 | u16::from(*bit)),
        )
    };
    let (mut at, mut number) = (0, 0);
    for _ in 0..3 {
        let five = take(at, 5).unwrap();
        let digit = if five <= 2 {
            at += 5;
            five
        } else {
            let six = take(at, 6).unwrap();
            at += 6;
            six - 0x19 + 3
        };
        number = number * 10 + digit;
    }
    number
}

/// The fields of a DELETE.
pub fn call<'a>(path: &'a str, bearer: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![
        (":method", "DELETE"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "gateway"),
        ("authorization", bearer),
    ]
}
