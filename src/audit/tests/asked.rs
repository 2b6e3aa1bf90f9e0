//! What somebody asks of a trail.

use jiff::{SignedDuration, Timestamp};

use super::*;
use crate::audit::chain::Hasher;

const KEY: &[u8] = b"0123456789abcdef0123456789abcdef";

/// Writes segments by hand, since no record is dated as one likes.
struct Written<'a> {
    directory: &'a Path,
    hasher: Hasher,
    last: Head,
}

impl Written<'_> {
    /// One that begins so long ago, with a refusal and an event of so long ago.
    fn segment(&mut self, number: u64, began: SignedDuration, ends: SignedDuration) {
        let name = segment::name(number);
        let key = self.hasher.key_fingerprint();
        let key = key.map_or_else(String::new, |key| format!(",\"mac_key\":\"{key}\""));
        let opened = format!("\"event\":\"trail.opened\",\"segment\":\"{name}\"{key}");
        let refused = r#""event":"request.refused","code":"no-such-route""#;
        let lines = [
            self.line(began, &opened),
            self.line(ends, refused),
            self.line(ends, r#""event":"config.loaded""#),
        ];
        fs::write(self.directory.join(name), lines.concat()).unwrap();
    }

    fn line(&mut self, ago: SignedDuration, says: &str) -> String {
        let time = Timestamp::now() - ago;
        let (seq, prev) = (self.last.seq + 1, self.last.hash);
        let content = format!(
            r#"{{"v":1,"seq":{seq},"time":"{time}",{says},"prev":"{}""#,
            prev.as_str()
        );
        let hash = self.hasher.hash(content.as_bytes());
        self.last = Head { seq, hash };
        format!("{content},\"hash\":\"{}\"}}\n", hash.as_str())
    }
}

/// How many rows and how many events there are of the last minutes, and whether it is told
/// that the trail is not as it was written.
fn asked(directory: &Path, known: &Known) -> (u64, u64, bool) {
    let since = Some(Timestamp::now() - SignedDuration::from_mins(30));
    let filter = Filter {
        since,
        ..Filter::default()
    };
    let mut events = 0;
    let queried = super::super::query(directory, known, &filter, |_| {}, |_| {}).unwrap();
    let wrong = super::super::events(directory, known, since, |_| events += 1, |_| {}).unwrap();
    assert_eq!(queried.wrong.is_some(), wrong.is_some());
    (queried.rows, events, wrong.is_some())
}

/// It is dated long ago, and stands last: whoever may write the directory need compute
/// nothing for that.
#[test]
fn a_segment_that_somebody_puts_behind_the_others_hides_nothing_that_came_since() {
    let hours = SignedDuration::from_hours;
    let key = MacKey::new(KEY).unwrap();
    let with_key = Known {
        mac_key: Some(key.clone()),
        ..Known::default()
    };
    let bare = Known::default();
    for (key, known) in [(None, &bare), (Some(&key), &with_key), (Some(&key), &bare)] {
        let directory = tempfile::tempdir().unwrap();
        let mut written = Written {
            directory: directory.path(),
            hasher: Hasher::new(key),
            last: Head::empty(),
        };
        written.segment(1, hours(9), hours(8));
        written.segment(2, hours(8), hours(7));
        written.segment(3, hours(7), SignedDuration::from_mins(1));
        let first = fs::read_to_string(directory.path().join("0000000001.jsonl")).unwrap();
        let is_bare = key.is_some() && known.mac_key.is_none();
        assert_eq!(asked(directory.path(), known), (1, 1, is_bare));
        let since = Some(Timestamp::now());
        let begins = super::super::query::first_segment(directory.path(), known, since).unwrap();
        assert_eq!(begins, 3, "what is long ago is not read");
        let last = directory.path().join("9999999999.jsonl");
        let renamed = first.replace("0000000001.jsonl", "9999999999.jsonl");
        let renumbered = renamed.replacen("\"seq\":1,", "\"seq\":99,", 1);
        for (planted, is_checked) in [
            (first, true),
            (renamed, true),
            (renumbered, known.mac_key.is_some()),
        ] {
            fs::write(&last, planted).unwrap();
            let (rows, events, is_told) = asked(directory.path(), known);
            assert!(is_told);
            // Without the key nobody can tell who made it: it is named all the same.
            if is_checked {
                assert_eq!((rows, events), (1, 1));
            }
        }
    }
}

