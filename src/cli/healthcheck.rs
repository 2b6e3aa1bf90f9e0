//! `healthcheck`: for images without curl.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, bail};

use super::{
    ConfigFile, Exit, admin_socket,
    output::{err, outln, tame},
};
use crate::config::problem::Problems;

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
    #[arg(long, value_name = "IP:PORT", conflicts_with = "socket")]
    address: Option<SocketAddr>,
    /// The admin socket, if no config is to be read for it
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    #[command(flatten)]
    config: ConfigFile,
}

/// Where a gateway is asked.
#[derive(Debug)]
enum Place {
    Address(SocketAddr),
    Socket(PathBuf),
}

impl Place {
    /// What is asked of a person where something else answers.
    fn question(&self) -> String {
        match self {
            Self::Address(address) => format!("is {address} the admin address?"),
            Self::Socket(path) => format!("is {} the admin socket?", path.display()),
        }
    }
}

/// Asks a running gateway how it is.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    let place = match place(args) {
        Ok(place) => place.context("admin.address is off in the config and there is no admin.socket: there is nothing to ask. Set one of them and restart the gateway, or name where it is asked with --address IP:PORT or --socket PATH")?,
        Err(problems) => {
            err!("{problems}");
            return Ok(Exit::Config);
        }
    };
    let path = if args.ready { "/readyz" } else { "/livez" };
    let answer = match &place {
        Place::Address(address) => at_address(*address, path),
        Place::Socket(socket) => at_socket(socket, path),
    };
    let (exit, said) = match answer {
        Ok((200, said)) if said == "ok" => (Exit::Ok, said),
        // It says why.
        Ok((503, said)) => (Exit::NotReady, said),
        Ok((status, said)) => (
            Exit::NotReady,
            format!("GET {path} answered {status}: {} {said}", place.question()),
        ),
        Err(error) => (Exit::NotReady, format!("{error:#}")),
    };
    outln!("{}", said.trim_end());
    Ok(exit)
}

/// Where to ask: what is named, else the address of the config, else its socket.
fn place(args: &Args) -> Result<Option<Place>, Problems> {
    if let Some(address) = args.address {
        return Ok(Some(Place::Address(address)));
    }
    if let Some(socket) = &args.socket {
        return Ok(Some(Place::Socket(socket.clone())));
    }
    let section = args.config.admin()?;
    if let Some(address) = section.address()? {
        return Ok(Some(Place::Address(address)));
    }
    let socket = section.socket()?;
    Ok(socket.map(|socket| Place::Socket(socket.to_owned())))
}

/// The status, and what was said: a line that no terminal acts on.
fn at_address(address: SocketAddr, path: &str) -> anyhow::Result<(u16, String)> {
    let address = match address {
        // What listens everywhere is asked here.
        any if any.ip().is_unspecified() && any.is_ipv4() => ([127, 0, 0, 1], any.port()).into(),
        any if any.ip().is_unspecified() => (std::net::Ipv6Addr::LOCALHOST, any.port()).into(),
        other => other,
    };
    let stream = TcpStream::connect_timeout(&address, TIMEOUT)
        .with_context(|| format!("no gateway answers on {address}"))?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let place = address.to_string();
    ask(stream, path, &place, &place)
}

/// The same at the admin socket.
fn at_socket(socket: &Path, path: &str) -> anyhow::Result<(u16, String)> {
    let stream = admin_socket::connect(socket, TIMEOUT)?;
    ask(stream, path, "admin", &socket.display().to_string())
}

fn ask(
    mut stream: impl Read + Write,
    path: &str,
    host: &str,
    place: &str,
) -> anyhow::Result<(u16, String)> {
    // At once: what is no gateway may answer, and close, before it has read all.
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
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
        bail!("what answers on {place} is no gateway");
    };
    let line = body.trim().lines().next().unwrap_or_default();
    let short: String = line.chars().take(SHOWN_MAX).collect();
    Ok((status, tame(&short)))
}
