//! What needs somebody's attention.

use super::{Facts, KeyFacts, StoreFacts, until, words};
use crate::{
    audit::DiskSpace, containment::Freeze, limits::BreakerState, snapshot::Use, token::EXPIRES_SOON,
};

/// What the start found of the trail, if it is not intact.
const NOT_VERIFIED: &str = "The trail did not verify when this gateway started: somebody changed it, or the disk did. Treat it as an incident; alloy-gateway audit verify says where.";
/// Tenants that are named one by one.
const TENANTS_MAX: usize = 20;
/// Below this share of free space the disk is pointed out.
const DISK_LOW_PERCENT: u64 = 10;

impl Facts {
    /// What needs somebody's attention, in words; the gravest first.
    pub(super) fn concerns(&self) -> Vec<String> {
        let mut concerns = Vec::new();
        if let Some(why) = &self.unready {
            concerns.push(format!("No calls are taken: {why}."));
        }
        if !self.trail.verified {
            concerns.push(NOT_VERIFIED.to_owned());
        }
        concerns.extend(self.certificates(true));
        concerns.extend(self.frozen());
        concerns.extend(self.keys.iter().flat_map(KeyFacts::concerns));
        for key in self
            .keys
            .iter()
            .filter(|key| key.breaker != BreakerState::Closed)
        {
            let name = &key.name;
            concerns.push(match key.breaker {
                BreakerState::Open => format!("Calls with key {name} are refused, since the upstream failed several times in a row."),
                _ => format!("The upstream failed several times in a row with key {name}; single calls find out whether it is back."),
            });
        }
        concerns.extend(self.without_token());
        concerns.extend(self.store.iter().flat_map(StoreFacts::concerns));
        if !self.reload.problems.is_empty() {
            let count = self.reload.problems.len();
            let s = if count == 1 { "" } else { "s" };
            concerns.push(format!(
                "The last config was refused ({count} problem{s}); the one before is in effect."
            ));
        }
        if let Some(disk) = self.disk.filter(|disk| is_low(*disk)) {
            concerns.push(format!(
                "The trail's disk is nearly full: {} left.",
                words::bytes(disk.free)
            ));
        }
        if let Some(shipping) = self.shipping.as_ref().filter(|it| !it.is_up)
            && let Some(why) = &shipping.trouble
        {
            concerns.push(format!(
                "The trail does not get into the database: {why}. {} records wait on disk.",
                shipping.missing
            ));
        }
        if let Some(held) = self.shipping.as_ref().map(|it| it.held_segments)
            && held > 0
        {
            concerns.push(format!(
                "{held} old segments of the trail are kept until the database has them."
            ));
        }
        // Where the trail can't be written it is said already, and better.
        if self.disk.is_none() && self.trail.writable.is_ok() {
            concerns.push("The trail's disk does not answer.".to_owned());
        }
        if self.is_at_connection_cap {
            concerns.push("As many connections are open as may be: new ones wait.".to_owned());
        }
        if !self.reload.needs_restart.is_empty() {
            let fields = self.reload.needs_restart.join(", ");
            concerns.push(format!(
                "Changed in the config, and takes effect only after a restart: {fields}."
            ));
        }
        for tenant in &self.tenants {
            let next = tenant.expires.filter(|expires| *expires > self.now);
            let left = next.map(|expires| until(self.now, expires));
            if let Some(left) = left.filter(|left| *left <= EXPIRES_SOON) {
                concerns.push(format!(
                    "A token of {} expires in {}.",
                    tenant.name,
                    words::span(left)
                ));
            }
        }
        concerns.extend(self.certificates(false));
        concerns
    }
}

