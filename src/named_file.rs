//! Reading the config, and the files that it names.
//!
//! While the gateway runs, what could not be read is remembered: it may be there, and a
//! revocation in it.

use std::{
    cell::RefCell,
    fs::File,
    io,
    path::{Path, PathBuf},
};

use crate::background;

thread_local! {
    /// What could not be read, if this thread reads while the gateway runs. Not handed from
    /// one function to the next: it concerns the first of them and the last.
    static MISSED: RefCell<Option<Vec<PathBuf>>> = const { RefCell::new(None) };
}

/// Does `work` as a running gateway does, on this thread; with it, the files that `work`
/// could not read.
pub fn while_running<T>(work: impl FnOnce() -> T) -> (T, Vec<PathBuf>) {
    let before = MISSED.replace(Some(Vec::new()));
    let done = work();
    let missed = MISSED.replace(before);
    (done, missed.unwrap_or_default())
}

/// A file to its end, or to somewhat beyond `bytes_max`, so that the reader sees the excess.
///
/// # Errors
///
/// As of reading.
pub fn read(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let read = File::open(path).and_then(|file| {
        let length = file.metadata()?.len();
        background::read(file, length, bytes_max)
    });
    if read.is_err() {
        MISSED.with_borrow_mut(|missed| missed.iter_mut().for_each(|it| it.push(path.to_owned())));
    }
    read
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_could_not_be_read_is_remembered_and_what_could_be_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let [good, missing] = ["good", "missing"].map(|name| directory.path().join(name));
        fs::write(&good, "a key").unwrap();
        let (lengths, missed) = while_running(|| {
            let paths = [&*good, &missing, directory.path()];
            paths.map(|path| read(path, 99).map(|read| read.len()).ok())
        });
        assert_eq!(lengths, [Some(5), None, None]);
        assert_eq!(missed, [missing.clone(), directory.path().to_owned()]);
        assert!(read(&missing, 99).is_err());
        assert_eq!(while_running(|| ()).1, [""; 0].map(PathBuf::from));
    }
}
