//! Who may change something, or see the config: whoever opens the Unix socket,
//! which only the gateway's own user and root can, or holds the admin token.

use std::net::SocketAddr;

use aws_lc_rs::constant_time;
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header, request::Parts};
use http_body_util::Full;
use jiff::Timestamp;

use super::{Admin, route::Route, text};
use crate::{
    arrival::Peer,
    config::settings::TokenEntry,
    limits::seconds_up,
    token::{Token, bearer},
};

/// How a request came in.
#[derive(Debug, Clone, Copy)]
pub enum Door {
    /// From this address.
    Tcp(SocketAddr),
    /// From a process of the user with this id, as far as the system knows.
    Socket(Option<u32>),
}

/// Somebody who may change something.
#[derive(Debug)]
pub struct Operator {
    /// Who, as the trail names them.
    pub by: String,
    /// From where, over TCP.
    pub peer: Option<SocketAddr>,
}

impl Operator {
    /// Who, and over TCP from where, in one text.
    pub fn who(&self) -> String {
        match self.peer {
            Some(peer) => format!("{} from {peer}", self.by),
            None => self.by.clone(),
        }
    }

    /// The gateway itself, for what is undone after a while.
    pub fn itself() -> Self {
        Self {
            by: "gateway".to_owned(),
            peer: None,
        }
    }
}

impl Admin {
    /// Whether a request that needs none comes with an admin token, and there is one.
    pub(super) fn is_token_sent(&self, request: &Parts) -> bool {
        self.reloader.settings().admin.token.is_some() && bearer(&request.headers).is_ok()
    }

    /// Who it is that asks for more than there is to see for everybody.
    ///
    /// # Errors
    ///
    /// The answer for everybody else. A token that is not good counts against
    /// its address, as on the data port, and is recorded.
    pub(super) fn let_in(
        &self,
        door: Door,
        request: &Parts,
    ) -> Result<Operator, Box<Response<Full<Bytes>>>> {
        let peer = match door {
            Door::Socket(user) => {
                let by = user.map_or_else(|| "unix".to_owned(), |user| format!("unix:uid={user}"));
                return Ok(Operator { by, peer: None });
            }
            Door::Tcp(peer) => peer,
        };
        let settings = self.reloader.settings();
        let Some(known) = &settings.admin.token else {
            let no =
                "only on admin.socket, or with the admin.token that the config does not have\n";
            return Err(Box::new(text(StatusCode::FORBIDDEN, no)));
        };
        let Ok(presented) = bearer(&request.headers) else {
            return Err(Box::new(challenge()));
        };
        if is_good(known, presented) {
            let by = format!("token:{}", known.id);
            return Ok(Operator {
                by,
                peer: Some(peer),
            });
        }
        Err(Box::new(self.guessed(peer, request.uri.path())))
    }

    /// Takes note of a token that is not good; the answer to it.
    fn guessed(&self, peer: SocketAddr, path: &str) -> Response<Full<Bytes>> {
        let snapshot = self.shared.snapshot();
        let path = Route::told(path, |name| snapshot.key(name).is_some());
        // However many there are, and also when the data port has used up what the address
        // may fail: the trail bounds by itself what it writes of them.
        self.shared.trail().admin_refused(&peer.to_string(), path);
        self.shared.metrics().admin_token_refused();
        match snapshot.failed_auth.count(&Peer::Tcp(peer)) {
            Ok(()) => {
                tracing::warn!(client.address = %peer, path, "somebody sent an admin token that is not good, and was refused");
                challenge()
            }
            Err(wait) => {
                let mut response = text(
                    StatusCode::TOO_MANY_REQUESTS,
                    "too many tokens that are not good came from your address\n",
                );
                let wait = HeaderValue::from(seconds_up(wait));
                response.headers_mut().insert(header::RETRY_AFTER, wait);
                response
            }
        }
    }
}

fn challenge() -> Response<Full<Bytes>> {
    let mut response = text(
        StatusCode::UNAUTHORIZED,
        "send the admin token as Authorization: Bearer agw_...\n",
    );
    let bearer = HeaderValue::from_static("Bearer realm=\"alloy-gateway admin\"");
    let fields = response.headers_mut();
    fields.insert(header::WWW_AUTHENTICATE, bearer);
    response
}

/// Takes as long for a token that is nearly right as for any other.
fn is_good(known: &TokenEntry, presented: &[u8]) -> bool {
    let Ok(token) = Token::parse(presented) else {
        return false;
    };
    let (known_sum, sum) = (known.digest.as_bytes(), token.digest());
    let is_same = constant_time::verify_slices_are_equal(known_sum, sum.as_bytes()).is_ok();
    is_same && known.is_valid(Timestamp::now())
}
