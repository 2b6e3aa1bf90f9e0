//! What the command line prints of records that no gateway wrote.

use std::{fs, path::Path, process::Stdio};

use serde_json::Value;

use super::python;
use crate::support::{binary, gateway::audit_verb};

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
    assert_eq!(
        (&event["status"], &event["severity"]),
        (&"Unknown".into(), &"Medium".into())
    );
}

/// U+009B begins the commands of many a terminal, as ESC [ does.
#[test]
fn no_json_is_acted_on_by_a_terminal_and_it_says_what_the_trail_says() {
    let directory = made(&[
        r#""event":"trail.opened","segment":"0000000001.jsonl""#,
        "\"event\":\"request.refused\",\"tenant\":\"a\u{9b}2J\u{7f}\",\"code\":\"x\u{85}\"",
        "\"event\":\"config.loaded\",\t\"by\":\"a\u{9b}2J\"",
    ]);
    for verb in ["query", "tail"] {
        let (row, _) = printed(directory.path(), verb, &["-o", "json"]);
        assert!(
            !row.trim_end().contains(char::is_control),
            "{verb}: {row:?}"
        );
        let row: Value = serde_json::from_str(&row).unwrap();
        assert_eq!(row["tenant"], "a\u{9b}2J\u{7f}");
        let (event, _) = printed(directory.path(), verb, &["-o", "ocsf"]);
        assert!(!event.trim_end().contains(char::is_control), "{event:?}");
        let event: Value = serde_json::from_str(&event).unwrap();
        assert_eq!(event["status_code"], "x\u{85}");
    }
    // Programs get what can be held against its hash.
    let text = fs::read_to_string(directory.path().join("0000000001.jsonl")).unwrap();
    let record = text.lines().last().unwrap();
    let (events, _) = printed(directory.path(), "events", &["-o", "json"]);
    assert_eq!(events.lines().last(), Some(record));
    let Some(mut python) = python() else {
        return;
    };
    let on_a_terminal = python
        .args(["-c", "import pty, sys; pty.spawn(sys.argv[1:])"])
        .arg(binary())
        .args(["audit", "events", "-o", "json"])
        .arg(directory.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let shown = String::from_utf8(on_a_terminal.stdout).unwrap();
    let shown = shown.lines().rfind(|line| line.starts_with('{')).unwrap();
    assert!(!shown.contains(char::is_control), "{shown:?}");
    let read = |json: &str| serde_json::from_str::<Value>(json).unwrap();
    assert_eq!(read(shown), read(record));
}
