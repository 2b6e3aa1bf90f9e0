//! Connections to the store. Nothing of a call goes there but the names of its
//! tenant and key: it is no upstream.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::BytesMut;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::TcpStream,
    time::timeout,
};

use super::{
    Way,
    address::{Address, Login},
    resp::{self, Reply},
    script::{Answer, LIMITS, SEEN},
    trouble::Trouble,
};
use crate::tls::ClientStream;

/// How long look-up, TCP, TLS and login may take together. No call waits for it.
const CONNECT_MAX: Duration = Duration::from_secs(1);
/// How long what a try writes stays in the store, in milliseconds.
const PROBE_MS: &[u8] = b"10000";
/// Bytes read at a time.
const READ_BYTES: usize = 8 << 10;
/// How much of an error of the store is told.
const DETAIL_CHARS_MAX: usize = 200;
/// Behind this, an error repeats what was sent.
const ARGUMENTS_FOLLOW: &str = ", with args";
/// Somewhere in an error, these say that the user lacks a right to what a script does:
/// as Redis 7.2 words it, and as those before it do of commands, keys and channels.
const NO_RIGHT_IN_SCRIPT: [&str; 2] = [
    "ACL failure in script",
    "The user executing the script can't ",
];
/// What is told of a node that is not connected to.
const ELSEWHERE: &str = "the cluster names this plaintext node on another host, to which password and counts would travel readable: use rediss://, or put limits_store.redis.allow_plaintext: true";

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// For calls: whether it is good is told to operators.
    Calls,
    /// For what goes on beside them, freezes among it.
    Beside,
}

/// A connection, with TLS or without.
pub enum Stream {
    /// Plaintext.
    Plain(TcpStream),
    /// TLS.
    Tls(Box<ClientStream>),
}

/// Why there is no connection, and details for people.
pub type Failed = (Trouble, String);

/// Connects to a node, logs in, shows it the scripts, and looks whether it does in time
/// what it is to do over a connection of this role, under the name beside it: what can
/// only be written to decides nothing. Without one nothing is looked at.
pub async fn open(
    way: &Way,
    address: &Address,
    probe: Option<(Role, &str)>,
) -> Result<Stream, Failed> {
    let opened = timeout(CONNECT_MAX, connect_and_log_in(way, address)).await;
    let mut stream = opened.map_err(|_| {
        let detail = format!("{address}: no connection within {CONNECT_MAX:?}");
        (Trouble::Connect, detail)
    })??;
    let Some((role, probe)) = probe else {
        return Ok(stream);
    };
    let mut ask = async |out: &[u8]| answer(&mut stream, address, out, way.timeout).await;
    let reply = match role {
        Role::Calls => match ask(&decision(probe, false)).await? {
            forgotten if forgotten.error_kind() == Some("NOSCRIPT") => {
                ask(&decision(probe, true)).await?
            }
            reply => reply,
        },
        // Freezes are heard also where limits can't be shared.
        Role::Beside => ask(&note(probe)).await?,
    };
    match reply {
        // Its slot has moved: the node is there all the same.
        Reply::Error(text) if is_moved(&text) => Ok(stream),
        Reply::Error(text) => Err(refused(way, address, &text)),
        reply if role == Role::Calls && Answer::read(&reply, 1).is_none() => {
            let detail = format!("{address}: what it answers to the script decides nothing");
            Err((Trouble::Error, detail))
        }
        _ => Ok(stream),
    }
}

/// What takes a unit of a bucket that nobody else has.
fn decision(name: &str, as_text: bool) -> BytesMut {
    let mut out = BytesMut::new();
    LIMITS.call(&mut out, as_text, 1, 3);
    resp::part(&mut out, name.as_bytes());
    // One unit, back within a microsecond; none is known to be spent.
    for number in [1, 1, 0] {
        resp::number(&mut out, number);
    }
    out
}

