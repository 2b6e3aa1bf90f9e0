//! The trail over whole lives of the process: what it survives, and what it answers.

mod printed;
mod verdicts;

use std::{
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use alloy_gateway::{fault_point::FaultPoint, simulated_alloy::Behaviour, token::NewToken};
use aws_lc_rs::digest::{SHA256, digest};
use serde_json::Value;

use crate::support::{
    Connection, Gateway, Setup, USER, binary, delete, fault_points,
    gateway::audit_verb,
    trail::{assert_nothing_lost, by_credential, sent},
};

/// Callers that send without pause until they are told to stop.
struct Load {
    stop: Arc<AtomicBool>,
    /// Credentials whose deletion a caller was told of, without `unrecorded`.
    promised: Arc<Mutex<Vec<String>>>,
    callers: Vec<thread::JoinHandle<()>>,
}

impl Load {
    fn start(gateway: &Gateway, callers: usize, round: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let promised = Arc::new(Mutex::new(Vec::new()));
        let callers = (0..callers)
            .map(|caller| {
                // Before the first kill can come.
                let mut connection = Connection::open(gateway.data);
                let token = gateway.token().to_owned();
                let (stop, promised) = (Arc::clone(&stop), Arc::clone(&promised));
                thread::spawn(move || {
                    for n in 0.. {
                        if stop.load(Ordering::Relaxed) {
                            return;
                        }
                        let credential = format!("r{round}-{caller}-{n}");
                        connection.send(delete(USER, &credential, &token));
                        // The gateway is gone: this caller's work is done.
                        let Some(response) = connection.try_receive() else {
                            return;
                        };
                        let is_recorded = response.field("x-alloy-gateway-outcome").is_none();
                        if response.status == 200 && is_recorded {
                            promised.lock().unwrap().push(credential);
                        }
                    }
                })
            })
            .collect();
        Self {
            stop,
            promised,
            callers,
        }
    }

    fn end(self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        for caller in self.callers {
            caller.join().unwrap();
        }
        Arc::try_unwrap(self.promised)
            .unwrap()
            .into_inner()
            .unwrap()
    }
}

#[test]
fn fifty_kills_under_load_lose_nothing() {
    let mut gateway = Gateway::start();
    gateway
        .alloy
        .always(Behaviour::answer(200, "", r#"{"success":true}"#));
    let mut promised = Vec::new();
    for round in 0..50 {
        let load = Load::start(&gateway, 4, round);
        // Now early, now late; never at the same place of the work.
        let so_many = gateway.alloy.received().len() + (round * 7) % 13;
        assert!(gateway.alloy.wait_for(so_many, Duration::from_secs(20)));
        thread::sleep(Duration::from_micros(round as u64 * 97));
        gateway.kill();
        promised.extend(load.end());
        let report = gateway.verify();
        assert!(report.is_intact(), "round {round}: {report}");
        gateway.start_again();
    }
    assert!(gateway.stop().success());
    assert!(
        promised.len() > 50,
        "only {} calls got through",
        promised.len()
    );
    assert_nothing_lost(&gateway, &promised);
}

#[test]
fn a_kill_between_any_two_stages_loses_nothing() {
    for point in fault_points() {
        let mut gateway = Setup::default()
            .env("ALLOY_GATEWAY_ABORT_AT", point.as_str())
            .start();
        let mut connection = gateway.connect();
        connection.send(delete(USER, "c1", gateway.token()));
        assert!(
            connection.try_receive().is_none(),
            "{point:?} was never reached"
        );
        assert!(!gateway.process.wait().success());
        let was_sent = !sent(&gateway).is_empty();
        let expected = matches!(
            point,
            FaultPoint::AnswerRead | FaultPoint::OutcomeDurable | FaultPoint::AnswerMade
        );
        assert_eq!(was_sent, expected, "{point:?}");
        gateway.start_again();
        let found = gateway.scrape();
        assert!(gateway.stop().success());
        assert_nothing_lost(&gateway, &[]);
        let trail = by_credential(&gateway.trail());
        let ended = trail.get("c1").map(|ended| ended[0].as_str());
        let expected = match point {
            FaultPoint::Admitted => None,
            FaultPoint::OutcomeDurable | FaultPoint::AnswerMade => Some("deleted"),
            _ => Some("in-doubt"),
        };
        assert_eq!(ended, expected, "{point:?}");
        let in_doubt = found.get("outcomes_total{tenant=\"billing\",outcome=\"in-doubt\"}");
        let expected = f64::from(u8::from(expected == Some("in-doubt")));
        assert_eq!(in_doubt, expected, "{point:?}");
        assert_eq!(found.sum("outcomes_total"), expected, "{point:?}");
    }
}

#[test]
fn budgets_of_a_minute_and_longer_survive_a_crash() {
    let mut gateway = Setup::default()
        .key_limits("[ { requests: 5, per: 1h } ]")
        .tenant(
            "billing",
            &["users: all", "limits: [ { requests: 3, per: 1d } ]"],
        )
        .tenant("other", &["users: all"])
        .start();
    for credential in ["c1", "c2"] {
        assert_eq!(gateway.delete(USER, credential).status, 200);
    }
    for _ in 0..3 {
        gateway.kill();
        gateway.start_again();
    }
    let third = gateway.delete(USER, "c3");
    assert_eq!(third.status, 200);
    let levels = third.field("ratelimit").unwrap().to_owned();
    assert!(levels.contains("\"key-3600s\";r=2"), "{levels}");
    assert_eq!(gateway.delete(USER, "c4").status, 429);
    gateway.kill();
    gateway.start_again();
    assert_eq!(gateway.delete(USER, "c4").status, 429);
    // Of the key's five, three were spent by the first tenant.
    let other = gateway.token_of("other").to_owned();
    for (credential, status) in [("c5", 200), ("c6", 200), ("c7", 429)] {
        let answer = gateway.send(delete(USER, credential, &other));
        assert_eq!(answer.status, status, "{credential}");
    }
}

#[test]
fn one_command_tells_who_deleted_a_credential_and_whether_it_went_through() {
    let mut gateway = Gateway::start();
    gateway
        .alloy
        .script([Behaviour::Contract, Behaviour::Reset, Behaviour::Reset]);
    assert_eq!(gateway.delete(USER, "c1").status, 200);
    let doubtful = gateway.delete(USER, "c2");
    assert_eq!(doubtful.status, 502);
    assert_eq!(gateway.delete(USER, "c9%").status, 400);
    gateway.record("refusal", |record| record["event"] == "request.refused");

    let audit = gateway.audit().to_owned();
    let text = |verb: &str, args: &[&str]| {
        let output = audit_verb(&audit, verb, args);
        let said = String::from_utf8(output.stdout).unwrap();
        (
            output.status.code(),
            said,
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let (code, rows, _) = text("query", &["--credential", "c1"]);
    assert_eq!((code, rows.lines().count()), (Some(0), 2), "{rows}");
    for part in ["deleted", "billing/first", USER, "c1", "127.0.0.1:"] {
        assert!(
            rows.lines().nth(1).unwrap().contains(part),
            "{part} in {rows}"
        );
    }
    let (_, rows, said) = text("query", &["--credential", "c2", "-o", "json"]);
    let row: Value = serde_json::from_str(&rows).unwrap();
    assert_eq!(
        (&row["ended"], &row["attempts"]),
        (&"in-doubt".into(), &2.into())
    );
    assert_eq!(row["request_id"], doubtful.field("x-request-id").unwrap());
    assert!(said.contains("1 in doubt"), "{said}");

    let (_, rows, _) = text(
        "query",
        &["--outcome", "refused", "--since", "1h", "-o", "ocsf"],
    );
    let event: Value = serde_json::from_str(&rows).unwrap();
    // https://schema.ocsf.io/1.6.0/classes/api_activity
    for (field, value) in [
        ("class_uid", 6003),
        ("type_uid", 600_304),
        ("category_uid", 6),
        ("status_id", 2),
    ] {
        assert_eq!(event[field], value, "{field} in {event}");
    }
    assert_eq!(event["status_code"], "invalid-path");
    let (_, rows, said) = text("query", &["--tenant", "nobody"]);
    assert!(rows.is_empty() && said.contains("nothing"), "{rows}{said}");
    let (code, _, said) = text("query", &["--since", "yesterday"]);
    assert!(code == Some(2) && said.contains("2h"), "{said}");

    let (_, rows, _) = text("tail", &["-n", "2", "-o", "json"]);
    assert_eq!(rows.lines().count(), 2, "{rows}");
    assert!(gateway.stop().success());
    let (code, said, _) = text("verify", &[]);
    assert!(code == Some(0) && said.starts_with("intact: "), "{said}");
    let head = said.trim().rsplit(' ').next().unwrap().to_owned();
    let (code, _, _) = text("verify", &["--expect", &head]);
    assert_eq!(code, Some(0));
    let segment = gateway.audit().join("0000000001.jsonl");
    let whole = std::fs::read_to_string(&segment).unwrap();
    let cut = whole.lines().count() - 1;
    let lines: String = whole.split_inclusive('\n').take(cut).collect();
    std::fs::write(&segment, lines).unwrap();
    let (code, said, _) = text("verify", &["--expect", &head]);
    assert!(
        code == Some(3) && said.contains("the trail ends at"),
        "{said}"
    );
}

#[test]
fn query_and_tail_say_why_a_token_was_refused() {
    let gateway = Gateway::start();
    let unknown = NewToken::generate().unwrap();
    let answers = ["agw_x", unknown.reveal()].map(|it| gateway.send(delete(USER, "c1", it)));
    for answer in &answers {
        assert_eq!(answer.status, 401);
        gateway.last_record_of(answer);
    }
    for verb in ["query", "tail"] {
        let of = |args: &[&str]| {
            let output = audit_verb(gateway.audit(), verb, args);
            String::from_utf8(output.stdout).unwrap()
        };
        let (table, json, ocsf) = (of(&[]), of(&["-o", "json"]), of(&["-o", "ocsf"]));
        let lines = |text: &str| text.lines().map(ToOwned::to_owned).collect::<Vec<_>>();
        let rows = lines(&table).into_iter().skip(1);
        for (((row, json), ocsf), reason) in rows
            .zip(lines(&json))
            .zip(lines(&ocsf))
            .zip(["malformed", "unknown"])
        {
            let why = format!("refused (unauthenticated: {reason})");
            assert!(row.contains(&why), "{verb}: {row}");
            let parsed = |text: &str| serde_json::from_str::<Value>(text).unwrap();
            assert_eq!(parsed(&json)["reason"], reason, "{verb}: {json}");
            assert_eq!(
                parsed(&ocsf)["unmapped"]["reason"],
                reason,
                "{verb}: {ocsf}"
            );
        }
        assert_eq!(table.lines().count(), 3, "{table}");
    }
}

#[test]
fn a_trail_that_is_followed_shows_calls_as_they_end() {
    use std::io::{BufRead, BufReader};
    let gateway = Setup::default().audit("segment_size: 64KiB").start();
    let mut tail = Command::new(binary())
        .args(["audit", "tail", "-f", "-o", "json"])
        .arg(gateway.audit())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut rows = BufReader::new(tail.stdout.take().unwrap()).lines();
    let call = |n: usize| assert_eq!(gateway.delete(USER, &format!("c{n}")).status, 200);
    let mut assert_next = |n: usize| {
        let row: Value = serde_json::from_str(&rows.next().unwrap().unwrap()).unwrap();
        assert_eq!(row["credential"], format!("c{n}"));
    };
    // Of what there was before it began it shows the last few alone.
    call(0);
    assert_next(0);
    // Enough for some segments.
    (1..200).for_each(call);
    (1..200).for_each(&mut assert_next);
    tail.kill().unwrap();
    tail.wait().unwrap();
    assert!(gateway.audit().join("0000000002.jsonl").exists());
}

fn python() -> Option<Command> {
    let has_python = Command::new("python3").arg("--version").output().is_ok();
    assert!(
        has_python || std::env::var_os("CI").is_none(),
        "python3 is missing"
    );
    has_python.then(|| Command::new("python3"))
}

/// What a verifier in another language, made from the description of the format
/// alone, says of a trail. `None` without Python, which the CI script installs.
fn independently(directory: &std::path::Path, args: &[&str]) -> Option<(Option<i32>, String)> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/verify_trail.py");
    let output = python()?
        .args([script.as_ref(), directory.as_os_str()])
        .args(args)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let trouble = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(trouble.is_empty(), "{trouble}");
    Some((output.status.code(), said))
}

/// Both verifiers find it intact, with the same head; which is that.
fn both_intact(directory: &std::path::Path, args: &[&str]) -> Option<String> {
    let (code, said) = independently(directory, args)?;
    assert_eq!(code, Some(0), "{said}");
    let ours = audit_verb(directory, "verify", args);
    assert_eq!(ours.status.code(), Some(0));
    let head = said.trim().rsplit(' ').next().unwrap().to_owned();
    let report = String::from_utf8(ours.stdout).unwrap();
    assert!(report.contains(&head), "{report} {said}");
    Some(head)
}

#[track_caller]
fn assert_both_find_it(directory: &std::path::Path, args: &[&str]) {
    let (code, said) = independently(directory, args).unwrap();
    assert_eq!(code, Some(3), "{said}");
    assert_eq!(audit_verb(directory, "verify", args).status.code(), Some(3));
}

#[test]
fn an_independent_verifier_agrees() {
    let mut gateway = Setup::default()
        .audit("segment_size: 64KiB")
        .audit("mac_key: { file: mac-key }")
        .file("mac-key", "0123456789abcdef0123456789abcdef\n")
        .start();
    for n in 0..200 {
        assert_eq!(gateway.delete(USER, &format!("c{n}")).status, 200);
    }
    gateway.kill();
    gateway.start_again();
    assert!(gateway.stop().success());
    let key = gateway.path("mac-key");
    let args = ["--mac-key", key.to_str().unwrap()];
    let Some(head) = both_intact(gateway.audit(), &args) else {
        return;
    };
    both_intact(gateway.audit(), &[&args[..], &["--expect", &head]].concat());
    // And it is not blind.
    assert_both_find_it(gateway.audit(), &[]);
    let segment = gateway.audit().join("0000000002.jsonl");
    let text = std::fs::read_to_string(&segment).unwrap();
    std::fs::write(&segment, text.replacen("\"c1", "\"c2", 1)).unwrap();
    assert_both_find_it(gateway.audit(), &args);
}

#[test]
fn an_independent_verifier_agrees_about_what_retention_removed_and_what_a_crash_tore() {
    let mut gateway = Setup::default()
        .audit("segment_size: 64KiB")
        .audit("retention: 1s")
        .start();
    gateway
        .alloy
        .always(Behaviour::answer(200, "", r#"{"success":true}"#));
    let first = gateway.audit().join("0000000001.jsonl");
    for n in 0.. {
        assert_eq!(gateway.delete(USER, &format!("c{n}")).status, 200);
        if !first.exists() {
            break;
        }
        assert!(n < 20_000, "nothing was removed");
    }
    gateway.record("what was removed", |record| {
        record["event"] == "trail.pruned"
    });
    assert!(gateway.stop().success());
    let Some(head) = both_intact(gateway.audit(), &[]) else {
        return;
    };
    let segments = || {
        let mut names: Vec<_> = std::fs::read_dir(gateway.audit())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|kind| kind == "jsonl"))
            .collect();
        names.sort();
        names
    };
    // The beginning of the next record, as a crash leaves it.
    let last = segments().pop().unwrap();
    let whole = std::fs::read(&last).unwrap();
    let next = head.split(':').next().unwrap().parse::<u64>().unwrap() + 1;
    let torn = format!("{{\"v\":1,\"seq\":{next},\"ti");
    std::fs::write(&last, [&whole[..], torn.as_bytes()].concat()).unwrap();
    both_intact(gateway.audit(), &["--expect", &head]);
    std::fs::write(&last, [&whole[..], b"x"].concat()).unwrap();
    assert_both_find_it(gateway.audit(), &[]);
    std::fs::write(&last, &whole).unwrap();
    // No record accounts for the next one.
    std::fs::remove_file(&segments()[0]).unwrap();
    assert_both_find_it(gateway.audit(), &[]);
}

/// The SHA-256 in lower-case hex.
fn sum(content: &[u8]) -> String {
    let sum = digest(&SHA256, content);
    let digits = sum.as_ref().iter().map(|byte| format!("{byte:02x}"));
    digits.collect()
}

/// What somebody does who knows the format and can write the directory: each line is
/// numbered and chained anew.
pub fn rewrite(lines: &[String]) -> String {
    let mut prev = "0".repeat(64);
    let lines = (1..).zip(lines).map(|(seq, line)| {
        let mut record: Value = serde_json::from_str(line).unwrap();
        let fields = record.as_object_mut().unwrap();
        fields.shift_remove("hash");
        fields.insert("seq".to_owned(), seq.into());
        fields.insert("prev".to_owned(), prev.clone().into());
        let content = record.to_string();
        let content = content.strip_suffix('}').unwrap();
        prev = sum(content.as_bytes());
        format!("{content},\"hash\":\"{prev}\"}}\n")
    });
    lines.collect()
}

/// A gateway that was stopped, and whose trail has a key by its config: all of it was made
/// anew by somebody who has none.
pub fn forged() -> Gateway {
    let mut gateway = Setup::default()
        .audit("mac_key: { file: mac-key }")
        .file("mac-key", "0123456789abcdef0123456789abcdef\n")
        .start();
    assert_eq!(gateway.delete(USER, "c0").status, 200);
    assert!(gateway.stop().success());
    let text = gateway.trail_text();
    let keyless = text.replace("\"mac\":\"hmac-sha256\",", "");
    let lines: Vec<_> = keyless.lines().map(ToOwned::to_owned).collect();
    let segment = gateway.audit().join("0000000001.jsonl");
    std::fs::write(segment, rewrite(&lines)).unwrap();
    gateway
}

#[test]
fn both_verifiers_ask_from_where_on_a_trail_has_its_key() {
    let mut gateway = forged();
    let last = gateway.trail_text().lines().count();
    // The gateway goes on with the key.
    gateway.start_again();
    assert!(gateway.stop().success());
    let key = gateway.path("mac-key");
    let args = ["--mac-key", key.to_str().unwrap()];
    assert_both_find_it(gateway.audit(), &args);
    for (from, is_right) in [(last, false), (last + 1, true)] {
        let from = from.to_string();
        let args = [&args[..], &["--keyed-from", &from]].concat();
        if is_right {
            both_intact(gateway.audit(), &args);
        } else {
            assert_both_find_it(gateway.audit(), &args);
        }
        // Whoever asks for calls or events hears the same.
        for verb in ["query", "events", "verify"] {
            let told = audit_verb(gateway.audit(), verb, &args);
            let code = if is_right { 0 } else { 3 };
            let trouble = String::from_utf8_lossy(&told.stderr);
            assert_eq!(told.status.code(), Some(code), "{verb}: {trouble}");
            let note = format!("records 1 to {last} carry no key");
            assert_eq!(trouble.contains(&note), verb == "verify", "{trouble}");
        }
    }
    // A key that is not the trail's is no want of a key.
    let other = gateway.path("other-key");
    std::fs::write(&other, "another key of thirty-two bytes!").unwrap();
    let args = ["--mac-key", other.to_str().unwrap()];
    for verb in ["query", "events"] {
        let told = audit_verb(gateway.audit(), verb, &args);
        assert_eq!(told.status.code(), Some(3), "{verb}");
        let told = audit_verb(gateway.audit(), verb, &[]);
        assert_eq!(told.status.code(), Some(0), "{verb}");
    }
}

#[test]
fn neither_verifier_takes_a_records_word_for_the_noted_head() {
    let mut gateway = Gateway::start();
    for n in 0..3 {
        assert_eq!(gateway.delete(USER, &format!("c{n}")).status, 200);
    }
    assert!(gateway.stop().success());
    let Some(head) = both_intact(gateway.audit(), &[]) else {
        return;
    };
    let (seq, hash) = head.split_once(':').unwrap();
    let text = gateway.trail_text();
    let honest: Vec<_> = text.lines().map(ToOwned::to_owned).collect();
    let segment = gateway.audit().join("0000000001.jsonl");
    for event in ["checkpoint", "trail.pruned"] {
        let forged = format!(
            r#"{{"v":1,"seq":0,"time":"2026-11-30T00:00:00.000000Z","event":"{event}","until_seq":{seq},"until_hash":"{hash}","prev":""}}"#
        );
        let changed = honest.iter().map(|line| line.replace("\"c0\"", "\"c9\""));
        let changed: Vec<_> = changed.chain([forged.clone()]).collect();
        let cut = [&honest[..5], &[forged]].concat();
        for lines in [changed, cut] {
            std::fs::write(&segment, rewrite(&lines)).unwrap();
            both_intact(gateway.audit(), &[]);
            assert_both_find_it(gateway.audit(), &["--expect", &head]);
        }
    }
}
