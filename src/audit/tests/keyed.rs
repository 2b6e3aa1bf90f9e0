//! Evidence against those who can write the directory: heads noted elsewhere,
//! and a key.

use aws_lc_rs::{digest, hmac};

use super::*;

const KEY: &[u8] = b"0123456789abcdef0123456789abcdef";

fn keyed(directory: &Path) -> Options {
    Options {
        mac_key: Some(MacKey::new(KEY).unwrap()),
        ..options(directory)
    }
}

fn known(key: Option<&[u8]>, head: Option<&str>) -> Known {
    Known {
        mac_key: key.map(|key| MacKey::new(key).unwrap()),
        head: head.map(|head| Head::parse(head).unwrap()),
        ..Known::default()
    }
}

fn fault(directory: &Path, known: &Known) -> Option<Fault> {
    let report = super::super::verify(directory, known, |_| {}).unwrap();
    report.wrong.map(|wrong| wrong.fault)
}

async fn write_calls(options: Options, calls: usize) {
    let trail = open(options).unwrap();
    let worker = trail.for_worker();
    for _ in 0..calls {
        let begun = worker.intent(intent(RequestId::next())).await.unwrap();
        assert_eq!(
            worker.outcome(begun, deleted()).await,
            OutcomeWritten::Durable
        );
    }
    trail.close();
}

/// What somebody does who knows the format and can write the directory.
fn rewrite(lines: &[String]) -> String {
    rewrite_behind(&Head::empty(), lines)
}

/// The same, as what follows a record.
fn rewrite_behind(last: &Head, lines: &[String]) -> String {
    let mut before = last.hash.as_str().to_owned();
    let mut out = String::new();
    for (seq, line) in (last.seq + 1..).zip(lines) {
        let mut record: serde_json::Value = serde_json::from_str(line).unwrap();
        let fields = record.as_object_mut().unwrap();
        fields.shift_remove("hash");
        fields.insert("seq".to_owned(), seq.into());
        fields.insert("prev".to_owned(), before.clone().into());
        let content = record.to_string();
        let content = content.strip_suffix('}').unwrap();
        let sum = digest::digest(&digest::SHA256, content.as_bytes());
        before = crate::secret::hex(sum.as_ref());
        out += &format!("{content},\"hash\":\"{before}\"}}\n");
    }
    out
}

#[tokio::test]
async fn with_a_key_each_hash_is_the_hmac_of_its_line() {
    let directory = tempfile::tempdir().unwrap();
    write_calls(keyed(directory.path()), 3).await;
    let key = hmac::Key::new(hmac::HMAC_SHA256, KEY);
    for line in lines(directory.path()) {
        let (content, _) = line.rsplit_once(",\"hash\":").unwrap();
        let sum = hmac::sign(&key, content.as_bytes());
        assert_eq!(field(&line, "hash"), crate::secret::hex(sum.as_ref()));
    }
    let first = lines(directory.path()).remove(0);
    assert_eq!(field(&first, "mac"), "hmac-sha256");
    assert_eq!(fault(directory.path(), &known(Some(KEY), None)), None);
    let stated = field(&first, "mac_key");
    for other in [None, Some(&b"another key of thirty-two bytes!"[..])] {
        let found = fault(directory.path(), &known(other, None));
        assert_eq!(found, Some(Fault::Key(stated.clone())));
    }
}

#[tokio::test]
async fn a_rewrite_passes_the_bare_chain_and_fails_against_a_head_or_the_key() {
    let directory = tempfile::tempdir().unwrap();
    write_calls(options(directory.path()), 5).await;
    let head = verify(directory.path()).unwrap().head.to_string();
    let segment = directory.path().join("0000000001.jsonl");
    let honest = lines(directory.path());
    let kept = [&honest[..3], &honest[5..]].concat();
    fs::write(&segment, rewrite(&kept)).unwrap();
    // What a bare chain can't show, the documentation says it can't.
    assert_eq!(fault(directory.path(), &Known::default()), None);
    assert!(matches!(
        fault(directory.path(), &known(None, Some(&head))),
        Some(Fault::Expected { seq: 12, .. })
    ));
    // A record that is there and is another one is named itself.
    let noted = Head {
        seq: 4,
        hash: Hash::first(),
    };
    let report = super::super::verify(
        directory.path(),
        &known(None, Some(&noted.to_string())),
        |_| {},
    );
    let wrong = report.unwrap().wrong.unwrap();
    assert_eq!((wrong.line, wrong.seq), (4, Some(4)));
    assert_eq!(
        fault(directory.path(), &known(Some(KEY), None)),
        Some(Fault::NeverKeyed)
    );
}

