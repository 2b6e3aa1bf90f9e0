//! What is read of a trail to be copied elsewhere.

use std::{fs, path::Path};

use super::{lines, written};
use crate::audit::{
    chain::{Hash, Head},
    follow::Follower,
    segment,
    tail::{Batch, Holds, Tail, first_heads, holds},
};

/// A record whose hash tells its number and what it is.
fn head(seq: u64, kind: char) -> Head {
    let hash = format!("{seq:063}{kind}");
    Head {
        seq,
        hash: Hash::parse(&hash).unwrap(),
    }
}

fn line(seq: u64, kind: char, before: char) -> String {
    let prev = if seq == 1 {
        Head::empty()
    } else {
        head(seq - 1, before)
    };
    format!(
        "{{\"v\":1,\"seq\":{seq},\"time\":\"2026-11-23T18:22:53.123456Z\",\"event\":\"x\",\"prev\":\"{}\",\"hash\":\"{}\"}}\n",
        prev.hash.as_str(),
        head(seq, kind).hash.as_str()
    )
}

/// Its first line, if that is a record, opens it.
fn segment(directory: &Path, number: u32, lines: &[String]) {
    let name = format!("{number:010}.jsonl");
    let opened = format!("\"event\":\"trail.opened\",\"segment\":\"{name}\"");
    let mut lines = lines.to_vec();
    if let Some(first) = lines.first_mut() {
        *first = first.replacen("\"event\":\"x\"", &opened, 1);
    }
    fs::write(directory.join(name), lines.concat()).unwrap();
}

fn numbers(batch: &Batch) -> Vec<(u64, char)> {
    let lines = batch.lines.iter();
    lines
        .map(|line| {
            let record: serde_json::Value = serde_json::from_str(line).unwrap();
            let kind = record["hash"].as_str().unwrap().chars().last().unwrap();
            (record["seq"].as_u64().unwrap(), kind)
        })
        .collect()
}

#[test]
fn nothing_is_read_beyond_what_the_writer_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let lines: Vec<_> = (1..=4).map(|seq| line(seq, 'a', 'a')).collect();
    segment(directory.path(), 1, &lines);
    let mut tail = Tail::behind(directory.path(), Head::empty()).unwrap();
    let batch = tail.read(&head(2, 'a')).unwrap();
    assert_eq!(numbers(&batch), [(1, 'a'), (2, 'a')]);
    assert_eq!(batch.last, Some(head(2, 'a')));
    // The rest was taken back, and came otherwise.
    let lines = [line(1, 'a', 'a'), line(2, 'a', 'a'), line(3, 'b', 'a')];
    segment(directory.path(), 1, &lines);
    assert_eq!(numbers(&tail.read(&head(2, 'a')).unwrap()), []);
    assert_eq!(numbers(&tail.read(&head(3, 'b')).unwrap()), [(3, 'b')]);
}

#[test]
fn what_a_failure_left_at_the_end_of_a_segment_does_not_count() {
    let directory = tempfile::tempdir().unwrap();
    let lines: Vec<_> = (1..=4).map(|seq| line(seq, 'a', 'a')).collect();
    segment(directory.path(), 1, &lines);
    let lines = [line(3, 'b', 'a'), line(4, 'b', 'b'), line(5, 'b', 'b')];
    segment(directory.path(), 2, &lines);
    let mut tail = Tail::behind(directory.path(), Head::empty()).unwrap();
    let batch = tail.read(&head(5, 'b')).unwrap();
    let expected = [(1, 'a'), (2, 'a'), (3, 'b'), (4, 'b'), (5, 'b')];
    assert_eq!(numbers(&batch), expected);
    assert_eq!(batch.faults, 0);
    // The same from somewhere behind.
    for from in 1..5 {
        let kind = if from < 3 { 'a' } else { 'b' };
        let mut tail = Tail::behind(directory.path(), head(from, kind)).unwrap();
        let from = usize::try_from(from).unwrap();
        assert_eq!(
            numbers(&tail.read(&head(5, 'b')).unwrap()),
            expected[from..]
        );
    }
    // What is on disk is not what was written.
    let mut tail = Tail::behind(directory.path(), Head::empty()).unwrap();
    assert!(tail.read(&head(5, 'c')).is_err());
}

#[test]
fn a_line_that_cannot_be_read_is_left_out_and_counted() {
    let directory = tempfile::tempdir().unwrap();
    let long = format!("{}\n", "x".repeat(200_000));
    let lines = [
        line(1, 'a', 'a'),
        "nonsense\n".to_owned(),
        line(2, 'a', 'a'),
        long,
        line(4, 'a', 'a'),
        "{\"v\":1,\"seq\":5,".to_owned(),
    ];
    segment(directory.path(), 1, &lines);
    let mut tail = Tail::behind(directory.path(), Head::empty()).unwrap();
    let batch = tail.read(&head(9, 'a')).unwrap();
    assert_eq!(numbers(&batch), [(1, 'a'), (2, 'a'), (4, 'a')]);
    assert_eq!(batch.faults, 3, "two lines, and a number that is missing");
}

