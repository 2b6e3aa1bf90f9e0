//! Path segments → ids: what is taken is exactly what design and RFC 3986 allow.
#![no_main]

use alloy_gateway::ids::{CredentialId, IdGrammar, UserId};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let unreserved = |b: u8| b.is_ascii_alphanumeric() || b"._~-".contains(&b);
    let looks_right = (1..=128).contains(&text.len())
        && text.bytes().all(unreserved)
        && text != "."
        && text != "..";
    let hex = text.len() == 24 && text.bytes().all(|b| b.is_ascii_hexdigit());
    let opaque = UserId::parse(text, IdGrammar::Opaque);
    // What begins as a token does is refused as well, and what holds a whole one.
    let is_token = |part: &[u8]| {
        part.starts_with(b"agw_") && part.iter().skip(4).all(u8::is_ascii_alphanumeric)
    };
    let holds_token = text.as_bytes().windows(4 + 43 + 6).any(is_token);
    let is_right = looks_right && !text.starts_with("agw_") && !holds_token;
    assert_eq!(opaque.is_some(), is_right, "{text:?}");
    assert_eq!(
        UserId::parse(text, IdGrammar::ObjectId).is_some(),
        hex,
        "{text:?}"
    );
    if let Some(id) = CredentialId::parse(text, IdGrammar::Opaque) {
        assert_eq!(id.as_str(), text);
    }
});
