//! A client of the admin socket of a running gateway.

use std::{
    fmt,
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use anyhow::{Context, bail};

/// By when the gateway must have answered: longer than it waits for its disk.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The longest answer that is read, in bytes.
const ANSWER_BYTES_MAX: u64 = 64 << 10;

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
    let mut stream = UnixStream::connect(socket).map_err(|error| {
        let what = unreached(&error, &place);
        anyhow::Error::new(error).context(what)
    })?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let length = body.len();
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nHost: admin\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
    .with_context(|| format!("the gateway at {place} does not listen"))?;
    let mut answer = String::new();
    stream
        .take(ANSWER_BYTES_MAX)
        .read_to_string(&mut answer)
        .with_context(|| format!("the gateway at {place} gave no answer in time: whether it did what was asked stands in its log and trail"))?;
    let status = answer
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3));
    let status = status.and_then(|status| status.parse().ok());
    let (Some(status), Some((_, said))) = (status, answer.split_once("\r\n\r\n")) else {
        bail!("what answers at {place} is no gateway");
    };
    Ok(Answer {
        status,
        said: said.trim().to_owned(),
    })
}

/// What it means that the socket can't be opened, and what to do.
fn unreached(error: &io::Error, place: &impl fmt::Display) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => format!(
            "there is no socket {place}: does the gateway run, and is this its admin.socket?"
        ),
        io::ErrorKind::ConnectionRefused => {
            format!("no gateway listens on {place}: it ended and left its socket")
        }
        io::ErrorKind::PermissionDenied => {
            format!("{place} is only for root and the user that the gateway runs as")
        }
        _ => format!("cannot speak to the gateway on {place}"),
    }
}
