//! Guesses at the admin token, of which most are counted together.

use super::{said, shipping, wait_until_whole};
use crate::{
    admin::guesses::{VERIFIED, assert_only_attempts_at_calls_are_rows, flood},
    support::postgres::Postgres,
};

#[test]
fn guesses_at_the_admin_token_are_no_calls_of_the_database_either() {
    let Some(postgres) = Postgres::start() else {
        return;
    };
    let postgres = postgres.with_tables();
    let mut gateway = shipping(&postgres, "billing-1").start();
    flood(&gateway);
    wait_until_whole(&gateway);
    assert_eq!(gateway.stop().code(), Some(0));
    assert_only_attempts_at_calls_are_rows(|args| {
        let asked = postgres.audit("query", args);
        assert_eq!(asked.status.code(), Some(0), "{}", said(&asked));
        String::from_utf8(asked.stdout).unwrap()
    });
    let verified = said(&postgres.audit("verify", &[]));
    assert!(verified.contains(VERIFIED), "{verified}");
    // What is made to look like a guess is no row any more, and is told all the same.
    postgres.sql(
        "UPDATE alloy_gateway.record SET line = replace(line, '\"code\":\"connection-refused\"', '\"code\":\"admin-refused\"')",
    );
    let asked = postgres.audit("query", &[]);
    assert_eq!(asked.status.code(), Some(3), "{}", said(&asked));
}
