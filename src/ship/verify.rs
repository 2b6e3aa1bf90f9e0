//! Whether each chain in the database is as it was written.

use std::{pin::pin, time::Duration};

use futures_util::TryStreamExt;
use jiff::Timestamp;
use tokio_postgres::{Client, IsolationLevel, Row as Columns, Transaction, types::Type};
use uuid::Uuid;

use super::{
    columns::{line, name, text},
    cursor::{head, number},
    fault::Failure,
    schema,
    write::text_of_column,
};
use crate::audit::{Head, Known, Line, LineCheck, Report, event::SEALED};

/// How far the time at which a gateway was heard of may lie ahead: the clock of a database
/// that another one takes the place of differs a little.
const AHEAD_MAX: Duration = Duration::from_secs(5 * 60);

/// What stands in the database of one chain.
#[derive(Debug)]
pub struct ChainReport {
    /// What people call the gateway; `None` if the chain's own row is missing.
    pub gateway: Option<String>,
    /// The chain's id.
    pub chain: Uuid,
    /// What its records say, and whether they are as they were written.
    pub report: Report,
    /// How long the gateway has not been heard of, by the database's clock; `None` if it is
    /// said to have been heard of at a time that has not been.
    pub silent_for: Option<Duration>,
    /// Its last record is that of an orderly end.
    pub has_stopped: bool,
    /// The head that was noted elsewhere is in it.
    pub holds_expected: bool,
    /// It goes on from a chain that has more: the trail was set back, or copied.
    pub is_fork: bool,
    /// The first and the last of the records between a chain of the same trail and this
    /// one, which no chain has: they were removed before they were collected.
    pub missing: Option<(u64, u64)>,
}

/// Reads each chain whole and tells what was found, in constant memory. `gateway`: only
/// chains of gateways of that name.
///
/// # Errors
///
/// If its tables are not there, or the database refuses.
pub async fn verify(
    client: &mut Client,
    known: &Known,
    gateway: Option<&str>,
    mut each: impl FnMut(ChainReport),
) -> Result<(), Failure> {
    schema::is_there(client).await?;
    for chain in chains(client, gateway).await? {
        each(verify_one(client, known, chain).await?);
    }
    Ok(())
}

/// The chains that have a row of their own, and then those that have none.
async fn chains(client: &Client, gateway: Option<&str>) -> Result<Vec<Uuid>, Failure> {
    let rows = client
        .query_typed(
            "SELECT id FROM alloy_gateway.chain WHERE $1::text IS NULL OR gateway = $1 ORDER BY gateway, since, id",
            &[(&gateway, Type::TEXT)],
        )
        .await?;
    let mut chains = rows
        .iter()
        .map(|row| row.try_get(0))
        .collect::<Result<Vec<_>, _>>()?;
    if gateway.is_none() {
        // From one to the next by the index: counting all records would take long.
        let rows = client
            .query_typed(
                "\
WITH RECURSIVE found (id) AS (
    (SELECT r.chain FROM alloy_gateway.record r ORDER BY r.chain LIMIT 1)
    UNION ALL
    SELECT (SELECT r.chain FROM alloy_gateway.record r WHERE r.chain > f.id ORDER BY r.chain LIMIT 1)
    FROM found f WHERE f.id IS NOT NULL
)
SELECT f.id FROM found f WHERE f.id IS NOT NULL AND NOT EXISTS (SELECT 1 FROM alloy_gateway.chain c WHERE c.id = f.id)",
                &[],
            )
            .await?;
        for row in rows {
            chains.push(row.try_get(0)?);
        }
    }
    Ok(chains)
}

async fn verify_one(
    client: &mut Client,
    known: &Known,
    chain: Uuid,
) -> Result<ChainReport, Failure> {
    // What is written meanwhile must not look like a gap.
    let transaction = client
        .build_transaction()
        .isolation_level(IsolationLevel::RepeatableRead)
        .read_only(true)
        .start()
        .await?;
    let row = transaction
        .query_typed(
            &format!(
                "SELECT {}, origin, last_seq, {HASH_OF_CHAIN}, {}, CASE WHEN isfinite(seen_at) THEN extract(epoch FROM now() - seen_at)::float8 END FROM alloy_gateway.chain WHERE id = $1",
                text("gateway"),
                text("last_event"),
            ),
            &[(&chain, Type::UUID)],
        )
        .await?;
    let row = row.first();
    let gateway: Option<String> = row.map(|row| row.try_get(0)).transpose()?;
    let origin: Option<Uuid> = row.map(|row| row.try_get(1)).transpose()?;
    let end = row
        .map(|row| Ok::<_, Failure>(head(row.try_get(2)?, row.try_get(3)?)))
        .transpose()?
        .flatten();
    let last_event: Option<String> = row.map(|row| row.try_get(4)).transpose()?;
    let silent = row
        .map(|row| row.try_get::<_, Option<f64>>(5))
        .transpose()?;
    let mut check = LineCheck::new(name(gateway.as_deref(), chain), known);
    let records = transaction
        .query_typed_raw(&records_of_chain(), vec![(chain, Type::UUID)])
        .await?;
    let mut records = pin!(records);
    while let Some(columns) = records.try_next().await? {
        check.add(columns.try_get("line")?, |record| {
            differing(&columns, record)
        });
    }
    let origin = origin.filter(|origin| *origin != chain);
    let (mut is_fork, mut missing) = (origin.is_some(), None);
    if let (Some(origin), Some(before)) = (origin, check.begins_behind()) {
        is_fork = is_collected(&transaction, origin, &before).await?;
        if is_fork {
            check.explain_beginning();
        } else {
            missing = missing_until(&transaction, origin, before.seq).await?;
        }
    }
    // Without a row nobody says where it ends: that is wrong already.
    let end = end.unwrap_or_else(Head::empty);
    Ok(ChainReport {
        gateway,
        chain,
        holds_expected: check.holds_expected(),
        report: check.finish(Some(&end)),
        // Without a row nobody says it: that is wrong already.
        silent_for: silent_for(silent.unwrap_or(Some(0.0))),
        has_stopped: last_event.as_deref() == Some(SEALED),
        is_fork,
        missing,
    })
}

