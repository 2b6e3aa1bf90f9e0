//! Why a trail can't be written, in words that metrics can count.

use std::{fmt, io};

/// Why intents are refused just now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unwritable {
    /// One of [`Unwritable::CAUSES`].
    pub cause: &'static str,
    /// What the system said.
    pub detail: String,
}

impl Unwritable {
    /// The cause of a disk that does not answer.
    pub const SLOW: &'static str = "slow";
    const NO_SPACE: &'static str = "no-space";
    /// Every cause there is.
    pub const CAUSES: [&'static str; 9] = [
        Self::NO_SPACE,
        "read-only",
        "io-error",
        Self::SLOW,
        "deleted",
        "replaced",
        "truncated",
        "directory-removed",
        "lock-lost",
    ];

    /// Whether it is for want of room.
    pub fn is_no_space(&self) -> bool {
        self.cause == Self::NO_SPACE
    }

    /// What an error of the writer means.
    pub fn of(error: &io::Error) -> Self {
        let cause = match error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<Misplaced>())
        {
            Some(misplaced) => misplaced.cause(),
            None => match error.kind() {
                io::ErrorKind::StorageFull
                | io::ErrorKind::QuotaExceeded
                | io::ErrorKind::FileTooLarge => Self::NO_SPACE,
                io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => "read-only",
                _ => "io-error",
            },
        };
        Self {
            cause,
            detail: error.to_string(),
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
    fn cause(self) -> &'static str {
        match self {
            Self::Deleted => "deleted",
            Self::Replaced => "replaced",
            Self::Length { .. } => "truncated",
            Self::Directory => "directory-removed",
            Self::Lock | Self::NoLock(_) | Self::Taken => "lock-lost",
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
    fn each_error_has_a_cause_that_is_counted() {
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
        assert!(Unwritable::CAUSES.contains(&replaced.cause));
    }
}
