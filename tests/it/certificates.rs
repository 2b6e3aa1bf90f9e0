//! Certificates that age while the gateway runs: they are told before callers notice.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};

use crate::support::{Gateway, Setup, gateway::secret};

const DAY: i64 = 24 * 3600;

/// A certificate that was valid for so many seconds and is for so many more, and its key.
pub fn aged(before: i64, left: i64) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(["gateway.example".to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let now = Timestamp::now().as_second();
    let at = |second: i64| {
        let since = Duration::from_secs(u64::try_from(second).unwrap());
        rcgen::date_time_ymd(1970, 1, 1) + since
    };
    params.not_before = at(now - before);
    params.not_after = at(now + left);
    let certificate = params.self_signed(&key).unwrap();
    (certificate.pem(), key.serialize_pem())
}

/// A listener with this certificate and these authorities of clients.
pub fn with(certificate: &(String, String), client_ca: &str) -> Gateway {
    Setup::default()
        .file("tls.crt", certificate.0.clone())
        .file("tls.key", certificate.1.clone())
        .file("clients.pem", client_ca)
        .listen("{ address: 127.0.0.1:0, tls: { certificate: { file: tls.crt }, key: { file: tls.key }, client_ca: { file: clients.pem } } }")
        .start()
}

/// The one series of this use, and its listener.
fn series(gateway: &Gateway, name: &str, usage: &str) -> (f64, String) {
    let scrape = gateway.scrape();
    let start = format!("alloy_gateway_{name}{{use=\"{usage}\",listener=\"");
    let mut found = scrape
        .series()
        .filter_map(|(series, value)| Some((value, series.strip_prefix(&start)?)));
    let (value, rest) = found.next().unwrap_or_else(|| panic!("{}", scrape.text()));
    assert!(found.next().is_none(), "{}", scrape.text());
    (value, rest.trim_end_matches("\"}").to_owned())
}

/// In how many seconds, to a few seconds.
#[track_caller]
fn assert_about(at: f64, seconds: i64) {
    let left = at - Timestamp::now().as_second() as f64;
    assert!((left - seconds as f64).abs() < 60.0, "{left} {seconds}");
}

fn concerns(gateway: &Gateway) -> Vec<String> {
    let status = gateway.admin("/status.json").json();
    let concerns = status["concerns"].as_array().unwrap().iter();
    concerns.map(|it| it.as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_certificate_that_expires_soon_has_a_series_a_warning_and_a_concern_until_it_is_renewed() {
    const EXPIRY: &str = "certificate_expiry_timestamp_seconds";
    let (leaf, key) = aged(80 * DAY, 300 * DAY);
    // Of a chain what ends first is the end of it; of authorities the last.
    let chain = (leaf + &aged(80 * DAY, 10 * DAY + 3600).0, key);
    let authorities = aged(80 * DAY, -DAY).0 + &aged(80 * DAY, 5 * DAY + 3600).0;
    let gateway = with(&chain, &authorities);
    let (expires, listener) = series(&gateway, EXPIRY, "listen");
    assert_about(expires, 10 * DAY + 3600);
    assert!(listener.starts_with("127.0.0.1:"), "{listener}");
    assert_ne!(listener, gateway.data.to_string());
    let (begun, _) = series(
        &gateway,
        "certificate_not_before_timestamp_seconds",
        "listen",
    );
    assert_about(begun, -80 * DAY);
    let (expires, of) = series(&gateway, EXPIRY, "client_ca");
    assert_about(expires, 5 * DAY + 3600);
    assert_eq!(of, listener);
    assert_eq!(series(&gateway, EXPIRY, "upstream_trust").1, "");
    let told = |usage: &str| {
        gateway.process.wait_for(|line| {
            let message = line["message"].as_str().unwrap_or_default();
            message.contains("expires soon") && line["certificate.use"] == usage
        })
    };
    for usage in ["listen", "client_ca"] {
        let line = told(usage);
        assert_eq!(
            (&line["level"], &line["listener"]),
            (&"warn".into(), &listener.as_str().into())
        );
    }
    let said = [
        format!("The certificate of listener {listener} expires in 10 days."),
        format!("The last authority of clients of listener {listener} expires in 5 days."),
    ];
    assert_eq!(concerns(&gateway), said);
    let (certificate, key) = aged(DAY, 80 * DAY);
    secret(&gateway.path("tls.crt"), &certificate);
    secret(&gateway.path("tls.key"), &key);
    let (status, reloaded) = gateway.admin_socket("POST", "/-/reload");
    assert_eq!(status, 200, "{reloaded}");
    assert_about(series(&gateway, EXPIRY, "listen").0, 80 * DAY);
    assert_eq!(concerns(&gateway), said[1..]);
}

#[test]
fn a_certificate_that_expires_in_a_running_gateway_is_told_at_once() {
    let ends = Timestamp::now() + SignedDuration::from_secs(8);
    let gateway = with(&aged(80 * DAY, 8), &aged(DAY, 400 * DAY).0);
    let line = gateway.process.wait_for(|line| {
        let message = line["message"].as_str().unwrap_or_default();
        message.starts_with("a certificate has expired")
    });
    assert!(Timestamp::now() >= ends - SignedDuration::from_secs(1));
    assert_eq!(
        (&line["level"], &line["certificate.use"]),
        (&"error".into(), &"listen".into())
    );
    let said = concerns(&gateway);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(
        said[0].starts_with("The certificate of listener 127.0.0.1:")
            && said[0].contains(" has expired on "),
        "{said:?}"
    );
    let told = gateway
        .process
        .output()
        .matches("a certificate expires soon")
        .count();
    assert_eq!(told, 1, "once a day, not at each look");
}

/// Whoever issues certificates for a day renews them hours before their end.
#[test]
fn a_certificate_that_lives_a_day_is_no_news_before_the_last_third_of_it() {
    let gateway = with(&aged(12 * 3600, 12 * 3600), &aged(DAY, 400 * DAY).0);
    assert_eq!(concerns(&gateway), [""; 0]);
    let gateway = with(&aged(20 * 3600, 4 * 3600), &aged(DAY, 400 * DAY).0);
    assert_eq!(concerns(&gateway).len(), 1);
}
