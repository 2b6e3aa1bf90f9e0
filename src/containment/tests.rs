use jiff::Timestamp;

use super::*;
use crate::{
    ids::RequestId,
    snapshot::{Built, Snapshot, Tenant, testing},
};

const BILLING: Scope<'_> = Scope::Tenant("billing");

fn freeze(by: &str) -> Freeze {
    Freeze::new(by, None, "a drill")
}

fn lasting_of(containment: &Containment, tenant: &Arc<str>) -> Arc<Lasting> {
    containment.lasting_of(tenant, &Arc::default())
}

fn by(containment: &Containment, scope: Scope<'_>) -> Option<Box<str>> {
    containment.standing(scope).map(|freeze| freeze.by)
}

#[test]
fn a_freeze_that_comes_while_a_thaw_is_written_stands() {
    let containment = Containment::default();
    containment.freeze(BILLING, freeze("first"), |_| ());
    let begun = containment
        .thaw(BILLING, |freeze| freeze.id.clone())
        .unwrap();
    containment.freeze(BILLING, freeze("second"), |_| ());
    assert!(!containment.thawed(BILLING, &begun, "x"));
    assert_eq!(by(&containment, BILLING).as_deref(), Some("second"));
    let begun = containment
        .thaw(BILLING, |freeze| freeze.id.clone())
        .unwrap();
    // That of others does not hold it up.
    containment.freeze(Scope::Tenant("crm"), freeze("third"), |_| ());
    assert!(containment.thawed(BILLING, &begun, "x"));
    assert_eq!(by(&containment, BILLING), None);
    assert!(containment.thaw(BILLING, |_| ()).is_none());
}

#[test]
fn one_at_a_time_ends_a_freeze_and_meanwhile_nobody_is_told_that_it_stands() {
    let containment = Containment::default();
    containment.freeze(BILLING, freeze("first"), |_| ());
    let id = containment.standing(BILLING).unwrap().id;
    assert!(containment.stays(BILLING, &id));
    let ending = containment.begin_ending(&id).unwrap();
    assert!(containment.begin_ending(&id).is_none());
    assert!(containment.begin_ending("another").is_some());
    assert!(!containment.stays(BILLING, &id));
    // The trail could not be written: it stands.
    drop(ending);
    assert!(containment.stays(BILLING, &id));
    let ending = containment.begin_ending(&id);
    assert!(containment.thawed(BILLING, &id, "x"));
    drop(ending);
    assert!(!containment.stays(BILLING, &id));
    assert!(!containment.stays(Scope::All, &id));
}

#[test]
fn the_freeze_of_all_and_those_of_tenants_do_not_end_each_other() {
    let containment = Containment::default();
    containment.freeze(BILLING, freeze("one"), |_| ());
    containment.freeze(Scope::All, freeze("all"), |record| {
        assert_eq!(record.tenant, None);
    });
    let begun = containment.thaw(Scope::All, |freeze| freeze.id.clone());
    let begun = begun.unwrap();
    assert!(containment.thawed(Scope::All, &begun, "x"));
    assert_eq!(by(&containment, BILLING).as_deref(), Some("one"));
    assert_eq!(by(&containment, Scope::All), None);
    assert_eq!(containment.tenants(), ["billing".into()]);
}

#[test]
fn a_switch_is_turned_from_its_first_moment_on_whichever_of_freeze_and_reload_comes_first() {
    let containment = Containment::default();
    let (billing, crm) = ("billing".into(), "crm".into());
    // A config is being built; it takes effect only later.
    let early = lasting_of(&containment, &billing);
    assert!(!early.switch.is_frozen());
    containment.freeze(Scope::All, freeze("all"), |_| ());
    let late = lasting_of(&containment, &crm);
    assert!(early.switch.is_frozen() && late.switch.is_frozen());
    containment.freeze(BILLING, freeze("one"), |_| ());
    let end = |scope| {
        let id = containment.standing(scope).unwrap().id;
        assert!(containment.thawed(scope, &id, "x"));
    };
    end(Scope::All);
    assert!(early.switch.is_frozen() && !late.switch.is_frozen());
    end(BILLING);
    assert!(!early.switch.is_frozen());
}

