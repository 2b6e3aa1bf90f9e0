//! Why a trail can't be written, in words that metrics can count.

use std::{fmt, io};

use crate::closed_list::closed_list;

/// Why intents are refused just now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unwritable {
    /// The name of a [`Cause`].
    pub cause: &'static str,
    /// What the system said.
    pub detail: String,
}

closed_list! {
    /// Why a trail can't be written, for metrics, log, trail and status.
    pub enum Cause {
        /// There is no room for it.
        NoSpace => "no-space",
        /// The disk, or its directory, can't be written to by us.
        ReadOnly => "read-only",
        /// Whatever else the system calls an error.
        IoError => "io-error",
        /// The disk does not answer.
        Slow => "slow",
        /// The segment's name is gone.
        Deleted => "deleted",
        /// Another file has the segment's name.
        Replaced => "replaced",
        /// The segment has another length.
        Truncated => "truncated",
        /// The directory is gone.
        DirectoryRemoved => "directory-removed",
        /// The lock is not ours any more.
        LockLost => "lock-lost",
    }
}

impl Unwritable {
    /// The cause of a disk that does not answer.
    pub const SLOW: &'static str = Cause::Slow.as_str();

    /// Whether it is for want of room.
    pub fn is_no_space(&self) -> bool {
        self.cause == Cause::NoSpace.as_str()
    }

    /// What an error of the writer means.
    pub fn of(error: &io::Error) -> Self {
        Self {
            cause: Cause::of(error).as_str(),
            detail: error.to_string(),
        }
    }
}

impl Cause {
    /// What an error of the writer means.
    fn of(error: &io::Error) -> Self {
        let inner = error.get_ref();
        if let Some(misplaced) = inner.and_then(|inner| inner.downcast_ref::<Misplaced>()) {
            return misplaced.cause();
        }
        match error.kind() {
            io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge => Self::NoSpace,
            io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => Self::ReadOnly,
            _ => Self::IoError,
        }
    }
}

impl fmt::Display for Unwritable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

/// Something is not where, or not as, the writer left it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Misplaced {
    /// The segment's name is gone.
    #[error("the segment was deleted under us")]
    Deleted,
    /// Another file has the segment's name.
    #[error("the segment was replaced under us")]
    Replaced,
    /// The segment has another length.
    #[error("the segment has {found} bytes where {written} were written")]
    Length {
        /// What was found.
        found: u64,
        /// What was written.
        written: u64,
    },
    /// The directory is gone.
    #[error("the trail's directory was removed")]
    Directory,
    /// The lock file is gone, or another one.
    #[error("the trail's lock was removed under us")]
    Lock,
    /// What stands in the lock's place could not have been made by the gateway.
    #[error("its lock is {0}, not a regular file: remove it, and the gateway makes its own")]
    NoLock(&'static str),
    /// Somebody else has the lock by now.
    #[error("another process writes the trail now")]
    Taken,
}

impl Misplaced {
    fn cause(self) -> Cause {
        match self {
            Self::Deleted => Cause::Deleted,
            Self::Replaced => Cause::Replaced,
            Self::Length { .. } => Cause::Truncated,
            Self::Directory => Cause::DirectoryRemoved,
            Self::Lock | Self::NoLock(_) | Self::Taken => Cause::LockLost,
        }
    }
}

impl From<Misplaced> for io::Error {
    fn from(misplaced: Misplaced) -> Self {
        Self::other(misplaced)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_has_its_cause() {
        // Numbers of errno(3) on Linux.
        for (number, cause) in [
            (28, "no-space"),
            (122, "no-space"),
            (27, "no-space"),
            (30, "read-only"),
            (13, "read-only"),
            (5, "io-error"),
        ] {
            let error = io::Error::from_raw_os_error(number);
            assert_eq!(Unwritable::of(&error).cause, cause, "{number}");
        }
        let replaced = Unwritable::of(&Misplaced::Replaced.into());
        assert_eq!(replaced.cause, "replaced");
    }
}
