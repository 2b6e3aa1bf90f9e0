//! The trail.

use std::time::Duration;

use super::{check::Check, secret, upstream};
use crate::config::{
    problem::FieldPath,
    ranges, raw,
    settings::{Audit, Checkpoint, Durability, Ship},
    suggest::quote,
    unit::duration,
};

/// How the trail is kept.
pub fn audit(check: &mut Check, raw: raw::Audit, allow_inline: bool) -> Audit {
    let at = |name: &'static str| FieldPath::root().key("audit").key(name);
    let choices = Durability::ALL.map(|choice| (choice.as_str(), choice));
    let directory = raw
        .directory
        .unwrap_or_else(|| "/var/lib/alloy-gateway/audit".to_owned());
    let minute = Duration::from_secs(60);
    let checkpoint = raw.checkpoint.unwrap_or_default();
    Audit {
        directory: check.path_to_make(at("directory"), &directory),
        durability: check.choice(
            at("durability"),
            raw.durability,
            &choices,
            Durability::Strict,
        ),
        intent_wait: check.span(
            at("intent_wait"),
            raw.intent_wait,
            "2s",
            ranges::AUDIT_INTENT_WAIT,
        ),
        outcome_wait: check.span(
            at("outcome_wait"),
            raw.outcome_wait,
            "2s",
            ranges::AUDIT_OUTCOME_WAIT,
        ),
        segment_size: u64::from(check.size(
            at("segment_size"),
            raw.segment_size,
            64 << 20,
            ranges::AUDIT_SEGMENT_SIZE,
        )),
        segment_age: check.span(
            at("segment_age"),
            raw.segment_age,
            "1d",
            ranges::AUDIT_SEGMENT_AGE,
        ),
        retention: retention(check, at("retention"), raw.retention),
        checkpoint: Checkpoint {
            records: check.count(
                at("checkpoint").key("records"),
                checkpoint.records,
                10_000,
                ranges::CHECKPOINT_RECORDS,
            ),
            every: check.span(
                at("checkpoint").key("every"),
                checkpoint.every,
                "10m",
                ranges::CHECKPOINT_EVERY,
            ),
        },
        mac_key: raw
            .mac_key
            .map(|raw| secret::source(check, &at("mac_key"), raw, allow_inline)),
        ship: raw
            .ship
            .and_then(|raw| ship(check, &at("ship"), raw, allow_inline)),
    }
    .checked(check, minute)
}

impl Audit {
    /// A segment must be old enough to be sealed before it can be removed.
    fn checked(self, check: &mut Check, least: Duration) -> Self {
        if self
            .retention
            .is_some_and(|retention| retention < self.segment_age.max(least))
        {
            check.warning(
                FieldPath::root().key("audit").key("retention"),
                "is shorter than audit.segment_age: records stay until their segment is sealed",
            );
        }
        self
    }
}

fn ship(check: &mut Check, at: &FieldPath, raw: raw::Ship, allow_inline: bool) -> Option<Ship> {
    let gateway = raw.gateway;
    let gateway_at = at.clone().key("gateway");
    if !check.word_for_none(&gateway_at, gateway.as_deref(), "a name")
        && let Some(gateway) = &gateway
    {
        check.name(gateway_at, gateway);
    }
    let at = at.clone().key("postgres");
    let postgres = check.required(at.clone(), raw.postgres)?;
    let url = check.required(at.clone().key("url"), postgres.url)?;
    Some(Ship {
        gateway,
        url: secret::source(check, &at.clone().key("url"), url, allow_inline),
        trust: upstream::trust(check, &at.key("trust"), postgres.trust),
        allow_plaintext: postgres.allow_plaintext == Some(true),
    })
}

fn retention(check: &mut Check, at: FieldPath, raw: Option<String>) -> Option<Duration> {
    let text = raw.filter(|text| text != "forever")?;
    let allowed = ranges::AUDIT_RETENTION;
    let expected = match duration(&text) {
        Ok(span) if allowed.contains(&span) => return Some(span),
        Ok(_) => format!("expected {allowed}"),
        Err(expected) => expected,
    };
    check.problem(
        at,
        format!("found {}, {expected}; or forever", quote(&text)),
    );
    None
}