/// What writes under a name, for a while.
fn note(name: &str) -> BytesMut {
    let mut out = BytesMut::new();
    resp::command(&mut out, &[b"SET", name.as_bytes(), b"1", b"PX", PROBE_MS]);
    out
}

/// Asks a node one thing over a connection of its own.
pub async fn once(way: &Way, address: &Address, command: &[&[u8]]) -> Result<Reply, Failed> {
    let mut stream = open(way, address, None).await?;
    let mut out = BytesMut::new();
    resp::command(&mut out, command);
    match answer(&mut stream, address, &out, CONNECT_MAX).await? {
        Reply::Error(text) => Err(refused(way, address, &text)),
        reply => Ok(reply),
    }
}

/// The one answer to a command, within `span`; it may be an error.
async fn answer(
    stream: &mut Stream,
    address: &Address,
    out: &[u8],
    span: Duration,
) -> Result<Reply, Failed> {
    let late = || {
        let detail = format!("{address}: no answer within {span:?}");
        (Trouble::Timeout, detail)
    };
    let answered = timeout(span, exchange(stream, out, 1)).await;
    let replies = answered
        .map_err(|_| late())?
        .map_err(|error| (Trouble::Closed, format!("{address}: {error}")))?;
    replies.into_iter().next().ok_or_else(late)
}

/// Whether an error says that another node of the cluster is to be asked, now or soon,
/// for this key; what else this one has it answers. `CLUSTERDOWN` is not among them: it
/// answers nothing.
pub fn is_moved(error: &str) -> bool {
    let kind = error.split(' ').next().unwrap_or_default();
    matches!(kind, "MOVED" | "ASK" | "TRYAGAIN")
}

/// Whether an error says that the user lacks a right, be it to what a script does.
pub fn is_of_rights(error: &str) -> bool {
    let is_in_script = |words: &&str| error.contains(*words);
    error.starts_with("NOPERM") || NO_RIGHT_IN_SCRIPT.iter().any(is_in_script)
}

fn refused(way: &Way, address: &Address, text: &str) -> Failed {
    let kind = text.split(' ').next().unwrap_or_default();
    let trouble = match kind {
        "NOAUTH" | "WRONGPASS" | "NOPERM" => Trouble::Auth,
        _ => Trouble::Error,
    };
    let told = shortened(text, way.url.login.as_ref());
    (trouble, format!("{address}: {told}"))
}

/// As much of an error of the store as is told: nothing of what it was sent. Redis
/// repeats the arguments of a command that it does not know, and those of a renamed
/// `AUTH` are the user and the password; others say it in words of their own.
pub fn shortened(text: &str, login: Option<&Login>) -> String {
    let (told, _) = text.split_once(ARGUMENTS_FOLLOW).unwrap_or((text, ""));
    let kind = told.split(' ').next().unwrap_or_default();
    let password = login.map_or("", |login| &login.password);
    let is_fit = |told: &&str| password.is_empty() || !told.contains(password);
    let told = [told, kind].into_iter().find(is_fit).unwrap_or_default();
    told.chars().take(DETAIL_CHARS_MAX).collect()
}

