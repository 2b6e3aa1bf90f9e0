//! A proxy on Pingora that does the work of the gateway as far as Pingora can:
//! tenant by token, key and version set, a limit for each tenant, TLS to one
//! upstream, one buffered line a call.
//!
//! pingora-peer LISTEN UPSTREAM CA TOKENS LOG THREADS LIMIT; TOKENS holds `token tenant` lines.

use std::{
    collections::HashMap,
    fs::File,
    io::{BufWriter, Write},
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use http::Method;
use pingora::{
    http::RequestHeader,
    prelude::*,
    proxy::{ProxyHttp, Session, http_proxy_service},
    server::configuration::ServerConf,
};
use pingora_limits::rate::Rate;

const KEY: &str = "bearer bench-key-0123456789";

type Log = Arc<Mutex<BufWriter<File>>>;

struct Gateway {
    tokens: HashMap<String, Arc<str>>,
    rate: Rate,
    limit: isize,
    peer: HttpPeer,
    log: Log,
}

struct Context {
    began: Instant,
    tenant: Option<Arc<str>>,
}

/// An id as the gateway takes it.
fn is_id(text: &str) -> bool {
    let of_id = |byte: u8| byte.is_ascii_alphanumeric() || b"._~-".contains(&byte);
    (1..=128).contains(&text.len()) && text.bytes().all(of_id)
}

fn is_route(path: &str) -> bool {
    let Some((user, credential)) = path
        .strip_prefix("/users/")
        .and_then(|rest| rest.split_once("/credentials/"))
    else {
        return false;
    };
    is_id(user) && is_id(credential)
}

impl Gateway {
    fn refusal(&self, head: &RequestHeader, context: &mut Context) -> Option<u16> {
        if !is_route(head.uri.path()) || head.uri.query().is_some() {
            return Some(404);
        }
        if head.method != Method::DELETE {
            return Some(405);
        }
        let tenant = head
            .headers
            .get(http::header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "))
            .and_then(|token| self.tokens.get(token));
        let Some(tenant) = tenant else {
            return Some(401);
        };
        context.tenant = Some(Arc::clone(tenant));
        (self.rate.observe(tenant, 1) > self.limit).then_some(429)
    }
}

#[async_trait]
impl ProxyHttp for Gateway {
    type CTX = Context;

    fn new_ctx(&self) -> Context {
        Context {
            began: Instant::now(),
            tenant: None,
        }
    }

    async fn request_filter(&self, session: &mut Session, context: &mut Context) -> Result<bool> {
        let Some(status) = self.refusal(session.req_header(), context) else {
            return Ok(false);
        };
        session.respond_error(status).await?;
        Ok(true)
    }

    async fn upstream_peer(&self, _: &mut Session, _: &mut Context) -> Result<Box<HttpPeer>> {
        Ok(Box::new(self.peer.clone()))
    }

    async fn upstream_request_filter(
        &self,
        _: &mut Session,
        request: &mut RequestHeader,
        _: &mut Context,
    ) -> Result<()> {
        request.insert_header("host", "localhost")?;
        request.insert_header("authorization", KEY)?;
        request.insert_header("x-api-version", "2025-09")?;
        request.insert_header("accept", "application/json")
    }

    async fn logging(&self, session: &mut Session, _: Option<&Error>, context: &mut Context) {
        let status = session
            .response_written()
            .map_or(0, |response| response.status.as_u16());
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let tenant = context.tenant.as_deref().unwrap_or_default();
        let line = format!(
            "{{\"time\":{}.{:06},\"tenant\":\"{tenant}\",\"uri\":\"{}\",\"status\":{status},\"took\":{}}}\n",
            now.as_secs(),
            now.subsec_micros(),
            session.req_header().uri.path(),
            context.began.elapsed().as_micros(),
        );
        if let Ok(mut log) = self.log.lock() {
            let _ = log.write_all(line.as_bytes());
        }
    }
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [listen, upstream, ca, tokens, log, threads, limit] = args.as_slice() else {
        panic!("usage: pingora-peer LISTEN UPSTREAM CA TOKENS LOG THREADS LIMIT");
    };
    let conf = ServerConf {
        threads: threads.parse().expect("a number of threads"),
        ca_file: Some(ca.clone()),
        upstream_keepalive_pool_size: 1024,
        ..ServerConf::default()
    };
    let text = std::fs::read_to_string(tokens).expect("the tokens");
    let tokens = text
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(token, tenant)| (token.to_owned(), Arc::from(tenant)))
        .collect();
    let log: Log = Arc::new(Mutex::new(BufWriter::with_capacity(
        64 << 10,
        File::create(log).expect("the log"),
    )));
    let flushed = Arc::clone(&log);
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(Duration::from_secs(1));
            let _ = flushed.lock().map(|mut log| log.flush());
        }
    });
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let mut service = http_proxy_service(
        &server.configuration,
        Gateway {
            tokens,
            rate: Rate::new(Duration::from_secs(1)),
            limit: limit.parse().expect("calls a second"),
            peer: HttpPeer::new(upstream.as_str(), true, "localhost".to_owned()),
            log,
        },
    );
    service.add_tcp(listen);
    server.add_service(service);
    server.run_forever();
}
