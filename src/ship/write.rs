//! Where the database stands, and what is written behind that.

use std::{collections::HashMap, path::Path};

use jiff::Timestamp;
use tokio_postgres::{
    Client, Row,
    types::{ToSql, Type},
};
use uuid::Uuid;

use super::{
    database::in_time,
    fault::{Failure, Reason},
};
use crate::audit::{Batch, Hash, Head, Holds, Line, Tail, first_heads, holds, new_chain};

/// Where the database stands with a trail.
#[derive(Debug)]
pub struct Cursor {
    /// The chain's id in the database.
    pub chain: Uuid,
    /// The last record of it that is there.
    pub last: Head,
    /// The id that the trail carries.
    origin: Uuid,
    /// Nothing of this chain is there yet.
    is_new: bool,
    /// The database has records of this trail that are not in it any more.
    pub has_diverged: bool,
}

/// A parameter of a statement, and its type.
type Parameter<'a> = (&'a (dyn ToSql + Sync), Type);

const CHAINS: &str = "\
SELECT id, last_seq, last_hash FROM alloy_gateway.chain WHERE origin = $1 ORDER BY last_seq DESC";
const HASHES: &str = "\
SELECT seq, hash FROM alloy_gateway.record WHERE chain = $1 AND seq BETWEEN $2 AND $3";
const BEGIN: &str = "\
INSERT INTO alloy_gateway.chain (id, gateway, version, last_seq, last_hash, last_event, last_time, origin)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING";
/// Only from where we know it to be: whoever comes second finds nothing to change.
const MOVE_ON: &str = "\
UPDATE alloy_gateway.chain SET gateway = $2, version = $3, last_seq = $4, last_hash = $5, last_event = $6, last_time = $7, seen_at = now()
WHERE id = $1 AND last_seq = $8 AND last_hash = $9";
const WRITE: &str = "\
INSERT INTO alloy_gateway.record (chain, seq, time, event, request_id, caller_request_id, tenant, token, user_id, credential_id, intent, outcome, status, hash, line)
SELECT $1, * FROM unnest($2::bigint[], $3::timestamptz[], $4::text[], $5::uuid[], $6::text[], $7::text[], $8::text[], $9::text[], $10::text[], $11::bigint[], $12::text[], $13::smallint[], $14::bytea[], $15::text[])
ON CONFLICT DO NOTHING";
const SEEN: &str = "\
UPDATE alloy_gateway.chain SET seen_at = now(), gateway = $2 WHERE id = $1";

