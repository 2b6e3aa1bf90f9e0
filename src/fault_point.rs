//! Places where tests end the process, as a kill would, or panic, as a bug would:
//! only in debug builds, and only if the environment names the place.

use crate::closed_list::closed_list;

closed_list! {
    /// A place where a test can make the process fail, as the environment names it.
    pub enum FaultPoint {
        /// A call passed all limits.
        Admitted => "admitted",
        /// Its intent is durable.
        IntentDurable => "intent-durable",
        /// Its request is made, and nothing of it is sent.
        RequestBuilt => "request-built",
        /// What became of it is known.
        AnswerRead => "answer-read",
        /// Its outcome is durable.
        OutcomeDurable => "outcome-durable",
        /// Its answer is made, and nothing of it is sent.
        AnswerMade => "answer-made",
        /// A worker begins, and does not serve yet.
        WorkerStarts => "worker-starts",
        /// A worker serves, and no call is under way.
        WorkerServes => "worker-serves",
    }
}

impl FaultPoint {
    /// Whether it lies between two stages of a call.
    pub fn is_of_a_call(self) -> bool {
        match self {
            Self::Admitted
            | Self::IntentDurable
            | Self::RequestBuilt
            | Self::AnswerRead
            | Self::OutcomeDurable
            | Self::AnswerMade => true,
            Self::WorkerStarts | Self::WorkerServes => false,
        }
    }

    /// Ends the process here if `ALLOY_GATEWAY_ABORT_AT` names this place, panics if
    /// `ALLOY_GATEWAY_PANIC_AT` does. In a release build there is nothing here.
    #[inline]
    #[cfg_attr(
        debug_assertions,
        allow(clippy::panic, reason = "only where a test asks for it")
    )]
    pub fn reach(self) {
        #[cfg(debug_assertions)]
        {
            use std::sync::OnceLock;
            static ABORT: OnceLock<Option<String>> = OnceLock::new();
            static PANIC: OnceLock<Option<String>> = OnceLock::new();
            let is_named = |named: &OnceLock<Option<String>>, variable| {
                let named = named.get_or_init(|| std::env::var(variable).ok());
                named.as_deref() == Some(self.as_str())
            };
            if is_named(&ABORT, "ALLOY_GATEWAY_ABORT_AT") {
                // Like SIGKILL: nothing is flushed, dropped or unwound.
                std::process::abort();
            }
            if is_named(&PANIC, "ALLOY_GATEWAY_PANIC_AT") {
                std::panic::panic_any("a bug that a test asked for");
            }
        }
    }
}
