//! What a start finds of the run before, and how it is brought in order.

mod from;

use std::{
    collections::BTreeMap,
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::MetadataExt,
    path::Path,
    time::{Duration, SystemTime},
};

use jiff::Timestamp;
use uuid::Uuid;

use self::from::first_needed;
use super::{
    chain::{Hasher, Head},
    disk::Disk,
    event,
    reader::{Fault, Left, SEQ_MAX, Scan, Scope, Torn, Wrong, first_record, scan_judged, scan_one},
    record::{Fragment, FrozenRecord, Line, OutcomeKind},
    retention::Rest,
    segment,
    standing::Standing,
};

/// What an earlier run left.
#[derive(Debug)]
pub struct EarlierRun {
    /// Where the chain goes on.
    pub head: Head,
    /// The number of the next segment.
    pub next_segment: u64,
    /// The calls that have no outcome, by number.
    pub open: BTreeMap<u64, Open>,
    /// The freezes that stand.
    pub standing: Standing,
    /// What was wrong, if anything was; to be written first.
    pub note: Option<Fragment>,
    /// The number of the oldest record, if that is known.
    pub oldest: Option<u64>,
    /// For how long retention removes nothing yet.
    pub rest: Duration,
    /// The id under which the trail is collected, if it has one.
    pub chain: Option<Uuid>,
    /// There is a key now, and no record up to this one was hashed with it.
    pub unkeyed_until: Option<u64>,
    /// All that is wrong is that its first records have another key than the one in use.
    pub is_key_changed: bool,
    /// The first bad record of what was read. The chain goes on behind it: the
    /// evidence stays, and a gateway that refused to start would only be an
    /// invitation to delete it.
    pub wrong: Option<Wrong>,
}

/// A call without an outcome.
#[derive(Debug)]
pub struct Open {
    /// Its request.
    pub request_id: String,
    /// Whose it was.
    pub tenant: String,
    /// When its intent was written.
    pub time: String,
}

/// What a start hears of earlier runs, in the order of the trail: freezes and
/// their ends, and calls that are not too long ago.
#[derive(Debug, Clone, Copy)]
pub enum Replayed<'a> {
    /// A call was about to be sent.
    Intent {
        /// Its number.
        seq: u64,
        /// Whose it was.
        tenant: &'a str,
        /// What it was to delete.
        credential: &'a str,
        /// When.
        time: Timestamp,
    },
    /// A call ended.
    Outcome {
        /// The number of its intent, of which nothing may have been heard.
        intent: u64,
        /// How.
        outcome: OutcomeKind,
    },
    /// A tenant, or all of them, was frozen, or still is.
    Frozen {
        /// What the record says.
        record: FrozenRecord<'a>,
        /// When it began.
        since: Timestamp,
    },
    /// A freeze ended.
    Thawed {
        /// Of which tenant; `None` for that of all.
        tenant: Option<&'a str>,
    },
    /// Of a call no end was written: it is closed as in doubt. Heard after all records.
    LeftOpen {
        /// Whose it was.
        tenant: &'a str,
    },
}