#[tokio::test]
async fn any_cut_tail_is_found_with_the_head_and_without_it_is_not_claimed_to_be() {
    let directory = tempfile::tempdir().unwrap();
    write_calls(options(directory.path()), 3).await;
    let head = verify(directory.path()).unwrap().head.to_string();
    let segment = directory.path().join("0000000001.jsonl");
    let whole = fs::read(&segment).unwrap();
    assert_eq!(fault(directory.path(), &known(None, Some(&head))), None);
    for len in 0..whole.len() {
        fs::write(&segment, &whole[..len]).unwrap();
        let found = fault(directory.path(), &known(None, Some(&head)));
        assert!(
            matches!(found, Some(Fault::Expected { .. })),
            "{len}: {found:?}"
        );
        assert_eq!(fault(directory.path(), &Known::default()), None, "{len}");
    }
}

#[tokio::test]
async fn a_trail_may_get_its_key_later_and_keeps_it_then() {
    let directory = tempfile::tempdir().unwrap();
    write_calls(options(directory.path()), 2).await;
    let last = verify(directory.path()).unwrap().head;
    write_calls(keyed(directory.path()), 2).await;
    let from = |seq| Known {
        keyed_from: Some(seq),
        ..known(Some(KEY), None)
    };
    let key_alone = known(Some(KEY), None);
    let report = super::super::verify(directory.path(), &from(last.seq + 1), |_| {}).unwrap();
    assert!(report.is_intact(), "{report}");
    assert_eq!(report.unkeyed, Some((1, last.seq)));
    // Only who noted it elsewhere knows from where on the key is to be there.
    for known in [&key_alone, &from(last.seq), &from(1)] {
        let found = fault(directory.path(), known);
        assert_eq!(found, Some(Fault::UnkeyedUntil(last.seq)));
    }
    // Without the key nothing is claimed of what needs it, and the rest is named.
    let report = verify(directory.path()).unwrap();
    assert_eq!(report.unkeyed, Some((1, last.seq)));
    assert!(matches!(report.wrong.unwrap().fault, Fault::Key(_)));
    write_calls(options(directory.path()), 2).await;
    assert_eq!(
        fault(directory.path(), &from(last.seq + 1)),
        Some(Fault::Unkeyed)
    );
}

