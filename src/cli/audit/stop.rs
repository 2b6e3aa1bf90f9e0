//! Why a verb of `audit` ends early.

use std::fmt::Display;

use crate::cli::{
    Exit,
    output::{err, errln},
};

/// Why it ends without an answer.
#[derive(Debug)]
pub enum Stop {
    /// What the command line asks makes no sense together; and what would.
    Usage(String),
    /// The config, or something that it names, is not right: its problems.
    Config(String),
    /// All else.
    Failure(anyhow::Error),
}

impl Stop {
    /// Problems of a config.
    pub fn of(problems: impl Display) -> Self {
        Self::Config(problems.to_string())
    }

    /// Says why, as clap does where it is usage.
    pub fn told(self) -> anyhow::Result<Exit> {
        match self {
            Self::Usage(what) => {
                errln!("error: {what}\n\nFor more information, try '--help'.");
                Ok(Exit::Usage)
            }
            Self::Config(problems) => {
                err!("{problems}");
                Ok(Exit::Config)
            }
            Self::Failure(error) => Err(error),
        }
    }
}

impl From<anyhow::Error> for Stop {
    fn from(error: anyhow::Error) -> Self {
        Self::Failure(error)
    }
}
