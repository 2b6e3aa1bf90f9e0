//! Questions to the database about calls, joined as the trail's own query joins them. Rows
//! come as they are read: neither side holds more than a few of them.

use std::{collections::BTreeMap, pin::pin};

use futures_util::TryStreamExt;
use jiff::SignedDuration;
use tokio_postgres::{
    Client,
    types::{ToSql, Type},
};
use uuid::Uuid;

use super::{
    columns::{line, name, text},
    fault::Failure,
    schema,
};
use crate::audit::{
    self, End, Fault, Filter, Known, Row, Summary, Wrong,
    event::{INTENT, OF_CALLS, OPENED, OUTCOME},
    format::MAC,
};

/// How much earlier than its beginning a call's end may be dated.
const SLACK: SignedDuration = SignedDuration::from_hours(1);

/// What is to be said beside the rows of a question.
#[derive(Debug)]
pub struct Asked {
    /// Rows, and the first record that is not what was hashed.
    pub found: Summary,
    /// There were records that only the `mac_key` can verify, and it was not given.
    pub wants_key: bool,
}

/// An owned parameter of a statement, and its type.
type Parameter = (Box<dyn ToSql + Sync + Send>, Type);

/// Gives each row that is wanted to `each`, in the order of time. `gateway`: only calls
/// of gateways of that name. Each record is held against its own hash; whether records
/// are missing tells [`verify`](super::verify()) alone.
///
/// # Errors
///
/// If its tables are not there, or the database refuses.
pub async fn ask(
    client: &mut Client,
    filter: &Filter,
    gateway: Option<&str>,
    known: &Known,
    mut each: impl FnMut(Row),
) -> Result<Asked, Failure> {
    schema::is_there(client).await?;
    let (sql, parameters) = question(filter, gateway);
    let rows = client.query_typed_raw(&sql, parameters).await?;
    let mut rows = pin!(rows);
    let mut found = Summary::none();
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

/// What is wrong with a call that begins with this record.
fn wrong_at(gateway: Option<&str>, chain: Uuid, seq: u64, fault: Fault) -> Wrong {
    Wrong {
        file: name(gateway, chain),
        line: seq,
        seq: Some(seq),
        fault,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use jiff::Timestamp;

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
