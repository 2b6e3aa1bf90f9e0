//! The admin listener: how the gateway is, for probes, scrapers and people.
//! Never on the data port. Over TCP it is read-only; the effective config is
//! shown on the Unix socket alone, since in a pod the callers share our loopback.

mod status;

use std::{convert::Infallible, io, net::IpAddr, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
};

use crate::{
    config,
    reload::Reloader,
    server::{Shared, bind_unix},
};

/// How many admin connections may be open at once.
const CONNECTIONS_MAX: usize = 64;
/// By when a request head must be in, and how long a connection may idle.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// What the admin endpoints show.
#[derive(Debug)]
pub struct Admin {
    shared: Arc<Shared>,
    reloader: Arc<Reloader>,
}

/// How a request came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Door {
    Tcp,
    /// From a process of the user with this id, as far as the system knows.
    Socket(Option<u32>),
}

impl Admin {
    /// Over a gateway and what loads its configs.
    pub fn new(shared: Arc<Shared>, reloader: Arc<Reloader>) -> Arc<Self> {
        Arc::new(Self { shared, reloader })
    }

    /// Answers on a TCP listener for as long as it is polled.
    pub async fn serve_tcp(self: Arc<Self>, listener: TcpListener) {
        let places = Arc::new(tokio::sync::Semaphore::new(CONNECTIONS_MAX));
        loop {
            let place = Arc::clone(&places).acquire_owned().await;
            match listener.accept().await {
                Ok((stream, _)) => self.spawn(stream, Door::Tcp, place),
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }

    /// Answers on a Unix socket for as long as it is polled.
    pub async fn serve_socket(self: Arc<Self>, listener: UnixListener) {
        let places = Arc::new(tokio::sync::Semaphore::new(CONNECTIONS_MAX));
        loop {
            let place = Arc::clone(&places).acquire_owned().await;
            match listener.accept().await {
                Ok((stream, _)) => {
                    let user = stream.peer_cred().ok().map(|peer| peer.uid());
                    self.spawn(stream, Door::Socket(user), place);
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }

    fn spawn<S, P>(self: &Arc<Self>, stream: S, door: Door, place: P)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        P: Send + 'static,
    {
        let admin = Arc::clone(self);
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let admin = Arc::clone(&admin);
                async move { Ok::<_, Infallible>(admin.answer(&request, door).await) }
            });
            // An admin client that leaves is nobody's problem.
            let _ = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .max_buf_size(16 << 10)
                .serve_connection(TokioIo::new(stream), service)
                .await;
            drop(place);
        });
    }

    async fn answer<B>(self: Arc<Self>, request: &Request<B>, door: Door) -> Response<Full<Bytes>> {
        if door == Door::Tcp && !has_local_host(request) {
            return text(
                StatusCode::MISDIRECTED_REQUEST,
                "Host must be an IP address or localhost\n",
            );
        }
        if request.method() == Method::POST {
            return self.change(request.uri().path(), door).await;
        }
        if request.method() != Method::GET && request.method() != Method::HEAD {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "GET, HEAD or POST\n");
            response
                .headers_mut()
                .insert(header::ALLOW, HeaderValue::from_static("GET, HEAD, POST"));
            return response;
        }
        match (request.uri().path(), door) {
            ("/livez" | "/healthz", _) => text(StatusCode::OK, "ok\n"),
            ("/readyz", _) => match self.shared.unready() {
                None => text(StatusCode::OK, "ok\n"),
                Some(why) => text(
                    StatusCode::SERVICE_UNAVAILABLE,
                    &format!("not ready: {why}\n"),
                ),
            },
            ("/metrics", _) => {
                let mut response =
                    text(StatusCode::OK, &self.shared.metrics().render(&self.shared));
                let open_metrics = HeaderValue::from_static(
                    "application/openmetrics-text; version=1.0.0; charset=utf-8",
                );
                response
                    .headers_mut()
                    .insert(header::CONTENT_TYPE, open_metrics);
                response
            }
            ("/version", _) => text(StatusCode::OK, concat!(env!("CARGO_PKG_VERSION"), "\n")),
            ("/status.json", _) => {
                let status = status::status(&self.shared, &self.reloader);
                let mut response = text(StatusCode::OK, &format!("{status:#}\n"));
                let json = HeaderValue::from_static("application/json");
                response.headers_mut().insert(header::CONTENT_TYPE, json);
                response
            }
            ("/config", Door::Socket(_)) => {
                text(StatusCode::OK, &config::show(&self.reloader.settings()))
            }
            ("/config", Door::Tcp) => text(StatusCode::FORBIDDEN, "only on admin.socket\n"),
            _ => text(
                StatusCode::NOT_FOUND,
                "here are /livez /readyz /metrics /status.json /version, and on admin.socket /config, POST /-/reload, POST /-/drain\n",
            ),
        }
    }

