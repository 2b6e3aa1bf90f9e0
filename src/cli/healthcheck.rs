//! `healthcheck`: for images without curl.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context, bail};

use super::{
    ConfigFile, Exit,
    output::{err, outln, tame},
};

/// By when the gateway must have answered.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The longest answer that is read, in bytes.
const ANSWER_BYTES_MAX: u64 = 64 << 10;
/// How much of what was said is shown, in characters.
const SHOWN_MAX: usize = 200;

/// Arguments of `healthcheck`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Ask whether it takes calls, not only whether it lives
    #[arg(long)]
    ready: bool,
    /// The admin address, if no config is to be read for it
    #[arg(long, value_name = "IP:PORT")]
    address: Option<SocketAddr>,
    #[command(flatten)]
    config: ConfigFile,
}

/// Asks a running gateway how it is.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    let address = match args.address {
        Some(address) => address,
        None => match args.config.load() {
            Ok(loaded) => loaded
                .settings
                .admin
                .address
                .context("admin.address is off in the config: there is nothing to ask")?,
            Err(problems) => {
                err!("{problems}");
                return Ok(Exit::Config);
            }
        },
    };
    let path = if args.ready { "/readyz" } else { "/livez" };
    let (exit, said) = match ask(address, path) {
        Ok((200, said)) if said == "ok" => (Exit::Ok, said),
        // It says why.
        Ok((503, said)) => (Exit::NotReady, said),
        Ok((status, said)) => (
            Exit::NotReady,
            format!("GET {path} answered {status}: is {address} the admin address? {said}"),
        ),
        Err(error) => (Exit::NotReady, format!("{error:#}")),
    };
    outln!("{}", said.trim_end());
    Ok(exit)
}

/// The status, and what was said: a line that no terminal acts on.
fn ask(address: SocketAddr, path: &str) -> anyhow::Result<(u16, String)> {
    let address = match address {
        // What listens everywhere is asked here.
        any if any.ip().is_unspecified() && any.is_ipv4() => ([127, 0, 0, 1], any.port()).into(),
        any if any.ip().is_unspecified() => (std::net::Ipv6Addr::LOCALHOST, any.port()).into(),
        other => other,
    };
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)
        .with_context(|| format!("no gateway answers on {address}"))?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    // At once: what is no gateway may answer, and close, before it has read all.
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    let read = stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer);
    // What was answered before counts: many close without reading to the end.
    if answer.is_empty() {
        read.context("no answer in time")?;
    }
    let answer = String::from_utf8_lossy(&answer);
    let status = answer.strip_prefix("HTTP/1.1 ");
    let status = status.and_then(|rest| rest.get(..3)?.parse().ok());
    let (Some(status), Some((_, body))) = (status, answer.split_once("\r\n\r\n")) else {
        bail!("what answers on {address} is no gateway");
    };
    let line = body.trim().lines().next().unwrap_or_default();
    let short: String = line.chars().take(SHOWN_MAX).collect();
    Ok((status, tame(&short)))
}
