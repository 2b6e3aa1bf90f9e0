//! Writing to stdout and stderr, which may be pipes that somebody closes:
//! `print!` and `eprint!` would panic on these.

use std::{
    borrow::Cow,
    fmt,
    io::{self, IsTerminal, Write},
    process,
};

use super::Exit;

/// Stdout can't be written, and so there is nobody to go on for.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to stdout: {0}")]
pub struct Unwritable(io::Error);

impl Unwritable {
    /// Says so, and how the process ends. A reader that went away (`… | head`) has seen
    /// enough: that is quiet, and no failure.
    pub fn tell(&self) -> Exit {
        if self.0.kind() == io::ErrorKind::BrokenPipe {
            return Exit::Ok;
        }
        errln!("alloy-gateway: {self}");
        Exit::Failure
    }
}

/// Writes to stdout, for those who have something to put in order if that fails.
pub fn try_stdout(text: fmt::Arguments<'_>) -> Result<(), Unwritable> {
    io::stdout().write_fmt(text).map_err(Unwritable)
}

/// Writes to stdout; if that fails, the process ends.
pub fn to_stdout(text: fmt::Arguments<'_>) {
    if let Err(unwritable) = try_stdout(text) {
        process::exit(unwritable.tell().code().into());
    }
}

/// Whether a person reads stdout, and not a program.
pub fn is_terminal() -> bool {
    io::stdout().is_terminal()
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

/// [`outln`] for those who have something to put in order if it fails.
macro_rules! try_outln {
    ($($part:tt)*) => {
        $crate::cli::output::try_stdout(format_args!("{}\n", format_args!($($part)*)))
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

pub(crate) use {err, errln, out, outln, try_outln};

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

/// JSON of which no terminal acts on anything, and which says the same: what is left of
/// control characters stands in a text, or is whitespace between tokens.
pub fn tame_json(json: &str) -> Cow<'_, str> {
    if !json.contains(char::is_control) {
        return json.into();
    }
    let mut tamed = String::with_capacity(json.len());
    for character in json.chars() {
        match character {
            '\0'..='\x1f' => tamed.push(' '),
            '\x7f'..='\u{9f}' => tamed.push_str(&format!("\\u{:04x}", u32::from(character))),
            other => tamed.push(other),
        }
    }
    tamed.into()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn tamed_json_says_the_same_and_moves_no_terminal() {
        let json = "{\"a\u{9b}2J\":\t[\"\u{7f}\\u001b\\\"\u{80}\",\r1]}";
        let tamed = tame_json(json);
        assert_eq!(tamed, r#"{"a\u009b2J": ["\u007f\u001b\"\u0080", 1]}"#);
        let read = |json: &str| serde_json::from_str::<Value>(json).unwrap();
        assert_eq!(read(&tamed), read(json));
    }
}
