//! What the gateway says on stderr: names, levels, bounds, and that it never
//! waits for whoever reads it.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use alloy_gateway::simulated_alloy::Behaviour;
use serde_json::Value;

use crate::support::{CREDENTIAL, Connection, Gateway, Setup, USER, binary, delete};

/// The access lines so far.
fn calls(gateway: &Gateway) -> Vec<Value> {
    let output = gateway.process.output();
    let lines = output
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    lines
        .filter(|line: &Value| line["target"] == "access")
        .collect()
}

fn names(line: &Value) -> Vec<&str> {
    line.as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect()
}

#[test]
fn each_call_has_one_line_with_the_names_of_opentelemetry() {
    let gateway = Gateway::start();
    let answer = gateway.delete(USER, CREDENTIAL);
    let id = answer.field("x-request-id").unwrap();
    let line = gateway.process.wait_for(|line| line["request.id"] == id);
    assert_eq!(
        names(&line),
        [
            "timestamp",
            "level",
            "message",
            "target",
            "request.id",
            "tenant.id",
            "token.id",
            "client.address",
            "http.request.method",
            "http.route",
            "http.response.status_code",
            "network.protocol.version",
            "outcome",
            "duration_ms",
            "upstream_ms",
            "config.sha256"
        ]
    );
    let time: jiff::Timestamp = line["timestamp"].as_str().unwrap().parse().unwrap();
    assert!(time.duration_until(jiff::Timestamp::now()).as_secs() < 3600);
    assert_eq!(line["level"], "info");
    assert_eq!(line["tenant.id"], "billing");
    assert_eq!(line["token.id"], "first");
    assert_eq!(line["client.address"], "127.0.0.1");
    assert_eq!(line["http.request.method"], "DELETE");
    assert_eq!(
        line["http.route"],
        "/users/{userId}/credentials/{credentialId}"
    );
    assert_eq!(line["http.response.status_code"], 200);
    assert_eq!(line["network.protocol.version"], "1.1");
    assert_eq!(line["outcome"], "deleted");
    assert!(line["upstream_ms"].as_f64() <= line["duration_ms"].as_f64());
    let trail = gateway.record("the intent", |record| record["event"] == "request.intent");
    assert_eq!(line["config.sha256"], trail["config"]);
    assert_eq!(calls(&gateway).len(), 1);
}

#[test]
fn a_line_names_the_config_that_its_call_was_decided_by_whatever_came_meanwhile() {
    let gateway = Gateway::start();
    let (release, held) = tokio::sync::watch::channel(false);
    gateway.alloy.script([Behaviour::Held(held)]);
    let mut connection = gateway.connect();
    connection.send(delete(USER, CREDENTIAL, gateway.token()));
    let intent = gateway.record("the intent", |record| record["event"] == "request.intent");
    gateway.edit_config(|text| text + "# another\n");
    assert_eq!(gateway.admin_socket("POST", "/-/reload").0, 200);
    release.send(true).unwrap();
    let answer = connection.receive();
    let id = answer.field("x-request-id").unwrap();
    let line = gateway.process.wait_for(|line| line["request.id"] == id);
    assert_eq!(line["config.sha256"], intent["config"]);
    let next = gateway.delete(USER, CREDENTIAL);
    let id = next.field("x-request-id").unwrap();
    let next = gateway.process.wait_for(|line| line["request.id"] == id);
    assert_ne!(next["config.sha256"], line["config.sha256"]);
}

#[test]
fn a_line_says_why_and_how_often_and_names_no_user_no_credential_and_no_path() {
    let gateway = Gateway::start();
    gateway
        .alloy
        .script([Behaviour::answer(503, "", "{}"), Behaviour::Contract]);
    let again = gateway.delete(USER, CREDENTIAL);
    let stranger = alloy_gateway::token::NewToken::generate().unwrap();
    let unknown = gateway.send(crate::support::delete(USER, "c1", stranger.reveal()));
    let lost = gateway.send("BREW /pot-of-tea HTTP/1.1\r\nHost: x\r\n\r\n");
    let line_of = |answer: &crate::support::Response| {
        let id = answer.field("x-request-id").unwrap().to_owned();
        gateway.process.wait_for(|line| line["request.id"] == id)
    };
    let line = line_of(&again);
    assert_eq!(line["http.request.resend_count"], 1);
    assert_eq!(line["outcome"], "deleted");
    let line = line_of(&unknown);
    assert_eq!(line["error.type"], "unauthenticated");
    assert_eq!(line["reason"], "unknown");
    assert_eq!(line["http.response.status_code"], 401);
    assert!(line["tenant.id"].is_null() && line["upstream_ms"].is_null());
    let line = line_of(&lost);
    assert_eq!(line["http.request.method"], "_OTHER");
    assert_eq!(line["error.type"], "no-such-route");
    assert!(line["http.route"].is_null());
    let output = gateway.process.output();
    for personal in [USER, CREDENTIAL, "pot-of-tea"] {
        assert!(!output.contains(personal), "{personal} in {output}");
    }
}

