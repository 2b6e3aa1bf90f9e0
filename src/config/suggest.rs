//! What somebody probably meant.

use crate::token::looks_like_token;

/// The longest text that is repeated to people: a name, not a secret.
const QUOTED_MAX: usize = 24;

/// `; did you mean x?`, or nothing if nothing is near.
pub fn did_you_mean<'a>(found: &str, allowed: impl Iterator<Item = &'a str>) -> String {
    let near = allowed
        .filter(|candidate| is_repeatable(candidate))
        .map(|candidate| (strsim::damerau_levenshtein(found, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= candidate.len().max(3) / 3)
        .min();
    near.map_or_else(String::new, |(_, candidate)| {
        format!(", did you mean {candidate}?")
    })
}

/// A found text as it may be repeated, in quotes.
pub fn quote(found: &str) -> String {
    if found.is_empty() {
        "nothing".to_owned()
    } else if is_repeatable(found) {
        format!("{found:?}")
    } else {
        format!("a text of {} bytes", found.len())
    }
}

/// Whether a text is short and plain: somebody may have put a secret into the
/// wrong field.
pub fn is_repeatable(found: &str) -> bool {
    let is_plain = found.bytes().all(|b| b.is_ascii_graphic() || b == b' ');
    found.len() <= QUOTED_MAX && is_plain && !looks_like_token(found)
}