#[tokio::test]
async fn a_past_rewritten_without_the_key_is_not_taken_for_one_that_had_none() {
    let directory = tempfile::tempdir().unwrap();
    write_calls(keyed(directory.path()), 3).await;
    let honest = lines(directory.path());
    let mut changed = honest.clone();
    changed[0] = changed[0].replace(r#""mac":"hmac-sha256","#, "");
    changed.remove(2);
    let segment = directory.path().join("0000000001.jsonl");
    fs::write(&segment, rewrite(&changed)).unwrap();
    // The gateway goes on behind it, with the key.
    write_calls(keyed(directory.path()), 1).await;
    let known = known(Some(KEY), None);
    let last = changed.len() as u64;
    let unkeyed = Some(Fault::UnkeyedUntil(last));
    assert_eq!(fault(directory.path(), &known), unkeyed);
    let queried = super::super::query(directory.path(), &known, &Filter::default(), |_| {}, |_| {});
    assert_eq!(queried.unwrap().wrong.map(|wrong| wrong.fault), unkeyed);
    let events = super::super::events(directory.path(), &known, None, |_| {}, |_| {});
    assert_eq!(events.unwrap().map(|wrong| wrong.fault), unkeyed);
}

#[tokio::test]
async fn with_a_key_a_trail_without_it_is_wrong_whoever_reads_it() {
    let directory = tempfile::tempdir().unwrap();
    write_calls(options(directory.path()), 1).await;
    let known = known(Some(KEY), None);
    let never = Some(Fault::NeverKeyed);
    assert_eq!(fault(directory.path(), &known), never);
    let queried = super::super::query(directory.path(), &known, &Filter::default(), |_| {}, |_| {});
    assert_eq!(queried.unwrap().wrong.map(|wrong| wrong.fault), never);
    let events = super::super::events(directory.path(), &known, None, |_| {}, |_| {});
    assert_eq!(events.unwrap().map(|wrong| wrong.fault), never);
}

#[tokio::test]
async fn what_cannot_be_a_fingerprint_is_not_told_as_one() {
    let directory = tempfile::tempdir().unwrap();
    write_calls(keyed(directory.path()), 1).await;
    let segment = directory.path().join("0000000001.jsonl");
    let stated = field(&lines(directory.path())[0], "mac_key");
    let text = fs::read_to_string(&segment).unwrap();
    for other in ["\\u001b[2J", "0123456789AB", "0123456789abc"] {
        fs::write(&segment, text.replacen(&stated, other, 1)).unwrap();
        assert_eq!(
            fault(directory.path(), &Known::default()),
            Some(Fault::Content),
            "{other}"
        );
    }
}

fn forged(event: &str, head: &Head) -> String {
    format!(
        r#"{{"v":1,"seq":1,"time":"2026-11-30T00:00:00.000000Z","event":"{event}","from_segment":"0000000001.jsonl","until_segment":"0000000001.jsonl","until_seq":{},"until_hash":"{}","prev":"","hash":""}}"#,
        head.seq,
        head.hash.as_str()
    )
}

#[tokio::test]
async fn no_record_that_names_the_noted_head_makes_up_for_it() {
    let directory = tempfile::tempdir().unwrap();
    write_calls(options(directory.path()), 5).await;
    let head = verify(directory.path()).unwrap().head;
    let known = known(None, Some(&head.to_string()));
    let segment = directory.path().join("0000000001.jsonl");
    let honest = lines(directory.path());
    let mut changed = honest.clone();
    changed[3] = changed[3].replace("63252d14cc29df15cc481a76", "ffffffffffffffffffffffff");
    for event in ["checkpoint", "trail.pruned"] {
        // Changed, and the noted record is another one.
        let lines = [&changed[..], &[forged(event, &head)]].concat();
        fs::write(&segment, rewrite(&lines)).unwrap();
        let report = super::super::verify(directory.path(), &known, |_| {}).unwrap();
        let wrong = report.wrong.unwrap();
        assert_eq!(wrong.seq, Some(head.seq), "{wrong}");
        assert!(matches!(wrong.fault, Fault::Expected { .. }), "{wrong}");
        // The tail cut.
        let lines = [&honest[..6], &[forged(event, &head)]].concat();
        fs::write(&segment, rewrite(&lines)).unwrap();
        let found = fault(directory.path(), &known);
        let Some(Fault::Expected { found, .. }) = found else {
            panic!("{event}: {found:?}");
        };
        assert_eq!(found, "the trail ends at 7");
        // Nothing left of what was before.
        let lines = [honest[0].clone(), forged(event, &head)];
        fs::write(&segment, rewrite_behind(&head, &lines)).unwrap();
        let report = super::super::verify(directory.path(), &known, |_| {}).unwrap();
        assert!(!report.is_intact(), "{event}: {report}");
        if event == "trail.pruned" {
            let wrong = report.wrong.as_ref().unwrap();
            assert_eq!(wrong.fault, Fault::OnlyNamed(head.seq));
            assert!(report.to_string().starts_with("NOT VERIFIED"), "{report}");
        }
    }
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(64))]

    #[test]
    fn any_edit_of_the_lines_is_named_at_its_record(at in 1_usize..20, what in 0..4, to in 1_usize..20) {
        let directory = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(write_calls(options(directory.path()), 10));
        let good = lines(directory.path());
        let mut bad = good.clone();
        let (at, to) = (at.min(good.len() - 2), to.min(good.len() - 2));
        match what {
            0 => { bad.remove(at); }
            1 => bad.insert(at, good[to].clone()),
            2 => bad.swap(at, to),
            _ => bad[at] = bad[at].replacen("2026", "2027", 1).replacen("\"v\":1", "\"v\":1,\"x\":0", 1),
        }
        proptest::prop_assume!(bad != good);
        fs::write(directory.path().join("0000000001.jsonl"), bad.join("\n") + "\n").unwrap();
        let wrong = verify(directory.path()).unwrap().wrong.unwrap();
        // The first line that differs from what was written; a line put in before
        // its equal is noticed at the second of both.
        let differs = good.iter().zip(&bad).position(|(good, bad)| good != bad);
        proptest::prop_assert_eq!(wrong.line as usize, differs.unwrap() + 1);
    }

    #[test]
    fn arbitrary_bytes_never_panic_the_reader(bytes: Vec<u8>, lines: Vec<String>) {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("0000000001.jsonl"), &bytes).unwrap();
        fs::write(directory.path().join("0000000002.jsonl"), lines.join("\n")).unwrap();
        let report = verify(directory.path()).unwrap();
        proptest::prop_assert!(report.records == 0);
    }
}