    /// What changes something: only on the socket, and each in the trail.
    async fn change(self: Arc<Self>, path: &str, door: Door) -> Response<Full<Bytes>> {
        let Door::Socket(user) = door else {
            return text(StatusCode::FORBIDDEN, "changes only on admin.socket\n");
        };
        let by = user.map_or_else(|| "unix".to_owned(), |user| format!("unix:uid={user}"));
        match path {
            "/-/reload" => {
                let reloader = Arc::clone(&self.reloader);
                let loaded = tokio::task::spawn_blocking(move || reloader.reload(&by)).await;
                match loaded {
                    Ok(Ok(reload)) if reload.needs_restart.is_empty() => {
                        text(StatusCode::OK, "loaded\n")
                    }
                    Ok(Ok(reload)) => {
                        let fields = reload.needs_restart.join(", ");
                        let said = format!("loaded; only after a restart: {fields}\n");
                        text(StatusCode::OK, &said)
                    }
                    Ok(Err(problems)) => text(StatusCode::BAD_REQUEST, &problems.to_string()),
                    Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "a bug was caught\n"),
                }
            }
            "/-/drain" => {
                self.shared.trail().changed_by("admin.drain", &by);
                self.shared.drain();
                tracing::warn!(by, "draining: new calls are refused until a restart");
                text(StatusCode::OK, "draining\n")
            }
            _ => match path.strip_prefix("/-/rotate-key/") {
                Some(name) => self.rotate_key(name, &by),
                None => text(
                    StatusCode::NOT_FOUND,
                    "here are /-/reload, /-/drain and /-/rotate-key/NAME\n",
                ),
            },
        }
    }

    /// Moves to the next key of this name.
    fn rotate_key(&self, name: &str, by: &str) -> Response<Full<Bytes>> {
        let snapshot = self.shared.snapshot();
        let Some(keys) = snapshot.key(name) else {
            return text(StatusCode::NOT_FOUND, "there is no key of that name\n");
        };
        let before = Arc::clone(keys.current());
        match keys.move_on(&before) {
            Some(moved) if moved.is_new => {
                self.shared.trail().key_rotated(&before, &moved.key, by);
                tracing::warn!(
                    key = name,
                    fingerprint = moved.key.fingerprint(),
                    by,
                    "key rotated"
                );
                text(StatusCode::OK, "rotated\n")
            }
            _ => text(
                StatusCode::CONFLICT,
                "there is no next key: put next: { file: … } beside its secret\n",
            ),
        }
    }
}

/// Binds the Unix socket with mode 0600.
///
/// # Errors
///
/// If the path is taken or not writable.
pub fn bind_socket(path: &Path) -> io::Result<UnixListener> {
    UnixListener::from_std(bind_unix(path, 0o600, None)?)
}

/// Whether `Host` is an address or `localhost`: a page of another origin that
/// was made to resolve to us (DNS rebinding) comes with its own name.
fn has_local_host<B>(request: &Request<B>) -> bool {
    let Some(host) = request.headers().get(header::HOST) else {
        return true;
    };
    let Ok(authority) = host
        .to_str()
        .unwrap_or_default()
        .parse::<http::uri::Authority>()
    else {
        return false;
    };
    let host = authority
        .host()
        .trim_start_matches('[')
        .trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok()
}

fn text(status: StatusCode, body: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::copy_from_slice(body.as_bytes())));
    *response.status_mut() = status;
    let fields = response.headers_mut();
    fields.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    fields.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    response
}
