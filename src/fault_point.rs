//! Places where tests end the process, as a kill would, or panic, as a bug would:
//! only in debug builds, and only if the environment names the place.

/// Between which stages of a call. Beside them there are `worker-starts` and
/// `worker-serves`, where no call is under way.
pub const POINTS: [&str; 6] = [
    "admitted",
    "intent-durable",
    "request-built",
    "answer-read",
    "outcome-durable",
    "answer-made",
];

/// Ends the process here if `ALLOY_GATEWAY_ABORT_AT` names this place, panics if
/// `ALLOY_GATEWAY_PANIC_AT` does. In a release build there is nothing here.
#[inline]
#[cfg_attr(
    debug_assertions,
    allow(clippy::panic, reason = "only where a test asks for it")
)]
pub fn reach(point: &'static str) {
    #[cfg(debug_assertions)]
    {
        use std::sync::OnceLock;
        static ABORT: OnceLock<Option<String>> = OnceLock::new();
        static PANIC: OnceLock<Option<String>> = OnceLock::new();
        let is_named = |named: &OnceLock<Option<String>>, variable| {
            named
                .get_or_init(|| std::env::var(variable).ok())
                .as_deref()
                == Some(point)
        };
        if is_named(&ABORT, "ALLOY_GATEWAY_ABORT_AT") {
            // Like SIGKILL: nothing is flushed, dropped or unwound.
            std::process::abort();
        }
        if is_named(&PANIC, "ALLOY_GATEWAY_PANIC_AT") {
            std::panic::panic_any("a bug that a test asked for");
        }
    }
    #[cfg(not(debug_assertions))]
    let _ = point;
}
