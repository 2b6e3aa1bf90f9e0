//! Answers from the trail: one row for each call, joined of its records.

mod end;

use std::{collections::BTreeMap, io, path::Path};

use jiff::{SignedDuration, Timestamp};

pub use self::end::End;
use super::{
    chain::Hasher,
    event,
    known::Known,
    reader::{
        Fault, Opening, SEQ_MAX, Scope, Wrong, check_alone, opened_as_known, read_alone, scan,
    },
    record::{Line, OutcomeKind},
    segment,
};

/// Records are dated when they are made and written a little later, and clocks
/// are set: so much earlier than asked for the reading begins.
const SLACK: SignedDuration = SignedDuration::from_hours(1);

/// One call, or one refusal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Row {
    /// When it came.
    pub time: String,
    /// How it ended.
    pub ended: End,
    /// Our id of the request.
    pub request_id: Option<String>,
    /// The caller's own id of it.
    pub caller_request_id: Option<String>,
    /// Whose token it was.
    pub tenant: Option<String>,
    /// Which of the tenant's tokens.
    pub token: Option<String>,
    /// Who sent it.
    pub peer: Option<String>,
    /// The user of the path.
    pub user: Option<String>,
    /// The credential of the path.
    pub credential: Option<String>,
    /// The status that the caller got.
    pub status: Option<u16>,
    /// The code that the caller got.
    pub code: Option<String>,
    /// What the code does not say.
    pub reason: Option<String>,
    /// The status of the upstream's last answer.
    pub upstream_status: Option<u16>,
    /// How many attempts were made.
    pub attempts: Option<u32>,
    /// Whether a DELETE may have reached the upstream.
    pub sent: Option<String>,
    /// How long it took, in µs.
    pub latency_us: Option<u64>,
    /// How many refusals it stands for, if more than one.
    pub count: Option<u64>,
    /// The number of its first record.
    pub seq: u64,
    /// The hash of its first record.
    pub hash: String,
    /// The hash of the record that ended it, if that is another one.
    pub end_hash: Option<String>,
    /// The gateway whose trail it is in, where several are collected.
    pub gateway: Option<String>,
}

/// Which rows are wanted; what is absent does not matter.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Of this tenant.
    pub tenant: Option<String>,
    /// With this token's id.
    pub token: Option<String>,
    /// About this user.
    pub user: Option<String>,
    /// About this credential.
    pub credential: Option<String>,
    /// With this id: ours, or the caller's.
    pub request_id: Option<String>,
    /// That ended so.
    pub ended: Option<End>,
    /// Not before.
    pub since: Option<Timestamp>,
    /// Before.
    pub until: Option<Timestamp>,
}

/// Calls without an outcome that are kept in mind: far more than can be under way.
const OPEN_MAX: usize = 1 << 16;

/// What is to be said beside the rows.
#[derive(Debug)]
pub struct Summary {
    /// How many rows there were.
    pub rows: u64,
    /// How many rows ended in each way of [`End::ALL`].
    pub ended: [u64; End::ALL.len()],
    /// The first bad record of what was read.
    pub wrong: Option<Wrong>,
}

impl Summary {
    /// Nothing so far.
    pub fn none() -> Self {
        Self {
            rows: 0,
            ended: [0; End::ALL.len()],
            wrong: None,
        }
    }

    /// Counts a row.
    pub fn count(&mut self, row: &Row) {
        self.rows += 1;
        if let Some(count) = self.ended.get_mut(row.ended.index()) {
            *count += 1;
        }
    }
}

/// Reads the trail and gives each row that is wanted to `each`: a call when its
/// outcome is read, one without an outcome at the end. `progress` hears the
/// bytes read so far. A head that is known is not looked for.
///
/// # Errors
///
/// If a segment can't be read.
pub fn query(
    directory: &Path,
    known: &Known,
    filter: &Filter,
    mut each: impl FnMut(Row),
    mut progress: impl FnMut(u64),
) -> io::Result<Summary> {
    let mut joiner = Joiner::default();
    let mut found = Summary::none();
    let mut show = |row: Row| {
        if filter.wants(&row) {
            found.count(&row);
            each(row);
        }
    };
    let scope = Scope {
        hasher: Hasher::new(known.mac_key.as_ref()),
        from_segment: first_segment(directory, known, filter.since)?,
    };
    let mut scan = scan(directory, &scope, |record, at| {
        // Most of a long trail is about others.
        if (joiner.knows(record) || filter.may_want(record))
            && let Some(row) = joiner.add(record)
        {
            show(row);
        }
        progress(at.bytes);
    })?;
    for row in joiner.open() {
        show(row);
    }
    scan.judge_key(known);
    found.wrong = scan.wrong;
    Ok(found)
}

/// The segment before the first that begins later than well before `since`: from
/// the front, since where the clock was set back what is wanted may stand before
/// segments that begin too early. One that does not say that it was begun so, behind those
/// before it, was copied, or put there, or spoiled: its time hides nothing. What has another
/// key hides nothing, either; but before the first that has the one given it may be of a time
/// when that was not in use yet.
pub fn first_segment(directory: &Path, known: &Known, since: Option<Timestamp>) -> io::Result<u64> {
    let Some(since) = since.and_then(|since| since.checked_sub(SLACK).ok()) else {
        return Ok(0);
    };
    let (mut before, mut last) = (0, 0);
    for (number, path) in segment::list(directory)? {
        let begins = |record: &Line<'_>| {
            let time = record.time.parse::<Timestamp>();
            (record.seq, time.is_ok_and(|time| time < since))
        };
        let begins = match opened_as_known(&path, known, begins) {
            // Retention took it away meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            begins => begins?,
        };
        match begins {
            Opening::Known((seq, true)) if last < seq && seq <= SEQ_MAX => {
                (before, last) = (number, seq);
            }
            Opening::OtherKey((_, true)) if last == 0 => {}
            Opening::Unknown if segment::is_empty(&path) => {}
            _ => break,
        }
    }
    Ok(before)
}

