//! Lines that are too long to be read whole.

use std::io::{self, BufRead};

/// What stands behind the part of a line that was read.
pub struct Rest {
    /// How many bytes these are.
    pub bytes: u64,
    /// Whether the line ends with them.
    pub is_ended: bool,
    /// Whether there are only zeros.
    pub is_zeros: bool,
}

impl Rest {
    /// Nothing.
    pub fn none() -> Self {
        Self {
            bytes: 0,
            is_ended: false,
            is_zeros: true,
        }
    }

    /// Skips it.
    pub fn of_line(reader: &mut impl BufRead) -> io::Result<Self> {
        let mut rest = Self::none();
        while !rest.is_ended {
            let buffer = reader.fill_buf()?;
            if buffer.is_empty() {
                break;
            }
            let end = memchr::memchr(b'\n', buffer).map_or(buffer.len(), |at| at + 1);
            let part = buffer.get(..end).unwrap_or_default();
            rest.is_ended = part.last() == Some(&b'\n');
            rest.is_zeros &= part.iter().all(|&byte| byte == 0);
            rest.bytes += end as u64;
            reader.consume(end);
        }
        Ok(rest)
    }
}
