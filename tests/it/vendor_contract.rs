//! The vendor's contract itself as a test: its OpenAPI text is parsed, and what
//! the gateway sends has to satisfy it.

use serde_json::Value;

use crate::support::{CREDENTIAL, Gateway, KEY, USER, binary};

/// The OpenAPI document in the vendor's page.
fn contract() -> Value {
    let page = include_str!("../data/delete-a-credential.md");
    let start = page.find("````yaml").expect("the document's start");
    let document = &page[start..];
    let document = &document[document.find('\n').unwrap()..document.rfind("````").unwrap()];
    serde_yaml::from_str(document).expect("the document parses")
}

/// The only operation, with its path and method.
fn operation(contract: &Value) -> (String, String, &Value) {
    let (path, item) = contract["paths"]
        .as_object()
        .unwrap()
        .iter()
        .next()
        .unwrap();
    let (method, operation) = item.as_object().unwrap().iter().next().unwrap();
    (path.clone(), method.to_ascii_uppercase(), operation)
}

/// The operation's parameters, references followed.
fn parameters<'a>(contract: &'a Value, operation: &'a Value) -> Vec<&'a Value> {
    let parameters = operation["parameters"].as_array().unwrap().iter();
    parameters
        .map(|parameter| match parameter["$ref"].as_str() {
            Some(reference) => contract
                .pointer(reference.trim_start_matches('#'))
                .expect(reference),
            None => parameter,
        })
        .collect()
}

#[test]
fn what_the_gateway_sends_satisfies_the_vendors_contract() {
    let contract = contract();
    let (path, method, operation) = operation(&contract);
    let gateway = Gateway::start();
    assert_eq!(gateway.delete(USER, CREDENTIAL).status, 200);
    let sent = gateway.alloy.received().last().unwrap().text();
    let mut lines = sent.split("\r\n");
    let target = path
        .replace("{userId}", USER)
        .replace("{credentialId}", CREDENTIAL);
    assert!(
        !target.contains('{'),
        "a path parameter is not filled in: {target}"
    );
    assert_eq!(
        lines.next(),
        Some(format!("{method} {target} HTTP/1.1").as_str())
    );
    let fields: Vec<_> = lines.filter_map(|line| line.split_once(": ")).collect();
    let mut required = 0;
    for parameter in parameters(&contract, operation) {
        if parameter["in"] != "header" || parameter["required"] != true {
            continue;
        }
        required += 1;
        let name = parameter["name"].as_str().unwrap();
        let default = parameter["schema"]["default"]
            .as_str()
            .unwrap()
            .replace("YOUR_API_KEY", KEY);
        let values: Vec<_> = fields
            .iter()
            .filter(|(found, _)| found.eq_ignore_ascii_case(name))
            .collect();
        assert_eq!(values.len(), 1, "{name} in {sent}");
        assert_eq!(values[0].1, default, "{name}");
    }
    assert_eq!(required, 2, "authorization and x-api-version are required");
}

#[test]
fn the_documented_answer_passes_back_unchanged() {
    let contract = contract();
    let (_, _, operation) = operation(&contract);
    let (status, documented) = operation["responses"]
        .as_object()
        .unwrap()
        .iter()
        .next()
        .unwrap();
    let (kind, content) = documented["content"]
        .as_object()
        .unwrap()
        .iter()
        .next()
        .unwrap();
    let example = &content["examples"]["Result"]["value"];
    let gateway = Gateway::start();
    let response = gateway.delete(USER, CREDENTIAL);
    assert_eq!(response.status.to_string(), *status);
    assert_eq!(response.field("content-type"), Some(kind.as_str()));
    assert_eq!(&response.json(), example);
}

#[test]
fn the_default_of_the_config_is_the_server_and_version_of_the_contract() {
    let contract = contract();
    let output = std::process::Command::new(binary())
        .args([
            "config",
            "show",
            "-c",
            concat!(env!("CARGO_MANIFEST_DIR"), "/config/example.yaml"),
        ])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let shown: Value = serde_yaml::from_slice(&output.stdout).expect("config show prints YAML");
    assert_eq!(shown["upstream"]["url"], contract["servers"][0]["url"]);
    let version = &contract["components"]["parameters"]["xApiVersion"]["schema"]["default"];
    assert_eq!(&shown["upstream"]["api_version"], version);
}
