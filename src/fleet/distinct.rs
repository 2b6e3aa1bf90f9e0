//! How many different things a fleet saw within a span.

use std::time::Duration;

use super::{BESIDE_PATIENCE, nodes::Client, resp, script::SEEN, trouble::Trouble};

/// Notes that `what` was seen so long `ago`; how many different things were seen under
/// this name within `span`, it included unless that is longer ago. The clock is the
/// store's: those of the gateways need not agree.
///
/// # Errors
///
/// If the store does not answer; it may have been noted all the same, and noting it
/// again changes nothing.
pub async fn count(
    client: &Client,
    name: &str,
    what: &str,
    ago: Duration,
    span: Duration,
) -> Result<u64, Trouble> {
    let name = full(client, name);
    let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    let asked = client.ask(name.as_bytes(), BESIDE_PATIENCE, |out, as_text| {
        SEEN.call(out, as_text, 1, 3);
        resp::part(out, name.as_bytes());
        resp::part(out, what.as_bytes());
        resp::number(out, millis(span));
        resp::number(out, millis(ago));
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
    let asked = client.ask(name.as_bytes(), BESIDE_PATIENCE, |out, _| {
        resp::command(out, &[b"DEL", name.as_bytes()]);
    });
    asked.await.map(drop)
}

/// The name as the store has it.
pub(super) fn full(client: &Client, name: &str) -> String {
    format!("{}:{name}", client.store().prefix())
}