/// Who can't compute the key could claim another one for what they changed.
#[tokio::test]
async fn another_key_is_no_excuse_where_the_trail_has_the_one_that_was_given() {
    let directory = tempfile::tempdir().unwrap();
    for _ in 0..3 {
        write_calls(keyed(directory.path()), 2).await;
    }
    let with_key = known(Some(KEY), None);
    let second = directory.path().join("0000000002.jsonl");
    let honest = fs::read_to_string(&second).unwrap();
    let stated = field(honest.lines().next().unwrap(), "mac_key");
    let claims = honest.replace(&stated, "aaaaaaaaaaaa");
    fs::write(&second, &claims).unwrap();
    assert_eq!(fault(directory.path(), &with_key), Some(Fault::Content));
    // Also for the whole segment, since the one before and the one after have our key.
    fs::write(&second, claims.replace("billing", "blaming")).unwrap();
    assert_eq!(fault(directory.path(), &with_key), Some(Fault::Content));
    fs::write(&second, &honest).unwrap();
    // A key that was changed is said, and nothing else.
    let other = Options {
        mac_key: Some(MacKey::new(b"another key of thirty-two bytes!").unwrap()),
        ..options(directory.path())
    };
    write_calls(other, 1).await;
    let report = super::super::verify(directory.path(), &with_key, |_| {}).unwrap();
    let wrong = report.wrong.unwrap();
    assert_eq!((&*wrong.file, wrong.line), ("0000000004.jsonl", 1));
    assert!(matches!(wrong.fault, Fault::Key(_)), "{wrong}");
}

/// It shows whether the key is there or not.
#[tokio::test]
async fn records_that_are_missing_are_named_without_the_key_as_well() {
    let directory = tempfile::tempdir().unwrap();
    write_calls(keyed(directory.path()), 5).await;
    let mut kept = lines(directory.path());
    kept.drain(4..6);
    let text: String = kept.iter().map(|line| format!("{line}\n")).collect();
    fs::write(directory.path().join("0000000001.jsonl"), text).unwrap();
    for key in [None, Some(KEY)] {
        let found = fault(directory.path(), &known(key, None));
        assert_eq!(found, Some(Fault::Number { expected: 5 }));
    }
}

#[tokio::test]
async fn a_key_that_was_changed_once_hides_no_claim_of_another_behind_it() {
    let directory = tempfile::tempdir().unwrap();
    let old = Options {
        mac_key: Some(MacKey::new(b"another key of thirty-two bytes!").unwrap()),
        ..options(directory.path())
    };
    write_calls(old, 1).await;
    for _ in 0..3 {
        write_calls(keyed(directory.path()), 2).await;
    }
    let with_key = known(Some(KEY), None);
    let found = fault(directory.path(), &with_key);
    assert!(matches!(found, Some(Fault::Key(_))), "{found:?}");
    let third = directory.path().join("0000000003.jsonl");
    let honest = fs::read_to_string(&third).unwrap();
    let stated = field(honest.lines().next().unwrap(), "mac_key");
    let claims = honest.replace(&stated, "aaaaaaaaaaaa");
    fs::write(&third, claims.replace("billing", "blaming")).unwrap();
    assert_eq!(fault(directory.path(), &with_key), Some(Fault::Content));
}

/// Neither the alert of a trail that was changed nor its words.
#[tokio::test]
async fn a_key_that_is_changed_or_taken_away_is_no_incident_at_the_start() {
    let directory = tempfile::tempdir().unwrap();
    write_calls(keyed(directory.path()), 2).await;
    let other = || Options {
        mac_key: Some(MacKey::new(b"another key of thirty-two bytes!").unwrap()),
        ..options(directory.path())
    };
    for next in [other(), other(), options(directory.path())] {
        let trail = open(next).unwrap();
        assert!(trail.status().verified);
        trail.close();
    }
    // Where it is only claimed, behind records that have the key, it is one.
    write_calls(keyed(directory.path()), 2).await;
    let segment = directory.path().join("0000000005.jsonl");
    let text = fs::read_to_string(&segment).unwrap();
    let last = text.lines().last().unwrap();
    let claim = last.replace("trail.sealed", "trail.opened\",\"mac_key\":\"aaaaaaaaaaaa");
    fs::write(&segment, text.replace(last, &claim)).unwrap();
    let trail = open(keyed(directory.path())).unwrap();
    assert!(!trail.status().verified);
    trail.close();
}

#[tokio::test]
async fn a_head_that_is_missing_is_named_without_the_key_as_well() {
    let directory = tempfile::tempdir().unwrap();
    write_calls(keyed(directory.path()), 3).await;
    let head = verify(directory.path()).unwrap().head.to_string();
    let segment = directory.path().join("0000000001.jsonl");
    let mut kept = lines(directory.path());
    kept.truncate(4);
    let text: String = kept.iter().map(|line| format!("{line}\n")).collect();
    fs::write(&segment, text).unwrap();
    let found = fault(directory.path(), &known(None, Some(&head)));
    assert!(matches!(found, Some(Fault::Expected { .. })), "{found:?}");
}
