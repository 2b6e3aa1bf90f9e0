//! Noticing that a file has another content, at the cost of a `stat`.

use std::{
    collections::HashSet,
    fs,
    io::Read,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::digest::SHA256_OUTPUT_LEN;

use crate::{background, named_file};

/// The most that is read of a file; the largest that a config may name.
const BYTES_MAX: u64 = 64 << 20;
/// A file that was changed so recently may change again without another stamp:
/// file systems count in ticks, some of whole seconds.
const UNSETTLED: Duration = Duration::from_secs(2);

/// What some files hold.
#[derive(Clone, PartialEq, Eq)]
pub struct Files(Vec<Seen>);

/// One file as it was seen.
#[derive(Clone)]
struct Seen {
    path: PathBuf,
    stamp: Option<Stamp>,
    /// The SHA-256 of its content; `None` if it can't be read.
    content: Option<[u8; SHA256_OUTPUT_LEN]>,
    /// Whether the stamp alone tells that it is still the same. Never of a file that is
    /// there and can't be read: that passes (no descriptor was left, a network's disk was
    /// away) and leaves no trace in the stamp.
    is_settled: bool,
}

/// What a file is to the system. The time of the last change of its metadata is
/// in it: the one of its content can be set by anybody.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    place: (u64, u64),
    length: u64,
    mode: u32,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// Two are the same if their content is: a file that was only touched is not another.
impl PartialEq for Seen {
    fn eq(&self, other: &Self) -> bool {
        self.path == other.path && self.content == other.content
    }
}

impl Eq for Seen {}

impl Files {
    /// Looks at `paths`. What has the same stamp as in `before` is not read again.
    pub fn look(paths: &[PathBuf], before: Option<&Self>) -> Self {
        let now = SystemTime::now();
        Self::of(paths, before, |path, known| Seen::look(path, known, now))
    }

    /// Whether the stamps alone tell that these `paths`, in order, hold the same.
    pub fn are_still(&self, paths: &[PathBuf]) -> bool {
        let is_same = |(seen, path): (&Seen, &PathBuf)| {
            seen.stamp == stamp(path) && seen.is_settled && seen.path == *path
        };
        // Each is looked at, for the caller to learn how long that takes.
        let pairs = self.0.iter().zip(paths);
        pairs.map(is_same).fold(true, |still, same| still & same) && self.0.len() == paths.len()
    }

    /// These `paths`, as they were seen here; the others are looked at now.
    pub fn extended(&self, paths: &[PathBuf]) -> Self {
        let now = SystemTime::now();
        Self::of(paths, Some(self), |path, known| {
            known
                .cloned()
                .unwrap_or_else(|| Seen::look(path, None, now))
        })
    }

    /// As if these could not be read: found readable, they are other files.
    pub fn without(mut self, unread: &[PathBuf]) -> Self {
        let unread: HashSet<_> = unread.iter().collect();
        for seen in &mut self.0 {
            if unread.contains(&seen.path) {
                seen.content = None;
                seen.is_settled = false;
            }
        }
        self
    }

    fn of(
        paths: &[PathBuf],
        before: Option<&Self>,
        see: impl Fn(&Path, Option<&Seen>) -> Seen,
    ) -> Self {
        let before = before.map(|before| before.0.as_slice()).unwrap_or_default();
        let mut known = before.iter().peekable();
        let mut paths: Vec<_> = paths.iter().collect();
        paths.sort();
        paths.dedup();
        let paths = paths.into_iter().map(|path| {
            // Both are sorted.
            while known.next_if(|seen| seen.path < *path).is_some() {}
            see(path, known.next_if(|seen| seen.path == *path))
        });
        Self(paths.collect())
    }
}

impl Seen {
    fn look(path: &Path, known: Option<&Self>, now: SystemTime) -> Self {
        let stamp = stamp(path);
        let known = known.filter(|known| known.is_settled && known.stamp == stamp);
        let content = match known {
            Some(known) => known.content,
            None => stamp.and_then(|_| content(path)),
        };
        Self {
            path: path.to_owned(),
            stamp,
            content,
            is_settled: stamp.is_none_or(|it| content.is_some() && it.is_older_than(now)),
        }
    }
}

impl Stamp {
    fn is_older_than(&self, now: SystemTime) -> bool {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let settled = now.saturating_sub(UNSETTLED);
        let settled = i64::try_from(settled.as_secs()).unwrap_or(i64::MAX);
        self.changed.0 < settled
    }
}

/// `None` for what is no file: reading a pipe would take what is in it.
fn stamp(path: &Path) -> Option<Stamp> {
    // Follows links: Kubernetes swaps one to publish a new set of files.
    let found = fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
    Some(Stamp {
        place: (found.dev(), found.ino()),
        length: found.len(),
        mode: found.mode(),
        modified: (found.mtime(), found.mtime_nsec()),
        changed: (found.ctime(), found.ctime_nsec()),
    })
}

fn content(path: &Path) -> Option<[u8; SHA256_OUTPUT_LEN]> {
    let file = named_file::open_regular(path).ok()?;
    background::sha256_of(file.take(BYTES_MAX + 1)).ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn only_settled_files_of_the_same_stamp_and_path_are_still() {
        let directory = tempfile::tempdir().unwrap();
        let [file, missing] = ["a", "b"].map(|name| directory.path().join(name));
        fs::write(&file, "one").unwrap();
        let paths = [file.clone(), missing.clone()];
        // As it will be once the file has settled.
        let later = SystemTime::now() + 2 * UNSETTLED + Duration::from_secs(1);
        let see = |path: &Path, known: Option<&Seen>| Seen::look(path, known, later);
        let settled = Files::of(&paths, None, see);
        assert!(settled.are_still(&paths));
        assert!(!Files::look(&paths, None).are_still(&paths), "not settled");
        assert!(!settled.are_still(&paths[..1]), "fewer");
        assert!(
            !settled.are_still(&[missing.clone(), file.clone()]),
            "others"
        );
        fs::write(&missing, "came").unwrap();
        assert!(!settled.are_still(&paths), "one that was missing");
        fs::remove_file(&missing).unwrap();
        assert!(settled.are_still(&paths));
        fs::write(&file, "others").unwrap();
        assert!(!settled.are_still(&paths), "another content");
    }

    fn age(path: &Path) -> Option<bool> {
        stamp(path).map(|stamp| stamp.is_older_than(SystemTime::now()))
    }

    #[test]
    fn another_content_of_the_same_length_in_the_same_tick_is_seen() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        fs::write(&path, "one").unwrap();
        let paths = [path.clone()];
        let before = Files::look(&paths, None);
        let seen = stamp(&path).unwrap();
        fs::write(&path, "two").unwrap();
        let mut again = Files::look(&paths, Some(&before));
        assert!(again != before);
        // As if the stamp had stayed: the content is looked at all the same.
        again.0[0].stamp = Some(seen);
        fs::write(&path, "six").unwrap();
        assert!(Files::look(&paths, Some(&again)) != again);
    }

    #[test]
    fn a_file_that_was_only_touched_or_written_anew_is_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        fs::write(&path, "one").unwrap();
        let paths = [path.clone()];
        let before = Files::look(&paths, None);
        fs::write(directory.path().join("new"), "one").unwrap();
        fs::rename(directory.path().join("new"), &path).unwrap();
        assert!(Files::look(&paths, Some(&before)) == before);
        fs::remove_file(&path).unwrap();
        assert!(Files::look(&paths, Some(&before)) != before);
    }

    #[test]
    fn a_settled_file_is_not_read_again_and_a_fresh_one_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        fs::write(&path, "one").unwrap();
        assert_eq!(age(&path), Some(false));
        let paths = [path.clone()];
        let mut before = Files::look(&paths, None);
        assert!(!before.0[0].is_settled);
        // Had it been read long after it was written, the stamp would be enough.
        before.0[0].is_settled = true;
        before.0[0].content = None;
        assert!(Files::look(&paths, Some(&before)) == before);
    }

    #[test]
    fn a_file_that_cannot_be_read_is_never_settled_and_one_that_is_missing_is() {
        let directory = tempfile::tempdir().unwrap();
        // A regular file; at its beginning no memory is mapped, so reading fails (EIO).
        let unreadable = Path::new("/proc/self/mem");
        assert!(stamp(unreadable).is_some() && content(unreadable).is_none());
        let later = SystemTime::now() + 2 * UNSETTLED + Duration::from_secs(1);
        let is_settled = |path: &Path| Seen::look(path, None, later).is_settled;
        assert!(!is_settled(unreadable));
        assert!(is_settled(&directory.path().join("missing")));
    }

    #[test]
    fn a_file_that_a_load_could_not_read_is_another_one_once_it_can_be_read() {
        let directory = tempfile::tempdir().unwrap();
        let paths = ["a", "b"].map(|name| directory.path().join(name));
        for path in &paths {
            fs::write(path, "one").unwrap();
        }
        let later = SystemTime::now() + 2 * UNSETTLED + Duration::from_secs(1);
        let see = |path: &Path, known: Option<&Seen>| Seen::look(path, known, later);
        let settled = Files::of(&paths, None, see);
        let missed = settled.clone().without(&paths[1..]);
        assert!(!missed.are_still(&paths));
        let again = Files::look(&paths, Some(&missed));
        assert!(again != missed && again == settled);
        let missed_what_is_gone = settled.without(&paths[..1]);
        fs::remove_file(&paths[0]).unwrap();
        assert!(Files::look(&paths, Some(&missed_what_is_gone)) == missed_what_is_gone);
    }

    #[test]
    fn a_swapped_link_is_another_file() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        for (version, content) in [("1", "one"), ("2", "two")] {
            fs::create_dir(at(version)).unwrap();
            fs::write(at(version).join("key"), content).unwrap();
        }
        symlink("1", at("..data")).unwrap();
        symlink("..data/key", at("key")).unwrap();
        let paths = [at("key")];
        let before = Files::look(&paths, None);
        symlink("2", at("..data_tmp")).unwrap();
        fs::rename(at("..data_tmp"), at("..data")).unwrap();
        assert!(Files::look(&paths, Some(&before)) != before);
    }
}
