//! `/status`, as people see it: in a real browser, wide and narrow, light and dark,
//! with scripts and without.

use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use alloy_gateway::simulated_alloy::Behaviour;
use serde_json::Value;

use crate::support::{FOREIGN_USER, Gateway, Setup, USER, browser::Browser, delete};

/// The credential of the calls that fail: no word of it can come up by chance in a
/// nonce or in the id of a request, which are hexadecimal.
const FAILED: &str = "credential-of-a-failure";

/// A gateway that has something to show of everything.
fn eventful() -> Gateway {
    let soon = jiff::Timestamp::now()
        .checked_add(jiff::SignedDuration::from_hours(72))
        .unwrap();
    let tokens = format!(
        "tokens: [ {{ id: t, sha256: \"{:064x}\", expires: {soon} }} ]",
        7
    );
    let gateway = Setup::default()
        .upstream("circuit_breaker: { failures: 2, open_for: 600s }")
        .upstream("retries: 0")
        .key_limits("[ { requests: 600, per: 60s, burst: 50 } ]")
        .tenant("billing", &["users: all"])
        .tenant(
            "customer-success-and-onboarding-of-northern-europe-team-42",
            &[
                &format!("users: [ {USER} ]"),
                "limits: [ { requests: 2, per: 60s, burst: 2 }, { requests: 500, per: 1d } ]",
            ],
        )
        .tenant("old-importer", &["users: all", "mode: suspended", &tokens])
        .start();
    let call = |tenant: &str, user: &str, credential: &str| {
        let token = gateway.token_of(tenant);
        gateway.send(delete(user, credential, token)).status
    };
    let crm = "customer-success-and-onboarding-of-northern-europe-team-42";
    for n in 0..6 {
        assert_eq!(call("billing", USER, &format!("c{n}")), 200);
    }
    assert_eq!(call(crm, FOREIGN_USER, "c9"), 403);
    for (credential, status) in [("c20", 200), ("c21", 200), ("c22", 429)] {
        assert_eq!(call(crm, USER, credential), status);
    }
    let stranger = format!("agw_{}", "x".repeat(49));
    assert_eq!(gateway.send(delete(USER, "c1", &stranger)).status, 401);
    let down = Behaviour::answer(503, "", "{}");
    gateway.alloy.script([down.clone(), down]);
    for status in [503, 503, 503] {
        assert_eq!(call("billing", USER, FAILED), status);
    }
    gateway.edit_config(|text| text + "nonsense: 1\n");
    assert_eq!(gateway.admin_socket("POST", "/-/reload").0, 400);
    gateway
}

fn url(gateway: &Gateway) -> String {
    format!("http://{}/status", gateway.admin)
}

/// What everybody who looks must find.
fn assert_tells(html: &str) {
    for fact in [
        "Ready, with something to look at",
        "Calls with key production are refused",
        "The last config was refused (1 problem)",
        "A token of old-importer expires in 2 days",
        "customer-success-and-onboarding-of-northern-europe-team-42",
        "suspended",
        "rate-limited",
        "circuit-open",
        "unauthenticated",
        "strict",
    ] {
        assert!(html.contains(fact), "{fact} in {html}");
    }
}

/// Nothing was asked of anybody else, and the page's policy forbade nothing.
fn assert_kept_to_itself(browser: &Browser, gateway: &Gateway) {
    let own = format!("http://{}/", gateway.admin);
    for request in browser.seen("Network.requestWillBeSent") {
        let asked = request["request"]["url"].as_str().unwrap();
        assert!(
            asked.starts_with(&own) || asked.starts_with("data:"),
            "{asked}"
        );
    }
    let logged = browser.seen("Log.entryAdded");
    assert!(logged.is_empty(), "{logged:?}");
}

#[test]
fn a_browser_shows_it_with_scripts_and_without_and_asks_nobody_else() {
    let Some(mut browser) = Browser::start() else {
        return;
    };
    let gateway = eventful();
    for scripts in [true, false] {
        browser.scripts(scripts);
        browser.open(&url(&gateway));
        let html = browser.html();
        assert_tells(&html);
        assert_kept_to_itself(&browser, &gateway);
        if !scripts {
            // The browser itself loads it anew.
            browser.wait_for("Page.frameScheduledNavigation");
        }
    }
}