/// Asks the database where it stands with the trail in `directory`, which carries the id
/// `origin` and was acknowledged up to `acknowledged`. Each question is bounded in time,
/// and not all of them together: what takes long for a large trail must still get done.
///
/// # Errors
///
/// If the database refuses or does not answer, or the trail can't be read.
pub async fn find(
    client: &Client,
    directory: &Path,
    origin: Uuid,
    acknowledged: &Head,
) -> Result<Cursor, Failure> {
    let rows = in_time(client.query_typed(CHAINS, &[(&origin, Type::UUID)])).await?;
    let mut behind_the_beginning = None;
    let mut known = Vec::new();
    for row in rows {
        let (chain, seq, hash): (Uuid, i64, Vec<u8>) =
            (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let Some(last) = head(seq, &hash) else {
            continue;
        };
        let cursor = Cursor {
            chain,
            last,
            origin,
            is_new: false,
            has_diverged: false,
        };
        match holds(directory, &last).map_err(unreadable)? {
            Holds::It => return Ok(cursor),
            // What is missing between is missing in the trail too.
            Holds::NotAnyMore => behind_the_beginning = Some(cursor),
            Holds::Another | Holds::NotYet => known.push(cursor),
        }
    }
    if let Some(cursor) = behind_the_beginning {
        return Ok(cursor);
    }
    let Some(other) = known.first() else {
        return Ok(Cursor {
            chain: origin,
            last: Head::empty(),
            origin,
            is_new: true,
            has_diverged: false,
        });
    };
    // The trail was set back, or copied, and went on otherwise: what differs is a chain
    // of its own, which begins where the two part.
    Ok(Cursor {
        chain: new_chain(),
        last: last_in_common(client, other.chain, directory, acknowledged).await?,
        origin,
        is_new: true,
        has_diverged: true,
    })
}

/// The last record of the trail that the database has in the same chain, too. Few
/// questions find the segment, and only that one is held against it record by record.
async fn last_in_common(
    client: &Client,
    chain: Uuid,
    directory: &Path,
    acknowledged: &Head,
) -> Result<Head, Failure> {
    let mut begins = first_heads(directory).map_err(unreadable)?;
    begins.retain(|begin| begin.seq <= acknowledged.seq);
    let is_there = async |head: Head| {
        let there = hashes(client, chain, head.seq, head.seq).await?;
        Ok(is_among(&there, &head))
    };
    let begin = last_there(&begins, is_there).await?;
    let mut last = begin.unwrap_or(Head::empty());
    let mut tail = Tail::behind(directory, last).map_err(unreadable)?;
    loop {
        let batch = tail.read(acknowledged).map_err(unreadable)?;
        let heads: Vec<_> = batch
            .lines
            .iter()
            .filter_map(|line| line_head(line))
            .collect();
        let (Some(first), Some(end)) = (heads.first(), heads.last()) else {
            return Ok(last);
        };
        let there = hashes(client, chain, first.seq, end.seq).await?;
        for head in &heads {
            if !is_among(&there, head) {
                return Ok(last);
            }
            last = *head;
        }
    }
}

/// The last of these that the database has, by bisection. Where one is there, so is all
/// before it: each record's hash holds what came before. A chain without its beginning
/// (one that parted from another, or whose old rows were deleted) can at worst hide the
/// place; then more is collected than need be.
async fn last_there(
    heads: &[Head],
    is_there: impl AsyncFn(Head) -> Result<bool, Failure>,
) -> Result<Option<Head>, Failure> {
    let (mut last, mut open) = (None, heads);
    loop {
        let (before, from_middle) = open.split_at(open.len() / 2);
        let Some((middle, behind)) = from_middle.split_first() else {
            return Ok(last);
        };
        open = if is_there(*middle).await? {
            last = Some(*middle);
            behind
        } else {
            before
        };
    }
}

/// Writes a batch, wholly or not at all. False if the database does not stand any more
/// where `cursor` says: then ask anew.
///
/// # Errors
///
/// If the database refuses, or has other records under these numbers.
pub async fn write(
    client: &mut Client,
    cursor: &mut Cursor,
    gateway: &str,
    batch: &Batch,
) -> Result<bool, Failure> {
    let Some(last) = batch.last else {
        return Ok(true);
    };
    let columns = Columns::of(&batch.lines);
    let transaction = client.transaction().await?;
    let (seq, hash) = (number(last.seq), last.hash.to_bytes().to_vec());
    let (event, time) = columns.end();
    let (before, hash_before) = (
        number(cursor.last.seq),
        cursor.last.hash.to_bytes().to_vec(),
    );
    let version = env!("CARGO_PKG_VERSION");
    let mut parameters: Vec<Parameter<'_>> = vec![
        (&cursor.chain, Type::UUID),
        (&gateway, Type::TEXT),
        (&version, Type::TEXT),
        (&seq, Type::INT8),
        (&hash, Type::BYTEA),
        (&event, Type::TEXT),
        (&time, Type::TIMESTAMPTZ),
    ];
    let moved = if cursor.is_new {
        parameters.push((&cursor.origin, Type::UUID));
        transaction.execute_typed(BEGIN, &parameters).await?
    } else {
        parameters.extend([
            (&before as &(dyn ToSql + Sync), Type::INT8),
            (&hash_before, Type::BYTEA),
        ]);
        transaction.execute_typed(MOVE_ON, &parameters).await?
    };
    if moved == 0 {
        return Ok(false);
    }
    let written = transaction
        .execute_typed(WRITE, &columns.parameters(&cursor.chain))
        .await?;
    if written != batch.lines.len() as u64 {
        // What is there already must be the same.
        let (first, end) = columns.bounds();
        let asked = [
            (&cursor.chain as &(dyn ToSql + Sync), Type::UUID),
            (&first, Type::INT8),
            (&end, Type::INT8),
        ];
        let there = by_number(&transaction.query_typed(HASHES, &asked).await?)?;
        let ours = columns.seq.iter().zip(&columns.hash);
        if let Some((seq, _)) = ours
            .clone()
            .find(|(seq, hash)| there.get(seq) != Some(hash))
        {
            return Err(Failure::new(
                Reason::Conflict,
                format!(
                    "the database has another record {seq} of this trail (chain {}): somebody put it there; treat it as an incident",
                    cursor.chain
                ),
            ));
        }
    }
    transaction.commit().await?;
    cursor.last = last;
    cursor.is_new = false;
    Ok(true)
}

