//! `keys` and `tenants`.

use std::{collections::HashSet, num::NonZeroU32, sync::Arc};

use jiff::Timestamp;

use super::{
    check::Check,
    secret,
    tokens::{self, SeenTokens},
};
use crate::{
    background,
    config::{
        problem::FieldPath,
        ranges::{self, Range},
        raw::{self, OneOf, Pairs},
        settings::{Bounds, FreezeAfter, Key, Mode, SecretSource, Tenant, Users},
        suggest::{did_you_mean, is_repeatable, quote},
    },
    ids::{IdGrammar, UserId},
};

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
        let at = at.clone().key(name.clone());
        check.name(at.clone(), &name);
        if keys.iter().any(|known| known.name == name) {
            check.problem(at.clone(), "stands twice");
        }
        let key = check.entry(&at, key).unwrap_or_default();
        let secret_at = at.clone().key("secret");
        let secret = check.required(secret_at.clone(), key.secret);
        let secret = secret.map_or_else(
            || SecretSource::Env(String::new()),
            |raw| secret::source(check, &secret_at, raw, allow_inline),
        );
        let next_at = at.clone().key("next");
        let next = key
            .next
            .map(|raw| secret::source(check, &next_at, raw, allow_inline));
        if next.as_ref() == Some(&secret) {
            let message = "is the same as secret: to move on to it changes nothing";
            check.warning(next_at, message);
        }
        keys.push(Key {
            secret,
            next,
            limits: check.windows(&at.key("limits"), key.limits),
            name,
        });
    }
    keys
}

/// What has to be unique over all tenants.
struct Seen {
    names: HashSet<Arc<str>>,
    tokens: SeenTokens,
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
    let mut seen = Seen {
        names: HashSet::with_capacity(raw.len()),
        tokens: SeenTokens::with_capacity(raw.len()),
    };
    let now = Timestamp::now();
    let mut tenants = Vec::with_capacity(raw.len());
    for (index, entry) in raw.into_iter().enumerate() {
        background::give_way();
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
    background::free(seen.names);
    tenants
}

fn tenant(
    check: &mut Check,
    at: &FieldPath,
    raw: raw::Tenant,
    (keys, grammar, bounds, now): (&[Key], IdGrammar, &Bounds, Timestamp),
    seen: &mut Seen,
) -> Tenant {
    let field = |name: &'static str| at.clone().key(name);
    let name = check.required(field("name"), raw.name);
    let is_named = name
        .as_deref()
        .is_some_and(|name| check.name(field("name"), name));
    let name: Arc<str> = name.unwrap_or_default().into();
    if is_named && !seen.names.insert(Arc::clone(&name)) {
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
    let modes = Mode::ALL.map(|mode| (mode.as_str(), mode));
    let quarter = (bounds.requests_in_flight / 4).max(1);
    Tenant {
        name,
        key,
        users,
        tokens: tokens::of_tenant(check, &field("tokens"), raw.tokens, now, &mut seen.tokens),
        limits,
        wait: check.span(field("wait"), raw.wait, "0s", ranges::TENANT_WAIT),
        wait_queue: check.count(
            field("wait_queue"),
            raw.wait_queue,
            64,
            ranges::TENANT_WAIT_QUEUE,
        ),
        in_flight: check.count(
            field("in_flight"),
            raw.in_flight,
            quarter,
            Range {
                max: bounds.requests_in_flight,
                ..ranges::TENANT_IN_FLIGHT
            },
        ),
        mode: check.choice(field("mode"), raw.mode, &modes, Mode::Enforce),
        freeze_after: raw
            .freeze_after
            .map(|raw| freeze_after(check, &field("freeze_after"), raw)),
    }
}

fn freeze_after(check: &mut Check, at: &FieldPath, raw: raw::FreezeAfter) -> FreezeAfter {
    let field = |name: &'static str| at.clone().key(name);
    let deletions = check.required(field("deletions"), raw.deletions);
    let deletions = deletions.map_or(1, |found| {
        check.count(field("deletions"), Some(found), 1, ranges::FREEZE_DELETIONS)
    });
    let per = check.required(field("per"), raw.per);
    FreezeAfter {
        deletions: NonZeroU32::new(deletions).unwrap_or(NonZeroU32::MIN),
        per: check.span(field("per"), per, "1h", ranges::FREEZE_PER),
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
        let (found, hint) = (quote(name), did_you_mean(name, names()));
        let which = match known.is_empty() {
            true if keys.is_empty() => "and there are no keys".to_owned(),
            true => "which is none of keys".to_owned(),
            false => format!("which is none of keys: {}", known.join(", ")),
        };
        check.problem(at, format!("found {found}, {which}{hint}"));
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
        raw => {
            let found = match &raw {
                OneOf::Word(word) => format!("found {}, ", quote(word)),
                OneOf::Number(number) => format!("found {number}, "),
                OneOf::List(_) | OneOf::Map(_) => String::new(),
            };
            let hint = match &raw {
                OneOf::Word(word) => users_meant(word),
                _ => String::new(),
            };
            let expected = "expected all, a list of user ids, or { file: PATH }";
            check.problem(at.clone(), format!("{found}{expected}{hint}"));
            Users::All
        }
    }
}

/// What somebody meant who wrote a word in the place of users.
fn users_meant(word: &str) -> String {
    let near = did_you_mean(&word.to_lowercase(), std::iter::once("all"));
    let is_list = |separator| word.split(separator).nth(1).is_some();
    if !near.is_empty() {
        near
    } else if is_list([',', ' ']) {
        ", did you mean a list, in [ ]?".to_owned()
    } else if word.contains(['/', '.']) && is_repeatable(word) {
        format!(", did you mean {{ file: {word} }}?")
    } else {
        String::new()
    }
}

/// What an id looks like, for people.
pub fn expected_id(grammar: IdGrammar) -> &'static str {
    match grammar {
        IdGrammar::Opaque => {
            "1 to 128 of A-Z a-z 0-9 . _ ~ -, not . or .., not beginning with agw_ and holding no token"
        }
        IdGrammar::ObjectId => "24 hex digits (upstream.ids is object_id)",
    }
}
