//! `healthcheck`: for images without curl.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context, bail};

use super::{
    ConfigFile, Exit,
    output::{err, outln},
};
use crate::config;

/// By when the gateway must have answered.
const TIMEOUT: Duration = Duration::from_secs(5);

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
        None => match config::load(&args.config.path) {
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
    match ask(address, path) {
        Ok((true, said)) => {
            outln!("{said}");
            Ok(Exit::Ok)
        }
        Ok((false, said)) => {
            outln!("{said}");
            Ok(Exit::NotReady)
        }
        Err(error) => {
            outln!("{error:#}");
            Ok(Exit::NotReady)
        }
    }
}

/// Whether it said 200, and what it said.
fn ask(address: SocketAddr, path: &str) -> anyhow::Result<(bool, String)> {
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
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream
        .take(64 << 10)
        .read_to_string(&mut answer)
        .context("no answer in time")?;
    let Some((head, body)) = answer.split_once("\r\n\r\n") else {
        bail!("what answers on {address} is no gateway");
    };
    Ok((head.starts_with("HTTP/1.1 200 "), body.trim().to_owned()))
}