#[test]
fn no_tenant_is_missed_by_a_freeze_of_all_that_races_a_reload() {
    for _ in 0..500 {
        let containment = Containment::default();
        let start = std::sync::Barrier::new(2);
        let all = std::thread::scope(|scope| {
            let reload = scope.spawn(|| {
                start.wait();
                let names = ["billing", "crm"].map(Arc::from);
                names.map(|name| lasting_of(&containment, &name))
            });
            start.wait();
            containment.freeze(Scope::All, freeze("all"), |_| ());
            reload.join().unwrap()
        });
        assert!(all.iter().all(|lasting| lasting.switch.is_frozen()));
    }
}

/// A config with these tenants, that is built after `previous`.
fn built(names: &[&str], previous: Option<&Snapshot>) -> Built {
    let tenants: Vec<_> = (0..)
        .zip(names)
        .map(|(n, name)| (*name, vec![format!("{n:064x}")]))
        .collect();
    testing::built(&tenants, previous)
}

#[test]
fn a_freeze_that_comes_after_a_config_was_built_reaches_the_tenants_that_are_new_in_it() {
    let first = built(&["crm"], None).with_lasting();
    let second = built(&["crm", "billing", "late"], Some(&first));
    first.containment().freeze(BILLING, freeze("first"), |_| ());
    let second = second.with_lasting();
    let is_frozen = || {
        let tenants = second.tenants().iter();
        tenants.map(|it| it.is_frozen()).collect::<Vec<_>>()
    };
    assert_eq!(is_frozen(), [false, true, false]);
    first
        .containment()
        .freeze(Scope::All, freeze("second"), |_| ());
    assert_eq!(is_frozen(), [true, true, true]);
}

#[test]
fn a_tenant_that_comes_back_has_the_switch_that_calls_of_before_still_see() {
    let containment = Containment::default();
    let billing = "billing".into();
    let of_a_call = lasting_of(&containment, &billing);
    assert!(Arc::ptr_eq(&of_a_call, &lasting_of(&containment, &billing)));
    containment.tidy(1);
    assert_eq!(containment.state().lasting.len(), 1);
    drop(of_a_call);
    containment.tidy(1);
    assert_eq!(containment.state().lasting.len(), 1, "as many as tenants");
    containment.tidy(0);
    assert!(containment.state().lasting.is_empty());
}

#[test]
fn what_a_tenant_spent_is_kept_when_its_last_config_is_gone_and_only_while_it_counts() {
    let first = built(&["billing", "crm"], None).with_lasting();
    let containment = Arc::clone(first.containment());
    let budget = |millis| FreezeAfter {
        deletions: 2.try_into().unwrap(),
        per: std::time::Duration::from_millis(millis),
    };
    let now_ms = containment.now_ms();
    let [billing, crm] = first.tenants() else {
        panic!("two tenants");
    };
    assert!(!billing.lasting.switch.count(budget(3_600_000), 1, now_ms));
    assert!(!crm.lasting.switch.count(budget(1), 1, now_ms));
    while crm.lasting.switch.counts(containment.now_ms()) {
        std::thread::yield_now();
    }
    containment.keep_spent(first.tenants().iter().map(Tenant::contained));
    let spent = |name: &str| {
        let lasting = lasting_of(&containment, &name.into());
        lasting.switch.counts(containment.now_ms())
    };
    assert!(spent("billing"));
    assert!(!spent("crm"));
    assert_eq!(containment.state().left.len(), 1);
    // Thawed, it begins anew.
    containment.freeze(BILLING, freeze("a drill"), |_| ());
    let id = containment.standing(BILLING).unwrap().id;
    assert!(containment.thawed(BILLING, &id, "x"));
    assert!(!spent("billing"));
    assert!(containment.state().left.is_empty());
}

