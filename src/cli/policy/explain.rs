//! The stages of a call, each asked of the config alone.

use std::fmt::Write;

use anyhow::{anyhow, bail};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::Args;
use crate::{
    code::Code,
    config::{
        did_you_mean, expected_id, quote,
        settings::{
            FreezeAfter, Key, Mode, Settings, Tenant, TokenEntry, TokenState, Users, Window,
        },
        show_duration,
    },
    gcra::share::Ceilings,
    ids::{CredentialId, IdGrammar, UserId},
    pipeline::respond,
    snapshot,
    token::looks_like_token,
};

/// What only a running gateway knows.
const NOT_SEEN: &str = "a freeze, limits that are spent and whether Alloy answers are known only to a running gateway: its /status shows them";

/// What would happen to a call.
pub struct Explained<'a> {
    settings: &'a Settings,
    tenant: &'a Tenant,
    key: Option<&'a Key>,
    token: &'a TokenEntry,
    user: (String, Finding),
    credential: Option<(String, Finding)>,
    token_is: Finding,
    answer: Code,
}

/// How one stage decides, and why.
struct Finding {
    is_good: bool,
    why: String,
}

impl Finding {
    fn good(why: impl Into<String>) -> Self {
        Self {
            is_good: true,
            why: why.into(),
        }
    }

    fn bad(why: impl Into<String>) -> Self {
        Self {
            is_good: false,
            why: why.into(),
        }
    }
}

/// Asks each stage, in the order in which a call meets them.
///
/// # Errors
///
/// If there is no such token, or more than one, or the tenant's list of users can't be
/// read.
pub fn explain<'a>(settings: &'a Settings, args: &Args) -> anyhow::Result<Explained<'a>> {
    let (tenant, token) = find(settings, args)?;
    let grammar = settings.upstream.ids;
    let user_id = UserId::parse(&args.user, grammar);
    let credential = args.credential.as_ref().map(|id| {
        let is_id = CredentialId::parse(id, grammar).is_some();
        (shown(id, grammar), by_grammar(is_id, grammar))
    });
    let user = match &user_id {
        Some(user) => may_touch(tenant, user, grammar)?,
        None => by_grammar(false, grammar),
    };
    let token_is = validity(token, Timestamp::now());
    let is_bad_credential = credential.as_ref().is_some_and(|(_, it)| !it.is_good);
    let answer = if user_id.is_none() || is_bad_credential {
        Code::InvalidPath
    } else if !token_is.is_good {
        Code::Unauthenticated
    } else if tenant.mode == Mode::Suspended {
        Code::TenantSuspended
    } else if !user.is_good {
        Code::UserNotAllowed
    } else if tenant.mode == Mode::DryRun {
        Code::DryRun
    } else {
        Code::PassedOn
    };
    Ok(Explained {
        settings,
        tenant,
        key: settings.keys.get(tenant.key),
        token,
        user: (shown(&args.user, grammar), user),
        credential,
        token_is,
        answer,
    })
}

/// The tenant and its token with this id.
fn find<'a>(settings: &'a Settings, args: &Args) -> anyhow::Result<(&'a Tenant, &'a TokenEntry)> {
    let tenants = settings.tenants.iter();
    if let Some(name) = &args.tenant
        && !tenants.clone().any(|tenant| *tenant.name == **name)
    {
        let hint = did_you_mean(name, tenants.map(|tenant| &*tenant.name));
        bail!("there is no tenant {}{hint}", quote(name));
    }
    let is_asked = |tenant: &&Tenant| {
        let name = args.tenant.as_deref();
        name.is_none_or(|name| *tenant.name == *name)
    };
    let asked = || settings.tenants.iter().filter(is_asked);
    let mut found = asked().filter_map(|tenant| {
        let mut tokens = tenant.tokens.iter();
        let token = tokens.find(|token| *token.id == *args.token_id)?;
        Some((tenant, token))
    });
    let first = found.next().ok_or_else(|| {
        if looks_like_token(&args.token_id) {
            return anyhow!(
                "that is a token, not the id of one: give its id, as the config has it"
            );
        }
        let ids = asked().flat_map(|tenant| tenant.tokens.iter().map(|token| &*token.id));
        let hint = did_you_mean(&args.token_id, ids);
        anyhow!("no token has the id {}{hint}", quote(&args.token_id))
    })?;
    let others: Vec<_> = found.take(10).map(|(tenant, _)| &*tenant.name).collect();
    if !others.is_empty() {
        bail!(
            "several tenants have a token of this id: {}, {}; say which with --tenant",
            first.0.name,
            others.join(", ")
        );
    }
    Ok(first)
}

/// An id as it may be shown: what is none may be anything, a token for one.
fn shown(id: &str, grammar: IdGrammar) -> String {
    if grammar.accepts(id) {
        id.to_owned()
    } else {
        quote(id)
    }
}

fn by_grammar(is_id: bool, grammar: IdGrammar) -> Finding {
    if is_id {
        Finding::good("is an id")
    } else {
        let expected = expected_id(grammar);
        Finding::bad(format!(
            "is no id, expected {expected}; nothing is percent-decoded"
        ))
    }
}

fn may_touch(tenant: &Tenant, user: &UserId, grammar: IdGrammar) -> anyhow::Result<Finding> {
    let users = snapshot::user_set(&tenant.users, grammar).map_err(|what| anyhow!(what))?;
    let is_allowed = users.allow(user);
    let place = match &tenant.users {
        Users::All => "users: all".to_owned(),
        Users::Listed(users) => format!("the list of {} in the config", users.len()),
        Users::File(file) => format!("the list in {}", file.display()),
    };
    Ok(match (is_allowed, &tenant.users) {
        (true, Users::All) => Finding::good(format!("allowed ({place})")),
        (true, _) => Finding::good(format!("allowed (on {place})")),
        (false, _) => Finding::bad(format!("not allowed (not on {place})")),
    })
}

