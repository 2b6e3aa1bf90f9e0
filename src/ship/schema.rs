//! The tables, and how they come to be. An operator makes them, with a role that owns
//! them; gateways only look whether they are those that they know.

use tokio_postgres::{Client, Row, Transaction, types::Type};

use super::{
    database::begin_asking,
    fault::{Failure, Reason},
};

/// The version of the tables that this program knows.
pub const VERSION: i32 = 1;
/// What leads from each version to the next.
const STEPS: [&str; VERSION as usize] = [include_str!("schema/0001.sql")];
/// Where it is noted which of them were taken.
const VERSIONS: &str = "\
CREATE TABLE IF NOT EXISTS alloy_gateway.schema_version (
    version integer PRIMARY KEY,
    applied_at timestamptz NOT NULL DEFAULT now(),
    applied_by text NOT NULL
);
";
/// The tables of [`VERSION`], and what says that they are of it.
const TABLES: [&str; 2] = ["chain", "record"];
const NOTE: &str = "schema_version";
/// Which of these are there. The catalogue may be read by any role, whatever its rights.
const THERE: &str = "\
SELECT c.relname::text FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'alloy_gateway' AND c.relname::text = ANY ($1)";
/// What an operator is to do where some are missing that were there.
const GONE_ADVICE: &str = "somebody dropped it, with all that it held. Restore it from a backup; or keep what is left (pg_dump -n alloy_gateway), and make all anew: DROP SCHEMA alloy_gateway CASCADE, then `alloy-gateway audit migrate`, then the rights of docs/fleet.md. Gateways collect again what is still on their disks, and what retention removed there is gone";
/// Who makes or changes the tables holds this lock: a number of our own.
const LOCK: i64 = 0x0061_6c6c_6f79_6777;
/// What an operator is to do about tables.
const ADVICE: &str = "`alloy-gateway audit migrate` makes them, with a role that may";

/// What [`migrate`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Migrated {
    /// The version that was there; 0 for none.
    pub from: i32,
    /// The version that is there.
    pub to: i32,
}

/// All of it as SQL, for those who let nothing but their own tools make tables.
pub fn sql() -> String {
    let mut text = format!("CREATE SCHEMA IF NOT EXISTS alloy_gateway;\n{VERSIONS}");
    for (version, step) in (1..).zip(STEPS) {
        text += step;
        text += &note(version);
    }
    text
}

/// Brings the tables to [`VERSION`], in one transaction. Many may do so at once: one of
/// them does it.
///
/// # Errors
///
/// If the tables are newer than this program, or are noted and not there, or the database
/// refuses, or cannot hold every text.
pub async fn migrate(client: &mut Client) -> Result<Migrated, Failure> {
    // A lock is waited for, however long: whoever makes the tables has it.
    let transaction = client.transaction().await?;
    holds_all_texts(&transaction).await?;
    transaction
        .query_typed("SELECT pg_advisory_xact_lock($1)", &[(&LOCK, Type::INT8)])
        .await?;
    // CREATE SCHEMA wants a right on the database, also where the schema is there.
    let schemas = transaction
        .query_typed(
            "SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = 'alloy_gateway'",
            &[],
        )
        .await?;
    if schemas.is_empty() {
        transaction
            .batch_execute("CREATE SCHEMA alloy_gateway")
            .await?;
    }
    transaction.batch_execute(VERSIONS).await?;
    let found = transaction.query_typed(LATEST, &[]).await?;
    let from = version(&found)?;
    if from > VERSION {
        return Err(newer(from));
    }
    let known = usize::try_from(from).unwrap_or_default();
    for (version, step) in (1..).zip(STEPS).skip(known) {
        transaction.batch_execute(step).await?;
        transaction.batch_execute(&note(version)).await?;
    }
    are_all_there(&transaction).await?;
    transaction.commit().await?;
    Ok(Migrated { from, to: VERSION })
}

