//! Writing to stdout and stderr, which may be pipes that somebody closes:
//! `print!` and `eprint!` would panic on these.

use std::{
    fmt,
    io::{self, Write},
    process,
};

/// Writes to stdout. A reader that went away (`… | head`) has seen enough, and
/// the process ends quietly.
pub fn to_stdout(text: fmt::Arguments<'_>) {
    match io::stdout().write_fmt(text) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => process::exit(0),
        Err(error) => {
            to_stderr(format_args!(
                "alloy-gateway: cannot write to stdout: {error}\n"
            ));
            process::exit(1);
        }
    }
}

/// Writes to stderr. If nobody reads it, there is nobody to tell.
pub fn to_stderr(text: fmt::Arguments<'_>) {
    let _ = io::stderr().write_fmt(text);
}

macro_rules! out {
    ($($part:tt)*) => {
        $crate::cli::output::to_stdout(format_args!($($part)*))
    };
}

macro_rules! outln {
    ($($part:tt)*) => {
        $crate::cli::output::to_stdout(format_args!("{}\n", format_args!($($part)*)))
    };
}

macro_rules! err {
    ($($part:tt)*) => {
        $crate::cli::output::to_stderr(format_args!($($part)*))
    };
}

macro_rules! errln {
    ($($part:tt)*) => {
        $crate::cli::output::to_stderr(format_args!("{}\n", format_args!($($part)*)))
    };
}

pub(crate) use {err, errln, out, outln};

/// A text of which no terminal acts on anything: control characters are written out.
pub fn tame(text: &str) -> String {
    let mut tamed = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            tamed.extend(character.escape_unicode());
        } else {
            tamed.push(character);
        }
    }
    tamed
}
