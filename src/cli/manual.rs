//! `completions`, `man` and `version`.

use std::{fs, path::PathBuf};

use anyhow::Context;
use clap::Command;

use super::{
    Exit,
    output::{out, outln},
};

/// Arguments of `completions`.
#[derive(Debug, clap::Args)]
pub struct Shell {
    /// Which shell
    shell: clap_complete::Shell,
}

impl Shell {
    /// Prints a script for the shell.
    pub fn print(&self, command: &mut Command) -> Exit {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, command, "alloy-gateway", &mut script);
        out!("{}", String::from_utf8_lossy(&script));
        Exit::Ok
    }
}

/// Arguments of `man`.
#[derive(Debug, clap::Args)]
pub struct Man {
    /// Write the pages of all verbs into this directory instead
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
}

impl Man {
    /// Prints the page of the program, or writes a page for each verb.
    pub fn print(&self, command: Command) -> anyhow::Result<Exit> {
        match &self.directory {
            Some(directory) => {
                let place = directory.display().to_string();
                fs::create_dir_all(directory).context(place.clone())?;
                clap_mangen::generate_to(command, directory).context(place)?;
            }
            None => {
                let mut page = Vec::new();
                clap_mangen::Man::new(command).render(&mut page)?;
                out!("{}", String::from_utf8_lossy(&page));
            }
        }
        Ok(Exit::Ok)
    }
}

/// Arguments of `version`.
#[derive(Debug, clap::Args)]
pub struct Version {
    /// As one JSON object
    #[arg(long)]
    json: bool,
}

impl Version {
    /// Prints the version; as JSON with those of what it reads and writes.
    pub fn print(&self) -> Exit {
        let version = env!("CARGO_PKG_VERSION");
        if self.json {
            let system = (std::env::consts::OS, std::env::consts::ARCH);
            outln!(
                "{}",
                serde_json::json!({
                    "name": "alloy-gateway",
                    "version": version,
                    "config": 1,
                    "trail": 1,
                    "os": system.0,
                    "arch": system.1,
                })
            );
        } else {
            outln!("alloy-gateway {version}");
        }
        Exit::Ok
    }
}
