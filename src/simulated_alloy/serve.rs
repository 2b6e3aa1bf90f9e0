//! Connections and the bytes on them.

use std::{
    io,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::sleep,
};

use super::{
    Shared,
    behaviour::{Behaviour, answer},
    lock,
};
use crate::tls::ServerTls;

/// A request that is longer is not one of ours.
const REQUEST_BYTES_MAX: usize = 1 << 20;
/// What an endless answer ends after.
const ENDLESS_BYTES_MAX: usize = 64 << 20;

/// Accepts until it is told to stop; then everything is dropped.
pub async fn serve(
    shared: Arc<Shared>,
    listener: std::net::TcpListener,
    tls: Option<ServerTls>,
    mut stopped: watch::Receiver<bool>,
) {
    let Ok(listener) = TcpListener::from_std(listener) else {
        return;
    };
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopped.changed() => return,
        };
        let Ok((tcp, _)) = accepted else { continue };
        let number = shared.connections.fetch_add(1, Ordering::AcqRel);
        connections.spawn(connection(Arc::clone(&shared), tcp, tls.clone(), number));
        while connections.try_join_next().is_some() {}
    }
}

/// What a broken connection means is the gateway's to say.
async fn connection(shared: Arc<Shared>, tcp: TcpStream, tls: Option<ServerTls>, number: usize) {
    let _ = tcp.set_nodelay(true);
    let held = lock(&shared.handshakes).clone();
    if let Some(mut released) = held {
        let _ = released.wait_for(|released| *released).await;
    }
    let _ = match tls {
        Some(tls) => match tls.accept(tcp).await {
            Ok(stream) => speak(&shared, stream, number, |stream| stream.get_ref().0).await,
            Err(_) => Ok(()),
        },
        None => speak(&shared, tcp, number, |stream| stream).await,
    };
}

async fn speak<S>(
    shared: &Shared,
    mut stream: S,
    number: usize,
    tcp: fn(&S) -> &TcpStream,
) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut buffer = Vec::new();
    while let Some(length) = read_request(&mut stream, &mut buffer).await? {
        let request: Vec<u8> = buffer.drain(..length).collect();
        let text = String::from_utf8_lossy(&request).into_owned();
        let head = text.split("\r\n\r\n").next().unwrap_or_default();
        shared.keep(request, number);
        let behaviour = shared.next_behaviour(number);
        let by_contract = || {
            let (status, body) = lock(&shared.credentials).answer(head);
            answer(status, "", body)
        };
        match behaviour {
            Behaviour::Contract => stream.write_all(&by_contract()).await?,
            Behaviour::Late(span) => {
                sleep(span).await;
                stream.write_all(&by_contract()).await?;
            }
            Behaviour::Held(mut released) => {
                let _ = released.wait_for(|released| *released).await;
                stream.write_all(&by_contract()).await?;
            }
            Behaviour::ThenClose => {
                stream.write_all(&by_contract()).await?;
                return stream.shutdown().await;
            }
            Behaviour::Reset => return stream.shutdown().await,
            Behaviour::HardReset => {
                return socket2::SockRef::from(tcp(&stream)).set_linger(Some(Duration::ZERO));
            }
            Behaviour::Stall(span) => return stall(span).await,
            Behaviour::Bytes(bytes) => stream.write_all(&bytes).await?,
            Behaviour::BytesThenClose(bytes) => {
                stream.write_all(&bytes).await?;
                return stream.shutdown().await;
            }
            Behaviour::BytesThenReset(bytes) => {
                stream.write_all(&bytes).await?;
                stream.flush().await?;
                // What was written gets there first.
                sleep(Duration::from_millis(20)).await;
                return socket2::SockRef::from(tcp(&stream)).set_linger(Some(Duration::ZERO));
            }
            Behaviour::BytesThenStall(bytes, span) => {
                stream.write_all(&bytes).await?;
                stream.flush().await?;
                return stall(span).await;
            }
            Behaviour::Endless { first, again } => {
                return endless(&mut stream, &first, &again).await;
            }
            Behaviour::Drip(bytes, pause) => drip(&mut stream, &bytes, pause).await?,
            Behaviour::Echo => stream.write_all(&echo(head)).await?,
        }
        stream.flush().await?;
    }
    Ok(())
}

/// Reads up to the end of a request; its length, or `None` when the client is done.
async fn read_request(
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut Vec<u8>,
) -> io::Result<Option<usize>> {
    loop {
        if let Some(length) = whole_request(buffer) {
            return Ok(Some(length));
        }
        if buffer.len() > REQUEST_BYTES_MAX || stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
}

/// The length of the request at the start of `buffer`, if it is whole.
fn whole_request(buffer: &[u8]) -> Option<usize> {
    let head = memchr::memmem::find(buffer, b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(buffer.get(..head)?).to_ascii_lowercase();
    let length = text
        .split("\r\n")
        .find_map(|line| {
            line.strip_prefix("content-length:")?
                .trim()
                .parse::<usize>()
                .ok()
        })
        .unwrap_or(0);
    (buffer.len() >= head + length).then_some(head + length)
}

async fn stall(span: Duration) -> io::Result<()> {
    sleep(span).await;
    Ok(())
}

async fn endless(
    stream: &mut (impl AsyncWrite + Unpin),
    first: &[u8],
    again: &[u8],
) -> io::Result<()> {
    stream.write_all(first).await?;
    let mut sent = first.len();
    while sent < ENDLESS_BYTES_MAX {
        stream.write_all(again).await?;
        sent += again.len().max(1);
    }
    Ok(())
}

async fn drip(
    stream: &mut (impl AsyncWrite + Unpin),
    bytes: &[u8],
    pause: Duration,
) -> io::Result<()> {
    for byte in bytes {
        stream.write_all(&[*byte]).await?;
        stream.flush().await?;
        sleep(pause).await;
    }
    Ok(())
}

fn echo(head: &str) -> Vec<u8> {
    let authorization = head
        .split("\r\n")
        .find(|line| line.to_ascii_lowercase().starts_with("authorization:"))
        .unwrap_or_default();
    let body = serde_json::json!({ "success": true, "request": authorization });
    answer(200, "", &body.to_string())
}
