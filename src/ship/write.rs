//! What is written behind the record where the database stands.

use jiff::Timestamp;
use tokio_postgres::{
    Client,
    types::{ToSql, Type},
};
use uuid::Uuid;

use super::{
    cursor::{Cursor, HASHES, Numbered, by_number, number},
    database::{ask_one, begin},
    fault::{Failure, Reason},
};
use crate::audit::{Batch, Hash, Line};

/// A parameter of a statement, and its type.
type Parameter<'a> = (&'a (dyn ToSql + Sync), Type);

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
    let transaction = begin(client).await?;
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
        let asked = Numbered::of(&cursor.chain, &columns.seq);
        let asked = asked.parameters();
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
pub async fn seen(client: &mut Client, cursor: &Cursor, gateway: &str) -> Result<(), Failure> {
    let parameters: [Parameter<'_>; 2] = [(&cursor.chain, Type::UUID), (&gateway, Type::TEXT)];
    ask_one(client, SEEN, &parameters).await?;
    Ok(())
}

/// Characters of a text in a column: ours have fewer, and the database refuses to index
/// what has more than some 2,700 bytes.
pub const TEXT_MAX: usize = 512;

/// A text as it stands in its column. The database knows no NUL in a text, and an index
/// takes no long one; the line has it as it was.
pub fn text_of_column(text: &str) -> String {
    let characters = text.chars().filter(|character| *character != '\0');
    characters.take(TEXT_MAX).collect()
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
            columns.event.push(text_of_column(&record.event));
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
                column.push(text.as_deref().map(text_of_column));
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
}
