//! Whether to color what is written.

use std::{env, io::IsTerminal, sync::OnceLock};

use clap::ValueEnum;

static CHOSEN: OnceLock<When> = OnceLock::new();

/// What `--color` says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum When {
    /// At a terminal, unless NO_COLOR is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// Notes the choice for the rest of the run.
pub fn choose(when: When) {
    // The first choice stands.
    let _ = CHOSEN.set(when);
}

/// Whether what goes to `stream` is colored.
pub fn is_on(stream: &impl IsTerminal) -> bool {
    match CHOSEN.get().copied().unwrap_or_default() {
        When::Always => true,
        When::Never => false,
        // https://no-color.org: present and not empty.
        When::Auto => {
            stream.is_terminal() && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        }
    }
}
