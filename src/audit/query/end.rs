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
    /// Each at its own index, in the order in which they are told.
    pub const ALL: [Self; OutcomeKind::COUNT + 2] = {
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

    /// Its place in [`ALL`](Self::ALL).
    pub fn index(self) -> usize {
        match self {
            Self::Outcome(kind) => kind.index(),
            Self::Refused => OutcomeKind::COUNT,
            Self::Open => OutcomeKind::COUNT + 1,
        }
    }

    /// What it is called where it is asked for and told.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Outcome(kind) => kind.as_str(),
            Self::Refused => "refused",
            Self::Open => "open",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_end_stands_at_its_own_index() {
        for (at, end) in End::ALL.into_iter().enumerate() {
            assert_eq!(end.index(), at, "{end:?}");
        }
    }
}
