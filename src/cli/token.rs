//! `token`: what callers present.

use std::io::Read;

use anyhow::{Context, bail};
use jiff::{SignedDuration, Timestamp};

use super::{
    ConfigFile, Exit,
    output::{err, errln, outln},
};
use crate::{
    config,
    token::{NewToken, TOKEN_LEN, Token},
};

/// Verbs of `token`.
#[derive(Debug, clap::Subcommand)]
pub enum Verb {
    /// Make a token: it is shown once, with the line for the config
    New(NewArgs),
    /// Print the SHA-256 of a token read from standard input
    Hash,
    /// Check a token read from standard input, and find its tenant in the config
    Inspect(ConfigFile),
}

/// Arguments of `token new`.
#[derive(Debug, clap::Args)]
pub struct NewArgs {
    /// The tenant it is for
    #[arg(long, required_unless_present = "admin", value_parser = config::name)]
    tenant: Option<String>,
    /// A token for the admin endpoints instead: it allows changes over TCP
    #[arg(long, conflicts_with = "tenant")]
    admin: bool,
    /// How long it is valid, from 1h to 3650d
    #[arg(long, default_value = "90d", value_parser = parse_days)]
    expires: SignedDuration,
    /// Its name in trail and metrics [default: the year and month, such as 2026-11]
    #[arg(long, value_parser = config::name)]
    id: Option<String>,
}

/// Runs a verb of `token`.
pub fn run(verb: &Verb) -> anyhow::Result<Exit> {
    match verb {
        Verb::New(args) => new(args),
        Verb::Hash => hash(),
        Verb::Inspect(file) => inspect(file),
    }
}

fn new(args: &NewArgs) -> anyhow::Result<Exit> {
    let token =
        NewToken::generate().map_err(|_| anyhow::anyhow!("the system gives no random numbers"))?;
    let now = Timestamp::now();
    let month = now.strftime("%Y-%m").to_string();
    let id = args.id.as_deref().unwrap_or(&month);
    let expires = (now + args.expires).strftime("%Y-%m-%dT%H:%M:%SZ");
    let digest = token.digest().to_hex();
    errln!("Shown only now, for whoever presents it; keep it like a password:");
    outln!("{}", token.reveal());
    let entry = format!("{{ id: \"{id}\", sha256: \"{digest}\", expires: {expires} }}");
    match &args.tenant {
        Some(tenant) => {
            errln!("\nFor the config, under tokens of tenant {tenant}:");
            outln!("- {entry}");
        }
        None => {
            errln!("\nFor the config, under admin:");
            outln!("token: {entry}");
        }
    }
    Ok(Exit::Ok)
}

fn hash() -> anyhow::Result<Exit> {
    let text = read_stdin()?;
    let token = Token::parse(text.as_bytes()).context("standard input")?;
    outln!("{}", token.digest().to_hex());
    Ok(Exit::Ok)
}

fn inspect(file: &ConfigFile) -> anyhow::Result<Exit> {
    let text = read_stdin()?;
    let digest = Token::parse(text.as_bytes())
        .context("standard input")?
        .digest();
    outln!("form and checksum: good");
    outln!("sha256: {}", digest.to_hex());
    let loaded = match file.load() {
        Ok(loaded) => loaded,
        Err(problems) => {
            err!("{problems}");
            return Ok(Exit::Config);
        }
    };
    let mut tenants = loaded.settings.tenants.iter();
    let found = tenants.find_map(|tenant| {
        let entry = tenant.tokens.iter().find(|entry| entry.digest == digest)?;
        Some((tenant, entry))
    });
    let found = found.map(|(tenant, entry)| (format!("tenant: {}", tenant.name), entry));
    let admin = loaded.settings.admin.token.as_ref();
    let admin = admin.filter(|entry| entry.digest == digest);
    let admin = admin.map(|entry| ("for: the admin endpoints".to_owned(), entry));
    let Some((whose, entry)) = found.or(admin) else {
        outln!("tenant: none in {}", file.path.display());
        return Ok(Exit::Failure);
    };
    let state = entry.state(Timestamp::now());
    outln!("{whose}\ntoken id: {}\nstate: {state}", entry.id);
    Ok(Exit::Ok)
}

/// A token from standard input, without the line end. Never an argument: those
/// stand in process lists and shell histories.
fn read_stdin() -> anyhow::Result<String> {
    let mut text = String::new();
    let longest = u64::try_from(TOKEN_LEN).unwrap_or(u64::MAX) + 16;
    std::io::stdin()
        .take(longest)
        .read_to_string(&mut text)
        .context("standard input")?;
    let text = text.trim();
    if text.is_empty() {
        bail!("standard input: a token was expected, and nothing came");
    }
    Ok(text.to_owned())
}

fn parse_days(text: &str) -> Result<SignedDuration, String> {
    let span = config::duration(text)?;
    let span = SignedDuration::try_from(span).map_err(|error| error.to_string())?;
    let bounds = SignedDuration::from_hours(1)..=SignedDuration::from_hours(24 * 3650);
    if bounds.contains(&span) {
        Ok(span)
    } else {
        Err("from 1h to 3650d".to_owned())
    }
}
