//! Shapes → settings: every value gets its meaning, every default its place, and
//! every problem is found at once.

mod audit;
mod budget;
mod check;
mod fleet;
mod listeners;
mod literal;
mod observe;
mod secret;
mod tenants;
mod tokens;
mod upstream;

use std::{num::NonZeroUsize, path::Path};

use self::check::Check;
pub use self::{check::name, tenants::expected_id, upstream::is_loopback};
use super::{
    problem::{FieldPath, Problem},
    ranges,
    raw::{self, OneOf, Raw},
    settings::{Admin, Bounds, Settings},
};

/// What came of a config.
#[derive(Debug)]
pub struct Validated {
    /// The settings.
    pub settings: Settings,
    /// What is allowed, and hardly meant.
    pub warnings: Vec<Problem>,
}

/// A config that is not right.
#[derive(Debug)]
pub struct Invalid {
    /// Every problem.
    pub problems: Vec<Problem>,
    /// What it says, with defaults in place of what is wrong: good for looking on
    /// for problems, and for nothing else.
    pub settings: Settings,
}

/// Makes settings of shapes. `directory` is what relative paths are relative to;
/// `misfits` are known already and not said again.
///
/// # Errors
///
/// Every problem, the misfits included.
pub fn validate(
    raw: Raw,
    directory: &Path,
    misfits: Vec<Problem>,
) -> Result<Validated, Box<Invalid>> {
    let mut check = Check::new(directory, misfits);
    version(&mut check, raw.version);
    let bounds = bounds(&mut check, raw.bounds.unwrap_or_default());
    let listen = listeners::data(&mut check, raw.listen);
    let admin = listeners::admin(&mut check, raw.admin.unwrap_or_default());
    listeners::both(&mut check, &listen, &admin);
    let upstream = upstream::upstream(&mut check, raw.upstream.unwrap_or_default());
    let allow_inline = raw.allow_inline_secrets.unwrap_or(false);
    let keys = tenants::keys(&mut check, raw.keys, allow_inline);
    let tenants = tenants::tenants(&mut check, raw.tenants, &keys, upstream.ids, &bounds);
    let audit = audit::audit(&mut check, raw.audit.unwrap_or_default(), allow_inline);
    let limits_store = raw
        .limits_store
        .map(|raw| fleet::store(&mut check, raw, allow_inline));
    let log = observe::log(&mut check, raw.log.unwrap_or_default());
    let otlp = raw
        .otlp
        .map(|raw| observe::otlp(&mut check, raw, allow_inline));
    let workers = workers(&mut check, raw.workers);
    let metrics = raw.metrics.unwrap_or_default();
    let at = FieldPath::root().key("metrics").key("max_tenants");
    let metrics_tenants = check.count(at, metrics.max_tenants, 200, ranges::METRICS_MAX_TENANTS);
    let settings = Settings {
        listen,
        admin,
        upstream,
        keys,
        tenants,
        audit,
        limits_store,
        log,
        otlp,
        workers,
        metrics_tenants,
        bounds,
    };
    drain_is_long_enough(&mut check, &settings);
    fleet::shares_are_within_the_limits(&mut check, &settings);
    budget::budgets_can_be_spent(&mut check, &settings);
    tokens::admin_is_no_caller(&mut check, &settings);
    let (problems, warnings) = check.finish();
    if problems.is_empty() {
        Ok(Validated { settings, warnings })
    } else {
        Err(Box::new(Invalid { problems, settings }))
    }
}

/// Makes settings of the admin section alone, with defaults in place of what is wrong with it,
/// and every problem of it.
pub fn admin(raw: Raw, directory: &Path, misfits: Vec<Problem>) -> (Admin, Vec<Problem>) {
    let mut check = Check::new(directory, misfits);
    let admin = listeners::admin(&mut check, raw.admin.unwrap_or_default());
    (admin, check.finish().0)
}

