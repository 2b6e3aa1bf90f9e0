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
//! (its rim), guesses at tokens ([`limits::FailedAuth`]), a tenant's calls in flight and
//! all rate limits ([`limits`]; over a fleet, with [`fleet`]), and the number of
//! different credentials that it deletes ([`containment`]).
//!
//! [`config`] turns one YAML file into settings, and [`snapshot`] these and all that they
//! name into what a request sees: immutable, swapped whole. [`audit`] is the trail: one
//! writer of hash-chained records. [`containment`] is what stops a tenant.
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

// A module knows of those of its own group and of those below, and none that knows it: so
// what is read from the bottom up needs nothing that comes later. A test sees to it
// (`tests/it/rules.rs`).

// What people start, and what stands in for Alloy then.
pub mod cli;
pub mod simulated_alloy;

// Who looks at the running gateway, and changes it.
pub mod admin;
pub mod reload;
pub mod systemd;

// A call comes in ...
pub mod server;

// ... is told of once it was answered ...
pub mod traces;

// ... and between the two is decided and sent.
pub mod pipeline;

// A config is read, and watched while it is in effect; so is what it names beside what calls
// see.
pub mod expiry;
pub mod load;
pub mod ship;

// What a call sees of it.
pub mod snapshot;

// What outlives it: what is frozen, which key is in use, what was spent and counted.
pub mod containment;
pub mod key_ring;
pub mod limits;
pub mod metrics;

// What many sidecars have in common.
pub mod fleet;

// What is recorded.
pub mod audit;

// What a request came with, what was answered, and how connections are made secret.
pub mod arrival;
pub mod code;
pub mod tls;

// What the operator said.
pub mod config;

// What several of these are built on.
mod allowance;
mod background;
mod closed_list;
pub mod fault_point;
pub mod gcra;
pub mod histogram;
pub mod logging;
mod named_file;
pub mod one_write;
pub mod timers;

// What is named everywhere: ids, tokens, and secrets that can't be printed.
pub mod ids;
pub mod secret;
pub mod token;