/// The row of a call, from its first line and, if it has one, that of its outcome, both
/// without their ends; and what is wrong with one of them by itself. From what can be read:
/// no row if the first is no call's, and one without its end if only that can't be.
pub fn row(first: &str, end: Option<&str>, known: &Known) -> (Option<Row>, Option<Fault>) {
    let mut joiner = Joiner::default();
    let mut row = None;
    let mut fault = None;
    for line in [Some(first), end].into_iter().flatten() {
        match read_alone(line) {
            Ok(record) => {
                fault = fault.or(check_alone(line, &record, known).err());
                row = joiner.add(&record).or(row);
            }
            // What is known to be no record is wrong with or without a key.
            Err(unreadable) => fault = Some(unreadable),
        }
    }
    (row.or_else(|| joiner.open().next()), fault)
}

/// Joins the records of each call.
#[derive(Debug, Default)]
pub struct Joiner {
    open: BTreeMap<u64, Row>,
}

impl Joiner {
    /// Takes a record; the row that it completes, if it does.
    pub fn add(&mut self, record: &Line<'_>) -> Option<Row> {
        match &*record.event {
            event::INTENT => {
                self.open.insert(record.seq, Row::of(record, End::Open));
                // The oldest will hardly end any more, and is told as it is.
                let is_full = self.open.len() > OPEN_MAX;
                is_full.then(|| self.open.pop_first())?.map(|(_, row)| row)
            }
            event::OUTCOME => {
                // One that does not say it confirms nothing, either.
                let ended = record.outcome.as_deref().map(OutcomeKind::read);
                let ended = End::Outcome(ended.unwrap_or(OutcomeKind::InDoubt));
                // The intent may be in a segment that was not read, or was removed.
                let begun = record.intent.and_then(|intent| self.open.remove(&intent));
                Some(match begun {
                    Some(row) => row.ended_by(record, ended),
                    None => Row::of(record, ended),
                })
            }
            event::REFUSED | event::COALESCED | event::CONNECTION_REFUSED => {
                let row = || Row::of(record, End::Refused);
                record.is_of_calls().then(row)
            }
            _ => None,
        }
    }

    /// Whether it ends a call whose beginning was taken.
    fn knows(&self, record: &Line<'_>) -> bool {
        record
            .intent
            .is_some_and(|intent| self.open.contains_key(&intent))
    }

    /// The calls without an outcome so far.
    pub fn open(self) -> impl Iterator<Item = Row> {
        self.open.into_values()
    }
}

impl Row {
    fn of(record: &Line<'_>, ended: End) -> Self {
        let text = |text: &Option<_>| text.as_ref().map(ToString::to_string);
        Self {
            time: record.time.to_string(),
            ended,
            request_id: text(&record.request_id),
            caller_request_id: text(&record.caller_request_id),
            tenant: text(&record.tenant),
            token: text(&record.token),
            peer: text(&record.peer),
            user: text(&record.user),
            credential: text(&record.credential),
            status: record.status,
            code: text(&record.code),
            reason: text(&record.reason),
            upstream_status: record.upstream_status,
            attempts: record.attempts,
            sent: text(&record.sent),
            latency_us: record.latency_us,
            count: record.count,
            seq: record.seq,
            hash: record.hash.to_string(),
            end_hash: None,
            gateway: None,
        }
    }

    fn ended_by(self, record: &Line<'_>, ended: End) -> Self {
        let end = Self::of(record, ended);
        Self {
            ended: end.ended,
            status: end.status,
            code: end.code,
            reason: end.reason,
            upstream_status: end.upstream_status,
            attempts: end.attempts,
            sent: end.sent,
            latency_us: end.latency_us,
            end_hash: Some(end.hash),
            ..self
        }
    }
}

impl Filter {
    /// Whether a row is wanted.
    pub fn wants(&self, row: &Row) -> bool {
        let found = [
            &row.tenant,
            &row.token,
            &row.user,
            &row.credential,
            &row.request_id,
            &row.caller_request_id,
        ];
        self.is_about(found.map(Option::as_deref))
            && self.ended.is_none_or(|ended| ended == row.ended)
            && self.is_in_time(row)
    }

    /// Whether a record may belong to a row that is wanted.
    fn may_want(&self, record: &Line<'_>) -> bool {
        let found = [
            &record.tenant,
            &record.token,
            &record.user,
            &record.credential,
            &record.request_id,
            &record.caller_request_id,
        ];
        self.is_about(found.map(Option::as_deref))
    }

    fn is_about(
        &self,
        [
            tenant,
            token,
            user,
            credential,
            request_id,
            caller_request_id,
        ]: [Option<&str>; 6],
    ) -> bool {
        let is = |wanted: &Option<String>, found: Option<&str>| {
            wanted.is_none() || wanted.as_deref() == found
        };
        is(&self.tenant, tenant)
            && is(&self.token, token)
            && is(&self.user, user)
            && is(&self.credential, credential)
            && (is(&self.request_id, request_id) || is(&self.request_id, caller_request_id))
    }

    fn is_in_time(&self, row: &Row) -> bool {
        if self.since.is_none() && self.until.is_none() {
            return true;
        }
        let Ok(time) = row.time.parse::<Timestamp>() else {
            // What can't be dated must not be hidden.
            return true;
        };
        self.since.is_none_or(|since| time >= since) && self.until.is_none_or(|until| time < until)
    }
}
