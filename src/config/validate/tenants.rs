//! `keys` and `tenants`.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;

use super::{check::Check, secret};
use crate::{
    config::{
        problem::FieldPath,
        raw::{self, OneOf, Pairs},
        settings::{Bounds, Key, Mode, SecretSource, Tenant, TokenEntry, Users},
        suggest::{did_you_mean, is_repeatable, quote},
    },
    ids::{IdGrammar, UserId},
    token::{TokenDigest, looks_like_token},
};

/// From how many days before its end a token is worth a warning.
const EXPIRY_WARNING_DAYS: i64 = 14;

pub fn keys(check: &mut Check, raw: Option<Pairs<raw::Key>>, allow_inline: bool) -> Vec<Key> {
    let at = FieldPath::root().key("keys");
    let Some(Pairs(raw)) = check.required(at.clone(), raw) else {
        return Vec::new();
    };
    if raw.is_empty() {
        check.problem(at.clone(), "expected at least one key");
    }
    let mut keys: Vec<Key> = Vec::new();
    for (name, key) in raw {
        let at = at.clone().key(&name);
        check.name(at.clone(), &name);
        if keys.iter().any(|known| known.name == name) {
            check.problem(at.clone(), "stands twice");
        }
        let key = check.entry(&at, key).unwrap_or_default();
        let secret_at = at.clone().key("secret");
        let secret = check.required(secret_at.clone(), key.secret);
        keys.push(Key {
            secret: secret.map_or_else(
                || SecretSource::Env(String::new()),
                |raw| secret::source(check, &secret_at, raw, allow_inline),
            ),
            next: key
                .next
                .map(|raw| secret::source(check, &at.clone().key("next"), raw, allow_inline)),
            limits: check.windows(&at.key("limits"), key.limits),
            name,
        });
    }
    keys
}

/// What has to be unique over all tenants.
#[derive(Default)]
struct Seen {
    names: HashSet<Box<str>>,
    /// Where each token stands: tenant, token of the tenant.
    tokens: HashMap<TokenDigest, (u32, u32)>,
}

pub fn tenants(
    check: &mut Check,
    raw: Option<Vec<Option<raw::Tenant>>>,
    keys: &[Key],
    grammar: IdGrammar,
    bounds: &Bounds,
) -> Vec<Tenant> {
    let at = FieldPath::root().key("tenants");
    let Some(raw) = check.required(at.clone(), raw) else {
        return Vec::new();
    };
    if raw.is_empty() {
        check.problem(at.clone(), "expected at least one tenant");
    }
    let mut seen = Seen::default();
    let now = Timestamp::now();
    let mut tenants = Vec::with_capacity(raw.len());
    for (index, entry) in raw.into_iter().enumerate() {
        let at = at.clone().index(index);
        if let Some(raw) = check.entry(&at, entry) {
            tenants.push(tenant(
                check,
                &at,
                raw,
                (keys, grammar, bounds, now),
                &mut seen,
            ));
        }
    }
    tenants
}

fn tenant(
    check: &mut Check,
    at: &FieldPath,
    raw: raw::Tenant,
    (keys, grammar, bounds, now): (&[Key], IdGrammar, &Bounds, Timestamp),
    seen: &mut Seen,
) -> Tenant {
    let field = |name: &str| at.clone().key(name);
    let name = check.required(field("name"), raw.name);
    let is_named = name
        .as_deref()
        .is_some_and(|name| check.name(field("name"), name));
    let name: Box<str> = name.unwrap_or_default().into();
    if is_named && !seen.names.insert(name.clone()) {
        check.problem(
            field("name"),
            format!("another tenant is named {}", quote(&name)),
        );
    }
    let key = check
        .required(field("key"), raw.key)
        .map_or(0, |key| key_index(check, field("key"), &key, keys));
    let users = check.required(field("users"), raw.users);
    let users = users.map_or(Users::All, |raw| {
        users_of(check, &field("users"), raw, grammar)
    });
    let limits = check.windows(&field("limits"), raw.limits);
    let no_limit = limits.is_empty() && keys.get(key).is_some_and(|key| key.limits.is_empty());
    if no_limit {
        check.warning(
            at.clone(),
            "has no limits, nor has its key: it can delete as fast as Alloy answers",
        );
    }
    let modes = [
        ("enforce", Mode::Enforce),
        ("dry_run", Mode::DryRun),
        ("suspended", Mode::Suspended),
    ];
    let quarter = (bounds.requests_in_flight / 4).max(1);
    Tenant {
        name,
        key,
        users,
        tokens: tokens(check, &field("tokens"), raw.tokens, now, seen),
        limits,
        wait: check.span(field("wait"), raw.wait, "0s", std::time::Duration::ZERO),
        wait_queue: check.count(field("wait_queue"), raw.wait_queue, 64, 1..=100_000),
        in_flight: check.count(
            field("in_flight"),
            raw.in_flight,
            quarter,
            1..=bounds.requests_in_flight,
        ),
        mode: check.choice(field("mode"), raw.mode, &modes, Mode::Enforce),
    }
}

fn key_index(check: &mut Check, at: FieldPath, name: &str, keys: &[Key]) -> usize {
    let index = keys.iter().position(|key| key.name == name);
    if index.is_none() {
        let names = || keys.iter().map(|key| key.name.as_str());
        let known: Vec<_> = names()
            .filter(|name| is_repeatable(name))
            .take(10)
            .collect();
        let (found, known) = (quote(name), known.join(", "));
        let hint = did_you_mean(name, names());
        check.problem(
            at,
            format!("found {found}, which is none of keys: {known}{hint}"),
        );
    }
    index.unwrap_or(0)
}