impl Facts {
    /// Of which certificates the end has come, or is near.
    fn certificates(&self, expired: bool) -> Vec<String> {
        let certificates = self.due_certificates.iter();
        let certificates = certificates.filter(|(it, _)| it.has_expired(self.now) == expired);
        let said = certificates.map(|(certificate, listener)| {
            let authority = match certificate.usage {
                Use::Listen => None,
                Use::ClientCa => Some(format!("authority of clients of listener {listener}")),
                Use::UpstreamTrust => Some("authority of upstream.trust".to_owned()),
            };
            let end = certificate.until;
            let (on, left) = (words::moment(end), words::span(until(self.now, end)));
            match (authority, expired) {
                (None, true) => format!(
                    "The certificate of listener {listener} has expired on {on}: callers refuse it."
                ),
                (None, false) => {
                    format!("The certificate of listener {listener} expires in {left}.")
                }
                (Some(authority), true) => {
                    format!("Every {authority} has expired, the last on {on}.")
                }
                (Some(authority), false) => format!("The last {authority} expires in {left}."),
            }
        });
        said.collect()
    }

    /// Whose calls are all refused, since no token is valid any more.
    fn without_token(&self) -> Vec<String> {
        let tenants = self.without_token.iter().take(TENANTS_MAX);
        let mut said: Vec<_> = tenants
            .map(|(tenant, since)| {
                let since = words::moment(*since);
                format!(
                    "No token of {tenant} is valid since {since}: each of its calls is refused."
                )
            })
            .collect();
        let more = self.without_token.len().saturating_sub(TENANTS_MAX);
        if more > 0 {
            said.push(format!("{more} more tenants have no valid token."));
        }
        said
    }

    /// What is frozen. Who did it and why is for those who may see the config.
    fn frozen(&self) -> Vec<String> {
        let mut said = Vec::new();
        let because = |freeze: &Freeze| {
            let since = words::moment(freeze.since);
            if self.shows_problems {
                let Freeze { by, reason, .. } = freeze;
                format!("since {since}, by {by}: {reason}")
            } else {
                format!("since {since}")
            }
        };
        if let Some(freeze) = &self.all_frozen {
            said.push(format!("Every tenant is frozen, {}.", because(freeze)));
        }
        let shown = self.tenants.iter();
        let shown = shown.filter_map(|tenant| Some((tenant, tenant.frozen.as_ref()?)));
        let shown: Vec<_> = shown.collect();
        for (tenant, freeze) in &shown {
            said.push(format!(
                "Tenant {} is frozen, {}.",
                tenant.name,
                because(freeze)
            ));
        }
        let more = self.frozen.len().saturating_sub(shown.len());
        if more > 0 {
            said.push(format!(
                "{more} more tenants are frozen, some of which may not be in the config."
            ));
        }
        said
    }
}

impl KeyFacts {
    fn concerns(&self) -> Vec<String> {
        let mut concerns = Vec::new();
        let (name, fingerprint) = (&self.name, &self.fingerprint);
        if self.is_refused {
            concerns.push(format!(
                "Alloy refuses key {name} (fingerprint {fingerprint}): nothing is deleted with it."
            ));
        }
        if self.has_unusual_404s {
            concerns.push(format!("More than half of the last answers to key {name} (fingerprint {fingerprint}) are 404: likely it is a key of another environment."));
        }
        concerns
    }
}

impl StoreFacts {
    fn concerns(&self) -> Vec<String> {
        let mut concerns = Vec::new();
        if self.degraded {
            let (why, share) = (self.why.as_ref(), self.divisor);
            let why = why.map_or_else(String::new, |why| format!(", since {why}"));
            concerns.push(format!("The limits store does not decide{why}: this gateway takes its fair share of each limit, 1/{share}."));
        }
        if let Some(trouble) = self.freezes_unknown {
            concerns.push(format!("What the fleet freezes is neither heard nor told, though limits are shared: {trouble}."));
        }
        if let Some(why) = &self.uncounted {
            concerns.push(format!(
                "This gateway is not counted over the fleet, though limits are shared: {why}."
            ));
        }
        if let Some(why) = &self.deletions_uncounted {
            concerns.push(format!("What this gateway deletes is not counted over the fleet, though limits are shared, so its budgets of deletions are its own: {why}."));
        }
        if self.live > self.replicas {
            concerns.push(format!(
                "{} gateways share the limits, more than limits_store.replicas ({}).",
                self.live, self.replicas
            ));
        }
        concerns
    }
}

/// Whether little is left of the disk.
pub(super) fn is_low(disk: DiskSpace) -> bool {
    disk.free < disk.size / 100 * DISK_LOW_PERCENT
}
