//! What many sidecars have in common: limits that they share through a store.
//!
//! The pure parts, without I/O and without a clock, are the rule of a shared limit
//! ([`gcra`]), what is a gateway's own while the store does not answer
//! ([`share`]), and when it is asked again ([`standing`]).

pub mod gcra;
pub mod share;
pub mod standing;
