//! A client that speaks HTTP/2 with prior knowledge.

use std::net::SocketAddr;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::Response;

/// Sends one request over a connection of its own.
pub fn send(address: SocketAddr, request: Request<Full<Bytes>>) -> Response {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                .await
                .unwrap();
        tokio::spawn(connection);
        let response = sender.send_request(request).await.unwrap();
        let fields = response
            .headers()
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
            .collect();
        Response {
            status: response.status().as_u16(),
            fields,
            body: response
                .into_body()
                .collect()
                .await
                .unwrap()
                .to_bytes()
                .to_vec(),
        }
    })
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
