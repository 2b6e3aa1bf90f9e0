//! Whether a config was named.

use clap::{ArgMatches, Args, Command, FromArgMatches, error::Error, parser::ValueSource};

/// Whether the command line itself names the config; the environment does not count. It
/// has no argument of its own, and stands before the `ConfigFile` it is about: clap takes
/// out what it gives to a field.
#[derive(Debug)]
pub struct IsNamed(pub bool);

impl FromArgMatches for IsNamed {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let source = matches.value_source("path");
        Ok(Self(source == Some(ValueSource::CommandLine)))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for IsNamed {
    fn augment_args(command: Command) -> Command {
        command
    }

    fn augment_args_for_update(command: Command) -> Command {
        command
    }
}