fn version(check: &mut Check, version: Option<u64>) {
    let at = FieldPath::root().key("version");
    match version {
        Some(1) => {}
        Some(other) => check.problem(at, format!("found {other}, this program reads version 1")),
        None => check.problem(at, "is missing; put `version: 1` at the top"),
    }
}

fn workers(check: &mut Check, workers: Option<OneOf<raw::Nothing>>) -> Option<NonZeroUsize> {
    let allowed = ranges::WORKERS;
    let found = match workers {
        None => return None,
        Some(OneOf::Word(word)) if word == "auto" => return None,
        Some(OneOf::Number(found)) => u32::try_from(found).ok(),
        Some(_) => None,
    };
    let found = found.filter(|found| allowed.contains(found));
    if found.is_none() {
        let at = FieldPath::root().key("workers");
        let message = format!("expected auto, or a whole number from {allowed}");
        check.problem(at, message);
    }
    found.and_then(|found| NonZeroUsize::new(usize::try_from(found).ok()?))
}

fn bounds(check: &mut Check, raw: raw::Bounds) -> Bounds {
    let at = |name: &'static str| FieldPath::root().key("bounds").key(name);
    let failed_auth = raw.failed_auth.unwrap_or_else(|| raw::Window {
        requests: Some(20),
        per: Some("10s".to_owned()),
        burst: None,
    });
    Bounds {
        connections: check.count(
            at("connections"),
            raw.connections,
            4096,
            ranges::BOUNDS_CONNECTIONS,
        ),
        connections_per_peer: check.count(
            at("connections_per_peer"),
            raw.connections_per_peer,
            4096,
            ranges::BOUNDS_CONNECTIONS_PER_PEER,
        ),
        requests_in_flight: check.count(
            at("requests_in_flight"),
            raw.requests_in_flight,
            1024,
            ranges::BOUNDS_REQUESTS_IN_FLIGHT,
        ),
        failed_auth: check.window(at("failed_auth"), &failed_auth),
        header_timeout: check.span(
            at("header_timeout"),
            raw.header_timeout,
            "5s",
            ranges::BOUNDS_HEADER_TIMEOUT,
        ),
        body_timeout: check.span(
            at("body_timeout"),
            raw.body_timeout,
            "10s",
            ranges::BOUNDS_BODY_TIMEOUT,
        ),
        idle_timeout: check.span(
            at("idle_timeout"),
            raw.idle_timeout,
            "60s",
            ranges::BOUNDS_IDLE_TIMEOUT,
        ),
        drain_delay: check.span(
            at("drain_delay"),
            raw.drain_delay,
            "0s",
            ranges::BOUNDS_DRAIN_DELAY,
        ),
        drain_timeout: check.span(
            at("drain_timeout"),
            raw.drain_timeout,
            "35s",
            ranges::BOUNDS_DRAIN_TIMEOUT,
        ),
        headers: check.count(at("headers"), raw.headers, 64, ranges::BOUNDS_HEADERS),
        header_bytes: check.size(
            at("header_bytes"),
            raw.header_bytes,
            16 << 10,
            ranges::BOUNDS_HEADER_BYTES,
        ),
        body_bytes: check.size(
            at("body_bytes"),
            raw.body_bytes,
            64 << 10,
            ranges::BOUNDS_BODY_BYTES,
        ),
    }
}

/// A drain that ends before a call can leaves calls in doubt.
fn drain_is_long_enough(check: &mut Check, settings: &Settings) {
    let wait = settings
        .tenants
        .iter()
        .map(|tenant| tenant.wait)
        .max()
        .unwrap_or_default();
    let needed = settings.upstream.request_timeout + wait;
    if settings.bounds.drain_timeout < needed {
        let at = FieldPath::root().key("bounds").key("drain_timeout");
        let needed = super::unit::show_duration(needed);
        check.warning(at, format!("is below upstream.request_timeout + the longest wait ({needed}): stopping can leave calls in doubt"));
    }
}
