//! Reading a trail line by line while it is written, from behind a record on, and
//! never further than what the writer acknowledged.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::{
    chain::{Hash, Head},
    reader::{Lines, Next, SEQ_MAX, first_own, own_seq},
    segment,
};

/// Records of one batch.
const RECORDS_MAX: usize = 1000;
/// Bytes of one batch, but for its last line.
const BYTES_MAX: usize = 512 << 10;

/// Where in a trail somebody is who copies it.
#[derive(Debug)]
pub struct Tail {
    directory: PathBuf,
    segment: u64,
    offset: u64,
    last: Head,
}

/// Lines that follow each other.
#[derive(Debug, Default)]
pub struct Batch {
    /// The lines, without their ends.
    pub lines: Vec<String>,
    /// The last of them; `None` if there is none.
    pub last: Option<Head>,
    /// How often a line could not be read, or numbers are missing before one: the
    /// trail is not as it was written.
    pub faults: u64,
    bytes: usize,
}

/// What a trail knows of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    /// It is in it, or was the last that retention removed.
    It,
    /// Another record has its number.
    Another,
    /// It ends before.
    NotYet,
    /// It begins behind.
    NotAnyMore,
}

/// How reading a segment ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// Nothing more is in it, or nothing that counts.
    Of,
    /// There is more, for another batch or another time.
    Before,
}

impl Tail {
    /// Goes on behind `last`.
    ///
    /// # Errors
    ///
    /// If the directory or a segment can't be read.
    pub fn behind(directory: &Path, last: Head) -> io::Result<Self> {
        let begins = begins(directory)?;
        let before = begins.iter().rfind(|begin| begin.seq <= last.seq);
        Ok(Self {
            directory: directory.to_owned(),
            segment: before.map_or(0, |begin| begin.segment),
            offset: 0,
            last,
        })
    }

    /// The next lines, up to the record `acknowledged`: what the writer may still take
    /// back is not read. Ask for that before calling this.
    ///
    /// # Errors
    ///
    /// If a segment can't be read, or holds something else than was acknowledged.
    pub fn read(&mut self, acknowledged: &Head) -> io::Result<Batch> {
        let mut batch = Batch::default();
        let segments = segment::list(&self.directory)?;
        for (at, (number, path)) in segments.iter().enumerate() {
            if *number < self.segment {
                continue;
            }
            if *number > self.segment {
                if self.is_none_of_ours(path)? {
                    continue;
                }
                (self.segment, self.offset) = (*number, 0);
            }
            // After a failure the next segment begins with what counts of this one's end.
            let mut until = u64::MAX;
            for (_, next) in segments.iter().skip(at + 1) {
                if let Some(next) = own_seq(next)?.filter(|next| *next > self.last.seq) {
                    until = next - 1;
                    break;
                }
            }
            if self.segment(path, until, acknowledged, &mut batch)? == End::Before {
                break;
            }
        }
        Ok(batch)
    }

    /// Whether a later segment says that it begins before what was read already, or has no
    /// record: else who puts one there would end the reading of the one that grows.
    fn is_none_of_ours(&self, path: &Path) -> io::Result<bool> {
        Ok(own_seq(path)?.is_none_or(|first| first <= self.last.seq))
    }

    fn segment(
        &mut self,
        path: &Path,
        until: u64,
        acknowledged: &Head,
        batch: &mut Batch,
    ) -> io::Result<End> {
        let Some(opened) = segment::open(path)? else {
            return Ok(End::Of);
        };
        let mut lines = Lines::behind(self.offset, opened)?;
        loop {
            let read = match lines.read()? {
                Next::Line => readable(&lines.line),
                Next::TooLong => None,
                Next::Endless => {
                    // Nothing of it is looked at again.
                    batch.faults += 1;
                    self.segment = self.segment.saturating_add(1);
                    self.offset = 0;
                    return Ok(End::Of);
                }
                // Not finished yet.
                Next::Unfinished(_) | Next::End => return Ok(End::Of),
            };
            let Some((record, head)) = read else {
                batch.faults += 1;
                self.offset = lines.bytes;
                continue;
            };
            if head.seq > until {
                return Ok(End::Of);
            }
            if head.seq > acknowledged.seq || batch.is_full() {
                return Ok(End::Before);
            }
            if head.seq == acknowledged.seq && head != *acknowledged {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "the trail on disk is not what was written to it",
                ));
            }
            self.offset = lines.bytes;
            // What was copied already stands before the first that was not.
            if head.seq > self.last.seq {
                let is_gap = self.last.seq > 0 && head.seq > self.last.seq + 1;
                batch.faults += u64::from(is_gap);
                batch.bytes += record.len();
                batch.lines.push(record.to_owned());
                batch.last = Some(head);
                self.last = head;
            }
        }
    }
}

