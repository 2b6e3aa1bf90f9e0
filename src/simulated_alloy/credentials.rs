//! What Alloy answers by its contract.

use std::collections::{BTreeMap, BTreeSet};

use super::Options;

/// Users, their credentials, and who may delete them.
pub struct Credentials {
    api_key: String,
    api_version: String,
    users: BTreeMap<String, BTreeSet<String>>,
}

impl Credentials {
    pub fn new(options: Options) -> Self {
        let users = options.users.into_iter();
        Self {
            api_key: options.api_key,
            api_version: options.api_version,
            users: users
                .map(|(user, credentials)| (user, credentials.into_iter().collect()))
                .collect(),
        }
    }

    /// Status and JSON body for a request. What the contract leaves open
    /// (everything but 200) is answered as such APIs commonly do.
    pub fn answer(&mut self, head: &str) -> (u16, &'static str) {
        let mut lines = head.split("\r\n");
        let mut line = lines.next().unwrap_or_default().split(' ');
        let (method, target) = (
            line.next().unwrap_or_default(),
            line.next().unwrap_or_default(),
        );
        let fields: Vec<_> = lines.filter_map(|line| line.split_once(':')).collect();
        let field = |name: &str| {
            let mut values = fields
                .iter()
                .filter(|(found, _)| found.eq_ignore_ascii_case(name));
            values.next().map(|(_, value)| value.trim())
        };
        let (scheme, key) = field("authorization")
            .and_then(|value| value.split_once(' '))
            .unwrap_or_default();
        if !scheme.eq_ignore_ascii_case("bearer") || key != self.api_key {
            return (401, r#"{"error":"Unauthorized"}"#);
        }
        if field("x-api-version") != Some(self.api_version.as_str()) {
            return (400, r#"{"error":"x-api-version is missing or unknown"}"#);
        }
        let segments: Vec<_> = target.split('/').collect();
        match (method, segments.as_slice()) {
            ("DELETE", ["", "users", user, "credentials", credential]) => {
                let found = self
                    .users
                    .get_mut(*user)
                    .is_some_and(|credentials| credentials.remove(*credential));
                if found {
                    (200, r#"{"success":true}"#)
                } else {
                    (404, r#"{"error":"Credential not found"}"#)
                }
            }
            _ => (404, r#"{"error":"Not found"}"#),
        }
    }
}
