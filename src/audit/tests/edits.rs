//! Whatever a hand changes in a trail, the verifier names the record.

use super::*;

/// The segments of a small trail over two runs.
async fn trail() -> (tempfile::TempDir, Vec<PathBuf>) {
    let directory = tempfile::tempdir().unwrap();
    written(directory.path()).await;
    written(directory.path()).await;
    let paths = ["0000000001.jsonl", "0000000002.jsonl"].map(|name| directory.path().join(name));
    (directory, paths.to_vec())
}

/// The line, from 1, that the byte at `at` belongs to.
fn line_of(text: &[u8], at: usize) -> u64 {
    1 + text[..at].iter().filter(|&&byte| byte == b'\n').count() as u64
}

/// Asserts that the verifier names the line of the byte at `at`, and the number
/// of its record, once `text` became `bad`.
#[track_caller]
fn assert_named(path: &Path, good: &[u8], bad: &[u8], at: usize, first_seq: u64, what: &str) {
    fs::write(path, bad).unwrap();
    let report = verify(path.parent().unwrap()).unwrap();
    let wrong = report
        .wrong
        .unwrap_or_else(|| panic!("{what} at {at} of {} is not found", good.len()));
    let line = line_of(good, at);
    let name = path.file_name().unwrap().to_str().unwrap();
    assert_eq!(
        (wrong.file.as_str(), wrong.line),
        (name, line),
        "{what} at {at}: {wrong}"
    );
    // The record's own number may be what was changed; then the verifier says which it should be.
    let seq = first_seq + line - 1;
    let says_so = wrong.seq.is_none_or(|found| found == seq)
        || matches!(wrong.fault, Fault::Content | Fault::Number { .. });
    assert!(says_so, "{what} at {at}: {wrong} is not about record {seq}");
}

#[tokio::test]
async fn any_byte_flipped_inserted_removed_or_swapped_is_named_at_its_record() {
    let (_directory, paths) = trail().await;
    let mut first_seq = 1;
    for path in &paths {
        let good = fs::read(path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1 << (at % 8);
            assert_named(path, &good, &bad, at, first_seq, "a flip");
            let mut bad = good.clone();
            let (what, place) = match at % 3 {
                0 => {
                    let byte = b"0 \"\n\0"[at % 5];
                    bad.insert(at, byte);
                    // A line end before a line end is an empty line behind it.
                    let is_behind = byte == b'\n' && good[at] == b'\n';
                    ("an insertion", at + usize::from(is_behind))
                }
                1 => {
                    bad.remove(at);
                    ("a removal", at)
                }
                _ => {
                    bad.swap(at, (at + 1).min(good.len() - 1));
                    ("a swap", at)
                }
            };
            // A last line without its end is what a crash leaves.
            let is_torn = path == &paths[1] && bad == good[..good.len() - 1];
            if bad != good && !is_torn {
                assert_named(path, &good, &bad, place, first_seq, what);
            }
        }
        fs::write(path, &good).unwrap();
        first_seq += line_of(&good, good.len()) - 1;
    }
    assert!(verify(paths[0].parent().unwrap()).unwrap().is_intact());
}

#[tokio::test]
async fn a_line_cut_short_before_another_segment_is_named_and_not_the_one_behind_it() {
    let (directory, paths) = trail().await;
    let good = fs::read(&paths[0]).unwrap();
    let last = line_of(&good, good.len() - 1);
    for cut in [1, 40, 200] {
        fs::write(&paths[0], &good[..good.len() - cut]).unwrap();
        let wrong = verify(directory.path()).unwrap().wrong.unwrap();
        let found = (wrong.file.as_str(), wrong.line, wrong.seq);
        assert_eq!(found, ("0000000001.jsonl", last, Some(last)), "{wrong}");
        assert_eq!(wrong.fault, Fault::Cut);
    }
}

#[tokio::test]
async fn only_the_beginning_of_the_next_record_is_taken_for_torn() {
    let (directory, paths) = trail().await;
    let path = &paths[1];
    let good = fs::read(path).unwrap();
    let next = verify(directory.path()).unwrap().head.seq + 1;
    let beginning = format!(r#"{{"v":1,"seq":{next},"time":"2026-11"#);
    let with = |behind: &[u8]| {
        fs::write(path, [&good[..], behind].concat()).unwrap();
        verify(directory.path()).unwrap()
    };
    let zeros = vec![0; 200_000];
    for torn in [
        &beginning.as_bytes()[..1],
        beginning.as_bytes(),
        &[beginning.as_bytes(), &zeros].concat(),
        &zeros,
    ] {
        let report = with(torn);
        assert!(report.is_intact(), "{report}");
        assert_eq!(report.torn_bytes, torn.len() as u64);
    }
    let other = beginning.replace(&next.to_string(), &(next + 1).to_string());
    let whole = good.split(|&byte| byte == b'\n').next().unwrap();
    for foreign in [
        b"x".as_slice(),
        b" ",
        other.as_bytes(),
        whole,
        &[&zeros[..], b"x"].concat(),
    ] {
        let wrong = with(foreign).wrong.unwrap();
        let lines = line_of(&good, good.len());
        assert_eq!(
            (wrong.line, wrong.seq, wrong.fault),
            (lines, Some(next), Fault::Foreign)
        );
    }
}
