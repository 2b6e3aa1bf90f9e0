//! Reading a trail: line by line, in constant memory, each line checked against
//! the chain.

use std::{
    fmt,
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
};

use super::{
    chain::{AFTER_HASH, BEFORE_HASH, Hash, Hasher, Head},
    record::Line,
    segment,
};

/// The longest line that is read; ours are below 4 KiB.
const LINE_BYTES_MAX: u64 = 64 << 10;
/// The version of the format that this reader knows.
const VERSION: u32 = 1;

/// Which part of a trail is read, and how.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    /// How its records are hashed.
    pub hasher: Hasher,
    /// The number of the first segment to read; what is before is not looked at.
    pub from_segment: u64,
}

/// What reading a trail found.
#[derive(Debug)]
pub struct Scan {
    /// The last record whose own hash is right.
    pub head: Head,
    /// How many segments there are.
    pub segments: u64,
    /// The last segment; `None` if there is none.
    pub last_segment: Option<(u64, PathBuf)>,
    /// Records that were hashed with the key.
    pub keyed: u64,
    /// The unfinished line at the very end, as a crash leaves it.
    pub torn: Option<Torn>,
    /// The first bad record.
    pub wrong: Option<Wrong>,
    /// Bytes of the last segment up to its first bad or unfinished record.
    pub good_bytes: u64,
    last_line: u64,
    is_whole: bool,
    beginning: Option<Beginning>,
    stated_mac: Option<String>,
}