fn begins(directory: &Path, known: &Known) -> u64 {
    let since = Some(Timestamp::now());
    super::super::query::first_segment(directory, known, since).unwrap()
}

/// What was written before the key that is given says when it was begun, too: nobody could
/// ask for what came since a time any more, once a key was changed.
#[test]
fn what_has_another_key_or_none_yet_is_not_read_for_what_came_since() {
    let hours = SignedDuration::from_hours;
    let old = MacKey::new(b"another key of thirty-two bytes!").unwrap();
    let new = MacKey::new(KEY).unwrap();
    for before in [Some(&old), None] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let mut written = Written {
            directory: path,
            hasher: Hasher::new(before),
            last: Head::empty(),
        };
        written.segment(1, hours(9), hours(8));
        written.segment(2, hours(8), hours(7));
        written.hasher = Hasher::new(Some(&new));
        let keyed_from = written.last.seq + 1;
        written.segment(3, hours(7), hours(6));
        written.segment(4, hours(6), SignedDuration::from_mins(1));
        let with = |keyed_from| Known {
            mac_key: Some(new.clone()),
            keyed_from,
            ..Known::default()
        };
        let known = with(None);
        assert_eq!(begins(path, &known), 4, "{}", before.is_some());
        assert_eq!(asked(path, &known), (1, 1, false));
        if before.is_none() {
            assert_eq!(begins(path, &with(Some(keyed_from))), 4);
            // It says that there was a key from the beginning.
            assert_eq!(begins(path, &with(Some(1))), 0);
            assert_eq!(asked(path, &with(Some(1))), (1, 1, true));
        }
        // A copy hides nothing, nor what has another key behind ours.
        let last = path.join("9999999999.jsonl");
        fs::copy(path.join("0000000001.jsonl"), &last).unwrap();
        assert_eq!(begins(path, &known), 4);
        assert_eq!(asked(path, &known), (1, 1, true));
        fs::remove_file(last).unwrap();
        written.hasher = Hasher::new(before);
        written.segment(5, hours(5), hours(4));
        written.segment(6, hours(4), hours(3));
        assert_eq!(begins(path, &known), 4);
        assert_eq!(asked(path, &known), (1, 1, true));
    }
}

/// Its clock may have been set back since, and nobody knows by how much.
#[test]
fn what_has_another_key_and_came_since_is_read() {
    let hours = SignedDuration::from_hours;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let mut written = Written {
        directory: path,
        hasher: Hasher::Sha256,
        last: Head::empty(),
    };
    written.segment(1, hours(0), hours(0));
    let key = MacKey::new(KEY).unwrap();
    written.hasher = Hasher::new(Some(&key));
    written.segment(2, hours(7), hours(6));
    let known = Known {
        mac_key: Some(key),
        ..Known::default()
    };
    assert_eq!(begins(path, &known), 0);
    assert_eq!(asked(path, &known), (1, 2, true));
}

/// An outage leaves such.
#[test]
fn an_empty_segment_makes_nobody_read_what_is_long_ago() {
    let hours = SignedDuration::from_hours;
    let directory = tempfile::tempdir().unwrap();
    let mut written = Written {
        directory: directory.path(),
        hasher: Hasher::Sha256,
        last: Head::empty(),
    };
    written.segment(1, hours(9), hours(8));
    fs::write(directory.path().join("0000000002.jsonl"), "").unwrap();
    written.segment(3, hours(8), hours(7));
    written.segment(4, hours(7), SignedDuration::from_mins(1));
    let known = Known::default();
    assert_eq!(begins(directory.path(), &known), 4);
    assert_eq!(asked(directory.path(), &known), (1, 1, false));
}
