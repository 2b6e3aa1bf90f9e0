//! Segment files: how they are named, made, appended to and cut.

use std::{
    fs::{self, File},
    io,
    os::fd::AsFd,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::fs::{AtFlags, CWD, OFlags, StatxFlags, statx};

use super::{
    cause::Misplaced,
    disk::{Disk, open_file},
};

/// What a segment's name ends with.
const SUFFIX: &str = ".jsonl";
/// How many digits a segment's name has at least.
const DIGITS: usize = 10;
/// The room that is kept for outcomes of what was sent when the disk fills: some
/// thousand records.
pub const RESERVE: u64 = 1 << 20;

/// A segment that is being written.
#[derive(Debug)]
pub struct Segment {
    number: u64,
    path: PathBuf,
    file: File,
    identity: Identity,
    born: Instant,
    /// Bytes written.
    len: u64,
    /// Bytes that count as kept: the rest is cut if writing fails.
    confirmed: u64,
    /// Up to where room was taken; `None` where the file system can't.
    allocated: Option<u64>,
}

/// What no other file has as long as this one is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity {
    /// Its major and its minor number.
    device: (u32, u32),
    inode: u64,
}

/// A file, as it is found.
struct Found {
    identity: Identity,
    len: u64,
}

/// A segment to which nothing will be added.
#[derive(Debug)]
pub struct Sealed {
    file: File,
    path: PathBuf,
    len: u64,
}

impl Sealed {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// See [`Segment::settle`].
    pub fn settle(&self, disk: &mut dyn Disk) -> io::Result<()> {
        let synced = disk.sync(&self.file);
        // By the file, not by its name: what stands there may be another's by now.
        let found = self.file.metadata()?.len();
        if found != self.len {
            return Err(Misplaced::Length {
                found,
                written: self.len,
            }
            .into());
        }
        // Its room is of use whatever became of it.
        disk.trim(&self.file, self.len).and(synced)
    }
}

impl Segment {
    /// Makes a new, empty segment that nobody else can read, and its entry in
    /// the directory durable.
    pub fn create(disk: &mut dyn Disk, directory: &Path, number: u64) -> io::Result<Self> {
        let segment = Self::create_unsynced(disk, directory, number)?;
        disk.sync_directory(directory).inspect_err(|_| {
            // A disk that stays like this must not gather an empty one with each try.
            let _ = disk.remove(&segment.path);
        })?;
        Ok(segment)
    }

    /// The same, but its entry in the directory is not durable yet.
    pub fn create_unsynced(disk: &mut dyn Disk, directory: &Path, number: u64) -> io::Result<Self> {
        let path = directory.join(name(number));
        let file = disk.create(&path)?;
        let found = find(&file, Path::new("")).inspect_err(|_| {
            let _ = disk.remove(&path);
        })?;
        Ok(Self {
            number,
            path,
            identity: found.identity,
            file,
            born: Instant::now(),
            len: 0,
            confirmed: 0,
            allocated: Some(0),
        })
    }

    /// Its number.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its file name.
    pub fn name(&self) -> String {
        name(self.number)
    }

    /// Bytes that count as kept.
    pub fn confirmed_len(&self) -> u64 {
        self.confirmed
    }

    /// Bytes written.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// How long it has been written to.
    pub fn age(&self) -> Duration {
        self.born.elapsed()
    }