/// How long it is since a gateway was heard of so many seconds ago.
fn silent_for(seconds: Option<f64>) -> Option<Duration> {
    let seconds = seconds.filter(|seconds| *seconds > -AHEAD_MAX.as_secs_f64())?;
    Duration::try_from_secs_f64(seconds.max(0.0)).ok()
}

/// Whether some chain of a trail has this record.
async fn is_collected(
    transaction: &Transaction<'_>,
    origin: Uuid,
    head: &Head,
) -> Result<bool, Failure> {
    let (seq, hash) = (number(head.seq), head.hash.to_bytes().to_vec());
    let there = transaction
        .query_typed(
            "SELECT 1 FROM alloy_gateway.record r JOIN alloy_gateway.chain c ON c.id = r.chain WHERE c.origin = $1 AND r.seq = $2 AND r.hash = $3 LIMIT 1",
            &[
                (&origin, Type::UUID),
                (&seq, Type::INT8),
                (&hash, Type::BYTEA),
            ],
        )
        .await?;
    Ok(!there.is_empty())
}

/// The records up to this one that come behind all that is known of a trail. Where
/// nothing is, that says nothing: rows at the beginning may be deleted.
async fn missing_until(
    transaction: &Transaction<'_>,
    origin: Uuid,
    until: u64,
) -> Result<Option<(u64, u64)>, Failure> {
    let rows = transaction
        .query_typed(
            "SELECT max(last_seq) FROM alloy_gateway.chain WHERE origin = $1 AND last_seq < $2",
            &[(&origin, Type::UUID), (&number(until), Type::INT8)],
        )
        .await?;
    let last: Option<Option<i64>> = rows.first().map(|row| row.try_get(0)).transpose()?;
    let last = last.flatten().and_then(|last| u64::try_from(last).ok());
    Ok(last.map(|last| (last + 1, until)))
}

/// All that is held against the line of each record, and the line.
fn records_of_chain() -> String {
    let texts = [
        "event",
        "caller_request_id",
        "tenant",
        "token",
        "user_id",
        "credential_id",
        "outcome",
    ];
    let texts = texts.map(|name| format!("{} AS {name}", text(name)));
    format!(
        "\
SELECT seq, time, request_id, {}, intent, status, substr(hash, 1, 33) AS hash, {} AS line
FROM alloy_gateway.record WHERE chain = $1 ORDER BY seq",
        texts.join(", "),
        line("line"),
    )
}

/// A chain's last hash, or what is none: who put it there may have put much there.
const HASH_OF_CHAIN: &str = "substr(last_hash, 1, 33)";

/// The column that says something else than its line: whoever asks would be misled.
fn differing(columns: &Columns, record: &Line<'_>) -> Option<&'static str> {
    let is_text = |name: &str, said: Option<&str>| {
        let found: Option<Option<&str>> = columns.try_get(name).ok();
        found == Some(said.map(text_of_column).as_deref())
    };
    let is_number = |name: &str, said: Option<u64>| {
        let found: Option<Option<i64>> = columns.try_get(name).ok();
        found == Some(said.and_then(|said| i64::try_from(said).ok()))
    };
    let request_id = record.request_id.as_ref();
    let request_id: Option<Uuid> = request_id.and_then(|id| id.parse().ok());
    let status: Option<i16> = record.status.and_then(|status| status.try_into().ok());
    let time: Timestamp = record.time.parse().unwrap_or_default();
    let hash: &[u8] = columns.try_get("hash").unwrap_or_default();
    let number = |name| columns.try_get::<_, Option<i16>>(name).ok();
    [
        ("seq", is_number("seq", Some(record.seq))),
        ("time", columns.try_get("time").ok() == Some(time)),
        ("event", is_text("event", Some(&record.event))),
        (
            "request_id",
            columns.try_get("request_id").ok() == Some(request_id),
        ),
        (
            "caller_request_id",
            is_text("caller_request_id", record.caller_request_id.as_deref()),
        ),
        ("tenant", is_text("tenant", record.tenant.as_deref())),
        ("token", is_text("token", record.token.as_deref())),
        ("user_id", is_text("user_id", record.user.as_deref())),
        (
            "credential_id",
            is_text("credential_id", record.credential.as_deref()),
        ),
        ("intent", is_number("intent", record.intent)),
        ("outcome", is_text("outcome", record.outcome.as_deref())),
        ("status", number("status") == Some(status)),
        (
            "hash",
            head(0, hash).is_some_and(|it| it.hash.as_str() == &*record.hash),
        ),
    ]
    .into_iter()
    .find_map(|(name, is_same)| (!is_same).then_some(name))
}
