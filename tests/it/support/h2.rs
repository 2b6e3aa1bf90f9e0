//! A client that speaks HTTP/2 with prior knowledge.

use std::net::SocketAddr;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::Response;

/// A connection that stays open between requests.
pub struct Client {
    runtime: tokio::runtime::Runtime,
    sender: hyper::client::conn::http2::SendRequest<Full<Bytes>>,
}

impl Client {
    pub fn open(address: SocketAddr) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let sender = runtime.block_on(async {
            let stream = tokio::net::TcpStream::connect(address).await.unwrap();
            let (sender, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                    .await
                    .unwrap();
            tokio::spawn(connection);
            sender
        });
        Self { runtime, sender }
    }

    /// Whether GOAWAY comes, so that nothing more is sent on this connection.
    pub fn is_told_to_go_away(&mut self) -> bool {
        let gone = async {
            while self.sender.ready().await.is_ok() {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        let patience = std::time::Duration::from_secs(10);
        let waiting = async { tokio::time::timeout(patience, gone).await };
        self.runtime.block_on(waiting).is_ok()
    }

    pub fn send(&mut self, request: Request<Full<Bytes>>) -> Response {
        self.runtime.block_on(async {
            let response = self.sender.send_request(request).await.unwrap();
            let fields = response
                .headers()
                .iter()
                .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
                .collect();
            let status = response.status().as_u16();
            let body = response.into_body().collect().await.unwrap();
            Response {
                status,
                fields,
                body: body.to_bytes().to_vec(),
            }
        })
    }
}

/// Sends one request over a connection of its own.
pub fn send(address: SocketAddr, request: Request<Full<Bytes>>) -> Response {
    Client::open(address).send(request)
}

/// A DELETE as an HTTP/2 client sends it.
pub fn delete(user: &str, credential: &str, token: &str) -> http::request::Builder {
    Request::builder()
        .method("DELETE")
        .uri(format!(
            "http://gateway/users/{user}/credentials/{credential}"
        ))
        .header("authorization", format!("Bearer {token}"))
}
