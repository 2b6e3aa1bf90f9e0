//! What a start finds of the run before, and how it is brought in order.

use std::{
    collections::BTreeMap,
    io,
    path::Path,
    time::{Duration, SystemTime},
};

use jiff::Timestamp;

use super::{
    chain::{Hasher, Head},
    disk::Disk,
    reader::{Scope, Torn, Wrong, first_record, scan},
    record::{Fragment, Line},
    segment,
};

/// What an earlier run left.
#[derive(Debug)]
pub struct Found {
    /// Where the chain goes on.
    pub head: Head,
    /// The number of the next segment.
    pub next_segment: u64,
    /// The calls that have no outcome, by number.
    pub open: BTreeMap<u64, Open>,
    /// What was wrong, if anything was; to be written first.
    pub note: Option<Fragment>,
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
    /// When its intent was written.
    pub time: String,
}

/// Reads as much of the trail as is needed to go on, and cuts a torn last line.
/// `count` hears of each intent of the last `usage` and its time.
pub fn recover(
    disk: &mut dyn Disk,
    directory: &Path,
    hasher: &Hasher,
    usage: Duration,
    count: &mut dyn FnMut(&str, Timestamp),
) -> io::Result<Found> {
    let mut open = BTreeMap::new();
    let counted_from = Timestamp::try_from(SystemTime::now())
        .ok()
        .and_then(|now| now.checked_sub(usage).ok())
        .unwrap_or(Timestamp::UNIX_EPOCH);
    let scope = Scope {
        hasher: hasher.clone(),
        from_segment: first_needed(directory, counted_from)?,
    };
    let scan = scan(directory, &scope, |record, _| {
        follow(&mut open, record);
        if &*record.event == "request.intent"
            && let (Some(tenant), Ok(time)) = (&record.tenant, record.time.parse())
            && time >= counted_from
        {
            count(tenant, time);
        }
    })?;
    if let Some(torn) = &scan.torn {
        disk.cut(&torn.path, torn.keep)?;
    } else if let Some((_, path)) = &scan.last_segment {
        // A run that was killed left the room behind its last record.
        let len = std::fs::metadata(path)?.len();
        disk.cut(path, len)?;
    }
    Ok(Found {
        head: scan.head,
        next_segment: scan.last_segment.map_or(0, |(number, _)| number) + 1,
        note: (scan.torn.is_some() || scan.wrong.is_some())
            .then(|| note(scan.torn.as_ref(), scan.wrong.as_ref())),
        open,
        wrong: scan.wrong,
    })
}

/// The first segment that may hold a call without an outcome, or an intent that
/// counts for a limit. Not the whole trail: it may be very long.
fn first_needed(directory: &Path, counted_from: Timestamp) -> io::Result<u64> {
    let segments = segment::list(directory)?;
    let mut begins = Vec::new();
    for (number, path) in &segments {
        begins.extend(first_record(path, |record| {
            let time = record.time.parse::<Timestamp>().ok();
            (*number, record.seq, time, record.open)
        })?);
        // Empty, or not readable: what is wrong with it is found by reading.
    }
    let all = segments.first().map_or(0, |(number, _)| *number);
    let Some((_, last_seq, _, last_open)) = begins.last() else {
        return Ok(all);
    };
    let oldest_open = last_open.unwrap_or(*last_seq);
    let holds_open = begins.iter().rposition(|(_, seq, ..)| *seq <= oldest_open);
    // The first that begins late enough, from the front: the clock may have been
    // set back.
    let is_late = |time: Option<Timestamp>| time.is_none_or(|time| time > counted_from);
    let begins_late = begins.iter().position(|(_, _, time, _)| is_late(*time));
    let holds_counted = begins_late.unwrap_or(begins.len()).saturating_sub(1);
    let first = holds_open.unwrap_or(0).min(holds_counted);
    Ok(begins
        .get(first)
        .filter(|_| first > 0)
        .map_or(all, |(number, ..)| *number))
}

fn follow(open: &mut BTreeMap<u64, Open>, record: &Line<'_>) {
    match &*record.event {
        "request.intent" => {
            let request_id = record.request_id.as_ref().map(ToString::to_string);
            open.insert(
                record.seq,
                Open {
                    request_id: request_id.unwrap_or_default(),
                    time: record.time.to_string(),
                },
            );
        }
        "request.outcome" => {
            record.intent.map(|intent| open.remove(&intent));
        }
        _ => {}
    }
}

fn note(torn: Option<&Torn>, wrong: Option<&Wrong>) -> Fragment {
    let fragment = Fragment::now("trail.recovered");
    let fragment = match torn {
        Some(torn) => fragment.number("torn_bytes", torn.bytes),
        None => fragment,
    };
    fragment.optional("wrong", wrong.map(ToString::to_string).as_deref())
}
