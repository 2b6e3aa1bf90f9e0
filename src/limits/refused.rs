//! Why a call may not pass just now.

use std::time::Duration;

use crate::code::LimitedBy;

/// Why a call may not pass just now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// A limit is spent.
    RateLimited {
        /// Whose limit.
        by: LimitedBy,
        /// The limit's name, where it has one.
        policy: Option<String>,
        /// When a retry can pass.
        retry_after: Duration,
        /// Whether it was refused in the store that a fleet shares.
        by_store: bool,
    },
    /// The upstream failed several times in a row.
    CircuitOpen {
        /// When a retry can pass.
        retry_after: Duration,
    },
    /// As many wait as may, and nobody knows yet for how long.
    QueueFull,
}

impl Refused {
    /// When a retry can pass, as far as that is known.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after, .. } | Self::CircuitOpen { retry_after } => {
                Some(*retry_after)
            }
            Self::QueueFull => None,
        }
    }

    /// The same, with another time after which a retry can pass, where it has one.
    pub fn with_retry_after(mut self, span: Duration) -> Self {
        if let Self::RateLimited { retry_after, .. } | Self::CircuitOpen { retry_after } = &mut self
        {
            *retry_after = span;
        }
        self
    }
}