#[test]
fn a_batch_is_bounded_and_the_next_goes_on_behind_it() {
    let directory = tempfile::tempdir().unwrap();
    let lines: Vec<_> = (1..=12_000).map(|seq| line(seq, 'a', 'a')).collect();
    segment(directory.path(), 1, &lines[..7000]);
    segment(directory.path(), 2, &lines[7000..]);
    let mut tail = Tail::behind(directory.path(), Head::empty()).unwrap();
    let mut next = 1;
    let mut batches = 0;
    loop {
        let batch = tail.read(&head(12_000, 'a')).unwrap();
        if batch.last.is_none() {
            break;
        }
        assert!(batch.lines.len() <= 1000);
        batches += 1;
        for (seq, _) in numbers(&batch) {
            assert_eq!(seq, next);
            next += 1;
        }
    }
    assert_eq!((next, batches), (12_001, 12));
}

#[test]
fn a_trail_knows_its_own_records_and_the_last_that_was_removed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    assert_eq!(holds(path, &Head::empty()).unwrap(), Holds::It);
    assert_eq!(holds(path, &head(1, 'a')).unwrap(), Holds::NotYet);
    segment(path, 3, &[line(11, 'a', 'a'), line(12, 'a', 'a')]);
    segment(path, 4, &[line(13, 'a', 'a')]);
    for (asked, expected) in [
        (head(9, 'a'), Holds::NotAnyMore),
        (head(10, 'a'), Holds::It),
        (head(10, 'b'), Holds::Another),
        (head(12, 'a'), Holds::It),
        (head(12, 'b'), Holds::Another),
        (head(13, 'a'), Holds::It),
        (head(14, 'a'), Holds::NotYet),
    ] {
        assert_eq!(holds(path, &asked).unwrap(), expected, "{asked}");
    }
}

/// What begins with a line that is damaged still holds the others.
#[test]
fn a_record_in_a_segment_whose_first_line_is_damaged_is_in_the_trail() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let damaged = "nonsense\n".to_owned();
    segment(
        path,
        3,
        &[damaged.clone(), line(11, 'a', 'a'), line(12, 'a', 'a')],
    );
    segment(path, 4, &[line(13, 'a', 'a'), line(14, 'a', 'a')]);
    segment(path, 5, &[damaged, line(16, 'a', 'a')]);
    segment(path, 6, &[line(17, 'a', 'a')]);
    for (asked, expected) in [
        (head(9, 'a'), Holds::NotAnyMore),
        (head(10, 'a'), Holds::It),
        (head(10, 'b'), Holds::Another),
        (head(11, 'a'), Holds::It),
        (head(11, 'b'), Holds::Another),
        (head(14, 'a'), Holds::It),
        (head(16, 'a'), Holds::It),
        (head(16, 'b'), Holds::Another),
        (head(17, 'a'), Holds::It),
        (head(18, 'a'), Holds::NotYet),
    ] {
        assert_eq!(holds(path, &asked).unwrap(), expected, "{asked}");
    }
}

#[test]
fn a_pruned_trail_begins_where_its_oldest_segment_does_and_what_has_no_record_does_not_count() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    segment(path, 3, &[line(5, 'a', 'a'), line(6, 'a', 'a')]);
    segment(path, 4, &["{\"v\":1,".to_owned()]);
    segment(path, 5, &[]);
    segment(path, 6, &[line(7, 'b', 'a')]);
    assert_eq!(first_heads(path).unwrap(), [head(5, 'a'), head(7, 'b')]);
    fs::remove_file(path.join("0000000003.jsonl")).unwrap();
    assert_eq!(first_heads(path).unwrap(), [head(7, 'b')]);
}