fn validity(token: &TokenEntry, now: Timestamp) -> Finding {
    let state = token.state(now);
    match state {
        TokenState::Good(_) => Finding::good(state.to_string()),
        TokenState::NotYet(_) | TokenState::Expired(_) => Finding::bad(state.to_string()),
    }
}

impl Explained<'_> {
    /// Every limit of the call, shortest span first, and whether others share it.
    fn limits(&self) -> Vec<(String, &Window, bool)> {
        let own = self.tenant.limits.iter().map(|limit| ("tenant", limit));
        let shared = self.key.into_iter().flat_map(|key| &key.limits);
        let mut limits: Vec<_> = own.chain(shared.map(|limit| ("key", limit))).collect();
        limits.sort_by_key(|(_, limit)| limit.per);
        let named = limits
            .into_iter()
            .map(|(of, limit)| (limit.name(of), limit, of == "key"));
        named.collect()
    }

    /// What a limit that a fleet shares can come to while the store is not there for
    /// all of them; `None` without one.
    fn of_fleet(&self, limit: &Window) -> Option<u64> {
        let store = self.settings.limits_store.as_ref()?;
        Some(Ceilings::of(limit, store.replicas).in_part.in_any_span)
    }

    /// What the caller would get, in words.
    fn verdict(&self) -> String {
        let status = respond::status_of(self.answer).unwrap_or_default();
        let code = self.answer.as_str();
        match self.answer {
            Code::PassedOn => format!(
                "sent to {}, and its answer is passed on",
                self.settings.upstream.url.authority()
            ),
            Code::DryRun => {
                format!(
                    "{status} {code}: the call is in order, and counted and recorded, but not sent"
                )
            }
            _ => format!("{status} {code}: nothing is sent"),
        }
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut out = String::new();
        // Writing to a string can't fail.
        let mut line = |name: &str, text: &str| {
            let _ = writeln!(out, "{name:<12}{text}");
        };
        line("tenant", &self.tenant.name);
        line("mode", self.tenant.mode.as_str());
        line(
            "token",
            &format!("{}: {}", self.token.id, self.token_is.why),
        );
        line("user", &format!("{}: {}", self.user.0, self.user.1.why));
        if let Some((id, finding)) = &self.credential {
            line("credential", &format!("{id}: {}", finding.why));
        }
        line("key", self.key.map_or("", |key| &key.name));
        let limits = self.limits();
        if limits.is_empty() {
            line("limits", "none");
        }
        for (at, (name, limit, is_shared)) in limits.iter().enumerate() {
            let (per, burst) = (show_duration(limit.per), limit.burst);
            let shared = if *is_shared {
                "; shared by all tenants of the key"
            } else {
                ""
            };
            line(
                if at == 0 { "limits" } else { "" },
                &format!(
                    "{name}: at most {} in any {per}, {burst} at once{shared}{}",
                    limit.ceiling(),
                    self.of_fleet(limit).map_or_else(String::new, |in_part| format!(
                        "; over all gateways, and at most {in_part} while only some see the store"
                    )),
                ),
            );
        }
        let frozen = match self.tenant.freeze_after {
            None => "never by itself (no freeze_after)".to_owned(),
            Some(FreezeAfter { deletions, per }) => {
                let per = show_duration(per);
                format!("after {deletions} different credentials within {per}")
            }
        };
        line("frozen", &frozen);
        line("answer", &self.verdict());
        line("", &format!("({NOT_SEEN})"));
        out.trim_end().to_owned()
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let is_sent = self.answer == Code::PassedOn;
        let limits = self.limits();
        let limits = limits.iter().map(|(name, limit, is_shared)| {
            json!({
                "name": name,
                "shared": is_shared,
                "requests": limit.requests,
                "per_seconds": limit.per.as_secs_f64(),
                "burst": limit.burst,
                "ceiling": limit.ceiling(),
                "ceiling_while_some_see_the_store": self.of_fleet(limit),
            })
        });
        let time = |time: Option<Timestamp>| time.map(|time| time.to_string());
        json!({
            "tenant": &*self.tenant.name,
            "mode": self.tenant.mode.as_str(),
            "token": {
                "id": &*self.token.id,
                "valid": self.token_is.is_good,
                "because": self.token_is.why,
                "not_before": time(self.token.not_before),
                "expires": time(self.token.expires),
            },
            "user": finding(&self.user.0, "allowed", &self.user.1),
            "credential": self.credential.as_ref().map(|(id, it)| finding(id, "valid", it)),
            "key": self.key.map(|key| &key.name),
            "limits": limits.collect::<Vec<_>>(),
            "freeze_after": self.tenant.freeze_after.map(|budget| json!({
                "deletions": budget.deletions,
                "per_seconds": budget.per.as_secs_f64(),
            })),
            "answer": {
                "sent": is_sent,
                "status": respond::status_of(self.answer),
                "code": (!is_sent).then(|| self.answer.as_str()),
                "because": self.verdict(),
            },
            "not_seen": NOT_SEEN,
        })
    }
}

fn finding(id: &str, name: &str, finding: &Finding) -> Value {
    let mut shown = json!({ "id": id, "because": finding.why });
    if let Some(shown) = shown.as_object_mut() {
        shown.insert(name.to_owned(), finding.is_good.into());
    }
    shown
}