#[test]
fn it_fits_a_phone_and_a_desk_by_day_and_by_night() {
    let Some(mut browser) = Browser::start() else {
        return;
    };
    let gateway = eventful();
    // So that the plots have something to show.
    for _ in 0..3 {
        thread::sleep(Duration::from_secs(5));
        gateway.delete(FOREIGN_USER, "c1");
    }
    let mut backgrounds = Vec::new();
    for (width, height) in [(360, 740), (1280, 900)] {
        for is_dark in [false, true] {
            browser.window(width, height, is_dark);
            browser.open(&url(&gateway));
            let needed = browser.evaluate("document.documentElement.scrollWidth");
            assert_eq!(needed, width, "it has to be scrolled sideways");
            let background = "getComputedStyle(document.body).backgroundColor";
            backgrounds.push(browser.evaluate(background));
            keep_picture(&mut browser, width, is_dark);
            assert_kept_to_itself(&browser, &gateway);
        }
    }
    assert_ne!(
        backgrounds[0], backgrounds[1],
        "as light by night as by day"
    );
}

/// For people who want to look at it, among the files of the build.
fn keep_picture(browser: &mut Browser, width: u32, is_dark: bool) {
    let name = format!(
        "status-{width}-{}.png",
        if is_dark { "dark" } else { "light" }
    );
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let encoded = path.with_extension("base64");
    fs::write(&encoded, browser.picture()).unwrap();
    let decoded = Command::new("base64")
        .arg("-d")
        .arg(&encoded)
        .output()
        .unwrap();
    assert!(decoded.stdout.starts_with(b"\x89PNG"));
    fs::write(&path, decoded.stdout).unwrap();
    fs::remove_file(encoded).unwrap();
}

#[test]
fn it_refreshes_itself_without_being_loaded_anew_and_says_when_it_is_old() {
    let Some(mut browser) = Browser::start() else {
        return;
    };
    let mut gateway = Gateway::start();
    browser.open(&url(&gateway));
    // Not what it says at a glance: a machine whose disk is nearly full is told so.
    assert!(browser.html().contains("Tenants"), "{}", browser.html());
    browser.evaluate("window.mark = 'the same page'");
    assert_eq!(gateway.delete(FOREIGN_USER, "x").status, 404);
    assert_eq!(
        gateway.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").status,
        404
    );
    let until = |condition: &str| {
        format!(
            "new Promise(done => {{ const look = () => ({condition}) ? done(window.mark) : setTimeout(look, 50); look(); }})"
        )
    };
    let shown = until("document.querySelector('main').textContent.includes('no-such-route')");
    assert_eq!(browser.evaluate(&shown), "the same page");
    gateway.kill();
    let old = until("getComputedStyle(document.getElementById('stale')).display !== 'none'");
    assert_eq!(browser.evaluate(&old), "the same page");
}

#[test]
fn problems_of_a_config_are_shown_on_the_socket_alone_and_the_policy_allows_nothing_else() {
    let gateway = eventful();
    let everybody = gateway.admin("/status");
    assert_tells(&everybody.text());
    let policy = everybody.field("content-security-policy").unwrap();
    assert!(
        policy.starts_with("default-src 'none'; style-src 'nonce-"),
        "{policy}"
    );
    assert!(!policy.contains("unsafe"), "{policy}");
    assert_eq!(everybody.field("cache-control"), Some("no-store"));
    assert!(!everybody.text().contains("unknown key"));
    let details = |text: &str| {
        let status: serde_json::Value = serde_json::from_str(text).unwrap();
        status["config"]["last_load"]["details"].clone()
    };
    assert!(details(&gateway.admin("/status.json").text()).is_null());
    let (code, page) = gateway.admin_socket("GET", "/status");
    assert_eq!(code, 200);
    assert!(page.contains("unknown key"), "{page}");
    let (_, json) = gateway.admin_socket("GET", "/status.json");
    assert_eq!(details(&json).as_array().unwrap().len(), 1);
}

