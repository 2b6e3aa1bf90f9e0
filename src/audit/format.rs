//! Words of the format that are written in one place and looked for in another. The names
//! of events are in [`event`](super::event).

/// A number that stands within words, too.
macro_rules! version {
    () => {
        1
    };
}

/// The version of the format: `v` of each record.
pub const VERSION: u32 = version!();

/// What each record begins with; its number follows.
pub const BEFORE_SEQ: &str = concat!("{\"v\":", version!(), ",\"seq\":");
/// What stands between a record's number and its time.
pub const BEFORE_TIME: &str = ",\"time\":\"";
/// What stands between a record's content and its hash.
pub const BEFORE_HASH: &str = ",\"hash\":\"";
/// What ends a line.
pub const AFTER_HASH: &str = "\"}\n";

/// `mac` of a `trail.opened` whose trail has a key.
pub const MAC: &str = "hmac-sha256";

/// `code` of `refusals.coalesced`, where these were `connection.refused`.
pub const CODE_OF_CONNECTIONS: &str = "connection-refused";
/// `code` of `refusals.coalesced`, where these were `admin.refused`.
pub const CODE_OF_GUESSES: &str = "admin-refused";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_is_described_in_these_words() {
        let format = include_str!("../../docs/audit-format.md");
        for word in [
            format!("| the version of this format: {VERSION} |"),
            format!("(`{BEFORE_SEQ}`, the next number, `{BEFORE_TIME}`)"),
            format!(
                "up to, not including, `{}`",
                BEFORE_HASH.trim_end_matches('"')
            ),
            format!("`mac` is `{MAC}` with a key"),
            format!("\n| `{CODE_OF_CONNECTIONS}` | `connection.refused` "),
            format!("\n| `{CODE_OF_GUESSES}` | `admin.refused`"),
        ] {
            assert!(format.contains(&word), "{word}");
        }
    }
}
