//! What stands under the name of a file and is none.

use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::*;

/// Puts something under a name.
type Plant = fn(&Path);

/// Plants each kind of thing that may stand under a name and is no file.
fn no_files() -> [(&'static str, Plant); 3] {
    [
        ("a symbolic link", |path| {
            std::os::unix::fs::symlink(path.with_file_name("elsewhere"), path).unwrap();
        }),
        ("a directory", |path| fs::create_dir(path).unwrap()),
        ("a FIFO", |path| {
            mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        }),
    ]
}

#[test]
fn a_lock_that_is_no_file_is_told_at_a_start_and_waited_for_by_nobody() {
    for (what, plant) in no_files() {
        let directory = tempfile::tempdir().unwrap();
        let lock = directory.path().join("lock");
        plant(&lock);
        let error = open(options(directory.path())).unwrap_err().to_string();
        let told = format!("lock is {what}");
        assert!(error.contains(&told), "{error}");
        assert!(error.contains("remove it"), "{error}");
        assert!(!directory.path().join("elsewhere").exists(), "{what}");
        assert!(segments(directory.path()).is_empty(), "{what}");
    }
}

#[tokio::test]
async fn a_lock_that_becomes_no_file_is_lost_for_as_long_as_it_is_none() {
    for (what, plant) in no_files() {
        let directory = tempfile::tempdir().unwrap();
        let lock = directory.path().join("lock");
        let trail = open(options(directory.path())).unwrap();
        let worker = trail.for_worker();
        // The link leads to the lock itself.
        fs::rename(&lock, lock.with_file_name("elsewhere")).unwrap();
        plant(&lock);
        let unwritable = || trail.status().writable.err();
        wait_until(|| unwritable().is_some_and(|why| why.detail.contains(what)));
        assert_eq!(unwritable().unwrap().cause, "lock-lost", "{what}");
        assert!(worker.intent(intent(RequestId::next())).await.is_err());
        match what {
            "a directory" => fs::remove_dir(&lock).unwrap(),
            _ => fs::remove_file(&lock).unwrap(),
        }
        wait_until(|| unwritable().is_none());
        calls(&trail, 1).await;
        trail.close();
        let report = verify(directory.path()).unwrap();
        assert!(report.is_intact(), "{report}");
    }
}

#[tokio::test]
async fn a_segment_that_becomes_a_link_to_itself_is_not_taken_for_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let trail = open(options(directory.path())).unwrap();
    calls(&trail, 1).await;
    let segment = directory.path().join(segment::name(1));
    let aside = directory.path().join("aside");
    fs::rename(&segment, &aside).unwrap();
    std::os::unix::fs::symlink(&aside, &segment).unwrap();
    wait_until(|| directory.path().join(segment::name(2)).exists());
    trail.close();
    let wrong = verify(directory.path()).unwrap().wrong.unwrap();
    assert_eq!(wrong.fault, Fault::NoFile);
    let text = fs::read_to_string(directory.path().join(segment::name(2))).unwrap();
    assert!(text.contains("replaced under us"), "{text}");
}
