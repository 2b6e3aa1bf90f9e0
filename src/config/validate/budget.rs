//! Budgets of deletions that no tenant can spend, since its limits are tighter.

use std::time::Duration;

use super::check::Check;
use crate::config::{
    problem::FieldPath,
    settings::{FreezeAfter, Settings, Tenant, Window},
    show_duration,
};

/// Warns of each budget that can't be spent. Gateways that share their limits count
/// together, and how many there will be is not known: of these nothing is certain.
pub fn budgets_can_be_spent(check: &mut Check, settings: &Settings) {
    if settings.limits_store.is_some() {
        return;
    }
    for (index, tenant) in settings.tenants.iter().enumerate() {
        let Some(FreezeAfter { deletions, per }) = tenant.freeze_after else {
            continue;
        };
        let Some(most) = most(settings, tenant, per) else {
            continue;
        };
        if most < u128::from(deletions.get()) {
            let at = FieldPath::root().key("tenants").index(index);
            let per = show_duration(per);
            check.warning(
                at.key("freeze_after").key("deletions"),
                format!(
                    "{deletions} within {per} cannot be reached: its limits and in_flight let at most {most} calls end in any {per}, so it never freezes"
                ),
            );
        }
    }
}

/// The most calls of a tenant that can end in any span: those under way when it begins,
/// and those that the tightest limit lets in. `None` if it has no limit.
fn most(settings: &Settings, tenant: &Tenant, span: Duration) -> Option<u128> {
    let shared = settings.keys.get(tenant.key).into_iter();
    let shared = shared.flat_map(|key| key.limits.iter());
    let let_in = tenant.limits.iter().chain(shared);
    let let_in = let_in.map(|limit| let_in_within(limit, span)).min()?;
    Some(u128::from(tenant.in_flight) + let_in)
}

/// A full bucket, and what drips into it meanwhile.
fn let_in_within(limit: &Window, span: Duration) -> u128 {
    let requests = u128::from(limit.requests.get());
    let dripped = span.as_nanos() * requests / limit.per.as_nanos().max(1);
    u128::from(limit.burst.get()) + dripped
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    #[test]
    fn a_bucket_lets_in_its_burst_and_what_drips_into_it() {
        let limit = |requests, seconds, burst| Window {
            requests: NonZeroU32::new(requests).unwrap(),
            per: Duration::from_secs(seconds),
            burst: NonZeroU32::new(burst).unwrap(),
        };
        for (limit, seconds, most) in [
            (limit(30, 1, 30), 1, 60),
            (limit(30, 1, 30), 3600, 108_030),
            (limit(500, 86_400, 100), 3600, 120),
            (limit(1, 60, 1), 59, 1),
            (limit(1, 60, 1), 60, 2),
        ] {
            let span = Duration::from_secs(seconds);
            assert_eq!(let_in_within(&limit, span), most, "{limit:?} {seconds}");
        }
    }
}
