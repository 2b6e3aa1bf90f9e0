//! How a request is answered.

use std::time::Duration;

use tokio::sync::watch;

/// How a request is answered. It is kept before that.
#[derive(Debug, Clone)]
pub enum Behaviour {
    /// By the vendor's contract.
    Contract,
    /// By the contract, after a while.
    Late(Duration),
    /// By the contract, once this says so, or nobody can any more.
    Held(watch::Receiver<bool>),
    /// By the contract; then the connection is closed, as a server does whose
    /// keep-alive time is over.
    ThenClose,
    /// Not at all: the connection is closed in order.
    Reset,
    /// Not at all: the connection is reset (RST).
    HardReset,
    /// Not at all: the connection stays open for so long.
    Stall(Duration),
    /// With these bytes; the connection stays open.
    Bytes(Vec<u8>),
    /// With these bytes; then the connection is closed.
    BytesThenClose(Vec<u8>),
    /// With these bytes; then the connection is reset (RST).
    BytesThenReset(Vec<u8>),
    /// With these bytes; then nothing, for so long.
    BytesThenStall(Vec<u8>, Duration),
    /// With these bytes, again and again, until the client goes away or 64 MiB
    /// were sent.
    Endless {
        /// Sent once.
        first: Vec<u8>,
        /// Sent again and again.
        again: Vec<u8>,
    },
    /// With these bytes, one by one with a pause.
    Drip(Vec<u8>, Duration),
    /// 200 with the caller's `authorization` in the body, as a debugging page
    /// would.
    Echo,
}

impl Behaviour {
    /// A whole answer with a status, further fields (each with its CRLF) and a
    /// JSON body.
    pub fn answer(status: u16, fields: &str, body: &str) -> Self {
        Self::Bytes(answer(status, fields, body))
    }
}

/// The bytes of a whole answer.
pub fn answer(status: u16, fields: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "HTTP/1.1 {status} Simulated\r\nContent-Type: application/json\r\n{fields}Content-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}
