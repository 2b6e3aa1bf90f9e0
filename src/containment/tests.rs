use super::*;

const NONE: [&Tenant; 0] = [];
const BILLING: Scope<'_> = Scope::Tenant("billing");

fn freeze(by: &str) -> Freeze {
    Freeze::new(by, None, "a drill")
}

fn by(containment: &Containment, scope: Scope<'_>) -> Option<Box<str>> {
    containment.standing(scope).map(|freeze| freeze.by)
}

#[test]
fn a_freeze_that_comes_while_a_thaw_is_written_stands() {
    let containment = Containment::default();
    containment.freeze(BILLING, freeze("first"), NONE, |_| ());
    let begun = containment
        .thaw(BILLING, |freeze| freeze.id.clone())
        .unwrap();
    containment.freeze(BILLING, freeze("second"), NONE, |_| ());
    assert!(!containment.thawed(BILLING, &begun, "x", NONE));
    assert_eq!(by(&containment, BILLING).as_deref(), Some("second"));
    let begun = containment
        .thaw(BILLING, |freeze| freeze.id.clone())
        .unwrap();
    // That of others does not hold it up.
    containment.freeze(Scope::Tenant("crm"), freeze("third"), NONE, |_| ());
    assert!(containment.thawed(BILLING, &begun, "x", NONE));
    assert_eq!(by(&containment, BILLING), None);
    assert!(containment.thaw(BILLING, |_| ()).is_none());
}

#[test]
fn the_freeze_of_all_and_those_of_tenants_do_not_end_each_other() {
    let containment = Containment::default();
    containment.freeze(BILLING, freeze("one"), NONE, |_| ());
    containment.freeze(Scope::All, freeze("all"), NONE, |record| {
        assert_eq!(record.tenant, None);
    });
    let begun = containment.thaw(Scope::All, |freeze| freeze.id.clone());
    let begun = begun.unwrap();
    assert!(containment.thawed(Scope::All, &begun, "x", NONE));
    assert_eq!(by(&containment, BILLING).as_deref(), Some("one"));
    assert_eq!(by(&containment, Scope::All), None);
    assert_eq!(containment.tenants(), ["billing".into()]);
}
