//! `check`: every problem of a config at once.

use clap::ValueEnum;

use super::{
    Exit, FileOrConfig, color, memory,
    output::{err, errln, out, outln},
    probe,
};
use crate::{
    config::{
        Loaded,
        problem::Problems,
        settings::{FreezeAfter, Mode, Settings, Tenant, Window},
        show_duration,
    },
    gcra::share::{Ceiling, Ceilings},
    load::{self, Ready},
};

/// Tenants and keys whose ceilings are printed; a list of thousands helps nobody.
const CEILINGS_MAX: usize = 20;

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    config: FileOrConfig,
    /// How problems are printed
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Warnings count as errors
    #[arg(long)]
    strict: bool,
    /// Also connect to the upstream (DNS, TCP, TLS); nothing is sent
    #[arg(long)]
    probe: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    /// FILE:LINE:COLUMN: field: what is wrong
    Text,
    /// One JSON object a line
    Json,
    /// Annotations of a GitHub workflow
    Github,
}

/// Checks a config and everything it names.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    let loaded = match args.config.load() {
        Ok(loaded) => loaded,
        Err(problems) => {
            print(&problems, Severity::Error, args.format);
            return Ok(Exit::Config);
        }
    };
    let ready = match Ready::read(&loaded) {
        Ok(ready) => ready,
        Err(problems) => {
            print(&problems, Severity::Error, args.format);
            return Ok(Exit::Config);
        }
    };
    let warnings = load::warnings(&loaded, &ready.snapshot, None);
    print(&warnings, Severity::Warning, args.format);
    let is_refused = args.strict && !warnings.is_empty();
    if matches!(args.format, Format::Text) {
        let verdict = if is_refused { "not ok" } else { "ok" };
        summary(&loaded, &args.config.path().display().to_string(), verdict);
    }
    if is_refused {
        errln!("with --strict, warnings are errors");
        return Ok(Exit::Config);
    }
    if args.probe && !probe::run(&ready.snapshot)? {
        return Ok(Exit::Failure);
    }
    Ok(Exit::Ok)
}

/// What a problem means for the config.
#[derive(Debug, Clone, Copy)]
enum Severity {
    /// It is not taken.
    Error,
    /// It is taken, and hardly meant so.
    Warning,
}

impl Severity {
    /// As programs know it.
    fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

fn print(problems: &Problems, severity: Severity, format: Format) {
    match (format, severity) {
        (Format::Text, Severity::Error) => err!("{problems}"),
        (Format::Text, Severity::Warning) => {
            for line in problems.to_string().lines() {
                let (on, off) = if color::is_on(&std::io::stderr()) {
                    ("\x1b[33m", "\x1b[0m")
                } else {
                    ("", "")
                };
                errln!("{on}warning:{off} {line}");
            }
        }
        (Format::Json, _) => {
            for problem in problems.to_json(severity.name()) {
                outln!("{problem}");
            }
        }
        (Format::Github, _) => out!("{}", problems.to_github(severity.name())),
    }
}

fn summary(loaded: &Loaded, file: &str, verdict: &str) {
    let settings = &loaded.settings;
    outln!(
        "{file}: {verdict} ({} tenant(s), {} key(s), sha256 {})",
        settings.tenants.len(),
        settings.keys.len(),
        loaded.digest
    );
    for (name, window) in ceilings(settings).take(CEILINGS_MAX) {
        match &settings.limits_store {
            Some(store) => of_fleet(&name, window, store.replicas),
            None => {
                outln!(
                    "  {name}: at most {} in any {}, {} at once",
                    window.ceiling(),
                    show_duration(window.per),
                    window.burst
                );
            }
        }
    }
    let more = ceilings(settings).count().saturating_sub(CEILINGS_MAX);
    if more > 0 {
        outln!("  … and {more} more limits");
    }
    budgets(settings);
    let unusual = || settings.tenants.iter().filter_map(unusual);
    for (name, what) in unusual().take(CEILINGS_MAX) {
        outln!("  tenant {name}: {what}");
    }
    let more = unusual().count().saturating_sub(CEILINGS_MAX);
    if more > 0 {
        outln!("  … and {more} more of whom nothing is deleted");
    }
    let bounds = &settings.bounds;
    outln!(
        "  memory: callers can take up to about {} MiB ({} connections, {} requests in flight)",
        memory::bytes_max(bounds) >> 20,
        bounds.connections,
        bounds.requests_in_flight
    );
}

/// What freezes a tenant by itself.
fn budgets(settings: &Settings) {
    let found = || {
        let tenants = settings.tenants.iter();
        tenants.filter_map(|tenant| Some((&tenant.name, tenant.freeze_after?)))
    };
    let whose = match settings.limits_store {
        Some(_) => ", all gateways together",
        None => "",
    };
    for (name, FreezeAfter { deletions, per }) in found().take(CEILINGS_MAX) {
        let per = show_duration(per);
        outln!(
            "  tenant {name}: frozen after {deletions} different credentials within {per}{whose}"
        );
    }
    let more = found().count().saturating_sub(CEILINGS_MAX);
    if more > 0 {
        outln!("  … and {more} more budgets");
    }
}

/// A tenant of whom nothing is deleted, as is wanted, and why.
fn unusual(tenant: &Tenant) -> Option<(&str, &'static str)> {
    let what = match tenant.mode {
        Mode::DryRun => "mode dry_run, nothing is sent",
        Mode::Suspended => "mode suspended, all calls are refused",
        Mode::Enforce => return None,
    };
    Some((&tenant.name, what))
}

/// What a whole fleet can come to.
fn of_fleet(name: &str, window: &Window, replicas: u32) {
    let ceilings = Ceilings::of(window, replicas);
    let per = show_duration(window.per);
    let words = |ceiling: Ceiling| {
        let (most, at_once) = (ceiling.in_any_span, ceiling.at_once);
        format!("at most {most} in any {per}, {at_once} at once")
    };
    outln!("  {name}, all gateways together:");
    outln!("    through the store: {}", words(ceilings.with_store));
    outln!(
        "    without it, {replicas} gateway(s): {}",
        words(ceilings.without_store)
    );
    outln!(
        "    while only some see it, or it comes and goes: {}",
        words(ceilings.in_part)
    );
}

/// Every limit with the name of what it limits.
fn ceilings(settings: &Settings) -> impl Iterator<Item = (String, &Window)> {
    let keys = settings.keys.iter().flat_map(|key| {
        key.limits
            .iter()
            .map(move |limit| (format!("key {}", key.name), limit))
    });
    let tenants = settings.tenants.iter().flat_map(|tenant| {
        tenant
            .limits
            .iter()
            .map(move |limit| (format!("tenant {}", tenant.name), limit))
    });
    keys.chain(tenants)
}
