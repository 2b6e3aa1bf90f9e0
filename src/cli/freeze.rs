//! `freeze` and `thaw`: stopping tenants of a running gateway, and letting them go on.

mod store;

use std::path::{Path, PathBuf};

use anyhow::Context;

use super::{
    ConfigFile, Exit,
    admin_socket::post,
    output::{err, errln, outln},
};
use crate::config;

/// Arguments of `freeze` and `thaw`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The tenant
    #[arg(required_unless_present = "all")]
    tenant: Option<String>,
    /// Every tenant, those included that a later config brings. It is a freeze of its own: ended with thaw --all, after which tenants that were frozen by themselves still are
    #[arg(long, conflicts_with = "tenant")]
    all: bool,
    /// Why: it stands in the trail
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Who asks: a name for the trails, beside the user that the gateway sees on its socket
    #[arg(long, value_name = "NAME", required_if_eq("store", "true"))]
    by: Option<String>,
    /// Tell all gateways of the fleet through the limits_store of the config; none need run here
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
    let loaded = match config::load(&args.config.path) {
        Ok(loaded) => loaded,
        Err(problems) => {
            err!("{problems}");
            return Ok(Exit::Config);
        }
    };
    if args.store {
        return store::order(args, &loaded, freezes);
    }
    let socket = loaded.settings.admin.socket.as_ref();
    let socket = socket
        .context("the config has no admin.socket, where a running gateway is told so: set it and restart the gateway, or name that of another one with --socket")?;
    at_the_socket(args, socket, freezes)
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
    let answer = post(socket, path, &order.to_string())?;
    if answer.status == 200 {
        outln!("{}", answer.said);
        return Ok(Exit::Ok);
    }
    // Also where it took effect, and is not in the trail yet.
    errln!("alloy-gateway: {}", answer.said);
    Ok(Exit::Failure)
}
