//! Reading a trail while it is written.

use std::{
    collections::VecDeque,
    fs,
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use super::{
    query::{Joiner, Row},
    reader::{LINE_BYTES_MAX, Rest},
    segment,
};

/// Gives the rows of a trail as they come.
#[derive(Debug)]
pub struct Follower {
    directory: PathBuf,
    segment: u64,
    offset: u64,
    joiner: Joiner,
}

impl Follower {
    /// Begins with the last `rows` rows, which come first.
    ///
    /// # Errors
    ///
    /// If the directory or a segment can't be read.
    pub fn begin(directory: &Path, rows: usize) -> io::Result<(Self, VecDeque<Row>)> {
        let segments = segment::list(directory)?;
        let mut back = 1;
        loop {
            let first = segments.len().saturating_sub(back);
            let mut follower = Self {
                directory: directory.to_owned(),
                segment: segments.get(first).map_or(0, |(number, _)| *number),
                offset: 0,
                joiner: Joiner::default(),
            };
            let mut last = VecDeque::new();
            follower.read(|row| {
                last.push_back(row);
                if last.len() > rows {
                    last.pop_front();
                }
            })?;
            if last.len() >= rows || first == 0 {
                return Ok((follower, last));
            }
            back *= 4;
        }
    }

    /// Gives the rows that were completed since the last time.
    ///
    /// # Errors
    ///
    /// If a segment can't be read.
    pub fn read(&mut self, mut each: impl FnMut(Row)) -> io::Result<()> {
        let segments = segment::list(&self.directory)?;
        for (number, path) in segments {
            if number < self.segment {
                continue;
            }
            if number > self.segment {
                // Somebody put it there, or the writer is about to begin it.
                if fs::symlink_metadata(&path).is_ok_and(|found| found.len() == 0) {
                    continue;
                }
                (self.segment, self.offset) = (number, 0);
            }
            self.read_on(&path, &mut each)?;
        }
        Ok(())
    }

    /// The calls that have no outcome yet.
    pub fn open(self) -> impl Iterator<Item = Row> {
        self.joiner.open()
    }

    fn read_on(&mut self, path: &Path, each: &mut impl FnMut(Row)) -> io::Result<()> {
        let opened = match segment::open(path) {
            // Retention took it away since it was listed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            opened => opened?,
        };
        // What is no file is for `audit verify` to name: nobody waits for it here.
        let Some(opened) = opened else {
            return Ok(());
        };
        let mut reader = BufReader::new(opened);
        reader.seek(SeekFrom::Start(self.offset))?;
        let mut line = Vec::new();
        loop {
            line.clear();
            let mut read = (&mut reader)
                .take(LINE_BYTES_MAX)
                .read_until(b'\n', &mut line)? as u64;
            if line.last() != Some(&b'\n') {
                // Longer than any of ours, or not written yet: read when it is whole.
                let rest = Rest::of_line(&mut reader)?;
                if rest.is_endless {
                    // For `audit verify` to name: nothing of it is looked at again.
                    self.segment = self.segment.saturating_add(1);
                    self.offset = 0;
                    return Ok(());
                }
                if !rest.is_ended {
                    return Ok(());
                }
                read += rest.bytes;
                line.clear();
            }
            self.offset += read;
            if let Ok(record) = serde_json::from_slice(&line)
                && let Some(row) = self.joiner.add(&record)
            {
                each(row);
            }
        }
    }
}
