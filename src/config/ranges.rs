//! What each number, span and size of a config may be. Validation, the schema and the
//! reference all take it from here, so that none can tell of another bound.

use std::{fmt, time::Duration};

use super::unit::{show_duration, show_size};

/// The least and the most of a value.
#[derive(Debug, Clone, Copy)]
pub struct Range<T> {
    /// The least.
    pub min: T,
    /// The most.
    pub max: T,
}

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Bytes(pub u32);

impl<T: PartialOrd> Range<T> {
    /// Whether a value is within.
    pub fn contains(&self, value: &T) -> bool {
        (&self.min..=&self.max).contains(&value)
    }
}

impl fmt::Display for Range<u32> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.min, self.max)
    }
}

impl fmt::Display for Range<f64> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} to {:?}", self.min, self.max)
    }
}

impl fmt::Display for Range<Duration> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (min, max) = (show_duration(self.min), show_duration(self.max));
        write!(f, "{min} to {max}")
    }
}

impl fmt::Display for Range<Bytes> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (min, max) = (show_size(self.min.0), show_size(self.max.0));
        write!(f, "{min} to {max}")
    }
}

const fn counts(min: u32, max: u32) -> Range<u32> {
    Range { min, max }
}

const fn bytes(min: u32, max: u32) -> Range<Bytes> {
    let (min, max) = (Bytes(min), Bytes(max));
    Range { min, max }
}

const fn ms(min: u64, max: u64) -> Range<Duration> {
    let (min, max) = (Duration::from_millis(min), Duration::from_millis(max));
    Range { min, max }
}

/// From so many milliseconds to the longest span of any limit or time-out.
const fn span(min: u64) -> Range<Duration> {
    ms(min, 366 * 24 * 3_600_000)
}

pub const WORKERS: Range<u32> = counts(1, 256);

pub const METRICS_MAX_TENANTS: Range<u32> = counts(0, 10_000);

pub const UPSTREAM_CONNECT_TIMEOUT: Range<Duration> = span(10);
pub const UPSTREAM_REQUEST_TIMEOUT: Range<Duration> = span(50);
pub const UPSTREAM_RETRIES: Range<u32> = counts(0, 10);
pub const UPSTREAM_IDLE_TIMEOUT: Range<Duration> = span(10);
pub const UPSTREAM_CONNECTION_MAX_AGE: Range<Duration> = span(10);
pub const UPSTREAM_IDLE_CONNECTIONS: Range<u32> = counts(0, 10_000);
pub const BREAKER_FAILURES: Range<u32> = counts(1, 1_000_000);
pub const BREAKER_OPEN_FOR: Range<Duration> = span(10);

pub const LIMIT_UNITS: Range<u32> = counts(1, 1_000_000);
pub const LIMIT_PER: Range<Duration> = span(1);

pub const TENANT_WAIT: Range<Duration> = span(0);
pub const TENANT_WAIT_QUEUE: Range<u32> = counts(1, 100_000);
/// In a given config the most is its `bounds.requests_in_flight`.
pub const TENANT_IN_FLIGHT: Range<u32> = counts(1, BOUNDS_REQUESTS_IN_FLIGHT.max);
/// Each deletion takes some 90 bytes of memory while it counts.
pub const FREEZE_DELETIONS: Range<u32> = counts(1, 100_000);
pub const FREEZE_PER: Range<Duration> = span(1000);

pub const AUDIT_INTENT_WAIT: Range<Duration> = span(10);
pub const AUDIT_OUTCOME_WAIT: Range<Duration> = span(0);
pub const AUDIT_SEGMENT_SIZE: Range<Bytes> = bytes(64 << 10, 1 << 30);
pub const AUDIT_SEGMENT_AGE: Range<Duration> = span(1000);
pub const AUDIT_RETENTION: Range<Duration> = ms(1000, 100 * 366 * 24 * 3_600_000);
pub const CHECKPOINT_RECORDS: Range<u32> = counts(1, 1_000_000_000);
pub const CHECKPOINT_EVERY: Range<Duration> = span(1000);

pub const STORE_TIMEOUT: Range<Duration> = ms(5, 2000);
pub const STORE_REPLICAS: Range<u32> = counts(1, 100_000);

pub const OTLP_SAMPLING: Range<f64> = Range { min: 0.0, max: 1.0 };
pub const OTLP_TIMEOUT: Range<Duration> = ms(10, 60_000);

pub const BOUNDS_CONNECTIONS: Range<u32> = counts(1, 1_000_000);
pub const BOUNDS_CONNECTIONS_PER_PEER: Range<u32> = counts(1, 1_000_000);
pub const BOUNDS_REQUESTS_IN_FLIGHT: Range<u32> = counts(1, 1_000_000);
pub const BOUNDS_HEADER_TIMEOUT: Range<Duration> = span(100);
pub const BOUNDS_BODY_TIMEOUT: Range<Duration> = span(100);
pub const BOUNDS_IDLE_TIMEOUT: Range<Duration> = span(100);
pub const BOUNDS_DRAIN_DELAY: Range<Duration> = span(0);
pub const BOUNDS_DRAIN_TIMEOUT: Range<Duration> = span(0);
pub const BOUNDS_HEADERS: Range<u32> = counts(8, 1000);
/// hyper can't be told to take less than 8 KiB.
pub const BOUNDS_HEADER_BYTES: Range<Bytes> = bytes(8 << 10, 256 << 10);
pub const BOUNDS_BODY_BYTES: Range<Bytes> = bytes(0, 16 << 20);
