//! What the suites share: the real binary before a simulated Alloy, raw clients,
//! and what every refusal must look like.

pub mod browser;
pub mod client;
pub mod collector;
pub mod gateway;
pub mod h2;
pub mod metrics;
pub mod mount;
pub mod postgres;
pub mod raw_h2;
pub mod refusal;
pub mod store;
pub mod trail;

pub use self::{
    client::{Connection, Response, delete},
    gateway::{Gateway, Setup, binary, fault_points},
    refusal::assert_refusal,
};

/// What a test needs of the machine: without it the test is skipped, but not where
/// everything must hold.
#[track_caller]
pub fn or_skipped<T>(found: Option<T>, what: &str) -> Option<T> {
    let must_be_there = std::env::var_os("CI").is_some();
    assert!(found.is_some() || !must_be_there, "there is no {what}");
    found
}

/// The Alloy key of all suites.
pub const KEY: &str = "test-key/with+odd=bytes-0123456789";
/// A user that exists.
pub const USER: &str = "689593e23e4c93cae95fd75c";
/// A user of somebody else.
pub const FOREIGN_USER: &str = "64b7f0e2a1d3c45f6789abcd";
/// A credential of [`USER`].
pub const CREDENTIAL: &str = "63252d14cc29df15cc481a76";
