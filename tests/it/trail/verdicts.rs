//! Whatever somebody makes of a trail, both verifiers come to one verdict: what the
//! description of the format leaves open, each would decide for itself.

use std::fs::{self, File};

use super::{independently, sum};
use crate::support::{Gateway, USER, gateway::audit_verb};

const INTACT: i32 = 0;
const WRONG: i32 = 3;

/// Where the hash of the record before comes.
const PREV: &str = "@prev";
const FIRST: &str = "0000000001.jsonl";

/// What somebody made, by its files; and what is to be said of it.
struct Made {
    what: String,
    files: Vec<(&'static str, Vec<u8>)>,
    verdict: i32,
}

impl Made {
    fn one(what: impl Into<String>, file: Vec<u8>, verdict: i32) -> Self {
        Self {
            what: what.into(),
            files: vec![(FIRST, file)],
            verdict,
        }
    }

    fn and(mut self, name: &'static str, file: impl Into<Vec<u8>>) -> Self {
        self.files.push((name, file.into()));
        self
    }

    /// What is told of it by whom, where that is another verdict.
    fn judged(&self) -> Option<String> {
        let directory = tempfile::tempdir().unwrap();
        for (name, content) in &self.files {
            fs::write(directory.path().join(name), content).unwrap();
        }
        let ours = audit_verb(directory.path(), "verify", &[]);
        let said = String::from_utf8_lossy(&ours.stdout).into_owned();
        let theirs = independently(directory.path(), &[]);
        // What could not be checked has the same exit code.
        let is_told = self.verdict == INTACT || said.starts_with("TAMPERED");
        let is_one = ours.status.code() == Some(self.verdict)
            && is_told
            && theirs
                .as_ref()
                .is_none_or(|(code, _)| *code == Some(self.verdict));
        (!is_one).then(|| format!("{}: {said}{theirs:?}", self.what))
    }
}

#[track_caller]
fn assert_verdicts(made: impl IntoIterator<Item = Made>) {
    let others: Vec<_> = made.into_iter().filter_map(|made| made.judged()).collect();
    assert!(others.is_empty(), "{}", others.join("\n"));
}

/// What is hashed of each record of a real trail, without what it is chained to.
fn real() -> Vec<String> {
    let mut gateway = Gateway::start();
    assert_eq!(gateway.delete(USER, "c1").status, 200);
    assert!(gateway.stop().success());
    let text = gateway.trail_text();
    let contents = text.lines().map(|line| {
        let (content, _) = line.split_once(",\"prev\":").unwrap();
        format!("{content},\"prev\":\"{PREV}\"")
    });
    contents.collect()
}

/// The lines of such records, chained anew from `prev` on; the last hash, too.
fn chained(contents: &[Vec<u8>], prev: &str) -> (Vec<u8>, String) {
    let mut prev = prev.to_owned();
    let mut lines = Vec::new();
    for content in contents {
        let mut content = content.clone();
        while let Some(at) = content
            .windows(PREV.len())
            .position(|part| part == PREV.as_bytes())
        {
            content.splice(at..at + PREV.len(), prev.bytes());
        }
        prev = sum(&content);
        lines.extend_from_slice(&content);
        lines.extend_from_slice(format!(",\"hash\":\"{prev}\"}}\n").as_bytes());
    }
    (lines, prev)
}

fn zeros() -> String {
    "0".repeat(64)
}

fn bytes(contents: &[String]) -> Vec<Vec<u8>> {
    contents.iter().map(|it| it.as_bytes().to_vec()).collect()
}

/// What the last record may say, and what it may not.
#[test]
fn both_verifiers_take_the_same_lines_for_records() {
    let real = real();
    let last = real.last().unwrap().clone();
    let seq = real.len();
    let with = |value: &str| last.replace(",\"prev\"", &format!(",{value},\"prev\""));
    let of = |from: &str, to: &str| {
        let changed = last.replacen(from, to, 1);
        assert_ne!(changed, last, "{from}");
        changed
    };
    let number = format!("\"seq\":{seq}");
    let time = format!(
        ",\"time\":\"{}\"",
        last.split("\"time\":\"")
            .nth(1)
            .unwrap()
            .split('"')
            .next()
            .unwrap()
    );
    // With its end, the line has so many bytes.
    let end = ",\"hash\":\"\"}\n".len() + 2 * 64 - PREV.len();
    let long = |length: usize| {
        let shorter = with("\"x\":\"\"").len() + end;
        with(&format!("\"x\":\"{}\"", "a".repeat(length - shorter)))
    };
    let nested = |depth: usize| with(&format!("\"x\":{}{}", "[".repeat(depth), "]".repeat(depth)));
    let intact = [
        last.clone(),
        of("trail.sealed", "of.another.time"),
        of("\"v\":1,", "\"v\": 1 ,\t"),
        with("\"x\":{\"y\":[1.5,true,\"z\"]}"),
        with("\"x\":1,\"x\":2"),
        with("\"x\":1e999"),
        with(&format!("\"x\":{}", "1".repeat(5000))),
        with("\"x\":\"\\ud800\""),
        with("\"tenant\":\"\\ud83d\\ude00\""),
        with("\"tenant\":null,\"count\":null"),
        with("\"count\":18446744073709551615"),
        with("\"status\":65535,\"attempts\":4294967295"),
        with(&format!("\"x\":\"\\\"{}\"", "[".repeat(200))),
        nested(63),
        long(65_536),
    ];
    let wrong = [
        of("\"v\":1,", "\"v\":2,"),
        of("\"v\":1,", "\"v\":1.0,"),
        of("\"v\":1,", ""),
        of(&number, &format!("{number}.0")),
        of(&number, &format!("{number}e0")),
        of(&number, &format!("\"seq\":\"{seq}\"")),
        of(&format!("{number},"), ""),
        of(&time, ""),
        of(&time, ",\"time\":null"),
        of("\"event\":\"trail.sealed\"", "\"event\":7"),
        of("\"event\":\"trail.sealed\",", ""),
        of(&format!(",\"prev\":\"{PREV}\""), ""),
        with(&number),
        with(&format!("\"s\\u0065q\":{seq}")),
        with("\"tenant\":null,\"tenant\":\"a\""),
        with(&format!("\"prev\":\"{PREV}\"")),
        with(&format!("\"hash\":\"{}\"", zeros())),
        with("\"x\":NaN"),
        with("\"x\":-Infinity"),
        with("\"x\":01"),
        with("\"x\":\"\u{1}\""),
        with("\"x\":\"\\x\""),
        with("\"x\":[1,]"),
        with("\"count\":-1"),
        with("\"count\":-0"),
        with("\"count\":1.5"),
        with("\"count\":true"),
        with("\"count\":\"many\""),
        with("\"count\":18446744073709551616"),
        with("\"status\":65536"),
        with("\"attempts\":4294967296"),
        with("\"tenant\":5"),
        with("\"until_hash\":[]"),
        with("\"tenant\":\"\\ud800\""),
        with("\"\\udc00\":1"),
        format!("\u{feff}{last}"),
        format!("[1,\"{PREV}\""),
        nested(64),
        nested(3000),
        with(&"{\"x\":".repeat(3000)),
        long(65_537),
        long(200_000),
    ];
    // No text: invalid in a field that readers know, and in one that they don't.
    let invalid = ["tenant", "x"].map(|name| {
        let content = with(&format!("\"{name}\":\"@@\"")).into_bytes();
        let at = content.windows(2).position(|pair| pair == b"@@").unwrap();
        [&content[..at], b"\xff\xfe", &content[at + 2..]].concat()
    });
    let wrong = wrong.into_iter().map(String::into_bytes).chain(invalid);
    let intact = intact.into_iter().map(|made| (made.into_bytes(), INTACT));
    let before = bytes(&real[..seq - 1]);
    assert_verdicts(
        intact
            .chain(wrong.map(|made| (made, WRONG)))
            .map(|(made, verdict)| {
                let what = String::from_utf8_lossy(&made)
                    .chars()
                    .take(300)
                    .collect::<String>();
                let all = [&before[..], &[made]].concat();
                Made::one(what, chained(&all, &zeros()).0, verdict)
            }),
    );
}

/// What may stand behind the last line, as a crash leaves it, and what not.
#[test]
fn both_verifiers_take_the_same_ends_for_what_a_crash_leaves() {
    let real = real();
    let (whole, head) = chained(&bytes(&real), &zeros());
    let next = real.len() + 1;
    let begins = format!("{{\"v\":1,\"seq\":{next},\"time\":\"");
    let content = format!("{begins}x\",\"event\":\"checkpoint\",\"prev\":\"{PREV}\"");
    let (record, _) = chained(&[content.into_bytes()], &head);
    let record = String::from_utf8(record).unwrap();
    let record = record.trim_end().to_owned();
    let other = record.replace("checkpoint", "tenant.thawed");
    let none = format!("{begins}x\",\"event\":\"x\",\"prev\":\"p\",\"hash\":\"zz\"}}");
    let nul = |count: usize| "\0".repeat(count);
    let long = |length: usize| begins.clone() + &"a".repeat(length - begins.len());
    let intact = [
        begins[..5].to_owned(),
        begins.clone(),
        format!("{begins}2026-11\r"),
        format!("{begins}2026-11{}", nul(5000)),
        begins[..12].to_owned() + &nul(3),
        nul(5000),
        nul(200_000),
        long(65_536),
        long(65_536) + &nul(100_000),
        record.clone(),
        record.clone() + &nul(3),
    ];
    let wrong = [
        "x".to_owned(),
        "\n".to_owned(),
        "\r\n".to_owned(),
        "[]\n".to_owned(),
        "{}\n".to_owned(),
        begins.replace(&next.to_string(), &(next + 1).to_string()),
        begins[..5].to_owned() + "\0\0se",
        nul(100_000) + "x",
        long(65_537),
        long(200_000),
        format!("{begins}{}", &*format!("\",\"x\":{}", "[".repeat(3000))),
        format!("{begins}x\"}}"),
        format!("{begins}x\"}}XXX"),
        none.clone(),
        none + "XXX",
        other,
        record.clone() + "XXX",
        record.clone() + "\r\n",
    ];
    let intact = intact.into_iter().map(|end| (end, INTACT));
    let ends = intact.chain(wrong.into_iter().map(|end| (end, WRONG)));
    assert_verdicts(ends.map(|(end, verdict)| {
        let what = format!("{:?}", end.chars().take(200).collect::<String>());
        Made::one(what, [&whole[..], end.as_bytes()].concat(), verdict)
    }));
    // The same where more segments follow.
    let torn = |then: &str, verdict| {
        let torn = [&whole[..], begins.as_bytes()].concat();
        Made::one(format!("then {then:?}"), torn, verdict).and("0000000002.jsonl", then)
    };
    let goes_on = record + "\n";
    assert_verdicts([torn("", INTACT), torn("\0\0", WRONG), torn(&goes_on, WRONG)]);
}

/// It takes no room, and hours to read.
#[test]
fn both_verifiers_read_of_a_hole_no_more_than_a_crash_may_leave() {
    let (whole, _) = chained(&bytes(&real()), &zeros());
    let directory = tempfile::tempdir().unwrap();
    let segment = directory.path().join(FIRST);
    fs::write(&segment, &whole).unwrap();
    let second = directory.path().join("0000000002.jsonl");
    File::create(&second).unwrap();
    let judge = |verdict, what: &str| {
        let ours = audit_verb(directory.path(), "verify", &[]);
        assert_eq!(ours.status.code(), Some(verdict), "{what}: {ours:?}");
        if let Some((code, said)) = independently(directory.path(), &[]) {
            assert_eq!(code, Some(verdict), "{what}: {said}");
        }
    };
    let grow = |path, length| {
        let file = File::options().write(true).open(path).unwrap();
        file.set_len(length).unwrap();
    };
    let line = 64 << 10;
    let written = whole.len() as u64;
    grow(&segment, written + line + (64 << 20));
    judge(INTACT, "64 MiB behind what may be a line");
    grow(&segment, written + line + (64 << 20) + 1);
    judge(WRONG, "one byte more");
    grow(&segment, written);
    grow(&second, 1 << 40);
    judge(WRONG, "a segment that is a hole");
}

/// With which number and which hash a trail may begin.
#[test]
fn both_verifiers_take_the_same_beginnings() {
    let real = real();
    let hash = "a".repeat(64);
    let begin = |first: u64, prev: &str, pruned: Option<String>| {
        let renumbered = (first..).zip(&real).map(|(seq, content)| {
            let (_, rest) = content.split_once(",\"time\"").unwrap();
            format!("{{\"v\":1,\"seq\":{seq},\"time\"{rest}").into_bytes()
        });
        let mut contents: Vec<_> = renumbered.collect();
        let next = first + contents.len() as u64;
        contents.extend(pruned.map(|says| {
            let says = format!(
                "{{\"v\":1,\"seq\":{next},\"time\":\"x\",\"event\":\"trail.pruned\"{says},\"prev\":\"{PREV}\""
            );
            says.into_bytes()
        }));
        chained(&contents, prev).0
    };
    let until =
        |seq: u64, hash: &str| Some(format!(",\"until_seq\":{seq},\"until_hash\":\"{hash}\""));
    let upper = hash.to_uppercase();
    let highest = (1 << 62) - real.len() as u64;
    let all = [
        (begin(1, &zeros(), None), INTACT, "as it was written"),
        (
            begin(5, &hash, until(4, &hash)),
            INTACT,
            "what was before was removed",
        ),
        (
            begin(highest, &hash, until(highest - 1, &hash)),
            INTACT,
            "up to the highest number",
        ),
        (
            begin(highest + 1, &hash, until(highest, &hash)),
            WRONG,
            "above the highest number",
        ),
        (
            begin(1 << 63, &hash, until((1 << 63) - 1, &hash)),
            WRONG,
            "far above it",
        ),
        (begin(5, &hash, None), WRONG, "nothing says what was before"),
        (
            begin(5, &hash, until(3, &hash)),
            WRONG,
            "another number is named",
        ),
        (
            begin(5, &hash, until(4, &zeros())),
            WRONG,
            "another hash is named",
        ),
        (begin(5, &hash, Some(String::new())), WRONG, "none is named"),
        (
            begin(5, &hash, Some(",\"until_seq\":4".to_owned())),
            WRONG,
            "no hash is named",
        ),
        (
            begin(
                5,
                &hash,
                Some(",\"until_seq\":4,\"until_hash\":null".to_owned()),
            ),
            WRONG,
            "no hash is named by null",
        ),
        (begin(5, "abc", None), WRONG, "no hash stands before"),
        (
            begin(5, "abc", until(4, "abc")),
            WRONG,
            "what is no hash is named",
        ),
        (
            begin(5, &upper, until(4, &upper)),
            WRONG,
            "a hash in capitals",
        ),
        (begin(0, &zeros(), None), WRONG, "0 is no number"),
        (
            begin(1, &hash, None),
            WRONG,
            "something stands before the first",
        ),
        (
            begin(1, &hash, until(0, &hash)),
            WRONG,
            "something was removed before the first",
        ),
    ];
    let made = all.map(|(file, verdict, what)| Made::one(what, file, verdict));
    assert_verdicts(made);
}

/// Without the key nobody can check a record that has one: but it is one key for a segment.
#[test]
fn both_verifiers_take_a_key_that_is_only_claimed_for_a_change() {
    let real = real();
    let (whole, head) = chained(&bytes(&real), &zeros());
    let whole = String::from_utf8(whole).unwrap();
    let claims =
        |text: &str| text.replacen("\"version\"", "\"mac_key\":\"0123456789ab\",\"version\"", 1);
    let changed = claims(&whole).replace("\"credential\":\"c1\"", "\"credential\":\"c2\"");
    let with_thaw = |trail: &[u8], head: &str| {
        let next = real.len() + 1;
        let thaw = format!(
            "{{\"v\":1,\"seq\":{next},\"time\":\"x\",\"event\":\"tenant.thawed\",\"prev\":\"{head}\",\"hash\":\"{}\"}}\n",
            "a".repeat(64)
        );
        [trail, thaw.as_bytes()].concat()
    };
    let honest = claims(&real[0]);
    let (honest, last) = chained(&bytes(&[&[honest], &real[1..]].concat()), &zeros());
    assert_verdicts([
        Made::one("claimed", claims(&whole).into_bytes(), WRONG),
        Made::one("and changed", changed.into_bytes(), WRONG),
        Made::one(
            "and thawed",
            with_thaw(claims(&whole).as_bytes(), &head),
            WRONG,
        ),
        Made::one("claimed by a record without one", honest.clone(), INTACT),
        Made::one("and thawed", with_thaw(&honest, &last), WRONG),
    ]);
}

/// Which files are segments, and in which order.
#[test]
fn both_verifiers_read_the_same_files() {
    let real = bytes(&real());
    let (whole, head) = chained(&real, &zeros());
    let with = |name, content: &[u8], verdict| {
        Made::one(format!("{name:?}"), whole.clone(), verdict).and(name, content)
    };
    let (first, half) = chained(&real[..2], &zeros());
    let (second, last) = chained(&real[2..], &half);
    assert_eq!(last, head);
    let split = |before, behind, verdict| Made {
        what: format!("{before}, {behind}"),
        files: vec![(before, first.clone()), (behind, second.clone())],
        verdict,
    };
    assert_verdicts([
        with("0000000002.jsonl", b"rubbish\n", WRONG),
        with("0000000000.jsonl", b"\0", WRONG),
        with("99999999999999999999.jsonl", b"rubbish\n", WRONG),
        with("99999999999999999999.jsonl", b"", INTACT),
        with("0000000002.jsonl\n", b"rubbish\n", INTACT),
        with("\n0000000002.jsonl", b"rubbish\n", INTACT),
        with("000000002.jsonl", b"rubbish\n", INTACT),
        with("00000000002.jsonl", b"rubbish\n", INTACT),
        with("000000000\u{662}.jsonl", b"rubbish\n", INTACT),
        with("0000000002.JSONL", b"rubbish\n", INTACT),
        split("0000000002.jsonl", "0000000010.jsonl", INTACT),
        split("9999999999.jsonl", "10000000000.jsonl", INTACT),
        split("10000000000.jsonl", "9999999999.jsonl", WRONG),
        split(
            "99999999999999999999.jsonl",
            "100000000000000000000.jsonl",
            INTACT,
        ),
        split(
            "100000000000000000000.jsonl",
            "99999999999999999999.jsonl",
            WRONG,
        ),
    ]);
}
