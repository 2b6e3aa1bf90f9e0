//! A client that sends exactly the bytes it is given.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// No answer takes longer, or the test fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// One connection to the gateway.
#[derive(Debug)]
pub struct Connection {
    stream: BufReader<TcpStream>,
}

/// An HTTP/1.1 answer.
#[derive(Debug, Clone)]
pub struct Response {
    pub status: u16,
    /// Names in lower case, in order, duplicates kept.
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Connection {
    pub fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("connect to the gateway");
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream: BufReader::new(stream),
        }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        // The gateway may have answered and closed already.
        let _ = self.stream.get_mut().write_all(bytes.as_ref());
        self
    }

    /// The next answer, without those of 1xx.
    pub fn receive(&mut self) -> Response {
        self.try_receive().expect("an answer")
    }

    /// The next answer, or `None` if the connection closes first.
    pub fn try_receive(&mut self) -> Option<Response> {
        loop {
            let response = self.head()?;
            if !(100..200).contains(&response.status) {
                return Some(self.body(response));
            }
        }
    }

    /// The next head, 1xx included.
    pub fn head(&mut self) -> Option<Response> {
        let status = self.line()?;
        let mut parts = status.splitn(3, ' ');
        assert!(
            matches!(parts.next(), Some("HTTP/1.1" | "HTTP/1.0")),
            "{status:?}"
        );
        let status = parts.next().unwrap().parse().unwrap();
        let mut fields = Vec::new();
        loop {
            let line = self.line().expect("a whole head");
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').expect("a field");
            fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        Some(Response {
            status,
            fields,
            body: Vec::new(),
        })
    }

    /// Whether the gateway closes the connection without another byte.
    pub fn is_closed(&mut self) -> bool {
        matches!(self.stream.read(&mut [0]), Ok(0) | Err(_))
    }

    /// Whether there is something to read, be it the end: without waiting for it.
    pub fn has_more(&mut self) -> bool {
        if !self.stream.buffer().is_empty() {
            return true;
        }
        let stream = self.stream.get_ref();
        stream.set_nonblocking(true).unwrap();
        let seen = stream.peek(&mut [0]);
        stream.set_nonblocking(false).unwrap();
        !matches!(seen, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
    }

    fn body(&mut self, mut response: Response) -> Response {
        // RFC 9112 §6.3 rule 1: these have no body, and 204 no length either.
        if matches!(response.status, 204 | 304) {
            return response;
        }
        let length: usize = response
            .field("content-length")
            .expect("a length")
            .parse()
            .unwrap();
        response.body = vec![0; length];
        self.stream
            .read_exact(&mut response.body)
            .expect("a whole body");
        response
    }

    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        match self.stream.read_line(&mut line) {
            Ok(0) => None,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => None,
            Ok(_) => Some(line.trim_end_matches(['\r', '\n']).to_owned()),
            Err(error) => panic!("no answer: {error}"),
        }
    }
}

impl Response {
    /// The one value of a field.
    #[track_caller]
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut values = self
            .fields
            .iter()
            .filter(|(found, _)| found == name)
            .map(|(_, value)| value.as_str());
        let value = values.next();
        assert!(values.next().is_none(), "{name} stands twice in {self:?}");
        value
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error} in {:?}", self.text()))
    }
}

/// A plain request, as curl sends it.
pub fn delete(user: &str, credential: &str, token: &str) -> String {
    request(
        &format!("DELETE /users/{user}/credentials/{credential} HTTP/1.1"),
        token,
        "",
    )
}

/// A request with a request line and additional lines of one's own.
pub fn request(line: &str, token: &str, fields: &str) -> String {
    format!("{line}\r\nHost: gateway\r\nAuthorization: Bearer {token}\r\n{fields}\r\n")
}
