//! What the writer does to the file system, so that tests can put faults in
//! between.
//!
//! The only place of the crate that opens files for writing.

use std::{
    fmt,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use rustix::fs::{FallocateFlags, fallocate};

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
        File::open(directory)?.sync_all()
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
        let file = OpenOptions::new().write(true).open(path)?;
        self.trim(&file, len)
    }

    /// Ends a line durably: cuts a file to `len` bytes and writes the line's end there.
    fn end_line(&mut self, path: &Path, len: u64) -> io::Result<()> {
        let mut file = OpenOptions::new().append(true).open(path)?;
        file.set_len(len)?;
        file.write_all(b"\n")?;
        file.sync_all()
    }

    /// The same disk, for another thread.
    fn beside(&self) -> Box<dyn Disk> {
        Box::new(System)
    }

    /// Removes a file durably.
    fn remove(&mut self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)?;
        path.parent()
            .map_or(Ok(()), |directory| self.sync_directory(directory))
    }
}

/// The operating system's.
#[derive(Debug, Clone, Copy, Default)]
pub struct System;

impl Disk for System {}

/// The trail's lock: one writer for a directory as long as it is held.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

impl Lock {
    /// Takes the lock of `directory`; `None` if another process holds it.
    pub fn take(directory: &Path) -> io::Result<Option<Self>> {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(directory.join("lock"))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { file })),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }

    /// Whether what stands in `directory` is still this lock: a directory that
    /// was put in its place may be somebody else's.
    pub fn is_in(&self, directory: &Path) -> bool {
        use std::os::unix::fs::MetadataExt;
        let ours = self.file.metadata().map(|ours| (ours.dev(), ours.ino()));
        let there = fs::metadata(directory.join("lock")).map(|found| (found.dev(), found.ino()));
        matches!((ours, there), (Ok(ours), Ok(there)) if ours == there)
    }
}