/// Tells the database that the gateway lives, though it has nothing to say.
///
/// # Errors
///
/// If the database refuses.
pub async fn seen(client: &Client, cursor: &Cursor, gateway: &str) -> Result<(), Failure> {
    let parameters: [Parameter<'_>; 2] = [(&cursor.chain, Type::UUID), (&gateway, Type::TEXT)];
    client.execute_typed(SEEN, &parameters).await?;
    Ok(())
}

async fn hashes(
    client: &Client,
    chain: Uuid,
    first: u64,
    end: u64,
) -> Result<HashMap<i64, Vec<u8>>, Failure> {
    let (first, end) = (number(first), number(end));
    let asked = [
        (&chain as &(dyn ToSql + Sync), Type::UUID),
        (&first, Type::INT8),
        (&end, Type::INT8),
    ];
    by_number(&in_time(client.query_typed(HASHES, &asked)).await?)
}

fn is_among(there: &HashMap<i64, Vec<u8>>, head: &Head) -> bool {
    there
        .get(&number(head.seq))
        .is_some_and(|hash| *hash == head.hash.to_bytes())
}

fn by_number(rows: &[Row]) -> Result<HashMap<i64, Vec<u8>>, Failure> {
    let pairs = rows
        .iter()
        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)));
    pairs.collect()
}

/// What stands in each column.
#[derive(Debug, Default)]
struct Columns<'a> {
    seq: Vec<i64>,
    time: Vec<Timestamp>,
    event: Vec<String>,
    request_id: Vec<Option<Uuid>>,
    texts: [Vec<Option<String>>; 6],
    intent: Vec<Option<i64>>,
    status: Vec<Option<i16>>,
    hash: Vec<Vec<u8>>,
    line: Vec<&'a str>,
}

