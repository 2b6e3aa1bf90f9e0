//! Segment files: how they are named, made, appended to and cut.
//!
//! The only place of the crate that opens files for writing, beside the trail's
//! lock.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// What a segment's name ends with.
const SUFFIX: &str = ".jsonl";
/// How many digits a segment's name has.
const DIGITS: usize = 10;

/// A segment that is being written.
#[derive(Debug)]
pub struct Segment {
    number: u64,
    path: PathBuf,
    file: File,
    /// Bytes written.
    len: u64,
    /// Bytes that count as kept: the rest is cut if writing fails.
    confirmed: u64,
}

impl Segment {
    /// Makes a new, empty segment that nobody else can read, and its entry in
    /// the directory durable.
    pub fn create(directory: &Path, number: u64) -> io::Result<Self> {
        let path = directory.join(name(number));
        let file = OpenOptions::new()
            .append(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        File::open(directory)?.sync_all()?;
        Ok(Self {
            number,
            path,
            file,
            len: 0,
            confirmed: 0,
        })
    }

    /// Its number.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Its file name.
    pub fn name(&self) -> String {
        name(self.number)
    }

    /// Writes at the end.
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// Makes everything written durable (`fdatasync`).
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Fails if the file that stands under the segment's name is not the one
    /// that is being written, or has another length: what was written would not
    /// be found by anybody.
    pub fn check_in_place(&self) -> io::Result<()> {
        let found = fs::metadata(&self.path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => io::Error::other("the segment was deleted under us"),
            _ => error,
        })?;
        let ours = self.file.metadata()?;
        if (ours.dev(), ours.ino()) != (found.dev(), found.ino()) {
            return Err(io::Error::other("the segment was replaced under us"));
        }
        if found.len() != self.len {
            return Err(io::Error::other(format!(
                "the segment has {} bytes where {} were written",
                found.len(),
                self.len
            )));
        }
        Ok(())
    }

    /// Everything written so far counts as kept.
    pub fn confirm(&mut self) {
        self.confirmed = self.len;
    }

    /// Cuts what was never confirmed, if the file is still there and ours.
    pub fn cut_to_confirmed(&self) -> io::Result<()> {
        match fs::metadata(&self.path) {
            Ok(found) if found.ino() == self.file.metadata()?.ino() => {
                if found.len() > self.confirmed {
                    cut(&self.path, self.confirmed)?;
                }
                Ok(())
            }
            // Somebody took it away or put another there: not ours to change.
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Cuts a segment durably.
pub fn cut(path: &Path, len: u64) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    file.set_len(len)?;
    file.sync_all()
}

/// The segments of a trail, in order.
pub fn list(directory: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut segments = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if let Some(number) = entry.file_name().to_str().and_then(number) {
            segments.push((number, entry.path()));
        }
    }
    segments.sort_unstable();
    Ok(segments)
}

fn name(number: u64) -> String {
    format!("{number:0DIGITS$}{SUFFIX}")
}

fn number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SUFFIX)?;
    (digits.len() == DIGITS && digits.bytes().all(|b| b.is_ascii_digit()))
        .then(|| digits.parse().ok())
        .flatten()
}
