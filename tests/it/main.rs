#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs
)]
//! The suites, against the real binary over real sockets. The one simulated
//! thing is Alloy itself.

mod support;

mod admin;
mod alerts;
mod arguments;
mod audit_arguments;
mod bounds;
mod certificates;
mod check;
mod collected_trail;
mod command_line;
mod contract;
mod deploy;
mod desync;
mod disk;
mod disk_dies;
mod docs;
mod fleet_freeze;
mod fleet_limits;
mod fleet_simulation;
mod forwarding;
mod freeze;
mod h2_floods;
mod h2_hostile;
mod hostile_load;
mod invalid_config;
mod key_rotation;
mod leaks;
mod lifecycle;
mod limits;
mod listeners;
mod logs;
mod look_ups;
mod manual;
mod many_tenants;
mod metrics;
mod named_metrics;
mod policy;
mod refusals;
mod reload;
mod rules;
mod status_page;
mod systemd;
mod traces;
mod trail;
mod upstream_faults;
mod vendor_contract;
