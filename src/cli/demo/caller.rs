//! A caller as plain as can be: one request, one answer, and every byte known.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
};

use anyhow::Context;

use super::PATIENCE;

/// An answer of the gateway.
#[derive(Debug)]
pub struct Answer {
    /// Its status code.
    pub status: u16,
    /// Its body.
    pub body: String,
    head: String,
}

impl Answer {
    /// The value of a header field.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// The `code` of a refusal; empty for an answer of Alloy.
    pub fn code(&self) -> String {
        let body: serde_json::Value = serde_json::from_str(&self.body).unwrap_or_default();
        body.get("code")
            .and_then(|code| code.as_str())
            .unwrap_or_default()
            .to_owned()
    }
}

/// Sends `request`, as it is, and reads the answer to the end of the connection.
pub fn send(gateway: SocketAddr, request: &str) -> anyhow::Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&gateway, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(request.as_bytes())?;
    let mut text = String::new();
    stream
        .read_to_string(&mut text)
        .context("no answer of the gateway")?;
    let (head, body) = text
        .split_once("\r\n\r\n")
        .context("the gateway answered no HTTP")?;
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    Ok(Answer {
        status: status.context("the gateway answered without a status")?,
        head: head.to_owned(),
        body: body.to_owned(),
    })
}

/// A DELETE as an app would send it; `fields` are lines of their own.
pub fn delete(path: &str, fields: &[String]) -> String {
    let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
    format!("DELETE {path} HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n{fields}\r\n")
}
