//! Certificates that nobody has renewed.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use jiff::Timestamp;

use super::is_due_again;
use crate::{
    metrics::Metrics,
    snapshot::{Certificate, Snapshot, Use},
};

/// Warns of certificates that expire soon, or have expired: when that becomes true, and
/// then once a day of each.
#[derive(Debug, Default)]
pub struct CertificateWatch(Mutex<HashMap<(Use, Option<usize>), Told>>);

/// What was told last of a certificate.
#[derive(Debug, Clone, Copy)]
struct Told {
    until: Timestamp,
    expired: bool,
    at: Timestamp,
}

impl CertificateWatch {
    /// Logs which certificates expire soon, and which have, if it is time to.
    pub fn look(&self, snapshot: &Snapshot, metrics: &Metrics, now: Timestamp) {
        for certificate in snapshot.certificates() {
            if !self.is_news(&certificate, now) {
                continue;
            }
            let expires = certificate.until;
            let usage = certificate.usage.as_str();
            let listener = metrics.listener(certificate.listener);
            if certificate.has_expired(now) {
                tracing::error!(
                    "certificate.use" = usage,
                    listener,
                    %expires,
                    "a certificate has expired: put another one in its file"
                );
            } else {
                tracing::warn!(
                    "certificate.use" = usage,
                    listener,
                    %expires,
                    "a certificate expires soon: put another one in its file"
                );
            }
        }
    }

    /// Whether it is to be told now; it then counts as told.
    fn is_news(&self, certificate: &Certificate, now: Timestamp) -> bool {
        if !certificate.is_due(now) {
            return false;
        }
        let (until, expired) = (certificate.until, certificate.has_expired(now));
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of = (certificate.usage, certificate.listener);
        if let Some(last) = told.get(&of)
            && (last.until, last.expired) == (until, expired)
            && !is_due_again(last.at, now)
        {
            return false;
        }
        let news = Told {
            until,
            expired,
            at: now,
        };
        told.insert(of, news);
        true
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    #[test]
    fn a_certificate_is_told_once_a_day_and_anew_when_it_expires_or_is_another() {
        let watch = CertificateWatch::default();
        let start: Timestamp = "2026-11-01T00:00:00Z".parse().unwrap();
        let after = |hours| start + SignedDuration::from_hours(hours);
        let of = |usage, until| Certificate {
            usage,
            listener: Some(0),
            from: after(-9000),
            until,
        };
        let certificate = of(Use::Listen, after(24 * 20));
        assert!(!watch.is_news(&certificate, after(0)));
        assert!(watch.is_news(&certificate, after(24 * 6)));
        assert!(!watch.is_news(&certificate, after(24 * 6 + 23)));
        assert!(watch.is_news(&of(Use::ClientCa, after(24 * 20)), after(24 * 6 + 23)));
        assert!(watch.is_news(&certificate, after(24 * 7)));
        // It is never a day late that callers are turned away.
        assert!(watch.is_news(&certificate, after(24 * 20 - 1)));
        assert!(watch.is_news(&certificate, after(24 * 20 + 1)));
        assert!(!watch.is_news(&certificate, after(24 * 21)));
        assert!(watch.is_news(&certificate, after(24 * 21 + 1)));
        assert!(watch.is_news(&of(Use::Listen, after(24 * 22)), after(24 * 21 + 1)));
        assert!(!watch.is_news(&of(Use::Listen, after(24 * 90)), after(24 * 21 + 2)));
    }

    #[test]
    fn a_clock_that_was_set_back_silences_no_certificate() {
        let watch = CertificateWatch::default();
        let start: Timestamp = "2026-11-01T00:00:00Z".parse().unwrap();
        let after = |hours| start + SignedDuration::from_hours(hours);
        let certificate = Certificate {
            usage: Use::Listen,
            listener: Some(0),
            from: after(-9000),
            until: after(24 * 7),
        };
        let years = 24 * 365 * 14;
        // Expired, as the clock had it, and so it is again when it really ends.
        assert!(watch.is_news(&certificate, after(years)));
        assert!(watch.is_news(&certificate, after(24 * 7 + 1)));
        assert!(!watch.is_news(&certificate, after(24 * 7 + 2)));
        assert!(watch.is_news(&certificate, after(24 * 8 + 1)));
    }
}
