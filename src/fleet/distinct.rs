//! How many different things a fleet saw within a span.

use std::time::Duration;

use super::{board::Trouble, nodes::Client, resp, script::DISTINCT};

/// How long an answer may take that no call waits for.
const PATIENCE: Duration = Duration::from_secs(1);

/// Notes that `what` was seen now; how many different things were seen under this
/// name within `span`, it included.
///
/// # Errors
///
/// If the store does not answer; it may have been noted all the same, and noting it
/// again changes nothing.
pub async fn count(
    client: &Client,
    name: &str,
    what: u128,
    span: Duration,
) -> Result<u64, Trouble> {
    let name = full(client, name);
    let what = format!("{what:032x}");
    let span_ms = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    let asked = client.ask(name.as_bytes(), PATIENCE, |out, as_text| {
        DISTINCT.call(out, as_text, 1, 2);
        resp::part(out, name.as_bytes());
        resp::part(out, what.as_bytes());
        resp::number(out, span_ms);
    });
    let count = asked
        .await?
        .number()
        .and_then(|count| u64::try_from(count).ok());
    count.ok_or(Trouble::Error)
}

/// Forgets all that was seen under this name.
///
/// # Errors
///
/// If the store does not answer; it may be forgotten all the same.
pub async fn forget(client: &Client, name: &str) -> Result<(), Trouble> {
    let name = full(client, name);
    let asked = client.ask(name.as_bytes(), PATIENCE, |out, _| {
        resp::command(out, &[b"DEL", name.as_bytes()]);
    });
    asked.await.map(drop)
}

fn full(client: &Client, name: &str) -> String {
    format!("{}:{name}", client.store().prefix())
}
