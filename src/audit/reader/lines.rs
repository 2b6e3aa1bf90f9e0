//! The lines of a segment, one after another, in constant memory.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom},
};

use super::{LINE_BYTES_MAX, unread::Unread};

/// What comes next in a segment.
pub enum Next {
    /// Nothing more.
    End,
    /// A line with its end.
    Line,
    /// A line that is longer than any record.
    TooLong,
    /// A line longer than anybody reads, and with it all that follows.
    Endless,
    /// A line that has no end, and what stands behind the part of it that was read.
    Unfinished(Unread),
}

/// Where the reading of a segment stands.
pub struct Lines<R> {
    reader: R,
    /// What was read of the last line.
    pub line: Vec<u8>,
    /// How many lines with an end were read.
    pub number: u64,
    /// Up to which byte that is.
    pub bytes: u64,
}

impl Lines<BufReader<File>> {
    pub fn new(file: File) -> Self {
        Self::of(BufReader::with_capacity(1 << 16, file))
    }

    /// Goes on at a byte.
    pub fn behind(bytes: u64, mut file: File) -> io::Result<Self> {
        file.seek(SeekFrom::Start(bytes))?;
        Ok(Self {
            bytes,
            ..Self::new(file)
        })
    }
}

impl<R: BufRead> Lines<R> {
    pub fn of(reader: R) -> Self {
        Self {
            reader,
            line: Vec::new(),
            number: 0,
            bytes: 0,
        }
    }

    /// Reads the next one.
    pub fn read(&mut self) -> io::Result<Next> {
        self.line.clear();
        let read = (&mut self.reader)
            .take(LINE_BYTES_MAX)
            .read_until(b'\n', &mut self.line)? as u64;
        if read == 0 {
            return Ok(Next::End);
        }
        let is_whole = self.line.last() == Some(&b'\n');
        let rest = if is_whole {
            Unread::none()
        } else {
            Unread::of_line(&mut self.reader)?
        };
        if rest.is_endless {
            return Ok(Next::Endless);
        }
        if !is_whole && !rest.is_ended {
            return Ok(Next::Unfinished(rest));
        }
        self.number += 1;
        self.bytes += read + rest.bytes;
        Ok(if is_whole { Next::Line } else { Next::TooLong })
    }
}
