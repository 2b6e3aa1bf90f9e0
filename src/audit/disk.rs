//! What the writer does to the file system, so that tests can put faults in
//! between.
//!
//! The only place of the crate that opens files for writing.

use std::{
    fmt,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt},
    path::Path,
};

use rustix::{
    fs::{FallocateFlags, Mode, OFlags, fallocate},
    io::Errno,
};

use super::cause::Misplaced;

/// What the writer does to the file system.
pub trait Disk: fmt::Debug + Send {
    /// Makes a new file that its owner alone can use, to be appended to and read.
    fn create(&mut self, path: &Path) -> io::Result<File> {
        OpenOptions::new()
            .read(true)
            .append(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
    }

    /// Makes entries of a directory durable.
    fn sync_directory(&mut self, directory: &Path) -> io::Result<()> {
        // Nothing else is waited for that may stand there by now.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        File::from(rustix::fs::open(directory, flags, Mode::empty())?).sync_all()
    }

    /// Writes at the end of a file.
    fn append(&mut self, mut file: &File, bytes: &[u8]) -> io::Result<()> {
        file.write_all(bytes)
    }

    /// Makes everything written durable (`fdatasync`).
    fn sync(&mut self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    /// Takes room for bytes that will be written, without changing the file's length.
    fn allocate(&mut self, file: &File, offset: u64, len: u64) -> io::Result<()> {
        Ok(fallocate(file, FallocateFlags::KEEP_SIZE, offset, len)?)
    }

    /// Sets the length of a file durably; room behind it is given back.
    fn trim(&mut self, file: &File, len: u64) -> io::Result<()> {
        file.set_len(len)?;
        file.sync_all()
    }

    /// The same, of what stands under a name.
    fn cut(&mut self, path: &Path, len: u64) -> io::Result<()> {
        let file = ours(path, OFlags::WRONLY)?;
        self.trim(&file, len)
    }

    /// Ends a line durably: cuts a file to `len` bytes and writes the line's end there.
    fn end_line(&mut self, path: &Path, len: u64) -> io::Result<()> {
        let mut file = ours(path, OFlags::WRONLY | OFlags::APPEND)?;
        file.set_len(len)?;
        file.write_all(b"\n")?;
        file.sync_all()
    }

    /// The same disk, for another thread.
    fn beside(&self) -> Box<dyn Disk> {
        Box::new(System)
    }

    /// Removes a file, durably once its directory is synced.
    fn unlink(&mut self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    /// Removes a file durably.
    fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.unlink(path)?;
        path.parent()
            .map_or(Ok(()), |directory| self.sync_directory(directory))
    }
}

/// Opens what stands under a name; `None` if it is no regular file: others may wait for
/// ever for whoever is at their other end, or be somewhere else.
///
/// # Errors
///
/// If it can't be opened.
pub fn open_file(path: &Path, how: OFlags) -> io::Result<Option<File>> {
    let flags = how | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR) {
        Ok(opened) => {
            let file = File::from(opened);
            Ok(file.metadata()?.is_file().then_some(file))
        }
        // A link; a socket, or a FIFO that nobody reads; a directory that was to be written.
        Err(Errno::LOOP | Errno::NXIO | Errno::ISDIR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The same, of what was a regular file a moment ago.
fn ours(path: &Path, how: OFlags) -> io::Result<File> {
    open_file(path, how)?.ok_or_else(|| Misplaced::Replaced.into())
}

/// The operating system's.
#[derive(Debug, Clone, Copy, Default)]
pub struct System;

impl Disk for System {}

/// The lock's file name.
const LOCK: &str = "lock";

/// The trail's lock: one writer for a directory as long as it is held.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

impl Lock {
    /// Takes the lock of `directory`; `None` if another process holds it.
    ///
    /// # Errors
    ///
    /// [`Misplaced::NoLock`] if what stands there is no file: nothing is made behind a
    /// link, and nobody is waited for. Else what the system says.
    pub fn take(directory: &Path) -> io::Result<Option<Self>> {
        let path = directory.join(LOCK);
        let Some(file) = open_file(&path, OFlags::WRONLY | OFlags::CREATE)? else {
            return Err(Misplaced::NoLock(kind_of(&path)).into());
        };
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { file })),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }

    /// Whether what stands in `directory` is still this lock: a directory that
    /// was put in its place may be somebody else's.
    pub fn is_in(&self, directory: &Path) -> bool {
        let ours = self.file.metadata().map(|ours| (ours.dev(), ours.ino()));
        let there = fs::symlink_metadata(directory.join(LOCK));
        let there = there.map(|found| (found.dev(), found.ino()));
        matches!((ours, there), (Ok(ours), Ok(there)) if ours == there)
    }
}

/// What stands under a name, in a word for people.
fn kind_of(path: &Path) -> &'static str {
    let Ok(found) = fs::symlink_metadata(path) else {
        return "no regular file";
    };
    let kind = found.file_type();
    if kind.is_symlink() {
        "a symbolic link"
    } else if kind.is_dir() {
        "a directory"
    } else if kind.is_fifo() {
        "a FIFO"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    }
}