async fn connect_and_log_in(way: &Way, address: &Address) -> Result<Stream, Failed> {
    if !way.may_lead_to(&address.host) {
        return Err((Trouble::Connect, format!("{address}: {ELSEWHERE}")));
    }
    let unreachable = |error: io::Error| (Trouble::Connect, format!("{address}: {error}"));
    let tcp = TcpStream::connect((address.host.as_str(), address.port)).await;
    let tcp = tcp.map_err(unreachable)?;
    // Commands are small, and each is waited for.
    let _ = tcp.set_nodelay(true);
    let mut stream = match &way.tls {
        Some(tls) => {
            let tls = tls.connect(&address.host, tcp).await.map_err(unreachable)?;
            Stream::Tls(Box::new(tls))
        }
        None => Stream::Plain(tcp),
    };
    let mut out = BytesMut::new();
    let mut needed = 0;
    if let Some(Login { user, password }) = &way.url.login {
        needed += 1;
        match user {
            Some(user) => resp::command(&mut out, &[b"AUTH", user.as_bytes(), password.as_bytes()]),
            None => resp::command(&mut out, &[b"AUTH", password.as_bytes()]),
        }
    }
    if way.url.database > 0 {
        needed += 1;
        let database = way.url.database.to_string();
        resp::command(&mut out, &[b"SELECT", database.as_bytes()]);
    }
    // A store that forbids this is shown a script with the first call instead.
    LIMITS.load(&mut out);
    SEEN.load(&mut out);
    let replies = exchange(&mut stream, &out, needed + 2).await;
    let replies = replies.map_err(|error| (Trouble::Closed, format!("{address}: {error}")))?;
    let mut replies = replies.iter().take(needed);
    let error = replies.find_map(|reply| match reply {
        Reply::Error(text) => Some(text),
        _ => None,
    });
    match error {
        // With `AUTH`, `ERR` says that there is no such password or user, or none is wanted.
        Some(text) if way.url.login.is_some() => {
            Err((Trouble::Auth, refused(way, address, text).1))
        }
        Some(text) => Err(refused(way, address, text)),
        None => Ok(stream),
    }
}

async fn exchange(stream: &mut Stream, out: &[u8], replies: usize) -> io::Result<Vec<Reply>> {
    stream.write_all(out).await?;
    stream.flush().await?;
    let (mut input, mut buffer) = (resp::Reader::default(), vec![0; READ_BYTES]);
    let mut found = Vec::with_capacity(replies);
    loop {
        let odd = |_| io::Error::other("it answers with something that is no answer");
        while let Some(reply) = input.take().map_err(odd)? {
            found.push(reply);
        }
        if found.len() >= replies {
            return Ok(found);
        }
        match stream.read(&mut buffer).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => input.add(buffer.get(..read).unwrap_or_default()),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_the_store_repeats_nothing_of_what_it_was_sent() {
        // What redis-server 7 answers where `AUTH` was renamed.
        let redis = "ERR unknown command 'AUTH', with args beginning with: 'gateway' 's3cret' ";
        let login = Login {
            user: None,
            password: "s3cret".to_owned(),
        };
        let told = |text: &str| shortened(text, Some(&login));
        assert_eq!(told(redis), "ERR unknown command 'AUTH'");
        let wrong = "WRONGPASS invalid username-password pair or user is disabled.";
        assert_eq!(told(wrong), wrong);
        assert_eq!(told(&"x".repeat(9_999)).len(), DETAIL_CHARS_MAX);
        // What is no Redis has words of its own.
        assert_eq!(told("ERR no such user with password s3cret"), "ERR");
        assert_eq!(told("s3cret"), "");
    }

    #[test]
    fn a_right_that_a_script_lacks_is_known_in_the_words_of_each_redis() {
        for error in [
            "NOPERM this user has no permissions to run the 'evalsha' command",
            // Redis 7.2.
            "ERR ACL failure in script: User gate has no permissions to run the 'zscore' command",
            // Redis 7.0: what `pcall` hands back, and what `call` ends the script with.
            "ERR The user executing the script can't run this command or subcommand",
            "ERR The user executing the script can't run this command or subcommand script: 28863cad, on @user_script:1.",
            "ERR The user executing the script can't access at least one of the keys mentioned in the command arguments script: 63d95e98, on @user_script:1.",
            "ERR The user executing the script can't publish to the channel mentioned in the command script: 5e066ee1, on @user_script:1.",
            // Redis 6.
            "ERR Error running script (call to f_28863cad): @user_script:1: The user executing the script can't run this command or subcommand",
        ] {
            assert!(is_of_rights(error), "{error}");
        }
        for error in [
            "ERR This Redis command is not allowed from script script: 07dcf584, on @user_script:1.",
            "OOM command not allowed when used memory > 'maxmemory'.",
            "LOADING Redis is loading the dataset in memory",
        ] {
            assert!(!is_of_rights(error), "{error}");
        }
    }
}