fn users_of(
    check: &mut Check,
    at: &FieldPath,
    raw: OneOf<raw::FileOf>,
    grammar: IdGrammar,
) -> Users {
    match raw {
        OneOf::Word(word) if word == "all" => Users::All,
        OneOf::Map(raw::FileOf { file: Some(file) }) => {
            Users::File(check.path(at.clone().key("file"), &file))
        }
        OneOf::List(list) => {
            let mut users = Vec::with_capacity(list.len());
            for (index, id) in list.into_iter().enumerate() {
                let at = at.clone().index(index);
                let Some(id) = check.entry(&at, id) else {
                    continue;
                };
                match UserId::parse(&id, grammar) {
                    Some(user) => users.push(user),
                    None => check.problem(
                        at,
                        format!(
                            "found {}, expected a user id: {}",
                            quote(&id),
                            expected_id(grammar)
                        ),
                    ),
                }
            }
            Users::Listed(users)
        }
        _ => {
            check.problem(
                at.clone(),
                "expected all, a list of user ids, or { file: PATH }",
            );
            Users::All
        }
    }
}

fn expected_id(grammar: IdGrammar) -> &'static str {
    match grammar {
        IdGrammar::Opaque => "1 to 128 of A-Z a-z 0-9 . _ ~ -",
        IdGrammar::ObjectId => "24 hex digits (upstream.ids is object_id)",
    }
}

fn tokens(
    check: &mut Check,
    at: &FieldPath,
    raw: Option<Vec<Option<raw::Token>>>,
    now: Timestamp,
    seen: &mut Seen,
) -> Vec<TokenEntry> {
    let Some(raw) = check.required(at.clone(), raw) else {
        return Vec::new();
    };
    if raw.is_empty() {
        check.problem(
            at.clone(),
            "expected at least one token; `alloy-gateway token new` makes one",
        );
    }
    let mut tokens: Vec<TokenEntry> = Vec::new();
    for (index, entry) in raw.into_iter().enumerate() {
        let at = at.clone().index(index);
        let Some(raw) = check.entry(&at, entry) else {
            continue;
        };
        let field = |name: &str| at.clone().key(name);
        let id = check.required(field("id"), raw.id);
        let is_named = id.as_deref().is_some_and(|id| check.name(field("id"), id));
        let id: Box<str> = id.unwrap_or_default().into();
        if is_named && tokens.iter().any(|known| known.id == id) {
            check.problem(field("id"), "another token of this tenant has this id");
        }
        let sha256 = check.required(field("sha256"), raw.sha256);
        let digest = sha256.and_then(|text| digest(check, &at, &text, seen));
        let not_before = instant(check, field("not_before"), raw.not_before);
        let expires = instant(check, field("expires"), raw.expires);
        validity(check, &at, not_before, expires, now);
        if let Some(digest) = digest {
            tokens.push(TokenEntry {
                id,
                digest,
                not_before,
                expires,
            });
        }
    }
    tokens
}

fn digest(
    check: &mut Check,
    token_at: &FieldPath,
    text: &str,
    seen: &mut Seen,
) -> Option<TokenDigest> {
    let at = token_at.clone().key("sha256");
    let Some(digest) = TokenDigest::from_hex(text) else {
        let message = if looks_like_token(text) {
            "is a token itself: the config holds only its SHA-256; `alloy-gateway token hash` prints it. Replace this token, it is in a file now"
        } else {
            "expected 64 hex digits: the SHA-256 of the whole token, as `alloy-gateway token new` prints it"
        };
        check.problem(at, message);
        return None;
    };
    if let Some((tenant, token)) = seen.tokens.insert(digest, indices(token_at)) {
        check.problem(
            at,
            format!("the same token as tenants[{tenant}].tokens[{token}]: whose call would it be?"),
        );
    }
    Some(digest)
}

/// Where a token's path points to.
fn indices(at: &FieldPath) -> (u32, u32) {
    use crate::config::problem::Segment;
    let mut indices = at.segments().iter().filter_map(|segment| match segment {
        Segment::Index(index) => u32::try_from(*index).ok(),
        Segment::Key(_) => None,
    });
    (
        indices.next().unwrap_or_default(),
        indices.next().unwrap_or_default(),
    )
}

fn instant(check: &mut Check, at: FieldPath, found: Option<String>) -> Option<Timestamp> {
    let found = found?;
    let instant = found.parse().ok();
    if instant.is_none() {
        check.problem(
            at,
            format!(
                "found {}, expected a time as in 2027-02-01T00:00:00Z (RFC 3339)",
                quote(&found)
            ),
        );
    }
    instant
}

fn validity(
    check: &mut Check,
    at: &FieldPath,
    not_before: Option<Timestamp>,
    expires: Option<Timestamp>,
    now: Timestamp,
) {
    let Some(expires) = expires else { return };
    let at = at.clone().key("expires");
    if not_before.is_some_and(|not_before| not_before >= expires) {
        check.problem(
            at,
            "is not after not_before: the token would never be valid",
        );
        return;
    }
    let days = (expires.as_second() - now.as_second()) / 86_400;
    if expires <= now {
        check.warning(at, "has passed: the token is refused");
    } else if days < EXPIRY_WARNING_DAYS {
        check.warning(at, format!("the token is refused in {days} day(s)"));
    }
}
