//! A fleet in simulated time: the limits, the fair share, the rule of the store and
//! the way back to it are the product's own; callers, time, the network and the store's
//! state are made up.
//!
//! `benches/fleet_simulation.rs` makes a table and a plot of it, a test runs it in
//! small.

mod agenda;
mod clock;
mod dice;
mod fleet;
mod modes;
mod outcome;
mod plan;
mod sidecar;
mod store;
mod weather;

pub use self::{
    fleet::run,
    modes::{Bound, Mode, modes},
    plan::{Load, Plan},
};
