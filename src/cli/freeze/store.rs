//! Freezing and thawing through the store: every gateway of the fleet follows.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, anyhow, bail};
use tokio::time::{Instant, sleep};

use super::Args;
use crate::{
    audit::TEXT_BYTES_MAX,
    cli::{
        Exit,
        output::{err, errln, outln},
        process,
    },
    config::{Loaded, did_you_mean, quote},
    containment::{
        Freeze, Scope,
        register::{Entry, Register},
    },
    fleet::{Client, Role, Store, Trouble},
    snapshot,
};

/// By when the store must have answered.
const PATIENCE: Duration = Duration::from_secs(5);

/// Enters a freeze, or its end, in the store that the config names.
pub fn order(args: &Args, loaded: &Loaded, freezes: bool) -> anyhow::Result<Exit> {
    let settings = loaded.settings.limits_store.as_ref();
    let settings = settings.context("the config has no limits_store: there is no fleet to tell")?;
    let mut problems = Vec::new();
    let Some(store) = snapshot::store(settings, &mut problems) else {
        err!("{}", loaded.locate(problems));
        return Ok(Exit::Config);
    };
    let by = args.by.as_deref().unwrap_or_default();
    let is_good = |text: &str| !text.trim().is_empty() && text.len() <= TEXT_BYTES_MAX;
    if !is_good(by) || !is_good(&args.reason) {
        bail!(
            "--by and --reason are texts of 1 to {TEXT_BYTES_MAX} bytes: the trails say who and why"
        );
    }
    process::block_on(enter(args, by, loaded, &store, freezes))
}

async fn enter(
    args: &Args,
    by: &str,
    loaded: &Loaded,
    store: &Arc<Store>,
    freezes: bool,
) -> anyhow::Result<Exit> {
    let client = Arc::new(Client::start(store, Role::Calls));
    let register = Register::new(&client);
    let entries = read(&register, store).await?;
    let scope = args.tenant.as_deref().map_or(Scope::All, Scope::Tenant);
    let whom = args.tenant.as_deref().unwrap_or("every tenant");
    let known = entries.iter().find(|entry| entry.scope() == scope);
    if let Some(name) = &args.tenant {
        let tenants = loaded.settings.tenants.iter();
        let names = tenants.map(|tenant| &*tenant.name);
        if known.is_none() && !names.clone().any(|known| known == name) {
            bail!(
                "there is no tenant {}{}",
                quote(name),
                did_you_mean(name, names)
            );
        }
    }
    let mut freeze = Freeze::new(by, None, &args.reason);
    if let Some(entry) = known.filter(|entry| entry.stands) {
        freeze = freeze.after(&entry.freeze);
    }
    let unanswered = |trouble: Trouble| {
        anyhow!("the store did not answer ({trouble}): it may be entered all the same; ask again")
    };
    if freezes {
        register
            .enter(scope, &freeze, true)
            .await
            .map_err(unanswered)?;
        outln!(
            "{whom}: frozen in the store; each gateway that sees it follows within a second, and its trail says so"
        );
        return Ok(Exit::Ok);
    }
    let Some(Entry { freeze: known, .. }) = known.filter(|entry| entry.stands) else {
        errln!("alloy-gateway: {whom}: not frozen in the store");
        return Ok(Exit::Failure);
    };
    let end = Freeze {
        id: known.id.clone(),
        ..freeze
    };
    register.end(scope, &end).await.map_err(unanswered)?;
    outln!("{whom}: thawed in the store; each gateway that sees it follows once its trail says so");
    Ok(Exit::Ok)
}

/// What the register says, as soon as the store answers.
async fn read(register: &Register, store: &Store) -> anyhow::Result<Vec<Entry>> {
    let end = Instant::now() + PATIENCE;
    loop {
        match register.read().await {
            Ok(entries) => return Ok(entries),
            Err(trouble) if Instant::now() >= end => {
                let why = store.board().why();
                let trouble = why.map_or(trouble, |(trouble, _)| trouble);
                bail!("the store does not answer: {trouble}");
            }
            Err(_) => sleep(Duration::from_millis(20)).await,
        }
    }
}
