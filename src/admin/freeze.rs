//! `/-/freeze` and `/-/thaw`: stopping a tenant, or all of them, and letting it go on.

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use serde_json::Value;

use super::{Admin, body, door::Operator, text};
use crate::{
    audit::{TEXT_BYTES_MAX, Unwritable},
    config::{did_you_mean, quote},
    containment::{Containment, Freeze, Scope, Unended},
};

/// What a body looks like.
const EXPECTED: &str =
    "expected { \"tenant\": NAME, \"reason\": WHY }, or \"all\": true in place of the tenant";

/// What an operator asks for.
#[derive(Debug, Default)]
struct Order {
    /// `None` for all.
    tenant: Option<String>,
    reason: String,
    on_behalf_of: Option<String>,
}

impl Order {
    fn read(body: &[u8]) -> Result<Self, String> {
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
        Ok(order)
    }

    fn scope(&self) -> Scope<'_> {
        self.tenant.as_deref().map_or(Scope::All, Scope::Tenant)
    }

    /// Whom it is about, for people.
    fn whom(&self) -> &str {
        self.tenant.as_deref().unwrap_or("every tenant")
    }
}

impl Order {
    /// Ends the freeze for all gateways of the fleet, if there is one.
    async fn tell_the_fleet(
        &self,
        containment: &Containment,
        end: &Freeze,
    ) -> Result<(), Box<Response<Full<Bytes>>>> {
        let Some(fleet) = containment.fleet() else {
            return Ok(());
        };
        fleet.end(self.scope(), end).await.map_err(|trouble| {
            let said = format!(
                "{}: not thawed, since the store does not answer ({trouble}): the fleet would freeze it again\n",
                self.whom()
            );
            Box::new(text(StatusCode::SERVICE_UNAVAILABLE, &said))
        })
    }
}

impl Admin {
    /// Freezes; answers once that is durable. It takes effect before, and whether the
    /// trail can be written or not.
    pub(super) async fn freeze(
        &self,
        body: Incoming,
        operator: &Operator,
    ) -> Response<Full<Bytes>> {
        let order = match order(body).await {
            Ok(order) => order,
            Err(refused) => return *refused,
        };
        let snapshot = self.shared.snapshot();
        let names = snapshot.tenants().iter().map(|tenant| &*tenant.name);
        if let Some(name) = &order.tenant
            && !names.clone().any(|known| known == name)
        {
            return unknown(name, names);
        }
        let by = operator.who();
        let freeze = Freeze::new(&by, order.on_behalf_of.as_deref(), &order.reason);
        let trail = self.shared.trail();
        let containment = snapshot.containment();
        let freeze = match containment.standing(order.scope()) {
            Some(standing) => freeze.after(&standing),
            None => freeze,
        };
        let promised = containment.freeze(order.scope(), freeze.clone(), |record| {
            trail.frozen(&record)
        });
        let whom = order.whom();
        let told = match containment.fleet() {
            Some(fleet) => Some(fleet.freeze(&self.shared, order.scope(), &freeze).await),
            None => None,
        };
        match tokio::time::timeout(trail.patience(), promised.durable()).await {
            Ok(Ok(())) => match told {
                None => text(StatusCode::OK, &format!("{whom}: frozen\n")),
                Some(Ok(())) => text(
                    StatusCode::OK,
                    &format!("{whom}: frozen, in the whole fleet\n"),
                ),
                Some(Err(trouble)) => text(
                    StatusCode::ACCEPTED,
                    &format!(
                        "{whom}: frozen here; the others are told when the store answers ({trouble})\n"
                    ),
                ),
            },
            _ => text(
                StatusCode::ACCEPTED,
                &format!(
                    "{whom}: frozen, and not in the trail yet, which cannot be written{}. It will be when it can; if the gateway ends before, the freeze is lost\n",
                    because(trail.status().writable)
                ),
            ),
        }
    }

