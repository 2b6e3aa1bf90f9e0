//! What is frozen.

use super::{
    OTHER,
    text::{Kind, Text},
};
use crate::snapshot::Snapshot;

/// Which tenants are frozen, by themselves or with all.
pub fn freezes(text: &mut Text, snapshot: &Snapshot) {
    text.family(
        "tenant_frozen",
        Kind::Gauge,
        "Whether calls of the tenant are refused until an operator thaws it; for _other, whether those of any are",
    );
    let other = snapshot.counts_of_others();
    let mut of_others = None;
    for tenant in snapshot.tenants() {
        let is_frozen = tenant.is_frozen();
        if tenant.counts.is(other) {
            of_others = Some(of_others.unwrap_or(false) || is_frozen);
        } else {
            text.flag(&[("tenant", &*tenant.name)], is_frozen);
        }
    }
    if let Some(is_frozen) = of_others {
        text.flag(&[("tenant", OTHER)], is_frozen);
    }
    text.family(
        "freezes_seen_timestamp_seconds",
        Kind::Gauge,
        "When the freezes of the fleet were looked at last, in Unix time; 0 if never, or without a store",
    );
    let fleet = snapshot.containment().fleet();
    text.figure(&[], fleet.map_or(0.0, |fleet| fleet.looked_at()));
}
