//! What an operator orders who freezes or thaws.

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use serde_json::Value;

use crate::{
    admin::{body, text},
    audit::TEXT_BYTES_MAX,
    config::quote,
    containment::Scope,
    token::holds_token,
};

/// What a body looks like.
const EXPECTED: &str =
    "expected { \"tenant\": NAME, \"reason\": WHY }, or \"all\": true in place of the tenant";

/// What is told for good must not hold what lets a caller in.
const HOLDS_TOKEN: &str = "a token stands in it, which log and trail would keep: name it by its id, which `token inspect` reads from standard input";

/// What an operator asks for.
#[derive(Debug, Default)]
pub struct Order {
    /// `None` for all.
    pub tenant: Option<String>,
    pub reason: String,
    pub on_behalf_of: Option<String>,
}

impl Order {
    /// Reads it from a request's body, or has the answer that says what is wrong.
    pub async fn read(body: Incoming) -> Result<Self, Box<Response<Full<Bytes>>>> {
        let read = body::read(body).await?;
        Self::parse(&read)
            .map_err(|what| Box::new(text(StatusCode::BAD_REQUEST, &format!("{what}\n"))))
    }

    fn parse(body: &[u8]) -> Result<Self, String> {
        let Ok(Value::Object(fields)) = serde_json::from_slice(body) else {
            return Err(format!("the body is not a JSON object: {EXPECTED}"));
        };
        let (mut order, mut all) = (Self::default(), false);
        for (name, value) in fields {
            match (name.as_str(), value) {
                ("tenant", Value::String(tenant)) => order.tenant = Some(tenant),
                ("all", Value::Bool(value)) => all = value,
                ("reason", Value::String(reason)) => order.reason = reason,
                ("by", Value::String(by)) => order.on_behalf_of = Some(by),
                _ => {
                    return Err(format!(
                        "{} is not as it should be: {EXPECTED}",
                        quote(&name)
                    ));
                }
            }
        }
        if order.tenant.is_some() == all {
            return Err(EXPECTED.to_owned());
        }
        let texts = [Some(&order.reason), order.on_behalf_of.as_ref()];
        let is_good = |text: &String| !text.trim().is_empty() && text.len() <= TEXT_BYTES_MAX;
        if !texts.into_iter().flatten().all(is_good) {
            return Err(format!(
                "reason and by are texts of 1 to {TEXT_BYTES_MAX} bytes; the reason has to be there: the trail says why"
            ));
        }
        if texts
            .into_iter()
            .flatten()
            .any(|text| holds_token(text.as_bytes()))
        {
            return Err(HOLDS_TOKEN.to_owned());
        }
        Ok(order)
    }

    pub fn scope(&self) -> Scope<'_> {
        self.tenant.as_deref().map_or(Scope::All, Scope::Tenant)
    }

    /// Whom it is about, for people.
    pub fn whom(&self) -> &str {
        self.tenant.as_deref().unwrap_or("every tenant")
    }
}
