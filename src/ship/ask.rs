//! Questions to the database: calls, joined as the trail's own query joins them, and
//! whether each chain is as it was written. Rows come as they are read: neither side
//! holds more than a few of them.

use std::{collections::BTreeMap, pin::pin, time::Duration};

use futures_util::TryStreamExt;
use jiff::{SignedDuration, Timestamp};
use tokio_postgres::{
    Client, IsolationLevel, Row as Columns, Transaction,
    types::{ToSql, Type},
};
use uuid::Uuid;

use super::{
    cursor::{head, number},
    fault::Failure,
    write::{TEXT_MAX, text_of_column},
};
use crate::audit::{
    self, End, Fault, Filter, Found, Head, Known, LINE_BYTES_MAX, Line, LineCheck, Report, Row,
    Wrong,
    event::{INTENT, OF_CALLS, OPENED, OUTCOME, SEALED},
    format::MAC,
};

/// How much earlier than its beginning a call's end may be dated.
const SLACK: SignedDuration = SignedDuration::from_hours(1);

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

/// What is to be said beside the rows of a question.
#[derive(Debug)]
pub struct Asked {
    /// Rows, and the first record that is not what was hashed.
    pub found: Found,
    /// There were records that only the `mac_key` can verify, and it was not given.
    pub wants_key: bool,
}

/// An owned parameter of a statement, and its type.
type Parameter = (Box<dyn ToSql + Sync + Send>, Type);

/// Gives each row that is wanted to `each`, in the order of time. `gateway`: only calls
/// of gateways of that name. Each record is held against its own hash; whether records
/// are missing tells [`verify`] alone.
///
/// # Errors
///
/// If the database refuses.
pub async fn ask(
    client: &Client,
    filter: &Filter,
    gateway: Option<&str>,
    known: &Known,
    mut each: impl FnMut(Row),
) -> Result<Asked, Failure> {
    let (sql, parameters) = question(filter, gateway);
    let rows = client.query_typed_raw(&sql, parameters).await?;
    let mut rows = pin!(rows);
    let mut found = Found::none();
    // The first one of each chain: that one has a key says nothing of another.
    let mut doubtful = BTreeMap::new();
    // What is so whatever the key is.
    let mut unreadable = None;
    while let Some(columns) = rows.try_next().await? {
        let (gateway, chain): (Option<String>, Uuid) = (columns.try_get(0)?, columns.try_get(1)?);
        let (first, end): (&str, Option<&str>) = (columns.try_get(2)?, columns.try_get(3)?);
        let seq = u64::try_from(columns.try_get::<_, i64>(4)?).unwrap_or_default();
        let (row, fault) = audit::row(first, end, known);
        match fault {
            None => {}
            Some(fault @ (Fault::Unreadable(_) | Fault::TooLong)) => {
                let wrong = || wrong_at(gateway.as_deref(), chain, seq, fault);
                unreadable.get_or_insert_with(wrong);
            }
            Some(fault) => {
                let first = || (gateway.clone(), seq, fault);
                doubtful.entry(chain).or_insert_with(first);
            }
        }
        // Refusals that were counted together may be others than of calls.
        let Some(mut row) = row else {
            continue;
        };
        row.gateway = gateway;
        if filter.wants(&row) {
            found.count(&row);
            each(row);
        }
    }
    let mut wants_key = false;
    found.wrong = unreadable;
    for (chain, (gateway, seq, fault)) in doubtful {
        if known.mac_key.is_none() && is_keyed(client, chain).await? {
            wants_key = true;
            continue;
        }
        let wrong = || wrong_at(gateway.as_deref(), chain, seq, fault);
        found.wrong.get_or_insert_with(wrong);
        break;
    }
    Ok(Asked { found, wants_key })
}

/// The statement that answers a question. Values are parameters, always.
fn question(filter: &Filter, gateway: Option<&str>) -> (String, Vec<Parameter>) {
    let mut sql = rows_of_all();
    let mut parameters: Vec<Parameter> = Vec::new();
    let mut next = |parameter: Parameter| {
        parameters.push(parameter);
        parameters.len()
    };
    let texts = [
        ("c.gateway", gateway.map(ToOwned::to_owned)),
        ("r.tenant", filter.tenant.clone()),
        ("r.token", filter.token.clone()),
        ("r.user_id", filter.user.clone()),
        ("r.credential_id", filter.credential.clone()),
    ];
    for (column, text) in texts {
        if let Some(text) = text {
            let at = next((Box::new(text), Type::TEXT));
            sql += &format!(" AND {column} = ${at}");
        }
    }
    if let Some(id) = &filter.request_id {
        let at = next((Box::new(id.clone()), Type::TEXT));
        // Ours is one; a caller's own may be anything.
        let ours = id.parse::<Uuid>().ok();
        let ours = ours.map(|id| next((Box::new(id), Type::UUID)));
        let ours = ours.map_or_else(String::new, |at| format!(" OR r.request_id = ${at}"));
        sql += &format!(" AND (r.caller_request_id = ${at}{ours})");
    }
    for (than, time) in [(">=", filter.since), ("<", filter.until)] {
        if let Some(time) = time {
            let at = next((Box::new(time), Type::TIMESTAMPTZ));
            sql += &format!(" AND r.time {than} ${at}");
        }
    }
    match filter.ended {
        None => {}
        Some(End::Refused) => sql += &format!(" AND r.event <> '{INTENT}'"),
        Some(End::Open) => sql += &format!(" AND r.event = '{INTENT}' AND o.seq IS NULL"),
        Some(End::Outcome(kind)) => {
            // By its name, as the index has it: a name that nobody knows is in doubt too, and
            // asking for all others would read every outcome.
            let at = next((Box::new(kind.as_str()), Type::TEXT));
            sql += &format!(" AND o.outcome = ${at}");
            // A call ends after it began, but for clocks that are set.
            let since = filter.since.and_then(|since| since.checked_sub(SLACK).ok());
            if let Some(since) = since {
                let at = next((Box::new(since), Type::TIMESTAMPTZ));
                sql += &format!(" AND o.time >= ${at}");
            }
        }
    }
    sql += " ORDER BY r.time, r.chain, r.seq";
    (sql, parameters)
}