impl<'a> Columns<'a> {
    fn of(lines: &'a [String]) -> Self {
        let mut columns = Self::default();
        for line in lines {
            let Ok(record) = serde_json::from_str::<Line<'_>>(line) else {
                continue;
            };
            let Some(hash) = Hash::parse(&record.hash) else {
                continue;
            };
            columns.seq.push(number(record.seq));
            columns.time.push(record.time.parse().unwrap_or_default());
            columns.event.push(record.event.replace('\0', ""));
            let request_id = record.request_id.as_ref();
            columns
                .request_id
                .push(request_id.and_then(|id| id.parse().ok()));
            let texts = [
                &record.caller_request_id,
                &record.tenant,
                &record.token,
                &record.user,
                &record.credential,
                &record.outcome,
            ];
            for (column, text) in columns.texts.iter_mut().zip(texts) {
                // The database knows no NUL in a text; the line has it as it was.
                column.push(text.as_ref().map(|text| text.replace('\0', "")));
            }
            columns.intent.push(record.intent.map(number));
            let status = record.status.and_then(|status| status.try_into().ok());
            columns.status.push(status);
            columns.hash.push(hash.to_bytes().to_vec());
            columns.line.push(line);
        }
        columns
    }

    fn parameters<'b>(&'b self, chain: &'b Uuid) -> Vec<Parameter<'b>> {
        let [caller_request_id, tenant, token, user, credential, outcome] = &self.texts;
        vec![
            (chain, Type::UUID),
            (&self.seq, Type::INT8_ARRAY),
            (&self.time, Type::TIMESTAMPTZ_ARRAY),
            (&self.event, Type::TEXT_ARRAY),
            (&self.request_id, Type::UUID_ARRAY),
            (caller_request_id, Type::TEXT_ARRAY),
            (tenant, Type::TEXT_ARRAY),
            (token, Type::TEXT_ARRAY),
            (user, Type::TEXT_ARRAY),
            (credential, Type::TEXT_ARRAY),
            (&self.intent, Type::INT8_ARRAY),
            (outcome, Type::TEXT_ARRAY),
            (&self.status, Type::INT2_ARRAY),
            (&self.hash, Type::BYTEA_ARRAY),
            (&self.line, Type::TEXT_ARRAY),
        ]
    }

    /// Event and time of the last record.
    fn end(&self) -> (String, Timestamp) {
        let event = self.event.last().cloned();
        let time = self.time.last().copied();
        (event.unwrap_or_default(), time.unwrap_or_default())
    }

    /// The first number and the last.
    fn bounds(&self) -> (i64, i64) {
        let first = self.seq.first().copied();
        let end = self.seq.last().copied();
        (first.unwrap_or_default(), end.unwrap_or_default())
    }
}

/// A record's number and hash, as the database has them.
pub fn head(seq: i64, hash: &[u8]) -> Option<Head> {
    Some(Head {
        seq: u64::try_from(seq).ok()?,
        hash: Hash::from_bytes(hash)?,
    })
}

fn line_head(line: &str) -> Option<Head> {
    let record: Line<'_> = serde_json::from_str(line).ok()?;
    Some(Head {
        seq: record.seq,
        hash: Hash::parse(&record.hash)?,
    })
}

fn number(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}

fn unreadable(error: std::io::Error) -> Failure {
    Failure::new(Reason::Trail, format!("the trail cannot be read: {error}"))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn heads(seqs: impl Iterator<Item = u64>) -> Vec<Head> {
        let hash = Hash::first();
        seqs.map(|seq| Head { seq, hash }).collect()
    }

    #[tokio::test]
    async fn the_place_in_a_trail_of_ten_thousand_segments_takes_few_questions() {
        // Pruned: it does not begin with record 1.
        let heads = heads((0..10_000).map(|n| 700_001 + 1_000 * n));
        for there in [
            0,
            700_000,
            700_001,
            704_500,
            5_000_000,
            10_699_001,
            u64::MAX,
        ] {
            let asked = Cell::new(0);
            let is_there = async |head: Head| {
                asked.set(asked.get() + 1);
                Ok(head.seq <= there)
            };
            let found = last_there(&heads, is_there).await.unwrap();
            let right = heads.iter().rfind(|head| head.seq <= there);
            assert_eq!(found.as_ref(), right, "{there}");
            assert!(asked.get() <= 14, "{}", asked.get());
        }
        let none = last_there(&[], async |_| Ok(true)).await.unwrap();
        assert_eq!(none, None);
    }

    #[tokio::test]
    async fn what_the_database_does_not_answer_ends_the_search() {
        let refused = async |_| Err(Failure::new(Reason::Timeout, "no answer"));
        let found = last_there(&heads(1..9), refused).await;
        assert_eq!(found.unwrap_err().reason, Reason::Timeout);
    }
}