    /// Thaws once that is in the trail.
    pub(super) async fn thaw(&self, body: Incoming, operator: &Operator) -> Response<Full<Bytes>> {
        let order = match order(body).await {
            Ok(order) => order,
            Err(refused) => return *refused,
        };
        let snapshot = self.shared.snapshot();
        let trail = self.shared.trail();
        let containment = snapshot.containment();
        // No look may come between: it would end what is only told yet.
        let turn = match containment.fleet() {
            Some(fleet) => Some(fleet.turn().await),
            None => None,
        };
        let Some(freeze) = containment.standing(order.scope()) else {
            return self.is_not_frozen(&order);
        };
        let whom = order.whom().to_owned();
        // Nobody may end it twice while it is being ended.
        let Some(ending) = containment.begin_ending(&freeze.id) else {
            return thawed_already(&whom);
        };
        let unwritten = |is_told: bool| {
            let why = because(trail.status().writable);
            let said = if is_told {
                format!(
                    "{whom}: thawed in the fleet, and here once the trail can be written: now it cannot{why}\n"
                )
            } else {
                format!("{whom}: not thawed, since the trail cannot be written{why}\n")
            };
            text(StatusCode::SERVICE_UNAVAILABLE, &said)
        };
        let is_told = containment.fleet().is_some();
        // Or the others would thaw what this one can't.
        if trail.status().writable.is_err() {
            return unwritten(false);
        }
        let end = Freeze {
            id: freeze.id,
            ..Freeze::new(
                &operator.who(),
                order.on_behalf_of.as_deref(),
                &order.reason,
            )
        };
        if let Err(refused) = order.tell_the_fleet(containment, &end).await {
            return *refused;
        }
        let not_ended = |why: Unended| match why {
            Unended::FrozenAgain => frozen_again(&whom),
            Unended::Unwritten => unwritten(is_told),
        };
        let thawing = match ending.carry_out(containment, trail, order.scope(), end) {
            Ok(thawing) => thawing,
            Err(why) => return not_ended(why),
        };
        // The disk may take as long as it likes.
        drop(turn);
        match tokio::time::timeout(trail.patience(), thawing).await {
            Ok(Ok(Ok(()))) => text(StatusCode::OK, &self.thawed(&whom, order.tenant.is_none())),
            Ok(Ok(Err(why))) => not_ended(why),
            Ok(Err(_)) => unwritten(is_told),
            Err(_) => text(
                StatusCode::ACCEPTED,
                &format!(
                    "{whom}: not thawed yet: the trail's disk does not answer. It takes effect when it is in the trail\n"
                ),
            ),
        }
    }

    /// What was thawed, and what is still frozen.
    fn thawed(&self, whom: &str, is_all: bool) -> String {
        let snapshot = self.shared.snapshot();
        let containment = snapshot.containment();
        let mut said = format!("{whom}: thawed\n");
        if containment.standing(Scope::All).is_some() {
            said += "every tenant is still frozen: thaw that with --all\n";
        } else if is_all {
            let left = containment.tenants();
            if !left.is_empty() {
                said += &format!(
                    "still frozen by themselves, to be thawed by name: {}\n",
                    listed(&left)
                );
            }
        }
        said
    }

    fn is_not_frozen(&self, order: &Order) -> Response<Full<Bytes>> {
        let snapshot = self.shared.snapshot();
        let containment = snapshot.containment();
        let frozen = containment.tenants();
        if let Some(name) = &order.tenant {
            let names = snapshot.tenants().iter().map(|tenant| &*tenant.name);
            if !names.clone().any(|known| known == name) {
                return unknown(name, names.chain(frozen.iter().map(|name| &**name)));
            }
        }
        let mut said = format!("{}: not frozen\n", order.whom());
        if order.tenant.is_none() && !frozen.is_empty() {
            said = format!(
                "not frozen as a whole; frozen by themselves, to be thawed by name: {}\n",
                listed(&frozen)
            );
        } else if containment.standing(Scope::All).is_some() {
            said = format!(
                "{}: not frozen by itself; every tenant is: thaw that with --all\n",
                order.whom()
            );
        }
        text(StatusCode::CONFLICT, &said)
    }
}

async fn order(body: Incoming) -> Result<Order, Box<Response<Full<Bytes>>>> {
    let read = body::read(body).await?;
    Order::read(&read).map_err(|what| Box::new(text(StatusCode::BAD_REQUEST, &format!("{what}\n"))))
}

fn unknown<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Response<Full<Bytes>> {
    let hint = did_you_mean(name, known);
    let said = format!("there is no tenant {}{hint}\n", quote(name));
    text(StatusCode::NOT_FOUND, &said)
}

fn frozen_again(whom: &str) -> Response<Full<Bytes>> {
    let said = format!("{whom}: frozen again meanwhile, and still is\n");
    text(StatusCode::CONFLICT, &said)
}

fn thawed_already(whom: &str) -> Response<Full<Bytes>> {
    let said =
        format!("{whom}: being thawed already, which takes effect when it is in the trail\n");
    text(StatusCode::ACCEPTED, &said)
}

fn because(writable: Result<(), Unwritable>) -> String {
    writable.map_or_else(|why| format!(" ({})", why.cause), |()| String::new())
}

/// The first of them; a list of thousands helps nobody.
fn listed(names: &[Box<str>]) -> String {
    const SHOWN_MAX: usize = 20;
    let shown: Vec<_> = names.iter().take(SHOWN_MAX).map(|name| &**name).collect();
    let more = names.len().saturating_sub(SHOWN_MAX);
    let more = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    shown.join(", ") + &more
}
