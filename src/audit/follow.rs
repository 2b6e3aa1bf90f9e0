//! Reading a trail while it is written.

use std::{
    collections::VecDeque,
    io,
    path::{Path, PathBuf},
};

use super::{
    query::{Joiner, Row},
    reader::{Lines, Next, own_seq},
    segment,
};

/// Gives the rows of a trail as they come.
#[derive(Debug)]
pub struct Follower {
    directory: PathBuf,
    segment: u64,
    /// The number of its first record.
    began: u64,
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
        let mut segments = Vec::new();
        for (number, path) in segment::list(directory)? {
            segments.extend(begins(&path)?.map(|began| (number, began)));
        }
        let mut back = 1;
        loop {
            let first = segments.len().saturating_sub(back);
            let (segment, began) = segments.get(first).copied().unwrap_or_default();
            let mut follower = Self {
                directory: directory.to_owned(),
                segment,
                began,
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
                // Somebody put it there, or the writer is about to begin it: it would end
                // the reading of the one that grows. What was not kept is written anew.
                let Some(began) = begins(&path)?.filter(|began| *began >= self.began) else {
                    continue;
                };
                (self.segment, self.began, self.offset) = (number, began, 0);
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
        let mut lines = Lines::behind(self.offset, opened)?;
        loop {
            match lines.read()? {
                Next::Line => {
                    if let Ok(record) = serde_json::from_slice(&lines.line)
                        && let Some(row) = self.joiner.add(&record)
                    {
                        each(row);
                    }
                }
                // Longer than any of ours.
                Next::TooLong => {}
                Next::Endless => {
                    // For `audit verify` to name: nothing of it is looked at again.
                    self.segment = self.segment.saturating_add(1);
                    self.offset = 0;
                    return Ok(());
                }
                // Not written yet: read when it is whole.
                Next::Unfinished(_) | Next::End => return Ok(()),
            }
            self.offset = lines.bytes;
        }
    }
}

/// The number of the first record of a segment, if it is one of ours.
fn begins(path: &Path) -> io::Result<Option<u64>> {
    match own_seq(path) {
        // Retention took it away since it was listed.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        begins => begins,
    }
}
