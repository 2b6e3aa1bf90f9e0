//! What a trail says, held against what Alloy got and what callers were told.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Gateway;

/// What the trail says of each credential: the intent, and how it ended.
pub fn by_credential(trail: &[Value]) -> BTreeMap<String, Vec<String>> {
    let mut credentials = BTreeMap::<String, Vec<String>>::new();
    let mut intents = BTreeMap::new();
    for record in trail {
        match record["event"].as_str().unwrap() {
            "request.intent" => {
                let credential = record["credential"].as_str().unwrap().to_owned();
                intents.insert(record["seq"].as_u64().unwrap(), credential.clone());
                credentials.entry(credential).or_default();
            }
            "request.outcome" => {
                let credential = &intents[&record["intent"].as_u64().unwrap()];
                let outcome = record["outcome"].as_str().unwrap().to_owned();
                credentials.get_mut(credential).unwrap().push(outcome);
            }
            _ => {}
        }
    }
    credentials
}

/// The credentials of all DELETEs that reached Alloy.
pub fn sent(gateway: &Gateway) -> Vec<String> {
    let received = gateway.alloy.received();
    let path = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes).into_owned();
        let path = text.split(' ').nth(1).unwrap_or_default().to_owned();
        path.rsplit('/').next().unwrap_or_default().to_owned()
    };
    received
        .iter()
        .map(|request| path(&request.bytes))
        .collect()
}

/// Every DELETE that was sent has an intent, every intent one outcome, and what a
/// caller was promised is recorded so.
#[track_caller]
pub fn assert_nothing_lost(gateway: &Gateway, promised: &[String]) {
    let report = gateway.verify();
    assert!(report.is_intact() && report.open == 0, "{report}");
    let trail = by_credential(&gateway.trail());
    for credential in sent(gateway) {
        assert!(
            trail.contains_key(&credential),
            "{credential} was sent without an intent"
        );
    }
    for (credential, outcomes) in &trail {
        assert_eq!(outcomes.len(), 1, "{credential} ended {outcomes:?}");
    }
    for credential in promised {
        assert_eq!(trail[credential], ["deleted"], "{credential} was promised");
    }
}