#[test]
fn the_config_says_which_calls_get_a_line_and_a_reload_changes_it() {
    let gateway = Setup::default()
        .log("")
        .lines("log: { access: failures }\n")
        .start();
    assert_eq!(gateway.delete(USER, "c1").status, 200);
    let refused = gateway.delete(USER, "..");
    let id = refused.field("x-request-id").unwrap();
    gateway.process.wait_for(|line| line["request.id"] == id);
    assert_eq!(calls(&gateway).len(), 1);
    gateway.edit_config(|text| text.replace("access: failures", "access: all"));
    let (status, said) = gateway.admin_socket("POST", "/-/reload");
    assert!(status == 200 && said.starts_with("loaded"), "{said}");
    let answer = gateway.delete(USER, "c2");
    let id = answer.field("x-request-id").unwrap();
    gateway.process.wait_for(|line| line["request.id"] == id);
    assert_eq!(calls(&gateway).len(), 2);
}

#[test]
fn the_environment_stands_above_the_config_and_a_typo_in_it_is_told() {
    let level = "warn,alloy_gateway::cli=info";
    let mut gateway = Setup::default()
        .log(level)
        .lines("log: { level: trace }\n")
        .start();
    assert_eq!(gateway.delete(USER, "c1").status, 200);
    gateway.stop();
    assert_eq!(calls(&gateway), Vec::<Value>::new());
    let output = gateway.process.output();
    assert!(
        output.contains("\"stopped\"") && !output.contains("debug"),
        "{output}"
    );
    let gateway = Setup::default().log("inf").start();
    let told = gateway.process.wait_for(|line| line["level"] == "warn");
    assert_eq!(told["variable"], "ALLOY_GATEWAY_LOG");
    assert!(
        told["message"]
            .as_str()
            .unwrap()
            .contains("expected a level"),
        "{told}"
    );
}

#[test]
fn lines_that_are_left_are_written_before_the_end() {
    let mut gateway = Gateway::start();
    let ids: Vec<_> = (0..50)
        .map(|n| {
            let answer = gateway.delete(USER, &format!("c{n}"));
            answer.field("x-request-id").unwrap().to_owned()
        })
        .collect();
    assert!(gateway.stop().success());
    let lines = calls(&gateway);
    assert_eq!(lines.len(), 50);
    for id in ids {
        assert!(lines.iter().any(|line| line["request.id"] == *id));
    }
    let output = gateway.process.output();
    let last: Value = serde_json::from_str(output.lines().last().unwrap()).unwrap();
    assert_eq!(last["message"], "stopped");
}

#[test]
fn lines_for_a_terminal_are_text() {
    let mut gateway = Setup::default()
        .log("")
        .lines("log: { format: text }\n")
        .start();
    gateway.delete(USER, CREDENTIAL);
    gateway.stop();
    let output = gateway.process.output();
    let line = output
        .lines()
        .find(|line| line.contains(" request "))
        .unwrap();
    let line = line.split_once("Z ").unwrap().1;
    assert!(line.starts_with(" INFO request request.id="), "{line}");
    assert!(
        line.contains(
            " tenant.id=billing token.id=first client.address=127.0.0.1 http.request.method=DELETE "
        ),
        "{line}"
    );
    assert!(!output.contains('\u{1b}'), "no colours without a terminal");
}

#[test]
fn the_level_is_changed_while_it_runs_only_over_the_admin_socket_and_the_trail_says_by_whom() {
    let gateway = Gateway::start();
    let level = |path: &str| gateway.admin(path).text();
    assert_eq!(level("/log-level"), "info\n");
    let put = format!(
        "PUT /log-level HTTP/1.1\r\nHost: {}\r\nContent-Length: 5\r\n\r\ntrace",
        gateway.admin
    );
    let refused = Connection::open(gateway.admin).send(put).receive();
    assert_eq!(refused.status, 403);
    assert_eq!(level("/log-level"), "info\n");
    let (status, said) = gateway.admin_socket_with("PUT", "/log-level", "inf");
    assert_eq!(status, 400);
    assert!(said.contains("expected a level"), "{said}");
    let too_long = "info,".repeat(1000);
    assert_eq!(
        gateway.admin_socket_with("PUT", "/log-level", &too_long).0,
        400
    );

    let first = gateway.delete(USER, "c1");
    let id = first.field("x-request-id").unwrap();
    gateway.process.wait_for(|line| line["request.id"] == id);
    assert!(!gateway.process.output().contains("\"level\":\"debug\""));
    let level_wanted = "warn,alloy_gateway::pipeline=debug\n";
    let (status, said) = gateway.admin_socket_with("PUT", "/log-level", level_wanted);
    assert_eq!(status, 200);
    let begin = "warn,alloy_gateway::pipeline=debug until 20";
    assert!(
        said.starts_with(begin) && said.ends_with("Z, then info\n"),
        "{said}"
    );
    assert_eq!(level("/log-level"), said);
    let until: jiff::Timestamp = said[begin.len() - 2..said.len() - ", then info\n".len()]
        .parse()
        .unwrap();
    let left = jiff::Timestamp::now().duration_until(until).as_secs();
    assert!((1..=15 * 60).contains(&left), "{left} s");
    gateway.delete(USER, "c2");
    let debug = gateway.process.wait_for(|line| line["level"] == "debug");
    assert_eq!(debug["message"], "upstream attempt answered");
    // What is below the level that everything else has is not logged, calls included.
    let record = gateway.record("the change", |record| record["event"] == "admin.log-level");
    assert_eq!(record["level"], level_wanted.trim());
    let line = gateway
        .process
        .wait_for(|line| line["log.level"] == level_wanted.trim());
    assert_eq!(line["level"], "warn");
    assert!(
        record["by"].as_str().unwrap().starts_with("unix:uid="),
        "{record}"
    );
    assert_eq!(calls(&gateway).len(), 1);
}

