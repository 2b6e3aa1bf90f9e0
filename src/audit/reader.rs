//! Reading a trail: line by line, in constant memory, each line checked against
//! the chain.

use std::{
    fmt,
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
};

use super::{
    chain::{AFTER_HASH, BEFORE_HASH, Hash, Head},
    record::Line,
    segment,
};

/// The longest line that is read; ours are below 4 KiB.
const LINE_BYTES_MAX: u64 = 64 << 10;
/// The version of the format that this reader knows.
const VERSION: u32 = 1;

/// What reading a whole trail found.
#[derive(Debug)]
pub struct Scan {
    /// The last record whose own hash is right.
    pub head: Head,
    /// How many segments there are.
    pub segments: u64,
    /// The number of the last segment; 0 if there is none.
    pub last_segment: u64,
    /// The unfinished line at the very end, as a crash leaves it.
    pub torn: Option<Torn>,
    /// The first bad record.
    pub wrong: Option<Wrong>,
}

/// An unfinished line at the end of the last segment.
#[derive(Debug)]
pub struct Torn {
    /// The segment.
    pub path: PathBuf,
    /// Up to where it is whole, in bytes.
    pub keep: u64,
    /// What stands after that, in bytes.
    pub bytes: u64,
}

/// The first record that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// The segment's file name.
    pub file: String,
    /// The line, from 1.
    pub line: u64,
    /// The number that the record gives itself.
    pub seq: Option<u64>,
    /// What is wrong with it.
    pub fault: Fault,
}

/// What is wrong with a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Not JSON, or without the fields that each record has.
    #[error("not a record: {0}")]
    Unreadable(String),
    /// Longer than any record.
    #[error("a line of more than {LINE_BYTES_MAX} bytes")]
    TooLong,
    /// Written by a later version.
    #[error("format version {0}, this program reads version {VERSION}")]
    Version(u32),
    /// Its own hash is not that of its bytes.
    #[error("its content is not what was hashed")]
    Content,
    /// Its number does not follow.
    #[error("record {expected} should stand here")]
    Number {
        /// The number that should stand here.
        expected: u64,
    },
    /// It follows another record than the one before it.
    #[error("the record before it is not the one that it was chained to")]
    Chain,
    /// The line ends early, and it is not the trail's last.
    #[error("the line is cut short")]
    Cut,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} line {}", self.file, self.line)?;
        if let Some(seq) = self.seq {
            write!(f, " (seq {seq})")?;
        }
        write!(f, ": {}", self.fault)
    }
}

/// Reads all segments of a trail and gives each readable record to `each`. A
/// bad record does not end the reading: an auditor wants to see the rest too.
pub fn scan(directory: &Path, mut each: impl FnMut(&Line)) -> io::Result<Scan> {
    let segments = segment::list(directory)?;
    let mut scan = Scan {
        head: Head::empty(),
        segments: segments.len() as u64,
        last_segment: segments.last().map_or(0, |(number, _)| *number),
        torn: None,
        wrong: None,
    };
    for (_, path) in segments {
        // What was torn is not at the end if another segment follows with records.
        let torn_before = scan.torn.take();
        let read = scan.segment(&path, &mut each)?;
        if let Some(torn) = torn_before {
            if read == 0 && scan.torn.is_none() {
                scan.torn = Some(torn);
            } else {
                scan.torn_in_the_middle(&torn);
            }
        }
    }
    Ok(scan)
}

impl Scan {
    /// Reads one segment; how many lines it has.
    fn segment(&mut self, path: &Path, each: &mut impl FnMut(&Line)) -> io::Result<u64> {
        let file = path
            .file_name()
            .map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let mut reader = BufReader::with_capacity(1 << 16, File::open(path)?);
        let (mut number, mut offset) = (0, 0_u64);
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = (&mut reader)
                .take(LINE_BYTES_MAX)
                .read_until(b'\n', &mut line)? as u64;
            if read == 0 {
                return Ok(number);
            }
            let is_whole = line.last() == Some(&b'\n');
            if !is_whole && read < LINE_BYTES_MAX {
                self.torn = Some(Torn {
                    path: path.to_owned(),
                    keep: offset,
                    bytes: read,
                });
                return Ok(number);
            }
            number += 1;
            offset += read;
            if !is_whole {
                offset += skip_line(&mut reader)?;
                self.note(&file, number, None, Fault::TooLong);
                continue;
            }
            let (record, fault) = check(&line, &self.head);
            if let Some(fault) = fault {
                let seq = record.as_ref().map(|record| record.seq);
                self.note(&file, number, seq, fault);
            }
            if let Some(record) = record {
                each(&record);
                self.advance(&record);
            }
        }
    }

    fn advance(&mut self, record: &Line) {
        if let Some(hash) = Hash::parse(&record.hash) {
            self.head = Head {
                seq: record.seq,
                hash,
            };
        }
    }

    fn note(&mut self, file: &str, line: u64, seq: Option<u64>, fault: Fault) {
        self.wrong.get_or_insert_with(|| Wrong {
            file: file.to_owned(),
            line,
            seq,
            fault,
        });
    }

    fn torn_in_the_middle(&mut self, torn: &Torn) {
        let file = torn
            .path
            .file_name()
            .map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let lines = std::fs::read(&torn.path)
            .map_or(0, |bytes| memchr::memchr_iter(b'\n', &bytes).count() as u64);
        self.note(&file, lines + 1, None, Fault::Cut);
    }
}

/// The record of a line, as far as it can be read, and what is wrong with it as
/// the one that follows `before`.
fn check(line: &[u8], before: &Head) -> (Option<Line>, Option<Fault>) {
    match serde_json::from_slice(line) {
        Ok(record) => {
            let fault = check_record(line, &record, before).err();
            (Some(record), fault)
        }
        Err(error) => {
            let fault = Fault::Unreadable(format!("column {}", error.column()));
            (None, Some(fault))
        }
    }
}

fn check_record(line: &[u8], record: &Line, before: &Head) -> Result<(), Fault> {
    if record.v != VERSION {
        return Err(Fault::Version(record.v));
    }
    // The hash stands last, and nothing may hide behind it.
    let end = [BEFORE_HASH, record.hash.as_str(), AFTER_HASH].concat();
    let content = line.strip_suffix(end.as_bytes()).ok_or(Fault::Content)?;
    if Hash::of(content).as_str() != record.hash {
        return Err(Fault::Content);
    }
    if before.seq.checked_add(1) != Some(record.seq) {
        return Err(Fault::Number {
            expected: before.seq.saturating_add(1),
        });
    }
    if record.prev != before.hash.as_str() {
        return Err(Fault::Chain);
    }
    Ok(())
}

/// Skips the rest of a line that is too long; how many bytes that were.
fn skip_line(reader: &mut impl BufRead) -> io::Result<u64> {
    let mut skipped = 0;
    loop {
        let buffer = reader.fill_buf()?;
        if buffer.is_empty() {
            return Ok(skipped);
        }
        let end = memchr::memchr(b'\n', buffer).map_or(buffer.len(), |at| at + 1);
        let done = buffer.get(end.saturating_sub(1)) == Some(&b'\n');
        reader.consume(end);
        skipped += end as u64;
        if done {
            return Ok(skipped);
        }
    }
}
