//! What the command line prints of records that no gateway wrote.

use std::{fs, path::Path};

use serde_json::Value;

use crate::support::gateway::audit_verb;

/// A trail of these records, by what they say beside their place in the chain.
fn made(records: &[&str]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let hash = "0".repeat(64);
    let lines = (1..).zip(records).map(|(seq, says)| {
        format!(
            "{{\"v\":1,\"seq\":{seq},\"time\":\"2026-11-30T12:00:00.000000Z\",{says},\"prev\":\"{hash}\",\"hash\":\"{hash}\"}}\n"
        )
    });
    let text: String = lines.collect();
    fs::write(directory.path().join("0000000001.jsonl"), text).unwrap();
    directory
}

/// What a verb prints, and what it says beside that.
fn printed(directory: &Path, verb: &str, args: &[&str]) -> (String, String) {
    let output = audit_verb(directory, verb, args);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr))
}

#[test]
fn an_outcome_of_a_name_that_nobody_knows_is_in_doubt_whoever_tells_it() {
    let directory = made(&[
        r#""event":"request.intent","request_id":"r1","tenant":"billing""#,
        r#""event":"request.outcome","request_id":"r1","intent":1,"outcome":"vanished""#,
    ]);
    let (said, _) = printed(directory.path(), "verify", &[]);
    assert!(said.contains("1 in doubt"), "{said}");
    for args in [&[][..], &["--outcome", "in-doubt"]] {
        let (rows, said) = printed(directory.path(), "query", args);
        assert!(rows.contains("  in-doubt  "), "{args:?}: {rows}");
        let meaning = "1 in doubt: the DELETE may have been carried out";
        assert!(said.contains(meaning), "{args:?}: {said}");
    }
    let (row, said) = printed(directory.path(), "query", &["-o", "json"]);
    let row: Value = serde_json::from_str(&row).unwrap();
    assert_eq!(row["ended"], "in-doubt");
    assert!(said.contains("1 in doubt"), "{said}");
    let (event, _) = printed(directory.path(), "query", &["-o", "ocsf"]);
    let event: Value = serde_json::from_str(&event).unwrap();
    assert_eq!((&event["status"], &event["severity"]), (&"Unknown".into(), &"Medium".into()));
}
