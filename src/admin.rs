//! The admin listener: how the gateway is, for probes, scrapers and people.
//! Never on the data port. Over TCP it is read-only; changes and the effective
//! config are for the Unix socket or the admin token, since in a pod the callers
//! share our loopback.

mod body;
mod change;
mod disk;
mod door;
mod freeze;
mod level;
mod metrics;
mod route;
mod status;

use std::{
    collections::VecDeque, convert::Infallible, fmt::Write as _, io, net::IpAddr, path::Path,
    sync::Arc, time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header, request::Parts};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    task::AbortHandle,
};

use self::{
    disk::DiskLook,
    door::Door,
    metrics::Format,
    route::{Page, Route},
};
use crate::{
    config,
    reload::Reloader,
    server::{Shared, bind_unix},
};

/// How many admin connections may be open at once: some for probes and scrapers, and few
/// enough that a neighbour who reads none of its answers cannot take the memory.
pub const CONNECTIONS_MAX: usize = 32;
/// By when a request head must be in, and how long a connection may idle.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// The open connections of one admin listener, oldest first. Who comes when all
/// places are taken gets that of the oldest: somebody who opens them and never reads
/// must not keep out the probe that decides whether we are restarted.
#[derive(Debug, Default)]
struct Guests(VecDeque<AbortHandle>);

impl Guests {
    fn let_in(&mut self, guest: AbortHandle) {
        self.0.retain(|guest| !guest.is_finished());
        if self.0.len() >= CONNECTIONS_MAX
            && let Some(oldest) = self.0.pop_front()
        {
            oldest.abort();
        }
        self.0.push_back(guest);
    }
}

/// What the admin endpoints show.
#[derive(Debug)]
pub struct Admin {
    shared: Arc<Shared>,
    reloader: Arc<Reloader>,
    disk: DiskLook,
}

impl Admin {
    /// Over a gateway and what loads its configs.
    pub fn new(shared: Arc<Shared>, reloader: Arc<Reloader>) -> Arc<Self> {
        Arc::new(Self {
            shared,
            reloader,
            disk: DiskLook::default(),
        })
    }

    /// Answers on a TCP listener for as long as it is polled.
    pub async fn serve_tcp(self: Arc<Self>, listener: TcpListener) {
        let mut guests = Guests::default();
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => guests.let_in(self.spawn(stream, Door::Tcp(peer))),
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }

    /// Answers on a Unix socket for as long as it is polled.
    pub async fn serve_socket(self: Arc<Self>, listener: UnixListener) {
        let mut guests = Guests::default();
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let user = stream.peer_cred().ok().map(|peer| peer.uid());
                    guests.let_in(self.spawn(stream, Door::Socket(user)));
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }

