//! A client of the admin socket of a running gateway.

use std::{
    fs,
    io::{self, Read, Write},
    os::unix::{fs::FileTypeExt, net::UnixStream},
    path::Path,
    time::Duration,
};

use anyhow::{Context, bail};
use socket2::{Domain, SockAddr, Socket, Type};

use super::output::tame;

/// By when the gateway must have answered: longer than it waits for its disk.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The longest answer that is read, in bytes.
const ANSWER_BYTES_MAX: u64 = 64 << 10;

/// What to do where the gateway may listen elsewhere than the config says.
const OTHER_SOCKET: &str = "Another admin.socket in the config takes effect only after a restart: name that of the running gateway with --socket PATH";

/// What it said.
#[derive(Debug)]
pub struct Answer {
    /// The status of the answer.
    pub status: u16,
    /// What it said in words.
    pub said: String,
}

/// Sends a `POST` with a body to the socket at `socket`.
///
/// # Errors
///
/// If no gateway listens there, we may not speak to it, or it does not answer in time.
pub fn post(socket: &Path, path: &str, body: &str) -> anyhow::Result<Answer> {
    let place = socket.display();
    let mut stream = connect(socket, TIMEOUT)?;
    let length = body.len();
    // At once: what is no gateway may answer, and close, before it has read all.
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: admin\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    stream
        .write_all(request.as_bytes())
        .with_context(|| format!("the gateway at {place} does not listen"))?;
    let mut answer = Vec::new();
    stream
        .take(ANSWER_BYTES_MAX)
        .read_to_end(&mut answer)
        .with_context(|| format!("the gateway at {place} gave no answer in time: whether it did what was asked stands in its log and trail"))?;
    let answer = String::from_utf8_lossy(&answer);
    let status = answer
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3));
    let status = status.and_then(|status| status.parse().ok());
    let (Some(status), Some((_, said))) = (status, answer.split_once("\r\n\r\n")) else {
        bail!("what answers at {place} is no gateway");
    };
    Ok(Answer {
        status,
        // Whatever it is that answers.
        said: said.trim().lines().map(tame).collect::<Vec<_>>().join("\n"),
    })
}

/// Opens the socket at `socket`, each step within `timeout`.
///
/// # Errors
///
/// If no gateway listens there, or we may not speak to it.
pub fn connect(socket: &Path, timeout: Duration) -> anyhow::Result<UnixStream> {
    let open = || {
        let stream = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        // Also for the way into its backlog, which may be full.
        stream.set_write_timeout(Some(timeout))?;
        stream.set_read_timeout(Some(timeout))?;
        stream.connect(&SockAddr::unix(socket)?)?;
        Ok(stream.into())
    };
    open().map_err(|error: io::Error| {
        let what = unreached(&error, socket);
        anyhow::Error::new(error).context(what)
    })
}

/// What it means that the socket can't be opened, and what to do.
fn unreached(error: &io::Error, socket: &Path) -> String {
    let place = socket.display();
    let is_other = fs::metadata(socket).is_ok_and(|found| !found.file_type().is_socket());
    match error.kind() {
        _ if is_other => {
            format!("{place} is no socket: name what the gateway's config has as admin.socket")
        }
        io::ErrorKind::NotFound => format!(
            "there is no socket {place}: does the gateway run, and is this its admin.socket? {OTHER_SOCKET}"
        ),
        io::ErrorKind::ConnectionRefused => {
            format!("no gateway listens on {place}: it ended and left its socket. {OTHER_SOCKET}")
        }
        io::ErrorKind::PermissionDenied => {
            format!("{place} is only for root and the user that the gateway runs as")
        }
        _ => format!("cannot speak to the gateway on {place}"),
    }
}
