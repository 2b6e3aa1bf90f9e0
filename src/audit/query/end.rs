//! How a row ended.

use crate::audit::record::OutcomeKind;

/// How a row ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum End {
    /// As its outcome says.
    Outcome(OutcomeKind),
    /// The gateway answered by itself.
    Refused,
    /// It has no outcome yet.
    #[default]
    Open,
}

impl End {
    /// Each, in the order in which they are told.
    pub const ALL: [Self; 7] = {
        let [first, second, third, fourth, fifth] = OutcomeKind::ALL;
        [
            Self::Outcome(first),
            Self::Outcome(second),
            Self::Outcome(third),
            Self::Outcome(fourth),
            Self::Outcome(fifth),
            Self::Refused,
            Self::Open,
        ]
    };

    /// What it is called where it is asked for and told.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Outcome(kind) => kind.as_str(),
            Self::Refused => "refused",
            Self::Open => "open",
        }
    }
}