/// Reads as much of the trail as is needed to go on, and cuts a torn last line: what a
/// crash leaves there, and nothing else.
/// `replay` hears of each intent of the last `usage`, of outcomes, and of freezes; then of
/// the calls that were left open.
pub fn recover(
    disk: &mut dyn Disk,
    directory: &Path,
    hasher: &Hasher,
    usage: Duration,
    now: SystemTime,
    replay: &mut dyn FnMut(Replayed<'_>),
) -> io::Result<EarlierRun> {
    end_last_line(disk, directory, hasher)?;
    let mut open = BTreeMap::new();
    let mut standing = Standing::default();
    let mut chain = None;
    let mut rest = Rest::default();
    let counted_from = Timestamp::try_from(now)
        .ok()
        .and_then(|now| now.checked_sub(usage).ok())
        .unwrap_or(Timestamp::UNIX_EPOCH);
    let scope = Scope {
        hasher: hasher.clone(),
        from_segment: first_needed(directory, hasher, counted_from)?,
    };
    let (mut first, mut newest, mut oldest) = (None, 0, None);
    let begins_late = scope.from_segment > 0;
    let mut scan = scan_judged(directory, &scope, |record, _, is_sound| {
        // One of earlier that was put behind later ones: it was heard, or is not needed. One
        // that was put in front hides none of those before it.
        let is_heard = begins_late || first.is_some_and(|first| first <= record.seq);
        if !is_sound && is_heard && record.seq <= newest {
            return;
        }
        if is_sound {
            first.get_or_insert(record.seq);
            newest = record.seq;
            rest.follow(record);
            let pruned = record.until_seq.filter(|_| &*record.event == event::PRUNED);
            oldest = record
                .oldest
                .or(pruned.map(|until| until.saturating_add(1)))
                .or(oldest);
            // Once it has one, each segment says it.
            chain = chain_of(record).or(chain);
        }
        // Who can write the directory, and has no key, could end a freeze. To begin one,
        // or to leave a call in doubt, does no harm.
        if is_sound || !ends_something(record) {
            follow(&mut open, record);
            standing.follow(record);
            if let Some(heard) = heard(record, counted_from) {
                replay(heard);
            }
        }
    })?;
    for Open { tenant, .. } in open.values() {
        replay(Replayed::LeftOpen { tenant });
    }
    match scan.torn.take_if(|torn| torn.left == Left::Other) {
        // The next segment is written behind it.
        Some(other) => scan.note_cut(&other),
        None => {
            if let Some(torn) = &scan.torn {
                disk.cut(&torn.path, torn.keep)?;
            }
        }
    }
    oldest = check_beginning(&mut scan, directory, oldest)?;
    settle(disk, directory)?;
    let is_unkeyed = hasher.key_fingerprint().is_some() && scan.keyed == 0;
    let head = if scan.onward.seq > 0 {
        scan.onward
    } else {
        scan.head
    };
    Ok(EarlierRun {
        head,
        next_segment: segment::after(scan.last_segment.map_or(0, |(number, _)| number))?,
        is_key_changed: scan.is_key_changed
            && scan.wrong.as_ref().is_some_and(Wrong::is_want_of_key),
        unkeyed_until: Some(head.seq).filter(|until| is_unkeyed && *until > 0),
        note: (scan.torn.is_some() || scan.wrong.is_some())
            .then(|| note(scan.torn.as_ref(), scan.wrong.as_ref())),
        open,
        standing,
        rest: rest.at_start(now),
        oldest,
        chain,
        wrong: scan.wrong,
    })
}

/// Ends the last line if a crash came between a record and its line's end: the record
/// stands, and may be a freeze.
fn end_last_line(disk: &mut dyn Disk, directory: &Path, hasher: &Hasher) -> io::Result<()> {
    let mut segments = segment::list(directory)?.into_iter().rev();
    let mut last = None;
    while let (None, Some((number, path))) = (&last, segments.next()) {
        last = last_byte(&path)?.map(|byte| (number, path, byte));
    }
    let Some((from_segment, path, _)) = last.filter(|(.., byte)| *byte != b'\n') else {
        return Ok(());
    };
    let hasher = hasher.clone();
    let scope = Scope {
        hasher,
        from_segment,
    };
    let Some(torn) = scan_one(&path, &scope, |_, _| {})?.torn else {
        return Ok(());
    };
    if let Left::Record(bytes) = torn.left {
        disk.end_line(&path, torn.keep + bytes)?;
        tracing::info!(segment = %path.display(), "the last record of an earlier run lacked the end of its line, and has it now");
    }
    Ok(())
}

fn last_byte(path: &Path) -> io::Result<Option<u8>> {
    let Some(mut file) = segment::open(path)? else {
        return Ok(None);
    };
    if file.metadata()?.len() == 0 {
        return Ok(None);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last.first().copied())
}

/// What a run that was killed left undone at the end of its last segment, and of the one
/// before if that was not settled yet: what was read there is in memory only, maybe, and
/// there is room behind it.
fn settle(disk: &mut dyn Disk, directory: &Path) -> io::Result<()> {
    for (_, path) in segment::list(directory)?.iter().rev().take(2) {
        let Some(file) = segment::open(path)? else {
            continue;
        };
        disk.sync(&file)?;
        let found = file.metadata()?;
        // st_blocks counts 512 bytes whatever the file system's blocks are (stat(2)).
        let has_room = found.blocks().saturating_mul(512) > found.len() + segment::RESERVE / 2;
        if has_room && let Err(error) = disk.cut(path, found.len()) {
            tracing::warn!(segment = %path.display(), %error, "the room behind a segment cannot be given back");
        }
    }
    Ok(())
}

/// Notes that the trail begins later than the run before said: retention says what it
/// removes. What it begins with.
fn check_beginning(
    scan: &mut Scan,
    directory: &Path,
    stated: Option<u64>,
) -> io::Result<Option<u64>> {
    for (number, path) in segment::list(directory)? {
        if last_byte(&path)?.is_none() {
            continue;
        }
        let found = first_record(&path, |record| record.seq)?.filter(|seq| *seq <= SEQ_MAX);
        if let (Some(found), Some(stated)) = (found, stated)
            && found > stated
        {
            let fault = Fault::Beginning(found - 1);
            scan.note(&segment::name(number), 1, Some(found), fault);
        }
        return Ok(found.max(stated));
    }
    Ok(stated)
}

/// The id under which the trail is collected.
fn chain_of(record: &Line<'_>) -> Option<Uuid> {
    let chain = record.chain.as_ref();
    chain
        .filter(|_| &*record.event == event::OPENED)
        .and_then(|chain| chain.parse().ok())
}

fn ends_something(record: &Line<'_>) -> bool {
    matches!(&*record.event, event::OUTCOME | event::THAWED)
}

/// What a record is to those who rebuild what was when the last run ended.
fn heard<'a>(record: &'a Line<'_>, counted_from: Timestamp) -> Option<Replayed<'a>> {
    match &*record.event {
        event::INTENT => {
            let time = record.time.parse().ok()?;
            (time >= counted_from).then_some(Replayed::Intent {
                seq: record.seq,
                tenant: record.tenant.as_deref()?,
                credential: record.credential.as_deref().unwrap_or_default(),
                time,
            })
        }
        event::OUTCOME => Some(Replayed::Outcome {
            intent: record.intent?,
            outcome: record.outcome.as_deref().map(OutcomeKind::read)?,
        }),
        event::FROZEN => {
            let read = FrozenRecord::read(record);
            let since = read.since.unwrap_or(&record.time);
            Some(Replayed::Frozen {
                record: read,
                since: since.parse().unwrap_or(Timestamp::UNIX_EPOCH),
            })
        }
        event::THAWED => Some(Replayed::Thawed {
            tenant: record.tenant.as_deref(),
        }),
        _ => None,
    }
}

fn follow(open: &mut BTreeMap<u64, Open>, record: &Line<'_>) {
    match &*record.event {
        event::INTENT => {
            let request_id = record.request_id.as_ref().map(ToString::to_string);
            let tenant = record.tenant.as_ref().map(ToString::to_string);
            open.insert(
                record.seq,
                Open {
                    request_id: request_id.unwrap_or_default(),
                    tenant: tenant.unwrap_or_default(),
                    time: record.time.to_string(),
                },
            );
        }
        event::OUTCOME => {
            record.intent.map(|intent| open.remove(&intent));
        }
        _ => {}
    }
}

fn note(torn: Option<&Torn>, wrong: Option<&Wrong>) -> Fragment {
    let fragment = Fragment::now(event::RECOVERED);
    let fragment = match torn {
        Some(torn) => fragment.number("torn_bytes", torn.bytes),
        None => fragment,
    };
    fragment.optional("wrong", wrong.map(ToString::to_string).as_deref())
}