/// A trail whose first record is not number 1: right if a record says that what
/// was before was removed.
#[derive(Debug)]
struct Beginning {
    removed: Head,
    place: Wrong,
    is_explained: bool,
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
    /// The number of the line, from 1.
    line: u64,
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
    /// It was hashed with a key that was not given.
    #[error("it was hashed with the mac_key {0}, which is not the one given")]
    Key(String),
    /// Records before it were hashed with the key, this one was not.
    #[error("it was hashed without the mac_key, the records before it with it")]
    Unkeyed,
    /// A key was given, and no record was hashed with it.
    #[error("no record was hashed with the mac_key")]
    NeverKeyed,
    /// Its number does not follow.
    #[error("record {expected} should stand here")]
    Number {
        /// The number that should stand here.
        expected: u64,
    },
    /// It follows another record than the one before it.
    #[error("the record before it is not the one that it was chained to")]
    Chain,
    /// Records before it were removed, and no record says so.
    #[error("the records up to {0} are missing, and no trail.pruned accounts for them")]
    Beginning(u64),
    /// The line ends early, and it is not the trail's last.
    #[error("the line is cut short")]
    Cut,
    /// A head that was noted elsewhere is not in the trail.
    #[error("record {seq} should have the hash {expected}, {found}")]
    Expected {
        /// The record's number.
        seq: u64,
        /// The hash that was noted.
        expected: String,
        /// What there is.
        found: String,
    },
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

/// Reads the segments of a trail and gives each readable record to `each`, with
/// the bytes read so far. A bad record does not end the reading: an auditor
/// wants to see the rest too.
pub fn scan(
    directory: &Path,
    scope: &Scope,
    mut each: impl FnMut(&Line<'_>, u64),
) -> io::Result<Scan> {
    let mut segments = segment::list(directory)?;
    segments.retain(|(number, _)| *number >= scope.from_segment);
    scan_all(segments, scope, &mut each)
}

/// Reads one segment alone.
pub fn scan_one(
    path: &Path,
    scope: &Scope,
    mut each: impl FnMut(&Line<'_>, u64),
) -> io::Result<Scan> {
    scan_all(
        vec![(scope.from_segment, path.to_owned())],
        scope,
        &mut each,
    )
}

fn scan_all(
    segments: Vec<(u64, PathBuf)>,
    scope: &Scope,
    each: &mut impl FnMut(&Line<'_>, u64),
) -> io::Result<Scan> {
    let mut scan = Scan {
        head: Head::empty(),
        segments: segments.len() as u64,
        last_segment: segments.last().cloned(),
        keyed: 0,
        torn: None,
        wrong: None,
        good_bytes: 0,
        last_line: 0,
        is_whole: scope.from_segment == 0,
        beginning: None,
        stated_mac: None,
    };
    let mut bytes = 0;
    for (_, path) in segments {
        // What was torn is not at the end if another segment follows with records.
        let torn_before = scan.torn.take();
        let read = match scan.segment(&path, scope, &mut bytes, each) {
            // Retention may take the oldest away while we read.
            Err(error) if error.kind() == io::ErrorKind::NotFound && bytes == 0 => continue,
            read => read?,
        };
        if let Some(torn) = torn_before {
            if read == 0 && scan.torn.is_none() {
                scan.torn = Some(torn);
            } else {
                scan.note(&file_name(&torn.path), torn.line, None, Fault::Cut);
            }
        }
    }
    scan.judge_beginning();
    Ok(scan)
}

impl Scan {
    /// Reads one segment; how many lines it has.
    fn segment(
        &mut self,
        path: &Path,
        scope: &Scope,
        bytes: &mut u64,
        each: &mut impl FnMut(&Line<'_>, u64),
    ) -> io::Result<u64> {
        let file = file_name(path);
        let mut reader = BufReader::with_capacity(1 << 16, File::open(path)?);
        let (mut number, mut offset) = (0, 0_u64);
        self.good_bytes = 0;
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = (&mut reader)
                .take(LINE_BYTES_MAX)
                .read_until(b'\n', &mut line)? as u64;
            if read == 0 {
                return Ok(number);
            }
            let is_finished = line.last() == Some(&b'\n');
            if !is_finished && read < LINE_BYTES_MAX {
                self.torn = Some(Torn {
                    path: path.to_owned(),
                    keep: offset,
                    bytes: read,
                    line: number + 1,
                });
                return Ok(number);
            }
            number += 1;
            self.last_line = number;
            offset += read;
            *bytes += read;
            if !is_finished {
                let skipped = skip_line(&mut reader)?;
                offset += skipped;
                *bytes += skipped;
                self.note(&file, number, None, Fault::TooLong);
                continue;
            }
            match serde_json::from_slice(&line) {
                Ok(record) => {
                    self.record(&file, number, &line, &record, &scope.hasher);
                    if self.wrong.is_none() {
                        self.good_bytes = offset;
                    }
                    each(&record, *bytes);
                }
                Err(error) => {
                    let fault = Fault::Unreadable(format!("column {}", error.column()));
                    self.note(&file, number, None, fault);
                }
            }
        }
    }

    /// Checks a record as the one that follows the head, and makes it the head.
    fn record(&mut self, file: &str, number: u64, line: &[u8], record: &Line<'_>, hasher: &Hasher) {
        if &*record.event == "trail.opened" {
            self.stated_mac = record.mac_key.as_ref().map(ToString::to_string);
        }
        let is_first = self.head.seq == 0;
        let checked = self
            .check_content(line, record, hasher)
            .and_then(|()| self.check_place(is_first, file, number, record));
        if let Err(fault) = checked {
            self.note(file, number, Some(record.seq), fault);
        }
        if let Some(hash) = Hash::parse(&record.hash) {
            self.head = Head {
                seq: record.seq,
                hash,
            };
        }
        if let (Some(beginning), Some(seq), Some(hash)) =
            (&mut self.beginning, record.until_seq, &record.until_hash)
        {
            let removed = &beginning.removed;
            beginning.is_explained |= &*record.event == "trail.pruned"
                && (removed.seq, removed.hash.as_str()) == (seq, hash);
        }
    }

    fn check_content(
        &mut self,
        line: &[u8],
        record: &Line<'_>,
        hasher: &Hasher,
    ) -> Result<(), Fault> {
        if record.v != VERSION {
            return Err(Fault::Version(record.v));
        }
        // The hash stands last, and nothing may hide behind it.
        let content = line
            .strip_suffix(AFTER_HASH.as_bytes())
            .and_then(|line| line.strip_suffix(record.hash.as_bytes()))
            .and_then(|line| line.strip_suffix(BEFORE_HASH.as_bytes()))
            .ok_or(Fault::Content)?;
        let fits = |hasher: &Hasher| hasher.hash(content).as_str() == &*record.hash;
        if fits(hasher) {
            self.keyed += u64::from(hasher.key_fingerprint().is_some());
            return Ok(());
        }
        if hasher.key_fingerprint().is_some() && fits(&Hasher::Sha256) {
            // A trail may have got its key later; from then on it keeps it.
            return if self.keyed == 0 {
                Ok(())
            } else {
                Err(Fault::Unkeyed)
            };
        }
        Err(match &self.stated_mac {
            Some(stated) if hasher.key_fingerprint() != Some(stated) => Fault::Key(stated.clone()),
            _ => Fault::Content,
        })
    }

    fn check_place(
        &mut self,
        is_first: bool,
        file: &str,
        line: u64,
        record: &Line<'_>,
    ) -> Result<(), Fault> {
        if is_first && record.seq > 1 {
            if self.is_whole
                && let Some(hash) = Hash::parse(&record.prev)
            {
                let seq = record.seq - 1;
                self.beginning = Some(Beginning {
                    removed: Head { seq, hash },
                    place: Wrong {
                        file: file.to_owned(),
                        line,
                        seq: Some(record.seq),
                        fault: Fault::Beginning(seq),
                    },
                    is_explained: false,
                });
            }
            return Ok(());
        }
        let before = &self.head;
        if before.seq.checked_add(1) != Some(record.seq) {
            return Err(Fault::Number {
                expected: before.seq.saturating_add(1),
            });
        }
        if &*record.prev != before.hash.as_str() {
            return Err(Fault::Chain);
        }
        Ok(())
    }

    /// What is wrong with the trail as a whole, and seen at its end.
    pub fn wrong_at_end(&self, fault: Fault) -> Wrong {
        let last = self.last_segment.as_ref();
        Wrong {
            file: last.map_or_else(String::new, |(_, path)| file_name(path)),
            line: self.last_line,
            seq: Some(self.head.seq),
            fault,
        }
    }

    fn judge_beginning(&mut self) {
        if let Some(beginning) = self.beginning.take_if(|beginning| !beginning.is_explained) {
            self.wrong = Some(beginning.place);
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
}

/// Reads the first record of a segment, if it is one, and gives it to `with`.
pub fn first_record<T>(path: &Path, with: impl FnOnce(&Line<'_>) -> T) -> io::Result<Option<T>> {
    let mut line = Vec::new();
    BufReader::new(File::open(path)?)
        .take(LINE_BYTES_MAX)
        .read_until(b'\n', &mut line)?;
    Ok(serde_json::from_slice(&line)
        .ok()
        .map(|record| with(&record)))
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .map_or_else(String::new, |name| name.to_string_lossy().into_owned())
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