/// Read whole, one would take as much memory as somebody likes to write.
#[tokio::test]
async fn a_line_longer_than_any_of_ours_is_skipped_by_who_follows() {
    let directory = tempfile::tempdir().unwrap();
    written(directory.path()).await;
    let segment = directory.path().join("0000000001.jsonl");
    let (mut follower, last) = Follower::begin(directory.path(), 10).unwrap();
    assert_eq!(last.len(), 2);
    let refused = lines(directory.path()).remove(3);
    let user = format!(r#""user":"{}","code""#, "x".repeat(100 << 10));
    let long = refused.replacen(r#""code""#, &user, 1);
    let text = fs::read_to_string(&segment).unwrap();
    let mut rows = Vec::new();
    // Unfinished, nothing is said of it; finished, of what follows alone.
    for behind in [long.clone(), format!("{long}\n{refused}\n")] {
        fs::write(&segment, format!("{text}{behind}")).unwrap();
        follower.read(|row| rows.push(row)).unwrap();
    }
    let users: Vec<_> = rows.iter().map(|row| row.user.as_deref()).collect();
    assert_eq!(users, [None]);
}

/// While the writer goes on in the segment before it.
#[test]
fn a_segment_that_somebody_puts_behind_the_one_that_grows_ends_no_reading() {
    let directory = tempfile::tempdir().unwrap();
    let lines: Vec<_> = (1..=5).map(|seq| line(seq, 'a', 'a')).collect();
    segment(directory.path(), 1, &lines[1..3]);
    let mut tail = Tail::behind(directory.path(), Head::empty()).unwrap();
    let read = tail.read(&head(3, 'a')).unwrap();
    assert_eq!(numbers(&read), [(2, 'a'), (3, 'a')]);
    segment(directory.path(), 7, &[]);
    segment(directory.path(), 8, &lines[..1]);
    segment(directory.path(), 9, &["x\n".to_owned()]);
    let headless = directory.path().join("0000000010.jsonl");
    fs::write(headless, &lines[2]).unwrap();
    segment(directory.path(), 1, &lines[1..4]);
    assert_eq!(numbers(&tail.read(&head(4, 'a')).unwrap()), [(4, 'a')]);
    segment(directory.path(), 1, &lines[1..]);
    let mut again = Tail::behind(directory.path(), head(4, 'a')).unwrap();
    for tail in [&mut tail, &mut again] {
        assert_eq!(numbers(&tail.read(&head(5, 'a')).unwrap()), [(5, 'a')]);
    }
}

/// Whoever goes on from within it, after the database was away, begins with it again.
#[test]
fn a_damaged_first_line_of_the_segment_that_grows_ends_no_reading_from_within_it() {
    let directory = tempfile::tempdir().unwrap();
    let lines: Vec<_> = (1..=6).map(|seq| line(seq, 'a', 'a')).collect();
    segment(directory.path(), 1, &lines[..3]);
    let says = "\"event\":\"trail.opdned\",\"segment\":\"0000000002.jsonl\"";
    let readable = lines[3].replacen("\"event\":\"x\"", says, 1);
    for (first, faults) in [("nonsense\n".to_owned(), 1), (readable, 0)] {
        segment(directory.path(), 2, &[&[first], &lines[4..]].concat());
        for (from, expected) in [(4, &[(5, 'a'), (6, 'a')][..]), (5, &[(6, 'a')])] {
            let mut tail = Tail::behind(directory.path(), head(from, 'a')).unwrap();
            let batch = tail.read(&head(6, 'a')).unwrap();
            assert_eq!((&numbers(&batch)[..], batch.faults), (expected, faults));
        }
    }
}

/// While the database is away, and so is who collected.
#[test]
fn a_copy_of_a_segment_ends_no_collecting_that_begins_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let lines: Vec<_> = (1..=4).map(|seq| line(seq, 'a', 'a')).collect();
    segment(path, 1, &lines);
    // What a failure left at the end of the first does not count.
    segment(path, 2, &[line(3, 'b', 'a'), line(4, 'b', 'b')]);
    segment(path, 3, &[line(5, 'b', 'b'), line(6, 'b', 'b')]);
    for (copied, says_so) in [(1, true), (2, true), (1, false), (2, false)] {
        let copy = path.join("9999999999.jsonl");
        let text = fs::read_to_string(path.join(segment::name(copied))).unwrap();
        let renamed = text.replace(&segment::name(copied), "9999999999.jsonl");
        fs::write(copy, if says_so { text } else { renamed }).unwrap();
        let expected = [head(1, 'a'), head(3, 'b'), head(5, 'b')];
        assert_eq!(first_heads(path).unwrap(), expected);
        for (from, kind) in [(1, 'a'), (2, 'a'), (4, 'b'), (5, 'b'), (6, 'b')] {
            let last = head(from, kind);
            assert_eq!(holds(path, &last).unwrap(), Holds::It, "{last}");
            let read = Tail::behind(path, last).unwrap().read(&head(6, 'b'));
            let seqs = numbers(&read.unwrap()).into_iter().map(|(seq, _)| seq);
            assert!(seqs.eq(from + 1..=6), "{last}");
        }
    }
}

/// No later segment is taken for one that begins before it.
#[test]
fn a_first_number_that_somebody_changed_hides_no_other_segment() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let lines: Vec<_> = (1..=8).map(|seq| line(seq, 'a', 'a')).collect();
    let mut changed = lines[2..4].to_vec();
    changed[0] = changed[0].replacen("\"seq\":3", "\"seq\":93", 1);
    for (number, lines) in [(1, &lines[..2]), (2, &changed), (3, &lines[4..6])] {
        segment(path, number, lines);
    }
    segment(path, 4, &lines[6..]);
    let expected = [head(1, 'a'), head(5, 'a'), head(7, 'a')];
    assert_eq!(first_heads(path).unwrap(), expected);
    for from in [5, 7] {
        assert_eq!(holds(path, &head(from, 'a')).unwrap(), Holds::It);
        let read = Tail::behind(path, head(from, 'a'))
            .unwrap()
            .read(&head(8, 'a'));
        let seqs = numbers(&read.unwrap()).into_iter().map(|(seq, _)| seq);
        assert!(seqs.eq(from + 1..=8), "{from}");
    }
}