#[test]
fn a_stderr_that_nobody_reads_costs_lines_which_are_counted_and_told_and_no_call() {
    let mut gateway = Setup::default()
        .tenant("billing", &[&format!("users: [ {USER} ]")])
        .start();
    assert!(gateway.stop().success());
    let mut child = Killed(
        Command::new(binary())
            .args(["serve", "-c"])
            .arg(gateway.config_path())
            .env("ALLOY_GATEWAY_LOG", "info")
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let lines = BufReader::new(child.0.stderr.take().unwrap()).lines();
    let mut lines = lines.map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
    let mut listening = |listener: &str| -> SocketAddr {
        let line = lines.find(|line| line["listener"] == listener && !line["address"].is_null());
        line.unwrap()["address"].as_str().unwrap().parse().unwrap()
    };
    let (admin, data) = (listening("admin"), listening("data"));
    let dropped = || -> u64 {
        let request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let metrics = Connection::open(admin).send(request).receive().text();
        let mut lines = metrics.lines();
        let found =
            lines.find_map(|line| line.strip_prefix("alloy_gateway_log_lines_dropped_total "));
        found.unwrap().parse().unwrap()
    };
    // From here on nobody reads: the pipe fills, and then what is kept of lines.
    let mut connection = Connection::open(data);
    let foreign = delete("another", CREDENTIAL, gateway.token());
    for _ in 0..1000 {
        connection.send(foreign.repeat(50));
        for _ in 0..50 {
            assert_eq!(connection.receive().status, 403);
        }
        if dropped() > 0 {
            break;
        }
    }
    let lost = dropped();
    assert!(lost > 0);
    let call = delete(USER, CREDENTIAL, gateway.token());
    assert_eq!(connection.send(call).receive().status, 200);
    // Somebody reads again, and is told what is missing.
    let told = lines.find(|line| !line["lines"].is_null()).unwrap();
    assert!(told["lines"].as_u64().unwrap() >= lost, "{told}");
    assert!(
        told["message"]
            .as_str()
            .unwrap()
            .starts_with("log lines were lost")
    );
}

/// Who needs no token must not buy disk with what is said of it.
#[test]
fn a_stranger_who_asks_fast_gets_few_lines_and_is_told_how_many_are_missing() {
    const REQUESTS: u64 = 3000;
    let mut gateway = Setup::default()
        .bound("failed_auth: { requests: 10000, per: 1s }")
        .workers(1)
        .start();
    let start = Instant::now();
    let unknown = "GET /0 HTTP/1.1\r\nHost: x\r\n\r\n";
    let refused = delete(USER, "c1", "agw_x");
    let mut connection = gateway.connect();
    for _ in 0..REQUESTS / 100 {
        connection.send((unknown.to_owned() + &refused).repeat(50));
        for _ in 0..50 {
            assert_eq!(connection.receive().status, 404);
            assert_eq!(connection.receive().status, 401);
        }
    }
    let took = start.elapsed();
    // A tenant has its line all the same.
    let call = connection
        .send(delete(USER, "c2", gateway.token()))
        .receive();
    let id = call.field("x-request-id").unwrap();
    gateway.process.wait_for(|line| line["request.id"] == id);
    let of_strangers = || {
        let calls = calls(&gateway).into_iter();
        let known = |line: &Value| line["tenant.id"].is_null();
        calls.filter(known).count() as u64
    };
    let told = || -> u64 {
        let output = gateway.process.output();
        let lines = output
            .lines()
            .map(|line| serde_json::from_str(line).unwrap());
        let left_out = |line: &Value| {
            let message = line["message"].as_str().unwrap();
            message
                .starts_with("requests without a good token")
                .then(|| {
                    assert_eq!(line["level"], "warn");
                    line["lines"].as_u64().unwrap()
                })
        };
        lines.filter_map(|line: Value| left_out(&line)).sum()
    };
    let end = Instant::now() + Duration::from_secs(60);
    while of_strangers() + told() < REQUESTS {
        assert!(Instant::now() < end, "{} are untold", REQUESTS - told());
        thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(of_strangers() + told(), REQUESTS);
    let most = 200 + 2 * (took.as_secs() + 1);
    assert!((200..=most).contains(&of_strangers()), "{took:?}");
    let counted = gateway.scrape().get("log_lines_left_out_total");
    assert_eq!(counted, told() as f64);
    assert!(gateway.stop().success());
}

/// A process that ends with the test, however that ends.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