/// Whether the tables are those that this program knows.
///
/// # Errors
///
/// If they are not, or not there, or the database cannot hold every text.
pub async fn check(client: &mut Client) -> Result<(), Failure> {
    let transaction = begin_asking(client).await?;
    holds_all_texts(&transaction).await?;
    let found = transaction
        .query_typed(LATEST, &[])
        .await
        .map_err(|error| {
            let failure = Failure::from(error);
            match failure.reason {
                Reason::Schema => Failure::new(
                    Reason::Schema,
                    format!("the database has no tables for trails: {ADVICE}"),
                ),
                _ => failure,
            }
        })?;
    match version(&found)? {
        VERSION => {
            are_all_there(&transaction).await?;
            Ok(transaction.commit().await?)
        }
        newer_one if newer_one > VERSION => Err(newer(newer_one)),
        older => Err(Failure::new(
            Reason::Schema,
            format!(
                "the database's tables are of version {older}, this program needs {VERSION}: {ADVICE}"
            ),
        )),
    }
}

/// Whether the database can hold every text: one that it has no characters for would end
/// the collecting for good, and whoever can write a trail's directory could put it there.
async fn holds_all_texts(transaction: &Transaction<'_>) -> Result<(), Failure> {
    let found = transaction
        .query_typed("SELECT current_setting('server_encoding')", &[])
        .await?;
    let encoding: Option<String> = found.first().map(|row| row.try_get(0)).transpose()?;
    match encoding.as_deref() {
        // The other one keeps bytes as they come.
        Some("UTF8" | "SQL_ASCII") | None => Ok(()),
        Some(other) => Err(Failure::new(
            Reason::Schema,
            format!(
                "the database's encoding is {other}, which has no place for some characters of a trail: make one with ENCODING 'UTF8'"
            ),
        )),
    }
}

/// Whether the tables are there to be read, of whatever version; for a role that may not
/// look at that.
///
/// # Errors
///
/// If one is missing.
pub async fn is_there(client: &mut Client) -> Result<(), Failure> {
    let transaction = begin_asking(client).await?;
    are_all_there(&transaction).await?;
    Ok(transaction.commit().await?)
}

/// Whether the tables are there, and not only a note of their version.
async fn are_all_there(transaction: &Transaction<'_>) -> Result<(), Failure> {
    let asked = [&TABLES[..], &[NOTE]].concat();
    let rows = transaction
        .query_typed(THERE, &[(&asked, Type::TEXT_ARRAY)])
        .await?;
    let there = rows.iter().map(|row| row.try_get(0));
    let there: Vec<String> = there.collect::<Result<_, _>>()?;
    let is_missing = |name: &&str| !there.iter().any(|it| it == *name);
    let missing: Vec<_> = TABLES.into_iter().filter(is_missing).collect();
    if missing.is_empty() {
        return Ok(());
    }
    if there.is_empty() {
        return Err(none());
    }
    let names = missing.iter().map(|name| format!("alloy_gateway.{name}"));
    let missing: Vec<_> = names.map(|name| format!("{name} is missing")).collect();
    Err(Failure::new(
        Reason::Schema,
        format!("{}: {GONE_ADVICE}", missing.join(", ")),
    ))
}

fn none() -> Failure {
    Failure::new(
        Reason::Schema,
        format!("the database has no tables for trails: {ADVICE}"),
    )
}

/// 0 if none is noted.
fn version(found: &[Row]) -> Result<i32, Failure> {
    let found: Option<Option<i32>> = found.first().map(|row| row.try_get(0)).transpose()?;
    Ok(found.flatten().unwrap_or(0))
}

const LATEST: &str = "SELECT max(version) FROM alloy_gateway.schema_version";

fn newer(found: i32) -> Failure {
    Failure::new(
        Reason::Schema,
        format!(
            "the database's tables are of version {found}, this program knows {VERSION}: it leaves them alone; use a newer program"
        ),
    )
}

fn note(version: i32) -> String {
    format!(
        "INSERT INTO alloy_gateway.schema_version (version, applied_by) VALUES ({version}, 'alloy-gateway {}');\n",
        env!("CARGO_PKG_VERSION")
    )
}
