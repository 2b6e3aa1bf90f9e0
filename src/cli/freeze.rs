//! `freeze` and `thaw`: stopping tenants of a running gateway, and letting them go on.

mod store;

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::ArgGroup;

use super::{
    ConfigFile, Exit,
    admin_socket::{Answer, post},
    output::{err, errln, outln},
};

/// What `freeze` ends with.
pub const FREEZE_EXITS: &str = "\
Exit codes: 0 it is frozen and in the trail; in a fleet also where the store does not answer, \
and the others are told when it does (stderr says so). 1 it is not frozen, or it is and the \
trail cannot be written, so that it would be lost with the process: stderr says which. \
2 usage, 78 config invalid";
/// What `thaw` ends with.
pub const THAW_EXITS: &str = "\
Exit codes: 0 it is thawed. 1 it is not, or not yet: stderr says which. \
2 usage, 78 config invalid";
/// So the gateway says that a freeze holds there and is in the trail, and that the rest
/// of the fleet is not told yet.
const HERE_FIRST: &str = ": frozen here; the others are told when";

/// Arguments of `freeze` and `thaw`.
#[derive(Debug, clap::Args)]
#[command(group(ArgGroup::new("whom").required(true).args(["tenant", "all"])))]
pub struct Args {
    /// The tenant
    tenant: Option<String>,
    /// Every tenant, those included that a later config brings. It is a freeze of its own: ended with thaw --all, after which tenants that were frozen by themselves still are
    #[arg(long)]
    all: bool,
    /// Why: it stands in the trail
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Who asks: a name for the trails, beside the user that the gateway sees on its socket
    #[arg(long, value_name = "NAME", required_if_eq("store", "true"))]
    by: Option<String>,
    /// Tell all gateways of the fleet through the limits_store of the config; none need run here. It needs --by: no gateway sees who asks
    #[arg(long, conflicts_with = "socket")]
    store: bool,
    /// The gateway's admin socket, if no config is to be read for it
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    #[command(flatten)]
    config: ConfigFile,
}

/// Refuses all calls of a tenant until it is thawed.
pub fn freeze(args: &Args) -> anyhow::Result<Exit> {
    order(args, true)
}

/// Ends a freeze.
pub fn thaw(args: &Args) -> anyhow::Result<Exit> {
    order(args, false)
}

fn order(args: &Args, freezes: bool) -> anyhow::Result<Exit> {
    if let (Some(socket), false) = (&args.socket, args.store) {
        return at_the_socket(args, socket, freezes);
    }
    if args.store {
        return match args.config.load() {
            Ok(loaded) => store::order(args, &loaded, freezes),
            Err(problems) => {
                err!("{problems}");
                Ok(Exit::Config)
            }
        };
    }
    let section = args.config.admin();
    let socket = section.and_then(|section| Ok(section.socket()?.map(Path::to_owned)));
    let socket = match socket {
        Ok(socket) => socket,
        Err(problems) => {
            err!("{problems}");
            errln!(
                "alloy-gateway: the running gateway's admin.socket can be named with --socket PATH"
            );
            return Ok(Exit::Config);
        }
    };
    let ended = socket
        .context("the config has no admin.socket, where a running gateway is told so: set it and restart the gateway, or name that of another one with --socket PATH")
        .and_then(|socket| at_the_socket(args, &socket, freezes));
    // Last: nothing holds up the order.
    warn_of_problems(&args.config);
    ended
}

/// Says so if the gateway could not load what is on disk: its socket may be another one, and
/// whoever is in an incident has changed something.
fn warn_of_problems(config: &ConfigFile) {
    let problems = config.problems();
    if problems > 0 {
        errln!(
            "warning: the config on disk has problems ({problems}), and the running gateway is not touched by them: `alloy-gateway check` tells them"
        );
    }
}

fn at_the_socket(args: &Args, socket: &Path, freezes: bool) -> anyhow::Result<Exit> {
    let mut order = serde_json::json!({ "reason": args.reason });
    if let Some(order) = order.as_object_mut() {
        match &args.tenant {
            Some(tenant) => order.insert("tenant".to_owned(), tenant.as_str().into()),
            None => order.insert("all".to_owned(), true.into()),
        };
        if let Some(by) = &args.by {
            order.insert("by".to_owned(), by.as_str().into());
        }
    }
    let path = if freezes { "/-/freeze" } else { "/-/thaw" };
    let Answer { status, said } = post(socket, path, &order.to_string())?;
    let what_to_do = match status {
        200 => {
            outln!("{said}");
            return Ok(Exit::Ok);
        }
        202 if said.contains(HERE_FIRST) => {
            outln!("{said}");
            errln!(
                "note: nothing has to be asked again; who cannot wait for the store freezes at each of the others"
            );
            return Ok(Exit::Ok);
        }
        202 if freezes => {
            "\nmend the trail's disk, and let the gateway run until `alloy-gateway audit events` shows the freeze"
        }
        202 => "\nnothing has to be asked again: `alloy-gateway audit events` shows it then",
        _ => "",
    };
    errln!("alloy-gateway: {said}{what_to_do}");
    Ok(Exit::Failure)
}
