//! The command line: one module per verb, and what they share. Data goes to stdout,
//! logs and errors to stderr.

// The verbs.
mod audit;
mod check;
mod config;
mod config_file;
mod demo;
mod freeze; // and `thaw`
mod healthcheck;
mod manual; // `completions`, `man` and `version`
mod policy;
mod serve;
mod token;

// What they share.
mod admin_socket; // asking a running gateway
mod arguments; // parsing the command line
mod color;
mod memory; // how much callers can take
mod output; // stdout and stderr
mod probe; // trying the upstream
mod process; // asking the system
mod progress; // of what takes long

use std::process::ExitCode;

use self::{
    config_file::{ConfigFile, FileOrConfig},
    output::{Unwritable, errln},
};
use clap::{CommandFactory, Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "alloy-gateway", version, about, after_help = EXIT_CODES)]
struct Cli {
    /// When to color; NO_COLOR switches it off too
    #[arg(
        long,
        global = true,
        value_enum,
        default_value_t,
        hide_possible_values = true,
        value_name = "auto|always|never"
    )]
    color: color::When,
    #[command(subcommand)]
    verb: Verb,
}

const EXIT_CODES: &str = "Exit codes: 0 ok, 1 failure, 2 usage, 3 trail tampered or with a gap, \
4 not ready, 78 config invalid";

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the gateway
    Serve(serve::Args),
    /// Check a config: every problem at once
    Check(check::Args),
    /// Show the effective config, or the schema and the reference of all its keys
    #[command(subcommand)]
    Config(config::Verb),
    /// Make and inspect the tokens that callers present
    #[command(subcommand)]
    Token(token::Verb),
    /// Read the audit trail: verify it, ask it, follow it
    #[command(subcommand)]
    Audit(Box<audit::Verb>),
    /// Say what would happen to a call, and why, from the config alone
    #[command(subcommand)]
    Policy(policy::Verb),
    /// Refuse all calls of a tenant of a running gateway, until it is thawed
    #[command(after_help = freeze::FREEZE_EXITS)]
    Freeze(freeze::Args),
    /// Let a frozen tenant go on, with a new budget of deletions
    #[command(after_help = freeze::THAW_EXITS)]
    Thaw(freeze::Args),
    /// Ask a running gateway whether it is alive, or ready
    Healthcheck(healthcheck::Args),
    /// Play with a real gateway before a simulated Alloy
    Demo(demo::Args),
    /// Print the completions of a shell
    Completions(manual::Shell),
    /// Print the man page, or write those of all verbs
    Man(manual::Man),
    /// Print the version
    Version(manual::Version),
}

/// How a verb ended that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// All is well.
    Ok,
    /// It did what it should, and the answer is no.
    Failure,
    /// What was asked makes no sense.
    Usage,
    /// The trail was tampered with, or has a gap.
    Tampered,
    /// The gateway is not ready.
    NotReady,
    /// The config is invalid, or something it names is unreadable (EX_CONFIG of sysexits).
    Config,
}

impl Exit {
    fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Failure => 1,
            Self::Usage => 2,
            Self::Tampered => 3,
            Self::NotReady => 4,
            Self::Config => 78,
        }
    }
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = match arguments::parsed() {
        Ok(cli) => cli,
        Err(exit) => return exit.code().into(),
    };
    color::choose(cli.color);
    let result = match cli.verb {
        Verb::Serve(args) => serve::run(&args),
        Verb::Check(args) => check::run(&args),
        Verb::Config(verb) => config::run(&verb),
        Verb::Token(verb) => token::run(&verb),
        Verb::Audit(verb) => audit::run(&verb),
        Verb::Policy(verb) => policy::run(&verb),
        Verb::Freeze(args) => freeze::freeze(&args),
        Verb::Thaw(args) => freeze::thaw(&args),
        Verb::Healthcheck(args) => healthcheck::run(&args),
        Verb::Demo(args) => demo::run(&args),
        Verb::Completions(shell) => Ok(shell.print(&mut Cli::command())),
        Verb::Man(man) => man.print(Cli::command()),
        Verb::Version(version) => Ok(version.print()),
    };
    let exit = result.unwrap_or_else(|error| match error.downcast_ref::<Unwritable>() {
        Some(unwritable) => unwritable.tell(),
        None => {
            errln!("alloy-gateway: {error:#}");
            Exit::Failure
        }
    });
    exit.code().into()
}
