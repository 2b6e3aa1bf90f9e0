//! Why records do not get into the database.

use std::{error::Error, fmt};

use tokio_postgres::error::SqlState;

use crate::closed_list::closed_list;

/// The longest text of an error that is shown, in bytes.
const TEXT_BYTES_MAX: usize = 300;

closed_list! {
    /// Why records do not get into the database, for metrics.
    pub enum Reason {
        /// The URL can't be read any more.
        Config => "config",
        /// No connection, or not let in.
        Connect => "connect",
        /// No answer in time.
        Timeout => "timeout",
        /// The connection broke.
        Lost => "lost",
        /// The tables are missing, or of another version.
        Schema => "schema",
        /// The database does not want to: rights, disk, read-only.
        Refused => "refused",
        /// Other records stand there under our numbers.
        Conflict => "conflict",
        /// The database has records of this trail that are not in it.
        Diverged => "diverged",
        /// The trail does not have any more what the database lacks.
        Removed => "removed",
        /// The trail on disk is not as it was written.
        Trail => "trail",
    }
}

impl fmt::Display for Reason {
    /// In words that anybody may read.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Config => "its URL or its authorities cannot be read",
            Self::Connect => "there is no connection to it",
            Self::Timeout => "it does not answer in time",
            Self::Lost => "the connection broke",
            Self::Schema => "its tables are missing, or of another version",
            Self::Refused => "it refuses them",
            Self::Conflict => "it has other records under their numbers",
            Self::Diverged => "it has records that are not in the trail",
            Self::Removed => "it lacks records that are not in the trail any more",
            Self::Trail => "the trail cannot be read",
        })
    }
}

/// Why something could not be done with the database. Its text never holds the password,
/// but it can hold other things of the config and of the network: the file of the URL,
/// hosts and the database's name, and what the database says, which may name the user.
/// So it is for those who may see the config, and for the log.
#[derive(Debug)]
pub struct Failure {
    /// What kind of failure.
    pub reason: Reason,
    /// What happened, for operators.
    pub what: String,
}

impl Failure {
    /// Of a kind, with a text.
    pub fn new(reason: Reason, what: impl Into<String>) -> Self {
        Self {
            reason,
            what: what.into(),
        }
    }

    /// Whether the database's role lacks the right to what was asked.
    pub fn is_of_rights(&self) -> bool {
        self.what
            .contains(&sql_state(&SqlState::INSUFFICIENT_PRIVILEGE))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl Error for Failure {}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        let Some(said) = error.as_db_error() else {
            let reason = match error.is_closed() {
                true => Reason::Lost,
                false => match error
                    .source()
                    .is_some_and(<dyn Error>::is::<std::io::Error>)
                {
                    true => Reason::Lost,
                    false => Reason::Refused,
                },
            };
            return Self::new(reason, chained(&error));
        };
        let reason = match *said.code() {
            SqlState::UNDEFINED_TABLE
            | SqlState::UNDEFINED_COLUMN
            | SqlState::INVALID_SCHEMA_NAME => Reason::Schema,
            SqlState::ADMIN_SHUTDOWN | SqlState::CRASH_SHUTDOWN | SqlState::CANNOT_CONNECT_NOW => {
                Reason::Lost
            }
            // Of a lock that others hold, or of a bound that an operator gave the role.
            SqlState::LOCK_NOT_AVAILABLE | SqlState::QUERY_CANCELED => Reason::Timeout,
            _ => Reason::Refused,
        };
        // Detail and hint can hold values of rows; the message names what went wrong.
        let text = format!("{} {}", said.message(), sql_state(said.code()));
        Self::new(reason, cut(&text))
    }
}

/// A code of the database, as it stands behind its message.
fn sql_state(state: &SqlState) -> String {
    format!("(SQLSTATE {})", state.code())
}

/// An error with what brought it about.
fn chained(error: &tokio_postgres::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let more = cause.to_string();
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        source = cause.source();
    }
    cut(&text)
}

fn cut(text: &str) -> String {
    let end = (0..=TEXT_BYTES_MAX.min(text.len()))
        .rfind(|end| text.is_char_boundary(*end))
        .unwrap_or_default();
    text.get(..end).unwrap_or_default().replace('\n', " ")
}
