//! Columns as they are read back. Whoever may write there may have put anything into them:
//! none is read further than ours go.

use uuid::Uuid;

use super::write::TEXT_MAX;
use crate::audit::LINE_BYTES_MAX;

/// A column as far as any of ours goes, and a little further, so that another one differs:
/// bytes, where the database counts those.
pub fn text(column: &str) -> String {
    format!("left({column}, {})", 4 * TEXT_MAX + 1)
}

/// A line, or, instead of one that is too long to be read, one that is so, too.
pub fn line(column: &str) -> String {
    format!(
        "CASE WHEN octet_length({column}) < {LINE_BYTES_MAX} THEN {column} WHEN {column} IS NOT NULL THEN rpad('', {LINE_BYTES_MAX}) END"
    )
}

/// How a chain is called in messages.
pub fn name(gateway: Option<&str>, chain: Uuid) -> String {
    match gateway {
        Some(gateway) => format!("{gateway} (chain {chain})"),
        None => format!("a gateway without a row in alloy_gateway.chain (chain {chain})"),
    }
}
