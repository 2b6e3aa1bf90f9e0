//! Which config file a verb reads.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
};

use clap::{
    Arg, ArgMatches, Args, Command, Error, FromArgMatches,
    builder::{PathBufValueParser, TypedValueParser},
    error::ErrorKind,
    parser::ValueSource,
};

use crate::{
    config::{self, AdminSection, Loaded, problem::Problems},
    load,
};

/// What `--config` falls back to.
pub const DEFAULT_CONFIG: &str = "/etc/alloy-gateway/config.yaml";
const VARIABLE: &str = "ALLOY_GATEWAY_CONFIG";

/// Which config file a verb reads.
#[derive(Debug, Clone, Args)]
pub struct ConfigFile {
    /// The config file
    #[arg(short = 'c', long = "config", value_name = "FILE", env = VARIABLE, hide_env_values = true, default_value = DEFAULT_CONFIG, value_parser = Named)]
    pub path: PathBuf,
}

impl ConfigFile {
    /// Reads it.
    ///
    /// # Errors
    ///
    /// Its problems; and how to name another file, if none was named and there is none
    /// where it is looked for then.
    pub fn load(&self) -> Result<Loaded, Problems> {
        load::file(&self.path).map_err(|problems| self.hinted(problems))
    }

    /// Reads where a running gateway is asked, whatever is wrong with the rest: the gateway
    /// serves on with the config that it has.
    ///
    /// # Errors
    ///
    /// As of [`load`](Self::load), if that section can't be read.
    pub fn admin(&self) -> Result<AdminSection, Problems> {
        config::admin(&self.path).map_err(|problems| self.hinted(problems))
    }

    /// How many problems it has by itself, without what it names; none of what is read once.
    pub fn problems(&self) -> usize {
        let is_file = self.path.metadata().is_ok_and(|found| found.is_file());
        let loaded = is_file.then(|| config::load(&self.path, |_| Vec::new()));
        let problems = loaded.and_then(Result::err);
        problems.map_or(0, |problems| problems.len())
    }

    fn hinted(&self, problems: Problems) -> Problems {
        if self.path.as_os_str() == DEFAULT_CONFIG && !self.path.exists() {
            problems.with_hint(&format!(
                "; name another one with --config FILE, or in {VARIABLE}"
            ))
        } else {
            problems
        }
    }
}

/// The same of a verb to which it can be named as an argument, too.
#[derive(Debug, Args)]
pub struct FileOrConfig {
    #[command(flatten)]
    _named: NamedOnce,
    /// The config file, or - for standard input; instead of --config
    file: Option<PathBuf>,
    #[command(flatten)]
    config: ConfigFile,
}

impl FileOrConfig {
    /// Where it is.
    pub fn path(&self) -> &Path {
        self.file.as_ref().unwrap_or(&self.config.path)
    }

    /// Reads it, as [`ConfigFile::load`] does.
    pub fn load(&self) -> Result<Loaded, Problems> {
        match &self.file {
            Some(file) => load::file(file),
            None => self.config.load(),
        }
    }
}

/// That the command line names one config: of two, one would be left out in silence. What
/// stands in the environment is for where it names none, and is none of two; clap's own
/// `conflicts_with` takes it for one. It has no argument of its own, and stands before
/// those it is about: clap takes out what it gives to a field.
#[derive(Debug)]
struct NamedOnce;

impl FromArgMatches for NamedOnce {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let is_named = |id| matches.value_source(id) == Some(ValueSource::CommandLine);
        if is_named("file") && is_named("path") {
            let message = "FILE and --config both name the config: name one of them\n";
            return Err(Error::raw(ErrorKind::ArgumentConflict, message));
        }
        Ok(Self)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for NamedOnce {
    fn augment_args(command: Command) -> Command {
        command
    }

    fn augment_args_for_update(command: Command) -> Command {
        command
    }
}

/// A path, which is not empty. An empty variable is one that somebody meant to fill: the
/// default in its place might be another gateway's config, and a message about `--config`
/// would name what nobody wrote.
#[derive(Debug, Clone)]
struct Named;

impl TypedValueParser for Named {
    type Value = PathBuf;

    fn parse_ref(
        &self,
        command: &Command,
        arg: Option<&Arg>,
        value: &OsStr,
    ) -> Result<PathBuf, Error> {
        PathBufValueParser::new().parse_ref(command, arg, value)
    }

    fn parse_ref_(
        &self,
        command: &Command,
        arg: Option<&Arg>,
        value: &OsStr,
        source: ValueSource,
    ) -> Result<PathBuf, Error> {
        if value.is_empty() && source == ValueSource::EnvVariable {
            let message = format!(
                "the variable {VARIABLE} is empty: let it name the config file, or unset it\n"
            );
            return Err(Error::raw(ErrorKind::InvalidValue, message).with_cmd(command));
        }
        self.parse_ref(command, arg, value)
    }
}