    /// Writes at the end.
    pub fn append(&mut self, disk: &mut dyn Disk, bytes: &[u8]) -> io::Result<()> {
        disk.append(&self.file, bytes)?;
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// Makes everything written durable.
    pub fn sync(&self, disk: &mut dyn Disk) -> io::Result<()> {
        disk.sync(&self.file)
    }

    /// What another thread needs to do so.
    pub fn file_beside(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Sees to it that there is room for the reserve behind `more` bytes.
    ///
    /// # Errors
    ///
    /// If the disk has no such room. A file system that can't take room ahead
    /// has no reserve, and that is no error.
    pub fn reserve(&mut self, disk: &mut dyn Disk, more: u64) -> io::Result<()> {
        let Some(allocated) = self.allocated else {
            return Ok(());
        };
        let wanted = self.len + more + RESERVE;
        if allocated >= wanted {
            return Ok(());
        }
        // Twice as much, so that this is seldom.
        let until = wanted + RESERVE;
        match disk.allocate(&self.file, allocated, until - allocated) {
            Ok(()) => self.allocated = Some(until),
            Err(error) if is_unsupported(&error) => self.allocated = None,
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Fails if the file that stands under the segment's name is not the one
    /// that is being written, or has another length: what was written would not
    /// be found by anybody.
    pub fn check_in_place(&self) -> io::Result<()> {
        let found = found_at(&self.path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound if self.is_directory_gone() => Misplaced::Directory.into(),
            io::ErrorKind::NotFound => Misplaced::Deleted.into(),
            _ => error,
        })?;
        if found.identity != self.identity {
            return Err(Misplaced::Replaced.into());
        }
        if found.len != self.len {
            return Err(Misplaced::Length {
                found: found.len,
                written: self.len,
            }
            .into());
        }
        Ok(())
    }

    /// Everything written so far counts as kept; how many bytes that adds.
    pub fn confirm(&mut self) -> u64 {
        let added = self.len - self.confirmed;
        self.confirmed = self.len;
        added
    }

    /// Makes everything written durable and gives the room behind it back: a sealed
    /// segment needs none.
    pub fn settle(&self, disk: &mut dyn Disk) -> io::Result<()> {
        self.sealed()?.settle(disk)
    }

    /// What another thread needs to settle it.
    pub fn sealed(&self) -> io::Result<Sealed> {
        Ok(Sealed {
            file: self.file.try_clone()?,
            path: self.path.clone(),
            len: self.len,
        })
    }

    /// Sees to it that something stands under the segment's name: one that was
    /// deleted is written anew from the file that is still open.
    pub fn put_in_place(&self, disk: &mut dyn Disk) -> io::Result<()> {
        match found_at(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.confirmed > 0 => {
                self.restore(disk)
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Cuts what does not count: all but the first `keep` bytes, if the file is
    /// ours. Another's is not ours to change.
    pub fn cut(&self, disk: &mut dyn Disk, keep: u64) -> io::Result<()> {
        let found = match found_at(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            found => found?,
        };
        let is_ours = found.identity == self.identity;
        if is_ours && keep == 0 {
            // An empty file would only puzzle.
            disk.remove(&self.path)
        } else if is_ours && (found.len > keep || self.allocated > Some(keep)) {
            disk.cut(&self.path, keep.min(found.len))
        } else {
            Ok(())
        }
    }

    fn restore(&self, disk: &mut dyn Disk) -> io::Result<()> {
        let Some(directory) = self.path.parent().filter(|directory| directory.is_dir()) else {
            return Err(Misplaced::Directory.into());
        };
        let copy = disk.create(&self.path)?;
        let written = self.copy_confirmed(disk, &copy);
        if written.is_err() {
            // Half a copy would look like tampering; the next try makes it whole.
            let _ = disk.remove(&self.path);
            return written;
        }
        disk.sync_directory(directory)
    }

    fn is_directory_gone(&self) -> bool {
        !self.path.parent().is_some_and(Path::is_dir)
    }

    fn copy_confirmed(&self, disk: &mut dyn Disk, copy: &File) -> io::Result<()> {
        use std::os::unix::fs::FileExt;
        let mut buffer = vec![0; 1 << 16];
        let mut at = 0;
        while at < self.confirmed {
            let wanted = usize::try_from(self.confirmed - at)
                .unwrap_or(usize::MAX)
                .min(buffer.len());
            let part = buffer.get_mut(..wanted).unwrap_or_default();
            let read = self.file.read_at(part, at)?;
            if read == 0 {
                break;
            }
            disk.append(copy, part.get(..read).unwrap_or_default())?;
            at += read as u64;
        }
        disk.sync(copy)
    }
}

/// What stands under this name.
fn found_at(path: &Path) -> io::Result<Found> {
    find(CWD, path)
}

/// The file under a name that starts at `from`, or `from` itself if it has none.
///
/// Not its times, which `fs::metadata` asks for, too: since Linux 6.13 a file whose times
/// somebody saw gets new ones with its next write, else once a tick of the clock, and
/// noting them takes as long as the write itself ("multigrain timestamps",
/// Documentation/filesystems/multigrain-ts.rst of the kernel).
fn find(from: impl AsFd, path: &Path) -> io::Result<Found> {
    let wanted = StatxFlags::INO | StatxFlags::SIZE;
    // A link to the file is none: nobody reads behind it.
    let how = AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW;
    let found = statx(from, path, how, wanted)?;
    Ok(Found {
        identity: Identity {
            device: (found.stx_dev_major, found.stx_dev_minor),
            inode: found.stx_ino,
        },
        len: found.stx_size,
    })
}

fn is_unsupported(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::Unsupported | io::ErrorKind::InvalidInput
    )
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
    // Of numbers that are as good as one the longer name is later, as with all others.
    segments.sort_unstable_by_key(|(number, path): &(u64, PathBuf)| {
        (*number, path.as_os_str().len(), path.clone())
    });
    Ok(segments)
}

/// Whether a directory has a segment: else no trail was ever begun there, or all of it
/// was taken away.
///
/// # Errors
///
/// If the directory can't be read.
pub fn is_begun(directory: &Path) -> io::Result<bool> {
    Ok(!list(directory)?.is_empty())
}

/// The file name of the segment with this number.
pub fn name(number: u64) -> String {
    format!("{number:0DIGITS$}{SUFFIX}")
}

/// The number behind this one.
///
/// # Errors
///
/// If there is none: no trail comes so far by itself.
pub fn after(number: u64) -> io::Result<u64> {
    number.checked_add(1).ok_or_else(|| {
        let name = name(number);
        io::Error::other(format!(
            "no segment can follow {name}, or one with a higher number, which this program did not make: take that file away"
        ))
    })
}

/// Whether nothing is in it: a crash at its very beginning leaves such, and so does an outage.
pub fn is_empty(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.is_file() && found.len() == 0)
}

/// Opens a segment to read it; `None` if it is no regular file.
///
/// # Errors
///
/// If it can't be opened.
pub fn open(path: &Path) -> io::Result<Option<File>> {
    open_file(path, OFlags::RDONLY)
}

/// Ten digits, or more for a number that needs them. One that is too high for us is read
/// as the highest: what is in it would be hidden else.
fn number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SUFFIX)?;
    let is_number = digits.bytes().all(|b| b.is_ascii_digit())
        && (digits.len() == DIGITS || digits.len() > DIGITS && !digits.starts_with('0'));
    is_number.then(|| digits.parse().unwrap_or(u64::MAX))
}
