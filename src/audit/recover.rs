//! What a start finds of the run before, and how it is brought in order.

use std::{collections::BTreeMap, io, path::Path};

use super::{
    chain::Head,
    reader::{Torn, Wrong, scan},
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
    /// What is to be written first: what was found, and an outcome for each
    /// call that has none.
    pub records: Vec<Fragment>,
    /// The first bad record. The chain goes on behind it: the evidence stays,
    /// and a gateway that refused to start would only be an invitation to
    /// delete it.
    pub wrong: Option<Wrong>,
}

/// Reads the trail, cuts a torn last line, and says what must be recorded about
/// both.
pub fn recover(directory: &Path) -> io::Result<Found> {
    let mut open = BTreeMap::new();
    let scan = scan(directory, |record| follow(&mut open, record))?;
    let mut records = Vec::new();
    if scan.torn.is_some() || scan.wrong.is_some() {
        records.push(note(scan.torn.as_ref(), scan.wrong.as_ref()));
    }
    if let Some(torn) = &scan.torn {
        segment::cut(&torn.path, torn.keep)?;
    }
    records.extend(
        open.iter()
            .map(|(seq, intent)| Fragment::in_doubt(&intent.request_id, *seq, Some(&intent.time))),
    );
    Ok(Found {
        head: scan.head,
        next_segment: scan.last_segment + 1,
        records,
        wrong: scan.wrong,
    })
}

#[derive(Debug)]
struct Open {
    request_id: String,
    time: String,
}

fn follow(open: &mut BTreeMap<u64, Open>, record: &Line) {
    match record.event.as_str() {
        "request.intent" => {
            let request_id = record.request_id.clone().unwrap_or_default();
            open.insert(
                record.seq,
                Open {
                    request_id,
                    time: record.time.clone(),
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
