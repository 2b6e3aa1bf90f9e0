//! Reading the config, and the files that it names.
//!
//! At a start whatever can be read is taken, also a pipe (`<(…)` of a shell). While the
//! gateway runs, nothing may hold up the next config, so regular files alone are read, and
//! what could not be read is remembered: it may be there, and a revocation in it.

use std::{
    cell::RefCell,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use rustix::fs::{Mode, OFlags};

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
/// As of reading; while the gateway runs, also for what is no regular file.
pub fn read(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let is_running = MISSED.with_borrow(Option::is_some);
    let open = if is_running {
        open_regular
    } else {
        |path: &Path| File::open(path)
    };
    let read = open(path).and_then(|file| {
        let length = file.metadata()?.len();
        background::read(file, length, bytes_max)
    });
    if read.is_err() {
        MISSED.with_borrow_mut(|missed| missed.iter_mut().for_each(|it| it.push(path.to_owned())));
    }
    read
}

/// Opens a regular file, and never waits for whoever may write into a pipe.
///
/// # Errors
///
/// As of opening, and for anything else.
pub fn open_regular(path: &Path) -> io::Result<File> {
    // Before it is opened, since opening alone has effects on some devices.
    is_regular(&fs::metadata(path)?)?;
    // Another may stand there by now. Of a regular file the flag changes nothing.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    is_regular(&file.metadata()?)?;
    Ok(file)
}

fn is_regular(found: &fs::Metadata) -> io::Result<()> {
    let kind = found.file_type();
    if kind.is_file() {
        return Ok(());
    }
    if kind.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    let why = "it is no regular file: a pipe is read at a start alone, so put a file in its place";
    Err(io::Error::new(io::ErrorKind::InvalidInput, why))
}

#[cfg(test)]
mod tests {
    use std::{process::Command, thread};

    use super::*;

    fn pipe(directory: &Path) -> PathBuf {
        let path = directory.join("pipe");
        let made = Command::new("mkfifo").arg(&path).status();
        assert!(made.unwrap().success());
        path
    }

    #[test]
    fn a_pipe_is_read_at_a_start_and_refused_without_waiting_while_the_gateway_runs() {
        let directory = tempfile::tempdir().unwrap();
        let pipe = pipe(directory.path());
        let (refused, missed) = while_running(|| read(&pipe, 99));
        let said = refused.unwrap_err().to_string();
        assert!(said.contains("a pipe is read at a start alone"), "{said}");
        assert_eq!(missed, std::slice::from_ref(&pipe));
        let writing = thread::spawn({
            let pipe = pipe.clone();
            move || fs::write(pipe, "a key").unwrap()
        });
        assert_eq!(read(&pipe, 99).unwrap(), b"a key");
        writing.join().unwrap();
    }

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
