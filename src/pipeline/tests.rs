//! The pipeline as one function: requests in, answers, records and what reached
//! the upstream out. What a socket adds is shown by the suites.

mod stages;

use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response, Version, request::Builder};
use http_body_util::Full;
use serde_json::Value;
use tempfile::TempDir;

use super::{
    Pipeline, limit, record,
    respond::{
        self,
        tests::{field, json},
    },
};
use crate::{
    arrival::Arrival,
    audit::{Options, Trail},
    load,
    metrics::Shard,
    secret::{ApiKey, UpstreamKey},
    simulated_alloy::{self, Behaviour, SimulatedAlloy},
    snapshot,
    token::NewToken,
};

const KEY: &str = "unit-key-0123456789";
const USER: &str = "689593e23e4c93cae95fd75c";

struct Stage {
    pipeline: Pipeline,
    snapshot: snapshot::Snapshot,
    alloy: SimulatedAlloy,
    trail: Trail,
    directory: TempDir,
}

/// Tenants that may everything, one user, nothing, only try; and two whose token's
/// time is over or yet to come.
fn stage(tokens: &[NewToken; 6]) -> Stage {
    let limited = "users: all, limits: [ { requests: 9, per: 1h } ]";
    stage_with(tokens, "circuit_breaker: off", limited)
}

/// With a line of the upstream, and the lines of the tenant that may everything.
fn stage_with(tokens: &[NewToken; 6], upstream: &str, of_all: &str) -> Stage {
    let directory = tempfile::tempdir().unwrap();
    let alloy = SimulatedAlloy::start(simulated_alloy::Options {
        tls: false,
        api_key: KEY.to_owned(),
        api_version: "2025-09".to_owned(),
        users: BTreeMap::from([(USER.to_owned(), vec!["c1".to_owned(), "c2".to_owned()])]),
    })
    .unwrap();
    let key = directory.path().join("key");
    fs::write(&key, KEY).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let tenant = |name: &str, token: &NewToken, validity: &str, lines: &str| {
        let digest = token.digest().to_hex();
        format!(
            "  - {{ name: {name}, key: k, tokens: [ {{ id: a, sha256: \"{digest}\"{validity} }} ], {lines} }}\n"
        )
    };
    let [all, narrow, suspended, dry, old, new] = tokens;
    let text = format!(
        "version: 1\nlisten: [ {{ address: 127.0.0.1:0 }} ]\nadmin: {{ address: off }}\n\
         upstream: {{ url: \"{}\", retries: 0, {upstream} }}\nkeys: {{ k: {{ secret: {{ file: key }} }} }}\n\
         bounds: {{ failed_auth: {{ requests: 100, per: 1h }} }}\n\
         audit: {{ directory: audit, durability: relaxed }}\ntenants:\n{}{}{}{}{}{}",
        alloy.url(),
        tenant("all", all, "", of_all),
        tenant("narrow", narrow, "", &format!("users: [ {USER} ]")),
        tenant(
            "suspended",
            suspended,
            "",
            &format!("users: [ {USER} ], mode: suspended")
        ),
        tenant("dry", dry, "", "users: all, mode: dry_run"),
        tenant("old", old, ", expires: 2020-01-01T00:00:00Z", "users: all"),
        tenant(
            "new",
            new,
            ", not_before: 2120-01-01T00:00:00Z",
            "users: all"
        ),
    );
    let path = directory.path().join("config.yaml");
    fs::write(&path, text).unwrap();
    let loaded = load::file(&path).unwrap_or_else(|problems| panic!("{problems}"));
    let snapshot = snapshot::build(&loaded.settings, &loaded.digest, None).unwrap();
    let snapshot = snapshot.with_lasting();
    let options = Options {
        settings: loaded.settings.audit.clone(),
        mac_key: None,
        usage: Duration::ZERO,
        collected: None,
    };
    let trail = Trail::open(options, &mut |_| {}).unwrap();
    Stage {
        pipeline: Pipeline::new(
            trail.for_worker(),
            Arc::new(Shard::new(0, 1)),
            Arc::default(),
            None,
        ),
        snapshot,
        alloy,
        trail,
        directory,
    }
}

impl Stage {
    async fn answer(&self, request: Builder) -> Response<respond::Body> {
        let request = request.body(Full::new(Bytes::from_static(b"{}"))).unwrap();
        let arrival = Arrival::of(&request);
        let answer = self
            .pipeline
            .answer(&self.snapshot, &arrival, request)
            .await;
        answer.response
    }

