//! What `otlp` names: secrets for header fields, and roots.

use http::{HeaderName, HeaderValue};

use super::{secrets::read, trust::bad_trust};
use crate::{
    config::{
        problem::{FieldPath, Problem},
        settings::Otlp,
    },
    secret::fingerprint_of,
    tls::{self, ClientTls},
};

/// What it takes to reach a collector, read and ready.
#[derive(Debug)]
pub struct Way {
    /// Fields of each request.
    pub fields: Vec<Field>,
    /// `None` for plaintext.
    pub tls: Option<ClientTls>,
}

impl Way {
    /// What tells the values of the fields from others, and gives nothing of them away.
    pub fn fingerprints(&self) -> Vec<String> {
        let values = self.fields.iter().map(|(_, value)| value.as_bytes());
        values
            .map(|value| fingerprint_of(value, "alloy-gateway otlp.headers"))
            .collect()
    }
}

/// A field of each request to the collector.
pub type Field = (HeaderName, HeaderValue);

/// Reads everything that the way to a collector needs.
///
/// # Errors
///
/// Every problem at once; none of them holds anything of a secret.
pub fn otlp(settings: Option<&Otlp>) -> Result<Option<Way>, Vec<Problem>> {
    let Some(settings) = settings else {
        return Ok(None);
    };
    let at = FieldPath::root().key("otlp");
    let mut problems = Vec::new();
    let mut fields: Vec<Field> = Vec::with_capacity(settings.headers.len());
    for (name, source) in &settings.headers {
        let value = read(source).and_then(|(field, raw)| {
            let raw = raw.trim_ascii();
            let value = HeaderValue::from_bytes(raw).ok();
            let value = value.filter(|value| !value.is_empty());
            value.ok_or_else(|| (field, "is empty, or no value of a header field".to_owned()))
        });
        match value {
            Ok(mut value) => {
                value.set_sensitive(true);
                fields.push((name.clone(), value));
            }
            Err((field, message)) => {
                let at = at.clone().key("headers").key(name.to_string()).key(field);
                problems.push(Problem::new(at, message));
            }
        }
    }
    let tls = match settings.url.tls {
        true => match tls::client_config(&settings.trust) {
            Ok(tls) => Some(tls),
            Err(error) => {
                problems.push(bad_trust(at.key("trust"), &settings.trust, &error));
                None
            }
        },
        false => None,
    };
    if problems.is_empty() {
        Ok(Some(Way { fields, tls }))
    } else {
        Err(problems)
    }
}
