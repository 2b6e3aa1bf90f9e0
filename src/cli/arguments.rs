//! The command line, parsed; what looks like a secret in it is never repeated.

use std::env;

use clap::Parser;

use super::{Cli, Exit, output::errln};
use crate::token::{holds_token, looks_like_token};

/// Parses the command line of this process.
///
/// # Errors
///
/// If there is no use in going on: why is told.
pub fn parsed() -> Result<Cli, Exit> {
    let arguments: Vec<_> = env::args_os()
        .skip(1)
        .map(|argument| argument.to_string_lossy().into_owned())
        .collect();
    let words = || {
        let values = arguments.iter().filter_map(|it| it.split_once('='));
        let values = values.map(|(_, value)| value);
        arguments.iter().map(String::as_str).chain(values)
    };
    if words().any(|word| holds_token(word.as_bytes())) {
        return Err(refused(TOKEN));
    }
    Cli::try_parse().map_err(|error| {
        let said = error.to_string();
        let is_told = |word: &&str| said.contains(*word);
        if words().filter(is_told).any(looks_like_token) {
            refused(TOKEN)
        } else if words().filter(is_told).any(looks_like_login) {
            refused(LOGIN)
        } else {
            error.exit()
        }
    })
}

const TOKEN: &str = "a token stands in the command line, which process lists and shell histories show: \
`token hash` and `token inspect` read it from standard input, and all else takes its id";
const LOGIN: &str = "a URL with a user stands in the command line, which process lists and shell histories show: \
put it into a file, and name that with --from";

/// Whether it may be a URL with a password.
fn looks_like_login(word: &str) -> bool {
    let rest = word.split_once("://").map(|(_, rest)| rest);
    rest.is_some_and(|rest| rest.contains('@'))
}

fn refused(why: &str) -> Exit {
    errln!("error: {why}\n\nFor more information, try '--help'.");
    Exit::Usage
}