#[test]
fn of_many_tenants_that_left_those_are_let_go_of_that_do_not_count_any_more() {
    let containment = Containment::default();
    let many = 3 * TENANTS_AT_ONCE + 1;
    let now_ms = containment.now_ms();
    for number in 0..many {
        let lasting = Arc::<Lasting>::default();
        let per = if number % 3 == 0 { 3_600_000 } else { 1 };
        let budget = FreezeAfter {
            deletions: 2.try_into().unwrap(),
            per: std::time::Duration::from_millis(per),
        };
        assert!(!lasting.switch.count(budget, 1, now_ms - 10));
        let name = format!("t{number:04}");
        containment.state().left.insert(name.into(), lasting);
    }
    containment.keep_spent([]);
    let state = containment.state();
    assert_eq!(state.left.len(), many.div_ceil(3));
    let of = |name: &str| name.trim_start_matches('t').parse::<usize>().unwrap();
    assert!(state.left.keys().all(|name| of(name) % 3 == 0));
}

#[test]
fn of_many_tenants_that_is_let_go_of_that_nobody_looks_at() {
    let containment = Containment::default();
    let many = 3 * TENANTS_AT_ONCE + 1;
    let names = (0..many).map(|n| Arc::from(format!("t{n}")));
    let all: Vec<_> = names.map(|name| lasting_of(&containment, &name)).collect();
    let looked_at: Vec<_> = all.into_iter().step_by(3).collect();
    containment.tidy(many - 1);
    assert_eq!(containment.state().lasting.len(), looked_at.len());
    containment.freeze(Scope::All, freeze("all"), |_| ());
    assert!(looked_at.iter().all(|lasting| lasting.switch.is_frozen()));
}

#[test]
fn a_freeze_takes_the_place_of_one_that_stands_and_one_thaw_ends_both() {
    let containment = Containment::default();
    let lasting = lasting_of(&containment, &"billing".into());
    containment.freeze(BILLING, freeze("first"), |_| ());
    let first = containment.standing(BILLING).unwrap();
    containment.freeze(BILLING, freeze("second"), |_| ());
    let second = containment.standing(BILLING).unwrap();
    assert_eq!(&*second.by, "second");
    assert!(!containment.thawed(BILLING, &first.id, "x"));
    assert!(lasting.switch.is_frozen());
    assert!(containment.thawed(BILLING, &second.id, "x"));
    assert!(!lasting.switch.is_frozen());
}

#[test]
fn a_thaw_of_a_tenant_begins_its_budget_anew_and_one_of_all_does_not() {
    let containment = Containment::default();
    let lasting = lasting_of(&containment, &"billing".into());
    let budget = FreezeAfter {
        deletions: 2.try_into().unwrap(),
        per: std::time::Duration::from_secs(3600),
    };
    assert!(!lasting.switch.count(budget, 1, 0));
    let freeze_and_thaw = |scope| {
        containment.freeze(scope, freeze("a drill"), |_| ());
        let id = containment.standing(scope).unwrap().id;
        assert!(containment.thawed(scope, &id, "x"));
    };
    freeze_and_thaw(BILLING);
    assert!(
        !lasting.switch.count(budget, 2, 1),
        "1 does not count any more"
    );
    freeze_and_thaw(Scope::All);
    assert!(lasting.switch.count(budget, 1, 2), "2 still counts");
}

#[test]
fn a_freeze_made_knowing_another_one_is_the_later_one_whatever_the_clocks_say() {
    let made = |minutes| {
        let now = Timestamp::now() + jiff::SignedDuration::from_mins(minutes);
        let id = RequestId::at(now).as_str().into();
        Freeze {
            id,
            ..freeze("somebody")
        }
    };
    let (before, ahead) = (made(-5), made(5));
    let new = freeze("an operator");
    let id = new.id.clone();
    assert!(before.id < id && id < ahead.id);
    assert!(new.clone().after(&ahead).id > ahead.id);
    assert_eq!(new.after(&before).id, id);
}