/// Of the database a stranger sees what kind of trouble there is, not where it stands.
#[test]
fn what_is_wrong_with_the_database_is_told_in_full_on_the_socket_alone() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = port.local_addr().unwrap().to_string();
    // Nobody listens there any more.
    drop(port);
    let gateway = Setup::default()
        .audit("ship: { postgres: { url: { file: postgres-url } } }")
        .file(
            "postgres-url",
            format!("postgres://shipper:secret@{place}/collected?sslmode=disable"),
        )
        .start();
    let shown = |kind: &str, full: &str| {
        let end = Instant::now() + Duration::from_secs(60);
        while !gateway.admin_socket("GET", "/status.json").1.contains(full) {
            assert!(Instant::now() < end, "{}", gateway.process.output());
            thread::sleep(Duration::from_millis(50));
        }
        for path in ["/status", "/status.json"] {
            let everybody = gateway.admin(path).text();
            assert!(everybody.contains(kind), "{everybody}");
            assert!(!everybody.contains(full), "{everybody}");
            let (_, operator) = gateway.admin_socket("GET", path);
            assert!(operator.contains(full), "{operator}");
        }
        let because =
            |text: &str| serde_json::from_str::<Value>(text).unwrap()["trail"]["ship"].clone();
        let everybody = because(&gateway.admin("/status.json").text());
        let operator = because(&gateway.admin_socket("GET", "/status.json").1);
        let said = |status: &Value| status["down_because"].as_str().unwrap().to_owned();
        assert!(said(&everybody).contains(kind), "{everybody}");
        assert!(said(&operator).contains(full), "{operator}");
    };
    shown("there is no connection to it (connect)", &place);
    fs::remove_file(gateway.path("postgres-url")).unwrap();
    shown("(config)", "postgres-url");
}

#[test]
fn the_json_holds_the_same_facts() {
    let gateway = eventful();
    let status = gateway.admin("/status.json").json();
    assert_eq!(status["keys"][0]["breaker"], "open");
    let tenants = status["tenants"].as_array().unwrap();
    assert_eq!(tenants.len(), 3);
    // The one with most calls comes first.
    assert_eq!(tenants[0]["name"], "billing");
    assert_eq!(
        (&tenants[0]["passed_on"], &tenants[0]["refused"]),
        (&8.into(), &1.into())
    );
    let limits = tenants[1]["limits"].as_array().unwrap();
    assert_eq!(
        (&limits[0]["name"], &limits[0]["remaining"]),
        (&"tenant-60s".into(), &0.into())
    );
    let failures = status["recent_failures"].as_array().unwrap();
    let codes: Vec<_> = failures
        .iter()
        .map(|failure| failure["code"].as_str().unwrap())
        .collect();
    assert_eq!(codes, ["circuit-open", "", ""], "the newest first");
    let record = gateway.record("the failure", |record| {
        record["request_id"] == failures[0]["request_id"] && record["code"] == "circuit-open"
    });
    assert_eq!(record["tenant"], failures[0]["tenant"]);
    let refusals = status["recent_refusals"].as_array().unwrap();
    assert_eq!(refusals.len(), 3);
    assert!(status["trail"]["disk"]["free"].as_u64().unwrap() > 0);
    // No id of a user or a credential is anywhere.
    for path in ["/status", "/status.json"] {
        let text = gateway.admin(path).text();
        for id in [USER, FOREIGN_USER, FAILED] {
            assert!(!text.contains(id), "{id} in {text}");
        }
    }
}

#[test]
fn of_many_tenants_those_with_most_calls_are_shown_and_the_rest_as_a_sum() {
    let mut setup = Setup::default();
    let names: Vec<_> = (0..60).map(|n| format!("t{n:02}")).collect();
    for name in &names {
        setup = setup.tenant(name, &["users: all"]);
    }
    let gateway = setup.start();
    for name in ["t59", "t58", "t59"] {
        gateway.send(delete(USER, "c1", gateway.token_of(name)));
    }
    let status = gateway.admin("/status.json").json();
    let shown = status["tenants"].as_array().unwrap();
    let first: Vec<_> = shown
        .iter()
        .take(3)
        .map(|tenant| tenant["name"].as_str().unwrap())
        .collect();
    assert_eq!(first, ["t59", "t58", "t00"]);
    assert_eq!(
        (shown.len(), &status["other_tenants"]["tenants"]),
        (50, &10.into())
    );
    assert!(gateway.admin("/status").text().contains("10 more"));
}
