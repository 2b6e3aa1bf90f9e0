//! One POST to the collector.

use std::{io, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Request, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::AbortHandle,
};

use super::encode::partial_success;
use crate::{config::settings::Otlp, snapshot::otlp::Way};

/// The longest answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// The longest head of an answer, in bytes.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// The longest wait that a collector is taken at its word for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);

/// The way to the collector, with a connection that is kept.
pub struct Collector {
    settings: Otlp,
    way: Way,
    kept: Option<Connection>,
}

/// A connection. Dropped, it is closed.
struct Connection {
    sender: SendRequest<Full<Bytes>>,
    task: AbortHandle,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What the collector did with a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Delivery {
    /// It took it, but for so many spans, and said why.
    Taken(u64, String),
    /// Not now: another try may succeed, after this long if it said so.
    Later(String, Option<Duration>),
    /// Never.
    Refused(String),
}

impl Collector {
    /// Nothing is connected yet.
    pub fn new(settings: Otlp, way: Way) -> Self {
        Self {
            settings,
            way,
            kept: None,
        }
    }

    /// Sends one request, within the time-out.
    pub async fn post(&mut self, body: Bytes) -> Delivery {
        let span = self.settings.timeout;
        match tokio::time::timeout(span, self.exchange(body)).await {
            Ok(Ok(delivery)) => delivery,
            Ok(Err(error)) => {
                self.kept = None;
                Delivery::Later(error.to_string(), None)
            }
            Err(_) => {
                self.kept = None;
                Delivery::Later(format!("no answer within {span:?}"), None)
            }
        }
    }

    async fn exchange(&mut self, body: Bytes) -> io::Result<Delivery> {
        let mut connection = match self.kept.take() {
            Some(kept) => kept,
            None => self.connect().await?,
        };
        // An error means that it was closed meanwhile.
        if connection.sender.ready().await.is_err() {
            connection = self.connect().await?;
        }
        let request = self.request(body)?;
        let answer = connection.sender.send_request(request);
        let (head, body) = answer.await.map_err(io::Error::other)?.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX);
        let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
        self.kept = Some(connection);
        let status = head.status.as_u16();
        Ok(match status {
            200..=299 => {
                let (rejected, why) = partial_success(&body);
                Delivery::Taken(rejected, why)
            }
            // The four that OTLP calls retryable.
            429 | 502..=504 => {
                let after = head.headers.get(header::RETRY_AFTER).and_then(wait);
                Delivery::Later(format!("status {status}"), after)
            }
            _ => Delivery::Refused(format!("status {status}")),
        })
    }

    fn request(&self, body: Bytes) -> io::Result<Request<Full<Bytes>>> {
        let settings = &self.settings;
        let mut request = Request::post(format!("{}/v1/traces", settings.prefix))
            .header(header::HOST, settings.url.authority())
            .header(header::CONTENT_TYPE, "application/x-protobuf")
            .header(header::USER_AGENT, crate::USER_AGENT)
            .body(Full::new(body))
            .map_err(io::Error::other)?;
        request
            .headers_mut()
            .extend(self.way.fields.iter().cloned());
        Ok(request)
    }

    async fn connect(&self) -> io::Result<Connection> {
        let url = &self.settings.url;
        let tcp = TcpStream::connect((url.host.as_str(), url.port)).await?;
        match &self.way.tls {
            Some(tls) => speak_http(tls.connect(&url.host, tcp).await?).await,
            None => speak_http(tcp).await,
        }
    }
}

async fn speak_http<S>(stream: S) -> io::Result<Connection>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::Builder::new()
        .max_buf_size(HEAD_BYTES_MAX)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    let task = tokio::spawn(async move {
        // What went wrong reaches the request through its own future.
        let _ = connection.await;
    });
    Ok(Connection {
        sender,
        task: task.abort_handle(),
    })
}

/// `Retry-After` in seconds or as a date (RFC 9110 §10.2.3), as far as it is believed.
fn wait(value: &HeaderValue) -> Option<Duration> {
    let text = value.to_str().ok()?.trim();
    let asked = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let at = httpdate::parse_http_date(text).ok()?;
            at.duration_since(std::time::SystemTime::now())
                .unwrap_or_default()
        }
    };
    Some(asked.min(RETRY_AFTER_MAX))
}