impl Batch {
    fn is_full(&self) -> bool {
        self.lines.len() >= RECORDS_MAX || self.bytes >= BYTES_MAX
    }
}

/// A line as text, without its end, and its number and hash.
fn readable(line: &[u8]) -> Option<(&str, Head)> {
    let text = str::from_utf8(line.strip_suffix(b"\n")?).ok()?;
    let record = serde_json::from_str(text).ok()?;
    Some((text, Head::of(&record)?))
}

/// What the trail in `directory` knows of a record.
///
/// # Errors
///
/// If the directory or a segment can't be read.
pub fn holds(directory: &Path, head: &Head) -> io::Result<Holds> {
    if head.seq == 0 {
        return Ok(Holds::It);
    }
    let begins = begins(directory)?;
    let before = begins.iter().rfind(|begin| begin.seq <= head.seq);
    let behind = begins.iter().find(|begin| begin.seq > head.seq);
    let is_it = |hash: Option<Hash>| match hash {
        Some(hash) if hash == head.hash => Holds::It,
        _ => Holds::Another,
    };
    if let Some(before) = before
        && let Some(found) = look_up(&before.path, head.seq)?
    {
        return Ok(is_it(Some(found.hash)));
    }
    Ok(match (before, behind) {
        (None, Some(first)) if head.seq + 1 == first.seq => is_it(first.prev),
        (None, Some(_)) => Holds::NotAnyMore,
        _ => Holds::NotYet,
    })
}

/// The record with this number, if the segment has it.
fn look_up(path: &Path, seq: u64) -> io::Result<Option<Head>> {
    let Some(opened) = segment::open(path)? else {
        return Ok(None);
    };
    let mut lines = Lines::new(opened);
    loop {
        match lines.read()? {
            Next::Line => {
                let found = readable(&lines.line).map(|(_, found)| found);
                if let Some(found) = found.filter(|found| found.seq == seq) {
                    return Ok(Some(found));
                }
            }
            Next::TooLong => {}
            Next::Endless | Next::Unfinished(_) | Next::End => return Ok(None),
        }
    }
}

/// The first record of each segment of the trail in `directory`, in order.
///
/// # Errors
///
/// If the directory or a segment can't be read.
pub fn first_heads(directory: &Path) -> io::Result<Vec<Head>> {
    let heads = begins(directory)?.into_iter().filter_map(|begin| {
        Some(Head {
            seq: begin.seq,
            hash: begin.hash?,
        })
    });
    Ok(heads.collect())
}

/// How a segment begins.
struct FirstRecord {
    segment: u64,
    path: PathBuf,
    seq: u64,
    hash: Option<Hash>,
    prev: Option<Hash>,
}

/// How the segments begin that are read one after another.
fn begins(directory: &Path) -> io::Result<Vec<FirstRecord>> {
    let mut begins = Vec::new();
    for (segment, path) in segment::list(directory)? {
        let first = first_own(&path, |first| FirstRecord {
            segment,
            path: path.clone(),
            seq: first.seq,
            hash: Hash::parse(&first.hash),
            prev: Hash::parse(&first.prev),
        });
        match first {
            // Retention took it away meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            first => begins.extend(first?.filter(|begin| begin.seq <= SEQ_MAX)),
        }
    }
    Ok(ascending(begins))
}

/// The most of them whose numbers ascend. Nobody checks hashes here: one that was put there,
/// or whose number was changed, must neither count nor keep others from counting.
fn ascending(begins: Vec<FirstRecord>) -> Vec<FirstRecord> {
    // Those behind as many others; their numbers do not rise.
    let mut ranks: Vec<Vec<FirstRecord>> = Vec::new();
    for begin in begins {
        let is_behind =
            |rank: &Vec<FirstRecord>| rank.last().is_some_and(|last| last.seq < begin.seq);
        let before = ranks.partition_point(is_behind);
        match ranks.get_mut(before) {
            Some(rank) => rank.push(begin),
            None => ranks.push(vec![begin]),
        }
    }
    let mut kept: Vec<FirstRecord> = Vec::new();
    for rank in ranks.into_iter().rev() {
        let is_before = |begin: &FirstRecord| {
            let next = kept.last();
            next.is_none_or(|next| begin.seq < next.seq && begin.segment < next.segment)
        };
        // The earliest; of those with one number the last, which was written anew.
        let found = rank.into_iter().filter(is_before);
        let found = found.max_by_key(|begin| begin.seq);
        kept.extend(found);
    }
    kept.reverse();
    kept
}
