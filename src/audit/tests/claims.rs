//! What a trail says of a key that nobody gave.

use super::{
    planted::{frozen, keyed, segment_of, start, thaw},
    *,
};

/// Says in the first record of a segment that it has a key.
fn claim(segment: &Path) {
    let text = fs::read_to_string(segment).unwrap();
    let claims = text.replacen(
        "\"version\":",
        "\"mac_key\":\"0123456789ab\",\"version\":",
        1,
    );
    assert_ne!(claims, text);
    fs::write(segment, claims).unwrap();
}

/// The first bad record, whoever reads the trail without a key.
fn faults(directory: &Path) -> [Option<Wrong>; 3] {
    let known = Known::default();
    let filter = Filter::default();
    let queried = super::super::query(directory, &known, &filter, |_| {}, |_| {});
    let events = super::super::events(directory, &known, None, |_| {}, |_| {});
    let verified = verify(directory).unwrap();
    [verified.wrong, queried.unwrap().wrong, events.unwrap()]
}

#[track_caller]
fn assert_changed(directory: &Path, number: u64, line: u64) {
    for wrong in faults(directory) {
        let wrong = wrong.unwrap();
        assert_eq!((wrong.file, wrong.line), (segment::name(number), line));
        assert_eq!(wrong.fault, Fault::Content);
    }
}

/// Who changes a record without computing a hash could say so of it, and be believed.
#[tokio::test]
async fn a_key_that_is_claimed_is_no_excuse_where_other_records_of_the_segment_have_none() {
    let directory = tempfile::tempdir().unwrap();
    written(directory.path()).await;
    written(directory.path()).await;
    let second = segment_of(directory.path(), 2);
    let honest = fs::read_to_string(&second).unwrap();
    claim(&second);
    assert_changed(directory.path(), 2, 1);
    let text = fs::read_to_string(&second).unwrap();
    fs::write(&second, text.replace("billing", "blaming")).unwrap();
    assert_changed(directory.path(), 2, 1);
    // Behind segments that have one, and are read without it.
    fs::write(&second, honest).unwrap();
    for options in [keyed(directory.path()), options(directory.path())] {
        let trail = open(options).unwrap();
        calls(&trail, 1).await;
        trail.close();
    }
    for wrong in faults(directory.path()) {
        let wrong = wrong.unwrap();
        assert!(wrong.is_want_of_key(), "{wrong}");
        assert_eq!((wrong.file, wrong.line), (segment::name(3), 1));
    }
    claim(&segment_of(directory.path(), 4));
    assert_changed(directory.path(), 4, 1);
}

/// A start does not believe it up to the first record that shows it to be false, either.
#[tokio::test]
async fn no_thaw_is_obeyed_for_a_key_that_is_only_claimed() {
    for is_last in [true, false] {
        let directory = tempfile::tempdir().unwrap();
        frozen(options(directory.path())).await;
        // The segment of this start says again who is frozen.
        start(options(directory.path()));
        let segment = segment_of(directory.path(), 2);
        claim(&segment);
        let text = fs::read_to_string(&segment).unwrap();
        let mut kept: Vec<_> = text.split_inclusive('\n').collect();
        let at = if is_last { kept.len() } else { 1 };
        let before = kept[at - 1];
        let seq = field(before, "seq").parse::<u64>().unwrap() + 1;
        let forged = thaw(seq, &field(before, "hash"), &"a".repeat(64));
        kept.insert(at, &forged);
        fs::write(&segment, kept.concat()).unwrap();
        let trail = open(options(directory.path())).unwrap();
        assert!(!trail.status().verified);
        trail.close();
        assert_eq!(start(options(directory.path())), ["billing"], "{is_last}");
    }
}