/// The first record of each row, with the outcome of its call.
fn rows_of_all() -> String {
    let first = OF_CALLS.iter().filter(|event| **event != OUTCOME);
    let first: Vec<_> = first.map(|event| format!("'{event}'")).collect();
    let first = first.join(", ");
    let [gateway, line, end] = [text("c.gateway"), line("r.line"), line("o.line")];
    format!(
        "\
SELECT {gateway}, r.chain, {line}, {end}, r.seq FROM alloy_gateway.record r
LEFT JOIN alloy_gateway.chain c ON c.id = r.chain
LEFT JOIN alloy_gateway.record o ON r.event = '{INTENT}' AND o.request_id = r.request_id AND o.chain = r.chain AND o.intent = r.seq
WHERE r.intent IS NULL AND r.event IN ({first})"
    )
}

async fn is_keyed(client: &Client, chain: Uuid) -> Result<bool, Failure> {
    // So written that the index of these records is used.
    let sql = format!(
        "SELECT 1 FROM alloy_gateway.record WHERE chain = $1 AND event = '{OPENED}' AND line LIKE '%\"mac\":\"{MAC}\"%' ORDER BY seq LIMIT 1"
    );
    let rows = client.query_typed(&sql, &[(&chain, Type::UUID)]).await?;
    Ok(!rows.is_empty())
}

/// Reads each chain whole and tells what was found, in constant memory. `gateway`: only
/// chains of gateways of that name.
///
/// # Errors
///
/// If the database refuses.
pub async fn verify(
    client: &mut Client,
    known: &Known,
    gateway: Option<&str>,
    mut each: impl FnMut(ChainReport),
) -> Result<(), Failure> {
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

/// A column as far as any of ours goes, and a little further, so that another one differs:
/// bytes, where the database counts those.
fn text(column: &str) -> String {
    format!("left({column}, {})", 4 * TEXT_MAX + 1)
}

/// A line, or, instead of one that is too long to be read, one that is so, too.
fn line(column: &str) -> String {
    format!(
        "CASE WHEN octet_length({column}) < {LINE_BYTES_MAX} THEN {column} WHEN {column} IS NOT NULL THEN rpad('', {LINE_BYTES_MAX}) END"
    )
}

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

/// What is wrong with a call that begins with this record.
fn wrong_at(gateway: Option<&str>, chain: Uuid, seq: u64, fault: Fault) -> Wrong {
    Wrong {
        file: name(gateway, chain),
        line: seq,
        seq: Some(seq),
        fault,
    }
}

/// How a chain is called in messages.
fn name(gateway: Option<&str>, chain: Uuid) -> String {
    match gateway {
        Some(gateway) => format!("{gateway} (chain {chain})"),
        None => format!("a gateway without a row in alloy_gateway.chain (chain {chain})"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::audit::OutcomeKind;

    #[test]
    fn what_somebody_asks_for_is_never_a_part_of_the_statement() {
        let odd = "'; DROP TABLE alloy_gateway.record; --".to_owned();
        let filter = Filter {
            tenant: Some(odd.clone()),
            token: Some(odd.clone()),
            user: Some(odd.clone()),
            credential: Some(odd.clone()),
            request_id: Some(odd.clone()),
            ended: Some(End::Outcome(OutcomeKind::Deleted)),
            since: Some(Timestamp::UNIX_EPOCH),
            until: Some(Timestamp::UNIX_EPOCH),
        };
        let (sql, parameters) = question(&filter, Some(&odd));
        assert!(!sql.contains("DROP"), "{sql}");
        assert_eq!(parameters.len(), 10);
        assert!(sql.contains("$10") && !sql.contains("$11"), "{sql}");
    }

    #[test]
    fn each_end_is_asked_for_in_its_own_way() {
        let asked = End::ALL.map(|ended| {
            let ended = Some(ended);
            let filter = Filter {
                ended,
                ..Filter::default()
            };
            let (sql, parameters) = question(&filter, None);
            let values: Vec<_> = parameters.iter().map(|(value, _)| value).collect();
            format!("{sql} {values:?}")
        });
        let different: BTreeSet<_> = asked.iter().collect();
        assert_eq!(different.len(), asked.len(), "{asked:?}");
    }
}
