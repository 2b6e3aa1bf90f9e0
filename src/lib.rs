//! A sidecar that lets internal apps delete a customer's stored credential at
//! Alloy without ever holding the Alloy API key.
//!
//! # Life of a request
//!
//! A connection is accepted by one of the workers ([`server`]), each a thread
//! with a runtime, a listener and upstream connections of its own. What hyper
//! parses goes through the rim (panics, overload) into [`pipeline`], one linear
//! function over small stages. Each stage hands over a proof that the next one
//! takes, so that a step can be neither skipped nor reordered:
//!
//! contract → authenticate → authorize → enter (calls in flight) → body → admit (limits)
//! → intent, in the trail → inject → forward → outcome, in the trail → respond
//!
//! What bounds a caller, from the outside in: connections ([`server`]), requests in flight
//! (its rim), guesses at tokens ([`pipeline::authenticate`]), a tenant's calls in flight and
//! all rate limits ([`pipeline::limit`]; over a fleet, with [`fleet`]), and the number of
//! different credentials that it deletes ([`containment`]).
//!
//! [`config`] turns one YAML file into the immutable snapshot that a request
//! sees. [`audit`] is the trail: one writer of hash-chained records.
//! [`containment`] is what stops a tenant.
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic
    )
)]

/// The commit that this was built from, if the build said so
/// (`ALLOY_GATEWAY_REVISION`).
pub const REVISION: &str = match option_env!("ALLOY_GATEWAY_REVISION") {
    Some(revision) => revision,
    None => "unknown",
};

/// How the gateway names itself to the servers that it asks.
pub const USER_AGENT: &str = concat!("alloy-gateway/", env!("CARGO_PKG_VERSION"));

// What is named everywhere: ids, tokens, and secrets that can't be printed.
pub mod ids;
pub mod secret;
pub mod token;

// What a call sees of the config, and how another one comes in.
pub mod config;
pub mod key_ring;
pub mod reload;

// A call comes in ...
pub mod server;

// ... is decided and sent ...
pub mod pipeline;

// ... within what an operator, a budget and the other sidecars leave its tenant ...
pub mod containment;
pub mod fleet;

// ... and is recorded: here, and in a database for all.
pub mod audit;
pub mod ship;

// What is told of it beside the trail.
pub mod logging;
pub mod metrics;
pub mod traces;

// Who looks at the running gateway, and changes it.
pub mod admin;
pub mod systemd;

// What several of these are built on.
mod background;
mod closed_list;
pub mod fault_point;
mod named_file;
pub mod one_write;
pub mod timers;
pub mod tls;

// What people start, and what stands in for Alloy then.
pub mod cli;
pub mod simulated_alloy;