    fn records(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.directory.path().join("audit/0000000001.jsonl"));
        let text = text.unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

fn call(user: &str, token: &str) -> Builder {
    Request::delete(format!("/users/{user}/credentials/c1"))
        .header("host", "gateway")
        .header("authorization", format!("Bearer {token}"))
}

fn tokens() -> [NewToken; 6] {
    std::array::from_fn(|_| NewToken::generate().unwrap())
}

#[tokio::test]
async fn a_call_is_sent_as_the_canonical_request_and_its_answer_passes_back() {
    let tokens = tokens();
    let stage = stage(&tokens);
    for (version, via) in [
        (Version::HTTP_10, "1.0"),
        (Version::HTTP_11, "1.1"),
        (Version::HTTP_2, "2.0"),
    ] {
        stage.alloy.script([Behaviour::answer(
            200,
            "Cache-Control: no-store\r\nSet-Cookie: a=b\r\nX-Request-Id: theirs\r\nRetry-After: 1\r\n",
            r#"{"success":true}"#,
        )]);
        let request = call(USER, tokens[0].reveal())
            .version(version)
            .header("cookie", "a=b")
            .header("x-request-id", "ours.1");
        let response = stage.answer(request).await;
        assert_eq!(response.status(), 200);
        let id = field(&response, "x-request-id").unwrap().to_owned();
        assert_eq!(field(&response, "x-correlation-id"), Some("ours.1"));
        assert_eq!(field(&response, "x-alloy-gateway-source"), Some("upstream"));
        assert_eq!(field(&response, "x-alloy-gateway-sent"), Some("yes"));
        assert_eq!(field(&response, "x-alloy-gateway-outcome"), None);
        assert_eq!(field(&response, "content-type"), Some("application/json"));
        assert_eq!(field(&response, "cache-control"), Some("no-store"));
        assert_eq!(field(&response, "retry-after"), None);
        assert_eq!(field(&response, "set-cookie"), None);
        let closes = (version == Version::HTTP_10).then_some("close");
        assert_eq!(field(&response, "connection"), closes);
        assert_eq!(
            field(&response, "ratelimit-policy"),
            Some("\"tenant-3600s\";q=9;w=3600")
        );
        assert!(field(&response, "ratelimit").is_some());
        assert_eq!(json(response).await, serde_json::json!({ "success": true }));
        let received = stage.alloy.received().pop().unwrap().text();
        let mut lines: Vec<_> = received.trim_end().split("\r\n").collect();
        assert_eq!(
            lines.remove(0),
            format!("DELETE /users/{USER}/credentials/c1 HTTP/1.1")
        );
        lines.sort_unstable();
        let host = stage.alloy.url().replace("http://", "host: ");
        assert_eq!(
            lines,
            [
                "accept: application/json".to_owned(),
                format!("authorization: bearer {KEY}"),
                host,
                format!("user-agent: alloy-gateway/{}", env!("CARGO_PKG_VERSION")),
                format!("via: {via} alloy-gateway"),
                "x-api-version: 2025-09".to_owned(),
                format!("x-request-id: {id}"),
            ]
        );
    }
}

#[tokio::test]
async fn who_may_what_is_decided_by_token_time_mode_and_user_in_this_order() {
    let tokens = tokens();
    let stage = stage(&tokens);
    let [all, narrow, suspended, dry, old, new] = &tokens;
    let foreign = "64b7f0e2a1d3c45f6789abcd";
    let bare = || Request::delete(format!("/users/{USER}/credentials/c1")).header("host", "a");
    let with = |value: String| bare().header("authorization", value);
    let good = all.reveal();
    let flipped = if good.ends_with('0') { "1" } else { "0" };
    let mistyped = format!("{}{flipped}", good.strip_suffix(|_: char| true).unwrap());
    let unknown = NewToken::generate().unwrap();
    let cases = [
        (bare(), 401, "unauthenticated", "missing"),
        (with(String::new()), 401, "unauthenticated", "malformed"),
        (
            with("Bearer".to_owned()),
            401,
            "unauthenticated",
            "malformed",
        ),
        (with(good.to_owned()), 401, "unauthenticated", "malformed"),
        (
            with(format!("Basic_ {good}")),
            401,
            "unauthenticated",
            "malformed",
        ),
        (
            with(format!("Bearer_{good}")),
            401,
            "unauthenticated",
            "malformed",
        ),
        (
            with(format!("Bearer\t{good}")),
            401,
            "unauthenticated",
            "malformed",
        ),
        (
            call(USER, good).header("authorization", "x"),
            401,
            "unauthenticated",
            "malformed",
        ),
        (call(USER, &mistyped), 401, "unauthenticated", "checksum"),
        (
            call(USER, unknown.reveal()),
            401,
            "unauthenticated",
            "unknown",
        ),
        (call(USER, old.reveal()), 401, "unauthenticated", "expired"),
        (
            call(USER, new.reveal()),
            401,
            "unauthenticated",
            "not_yet_valid",
        ),
        (
            call(foreign, suspended.reveal()),
            403,
            "tenant-suspended",
            "",
        ),
        (call(USER, suspended.reveal()), 403, "tenant-suspended", ""),
        (call(foreign, narrow.reveal()), 403, "user-not-allowed", ""),
        (call(USER, dry.reveal()), 403, "dry-run", ""),
    ];
    let mut expected = Vec::new();
    for (request, status, code, reason) in cases {
        let what = format!("{request:?}").replace(good, "…");
        let response = stage.answer(request).await;
        assert_eq!(response.status(), status, "{what}");
        assert_eq!(
            field(&response, "x-alloy-gateway-sent"),
            Some("no"),
            "{what}"
        );
        assert_eq!(json(response).await["code"], code, "{what}");
        expected.push((status.into(), code.to_owned(), reason.to_owned()));
    }
    assert_eq!(stage.alloy.received().len(), 0);
    for (user, token) in [(USER, narrow), (foreign, all)] {
        stage.answer(call(user, token.reveal())).await;
    }
    let spaced = with(format!("bEARER   {good}"));
    stage.answer(spaced).await;
    assert_eq!(stage.alloy.received().len(), 3);
    stage.trail.close();
    let recorded: Vec<_> = stage
        .records()
        .iter()
        .filter(|record| record["code"].is_string())
        .map(|record| {
            let text = |name: &str| record[name].as_str().unwrap_or_default().to_owned();
            let status = record["status"].as_u64().unwrap();
            (status, text("code"), text("reason"))
        })
        .collect();
    assert_eq!(recorded, expected);
}

#[tokio::test]
async fn a_token_is_good_from_its_first_moment_on_and_at_its_last_no_more() {
    let tokens = tokens();
    let stage = stage(&tokens);
    let good = |token: &NewToken, at: &str| {
        let request = call(USER, token.reveal()).body(()).unwrap();
        let peer = Arrival::of(&request).peer;
        let now = at.parse().unwrap();
        super::authenticate::identify(request.headers(), &stage.snapshot, &peer, now).is_ok()
    };
    let [_, _, _, _, old, new] = &tokens;
    assert!(good(old, "2019-12-31T23:59:59.999Z"));
    assert!(!good(old, "2020-01-01T00:00:00Z"));
    assert!(!good(new, "2119-12-31T23:59:59.999Z"));
    assert!(good(new, "2120-01-01T00:00:00Z"));
}

#[tokio::test]
async fn who_may_wait_gets_its_turn_and_who_may_not_is_told_at_once() {
    let tokens = tokens();
    let limits = "users: all, limits: [ { requests: 10, per: 1s, burst: 1 } ]";
    for (wait, served) in [("5s", 4), ("0s", 1)] {
        let stage = stage_with(
            &tokens,
            "circuit_breaker: off",
            &format!("{limits}, wait: {wait}"),
        );
        let calls = (0..4).map(|_| stage.answer(call(USER, tokens[0].reveal())));
        let answers = futures_util::future::join_all(calls).await;
        let refused = answers
            .iter()
            .filter(|answer| answer.status() == 429)
            .count();
        assert_eq!(
            (4 - refused, stage.alloy.received().len()),
            (served, served),
            "{wait}"
        );
    }
}

#[tokio::test]
async fn what_the_upstream_shows_of_its_health_opens_the_breaker() {
    let tokens = tokens();
    let breaker = "circuit_breaker: { failures: 2, open_for: 1h }";
    let stage = stage_with(&tokens, breaker, "users: all");
    for status in [503, 500, 503, 503] {
        stage.alloy.script([Behaviour::answer(status, "", "{}")]);
        let response = stage.answer(call(USER, tokens[0].reveal())).await;
        assert_eq!(response.status(), status);
    }
    let response = stage.answer(call(USER, tokens[0].reveal())).await;
    assert_eq!(json(response).await["code"], "circuit-open");
    assert_eq!(stage.alloy.received().len(), 4);
}
