//! Lines that are too long to be read whole.

use std::io::{self, BufRead};

/// So much is read of a line to find its end. A crash leaves zeros where bytes were
/// announced to the disk and never came, so at most what was not synced: of a strict trail
/// one batch, some ten thousand records of below 4 KiB, and of a relaxed one what the
/// system has not written yet of a segment. What is longer was put there, and may be a hole
/// that takes no room and hours to read.
const REST_BYTES_MAX: u64 = 64 << 20;

/// What stands behind the part of a line that was read.
pub struct Unread {
    /// How many bytes these are.
    pub bytes: u64,
    /// Whether the line ends with them.
    pub is_ended: bool,
    /// Whether there are only zeros.
    pub is_zeros: bool,
    /// Whether it is longer than anybody reads.
    pub is_endless: bool,
}

impl Unread {
    /// Nothing.
    pub fn none() -> Self {
        Self {
            bytes: 0,
            is_ended: false,
            is_zeros: true,
            is_endless: false,
        }
    }

    /// Skips it, up to a bound.
    pub fn of_line(reader: &mut impl BufRead) -> io::Result<Self> {
        let mut rest = Self::none();
        while !rest.is_ended && !rest.is_endless {
            let buffer = reader.fill_buf()?;
            if buffer.is_empty() {
                break;
            }
            let end = memchr::memchr(b'\n', buffer).map_or(buffer.len(), |at| at + 1);
            let part = buffer.get(..end).unwrap_or_default();
            rest.is_ended = part.last() == Some(&b'\n');
            rest.is_zeros = rest.is_zeros && part.iter().all(|&byte| byte == 0);
            rest.bytes += end as u64;
            rest.is_endless = !rest.is_ended && rest.bytes > REST_BYTES_MAX;
            reader.consume(end);
        }
        Ok(rest)
    }
}