/// The same of who follows; its copies say that they are another.
#[tokio::test]
async fn a_segment_that_somebody_puts_behind_the_one_that_grows_ends_no_following() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    written(path).await;
    let own = path.join("0000000001.jsonl");
    let whole = fs::read_to_string(&own).unwrap();
    let call: String = whole.split_inclusive('\n').take(3).collect();
    fs::write(&own, &call).unwrap();
    let (mut before, last) = Follower::begin(path, 10).unwrap();
    assert_eq!(last.len(), 1);
    let (opened, headless) = call.split_once('\n').unwrap();
    assert!(opened.contains("trail.opened"));
    fs::write(path.join("9999999997.jsonl"), headless).unwrap();
    fs::write(path.join("9999999998.jsonl"), "x\n").unwrap();
    fs::write(path.join("9999999999.jsonl"), &call).unwrap();
    let (mut behind, last) = Follower::begin(path, 1).unwrap();
    assert_eq!(last.len(), 1);
    for follower in [&mut before, &mut behind] {
        let mut read = || {
            let mut seqs = Vec::new();
            follower.read(|row| seqs.push(row.seq)).unwrap();
            seqs
        };
        fs::write(&own, &call).unwrap();
        assert_eq!(read(), Vec::<u64>::new());
        fs::write(&own, &whole).unwrap();
        assert_eq!(read(), [4]);
    }
    // A start goes on behind all of them.
    written(path).await;
    for follower in [&mut before, &mut behind] {
        let mut rows = 0;
        follower.read(|_| rows += 1).unwrap();
        assert_eq!(rows, 2);
    }
}

#[test]
fn what_is_written_anew_after_a_failure_is_followed_and_what_is_damaged_hides_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let refused =
        |seq, kind, before| line(seq, kind, before).replace("\"x\"", "\"request.refused\"");
    let mut lines = vec![line(1, 'a', 'a')];
    lines.extend((2..=5).map(|seq| refused(seq, 'a', 'a')));
    segment(directory.path(), 1, &lines);
    let (mut follower, last) = Follower::begin(directory.path(), 10).unwrap();
    assert_eq!(last.len(), 4);
    let mut read = || {
        let mut seqs = Vec::new();
        follower.read(|row| seqs.push(row.seq)).unwrap();
        seqs
    };
    let lines = [
        line(3, 'b', 'a'),
        refused(4, 'b', 'b'),
        refused(5, 'b', 'b'),
    ];
    segment(directory.path(), 2, &lines);
    assert_eq!(read(), [4, 5]);
    segment(
        directory.path(),
        3,
        &["x\n".to_owned(), refused(7, 'b', 'b')],
    );
    assert_eq!(read(), [7]);
}

/// It takes no room on the disk, and would be read again each time.
#[test]
fn a_hole_without_end_is_looked_at_once_and_what_stands_behind_it_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let lines: Vec<_> = (1..=4).map(|seq| line(seq, 'a', 'a')).collect();
    segment(directory.path(), 1, &lines[..2]);
    let first = directory.path().join("0000000001.jsonl");
    let file = fs::OpenOptions::new().write(true).open(first).unwrap();
    file.set_len(1 << 40).unwrap();
    let mut tail = Tail::behind(directory.path(), Head::empty()).unwrap();
    let batch = tail.read(&head(4, 'a')).unwrap();
    assert_eq!(
        (numbers(&batch), batch.faults),
        (vec![(1, 'a'), (2, 'a')], 1)
    );
    segment(directory.path(), 2, &lines[2..]);
    let batch = tail.read(&head(4, 'a')).unwrap();
    assert_eq!(
        (numbers(&batch), batch.faults),
        (vec![(3, 'a'), (4, 'a')], 0)
    );
}

#[test]
fn the_end_of_a_line_that_is_too_long_is_no_line_of_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let long = "x".repeat(64 << 10) + &line(2, 'b', 'a');
    segment(
        directory.path(),
        1,
        &[line(1, 'a', 'a'), long, line(2, 'a', 'a')],
    );
    let held = |kind| holds(directory.path(), &head(2, kind)).unwrap();
    assert_eq!((held('a'), held('b')), (Holds::It, Holds::Another));
}
