//! `check --probe`: whether the upstream can be reached from here. Nothing is
//! sent over the connection, least of all a DELETE or the key.

use std::sync::Arc;

use super::output::{errln, outln};
use crate::{
    pipeline::forward::{Reached, probe},
    snapshot::Snapshot,
};

/// Connects to the upstream and prints what it found; whether it is reachable.
pub fn run(snapshot: &Snapshot) -> anyhow::Result<bool> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let upstream = Arc::clone(&snapshot.upstream);
    let authority = upstream.settings.url.authority();
    let found = runtime.block_on(probe(&upstream));
    // A resolver that does not answer must not hold up the end.
    runtime.shutdown_background();
    match found {
        Ok(Reached {
            addresses,
            address,
            tls,
            took,
        }) => {
            let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
            outln!("probe {authority}: resolves to {}", addresses.join(", "));
            let tls = tls.unwrap_or_else(|| "plaintext".to_owned());
            outln!(
                "probe {authority}: connected to {address} in {took:.0?}, {tls}; nothing was sent"
            );
            Ok(true)
        }
        Err(error) => {
            errln!("probe {authority}: {error}");
            Ok(false)
        }
    }
}
