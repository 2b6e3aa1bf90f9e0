//! `/-/freeze` and `/-/thaw`: stopping a tenant, or all of them, and letting it go on.

mod order;

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;

use self::order::Order;
use super::{Admin, door::Operator, text};
use crate::{
    audit::Unwritable,
    config::{did_you_mean, quote},
    containment::{Freeze, Scope, Unended, listed},
    fleet::Trouble,
};

/// What came of a thaw.
enum Thaw {
    Done,
    /// It takes effect when it is in the trail.
    Underway,
    /// Another call ends the same freeze.
    Already,
    NotFrozen,
    FrozenAgain,
    /// The trail can't be written; the fleet may have been told before.
    Unwritten {
        is_told: bool,
    },
    /// The store does not answer.
    Untold(Trouble),
}

impl Admin {
    /// Freezes; answers once that is durable. It takes effect before, and whether the
    /// trail can be written or not.
    pub(super) async fn freeze(
        &self,
        body: Incoming,
        operator: &Operator,
    ) -> Response<Full<Bytes>> {
        let order = match Order::read(body).await {
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
            Some(fleet) => Some(
                fleet
                    .freeze(containment, trail, order.scope(), &freeze)
                    .await,
            ),
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
        let order = match Order::read(body).await {
            Ok(order) => order,
            Err(refused) => return *refused,
        };
        let whom = order.whom();
        let (status, said) = match self.carry_out_thaw(&order, operator).await {
            Thaw::Done => (StatusCode::OK, self.thawed(&order)),
            Thaw::Underway => (
                StatusCode::ACCEPTED,
                format!(
                    "{whom}: not thawed yet: the trail's disk does not answer. It takes effect when it is in the trail\n"
                ),
            ),
            Thaw::Already => (
                StatusCode::ACCEPTED,
                format!(
                    "{whom}: being thawed already, which takes effect when it is in the trail\n"
                ),
            ),
            Thaw::NotFrozen => return self.is_not_frozen(&order),
            Thaw::FrozenAgain => (
                StatusCode::CONFLICT,
                format!("{whom}: frozen again meanwhile, and still is\n"),
            ),
            Thaw::Unwritten { is_told } => {
                let why = because(self.shared.trail().status().writable);
                let said = if is_told {
                    format!(
                        "{whom}: thawed in the fleet, and here once the trail can be written: now it cannot{why}\n"
                    )
                } else {
                    format!("{whom}: not thawed, since the trail cannot be written{why}\n")
                };
                (StatusCode::SERVICE_UNAVAILABLE, said)
            }
            Thaw::Untold(trouble) => (
                StatusCode::SERVICE_UNAVAILABLE,
                format!(
                    "{whom}: not thawed, since the store does not answer ({trouble}): the fleet would freeze it again\n"
                ),
            ),
        };
        text(status, &said)
    }

    async fn carry_out_thaw(&self, order: &Order, operator: &Operator) -> Thaw {
        let snapshot = self.shared.snapshot();
        let trail = self.shared.trail();
        let containment = snapshot.containment();
        let fleet = containment.fleet();
        // No look may come between: it would end what is only told yet.
        let turn = match fleet {
            Some(fleet) => Some(fleet.turn().await),
            None => None,
        };
        let Some(freeze) = containment.standing(order.scope()) else {
            return Thaw::NotFrozen;
        };
        // Nobody may end it twice while it is being ended.
        let Some(ending) = containment.begin_ending(&freeze.id) else {
            return Thaw::Already;
        };
        // Or the others would thaw what this one can't.
        if trail.status().writable.is_err() {
            return Thaw::Unwritten { is_told: false };
        }
        let by = operator.who();
        let end = Freeze {
            id: freeze.id,
            ..Freeze::new(&by, order.on_behalf_of.as_deref(), &order.reason)
        };
        if let Some(fleet) = fleet
            && let Err(trouble) = fleet.end(order.scope(), &end).await
        {
            return Thaw::Untold(trouble);
        }
        let is_told = fleet.is_some();
        let not_ended = |why: Unended| match why {
            Unended::FrozenAgain => Thaw::FrozenAgain,
            Unended::Unwritten => Thaw::Unwritten { is_told },
        };
        let thawing = match ending.carry_out(containment, trail, order.scope(), end) {
            Ok(thawing) => thawing,
            Err(why) => return not_ended(why),
        };
        // The disk may take as long as it likes.
        drop(turn);
        match tokio::time::timeout(trail.patience(), thawing).await {
            Ok(Ok(Ok(()))) => Thaw::Done,
            Ok(Ok(Err(why))) => not_ended(why),
            Ok(Err(_)) => Thaw::Unwritten { is_told },
            Err(_) => Thaw::Underway,
        }
    }

    /// What was thawed, and what is still frozen.
    fn thawed(&self, order: &Order) -> String {
        let snapshot = self.shared.snapshot();
        let containment = snapshot.containment();
        let mut said = format!("{}: thawed\n", order.whom());
        if containment.standing(Scope::All).is_some() {
            said += "every tenant is still frozen: thaw that with --all\n";
        } else if order.tenant.is_none() {
            let left = containment.tenants();
            if !left.is_empty() {
                said += &format!(
                    "still frozen by themselves, to be thawed by name: {}\n",
                    listed(left.iter())
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
                listed(frozen.iter())
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

fn unknown<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Response<Full<Bytes>> {
    let hint = did_you_mean(name, known);
    let said = format!("there is no tenant {}{hint}\n", quote(name));
    text(StatusCode::NOT_FOUND, &said)
}

fn because(writable: Result<(), Unwritable>) -> String {
    writable.map_or_else(|why| format!(" ({})", why.cause), |()| String::new())
}
