//! What a line must be to be a record, before anything is held against the chain: the
//! same for each verifier, so that none is talked into another verdict.

use super::{Fault, LINE_BYTES_MAX};
use crate::audit::record::Line;

/// How deep the values of a record nest at most; ours are flat.
const DEPTH_MAX: i32 = 64;

/// Reads a whole line; what it is not, for people.
pub fn read(line: &[u8]) -> Result<Line<'_>, String> {
    let text =
        str::from_utf8(line).map_err(|error| format!("column {}", error.valid_up_to() + 1))?;
    if is_deep(line) {
        return Err(format!("its values nest more than {DEPTH_MAX} deep"));
    }
    serde_json::from_str(text).map_err(|error| format!("column {}", error.column()))
}

/// The same of a line that is given without its end, and may be longer than any.
pub fn read_alone(line: &str) -> Result<Line<'_>, Fault> {
    if is_too_long(line) {
        return Err(Fault::TooLong);
    }
    read(line.as_bytes()).map_err(Fault::Unreadable)
}

/// Whether a line without its end is longer than any that is read of a segment.
pub fn is_too_long(line: &str) -> bool {
    line.len() as u64 >= LINE_BYTES_MAX
}

/// Whether a line nests deeper than any record. The JSON of what nobody asks for is passed
/// over without recursion here, and not so by other programs.
pub fn is_deep(line: &[u8]) -> bool {
    let opened = memchr::memchr2_iter(b'{', b'[', line).count();
    if i32::try_from(opened).is_ok_and(|opened| opened <= DEPTH_MAX) {
        return false;
    }
    let (mut depth, mut is_text, mut is_escaped) = (0, false, false);
    line.iter().any(|byte| {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = is_text,
            b'"' => is_text = !is_text,
            b'{' | b'[' if !is_text => depth += 1,
            b'}' | b']' if !is_text => depth -= 1,
            _ => {}
        }
        depth > DEPTH_MAX
    })
}
