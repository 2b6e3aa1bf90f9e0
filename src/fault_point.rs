//! Places where tests end the process, as a kill would: only in debug builds,
//! and only if the environment names the place.

/// Between which stages a process can be ended.
pub const POINTS: [&str; 5] = [
    "admitted",
    "intent-durable",
    "request-built",
    "answer-read",
    "outcome-durable",
];

/// Ends the process here if `ALLOY_GATEWAY_ABORT_AT` names this place. In a
/// release build there is nothing here.
#[inline]
pub fn reach(point: &'static str) {
    #[cfg(debug_assertions)]
    {
        use std::sync::OnceLock;
        static NAMED: OnceLock<Option<String>> = OnceLock::new();
        let named = NAMED.get_or_init(|| std::env::var("ALLOY_GATEWAY_ABORT_AT").ok());
        if named.as_deref() == Some(point) {
            // Like SIGKILL: nothing is flushed, dropped or unwound.
            std::process::abort();
        }
    }
    #[cfg(not(debug_assertions))]
    let _ = point;
}