    fn spawn<S>(self: &Arc<Self>, stream: S, door: Door) -> AbortHandle
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let admin = Arc::clone(self);
        let serving = tokio::spawn(async move {
            let service = service_fn(|request| {
                let admin = Arc::clone(&admin);
                async move { Ok::<_, Infallible>(admin.answer(request, door).await) }
            });
            // An admin client that leaves is nobody's problem.
            let _ = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .max_buf_size(16 << 10)
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
        serving.abort_handle()
    }

    async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
        door: Door,
    ) -> Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        if matches!(door, Door::Tcp(_)) && !self.knows_host(&head) {
            return text(
                StatusCode::MISDIRECTED_REQUEST,
                "Host must be an IP address, localhost or one of admin.hosts in the config\n",
            );
        }
        // Before anybody is asked for a token: what there is is no secret.
        let Some(route) = Route::of(head.uri.path()) else {
            return text(StatusCode::NOT_FOUND, &route::all());
        };
        if !route.takes(&head.method) {
            return not_allowed(route.methods());
        }
        match route {
            Route::Page(page) => self.show(page, door, &head).await,
            Route::Level if head.method != Method::PUT => Self::level(),
            Route::Level => match self.let_in(door, &head) {
                Ok(operator) => self.set_level(body, &operator).await,
                Err(refused) => *refused,
            },
            Route::Change(change) => match self.let_in(door, &head) {
                Ok(operator) => self.change(change, body, &operator).await,
                Err(refused) => *refused,
            },
            Route::RotateKey(name) => match self.let_in(door, &head) {
                Ok(operator) => self.rotate_key(name, &operator),
                Err(refused) => *refused,
            },
        }
    }

    /// What can be seen and not changed.
    async fn show(&self, page: Page, door: Door, head: &Parts) -> Response<Full<Bytes>> {
        match page {
            Page::Liveness => self.liveness(),
            Page::Readiness => self.readiness(head.uri.query() == Some("verbose")),
            Page::Metrics => {
                let format = Format::accepted(&head.headers);
                let disk = self.disk.at(self.shared.trail()).await;
                let metrics = metrics::render(&self.shared, disk, format);
                typed(&metrics, format.content_type())
            }
            Page::Version => text(StatusCode::OK, concat!(env!("CARGO_PKG_VERSION"), "\n")),
            Page::Status => match self.facts(door, head).await {
                Ok(facts) => status_page(&facts),
                Err(refused) => *refused,
            },
            Page::StatusJson => match self.facts(door, head).await {
                Ok(facts) => {
                    let status = status::json(&facts);
                    typed(&format!("{status:#}\n"), "application/json")
                }
                Err(refused) => *refused,
            },
            Page::Config => match self.let_in(door, head) {
                Ok(_) => text(StatusCode::OK, &self.config()),
                Err(refused) => *refused,
            },
        }
    }

    /// The config in effect, without what is secret; which keys are in use as comments,
    /// since the files that it names may hold others by now.
    fn config(&self) -> String {
        let mut shown = String::new();
        for key in self.shared.snapshot().keys() {
            let (name, fingerprint) = (key.name(), key.in_use().fingerprint());
            // Writing to a string can't fail.
            let _ = writeln!(shown, "# key {name} in use: fingerprint {fingerprint}");
        }
        shown + &config::show(&self.reloader.settings())
    }

    /// Whether `Host` is an address, `localhost` or a name of the config: a page of
    /// another origin that was made to resolve to us (DNS rebinding) comes with its
    /// own name.
    fn knows_host(&self, request: &Parts) -> bool {
        let Some(host) = request.headers.get(header::HOST) else {
            return true;
        };
        let host = host.to_str().unwrap_or_default();
        let Ok(authority) = host.parse::<http::uri::Authority>() else {
            return false;
        };
        let host = authority.host().trim_matches(['[', ']']);
        let is_host = |name: &String| host.eq_ignore_ascii_case(name);
        host.eq_ignore_ascii_case("localhost")
            || host.parse::<IpAddr>().is_ok()
            || self.reloader.settings().admin.hosts.iter().any(is_host)
    }

    /// How the gateway is. What is wrong with a config can hold parts of it, so
    /// only those see it who may see the config.
    ///
    /// # Errors
    ///
    /// The answer for somebody whose admin token is not good: nobody is to find out
    /// here, uncounted, which one is.
    async fn facts(
        &self,
        door: Door,
        request: &Parts,
    ) -> Result<status::Facts, Box<Response<Full<Bytes>>>> {
        let is_operator = match door {
            Door::Socket(_) => true,
            Door::Tcp(_) if self.is_token_sent(request) => {
                self.let_in(door, request)?;
                true
            }
            Door::Tcp(_) => false,
        };
        let disk = self.disk.at(self.shared.trail()).await;
        Ok(status::Facts::gather(
            &self.shared,
            &self.reloader,
            disk,
            is_operator,
        ))
    }

    /// Whether every worker lives, as systemd is told, too. Only another process helps
    /// one that does not; nothing else that goes wrong is a reason to restart.
    fn liveness(&self) -> Response<Full<Bytes>> {
        match self.shared.stuck_worker() {
            None => text(StatusCode::OK, "ok\n"),
            Some(worker) => {
                let said = format!("worker {worker} is stuck or gone: restart the gateway\n");
                text(StatusCode::SERVICE_UNAVAILABLE, &said)
            }
        }
    }

    /// Whether calls are taken; with `verbose` each reason by itself.
    fn readiness(&self, verbose: bool) -> Response<Full<Bytes>> {
        let readiness = self.shared.readiness();
        let unready = readiness.unready();
        let status = match &unready {
            None => StatusCode::OK,
            Some(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        let mut said = if verbose {
            readiness.to_string()
        } else {
            String::new()
        };
        said += &unready.map_or_else(|| "ok\n".to_owned(), |why| format!("not ready: {why}\n"));
        text(status, &said)
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

/// The page for people; nothing on it may come from, or go to, anywhere else.
fn status_page(facts: &status::Facts) -> Response<Full<Bytes>> {
    let mut random = [0; 16];
    // Without random numbers there is no nonce: then the page has neither style
    // nor script, but all that it says.
    let nonce = aws_lc_rs::rand::fill(&mut random).map_or_else(
        |_| String::new(),
        |()| {
            random
                .iter()
                .fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"))
        },
    );
    let mut response = typed(&status::page(facts, &nonce), "text/html; charset=utf-8");
    let policy = format!(
        "default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; \
         img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    if let Ok(policy) = HeaderValue::try_from(policy) {
        let fields = response.headers_mut();
        fields.insert(header::CONTENT_SECURITY_POLICY, policy);
        let nowhere = HeaderValue::from_static("no-referrer");
        fields.insert(header::REFERRER_POLICY, nowhere);
    }
    response
}

/// Another method is of use there (RFC 9110 §15.5.6).
fn not_allowed(methods: &'static str) -> Response<Full<Bytes>> {
    let said = format!("here only {methods}\n");
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, &said);
    let methods = HeaderValue::from_static(methods);
    response.headers_mut().insert(header::ALLOW, methods);
    response
}

fn typed(body: &str, kind: &'static str) -> Response<Full<Bytes>> {
    let mut response = text(StatusCode::OK, body);
    let kind = HeaderValue::from_static(kind);
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
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
