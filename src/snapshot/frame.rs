//! The bytes that all requests to one upstream have in common.

use http::HeaderValue;

use crate::USER_AGENT;

/// What all requests to one upstream have in common, made once.
#[derive(Debug)]
pub struct Frame {
    /// From behind the path to the key.
    pub before_key: Box<[u8]>,
    /// From behind the key to the value of `via`.
    pub behind_key: Box<[u8]>,
}

impl Frame {
    /// Of requests to this host with this version.
    pub fn new(authority: &HeaderValue, api_version: &HeaderValue) -> Self {
        let before = [
            b" HTTP/1.1\r\nhost: ",
            authority.as_bytes(),
            b"\r\nauthorization: ",
        ];
        let behind = [
            b"\r\nx-api-version: ",
            api_version.as_bytes(),
            b"\r\naccept: application/json\r\nuser-agent: ",
            USER_AGENT.as_bytes(),
            b"\r\nvia: ",
        ];
        Self {
            before_key: before.concat().into(),
            behind_key: behind.concat().into(),
        }
    }
}
