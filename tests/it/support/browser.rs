//! A real browser, driven over its debugging pipe.

use std::{
    fs::{File, OpenOptions},
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Stdio},
};

use serde_json::{Value, json};
use tempfile::TempDir;

/// Headless Chromium with one page.
pub struct Browser {
    process: Child,
    send: File,
    receive: BufReader<File>,
    last_id: u64,
    session: String,
    events: Vec<Value>,
    _profile: TempDir,
}

impl Browser {
    /// `None` where there is no Chromium; `.ci/run` installs it.
    pub fn start() -> Option<Self> {
        let found = ["/usr/bin/chromium", "/usr/bin/chromium-browser"];
        let program = found.into_iter().find(|path| Path::new(path).exists());
        let program = super::or_skipped(program, "chromium")?;
        let profile = tempfile::tempdir().unwrap();
        let pipe = |name: &str| profile.path().join(name);
        let made = Command::new("mkfifo")
            .args([pipe("in"), pipe("out")])
            .status();
        assert!(made.unwrap().success());
        let process = Command::new("sh")
            .arg("-c")
            .arg("exec \"$0\" \"$@\" 3<\"$PIPE_IN\" 4>\"$PIPE_OUT\"")
            .arg(program)
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
                "--disable-dev-shm-usage",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--hide-scrollbars",
                "--remote-debugging-pipe",
            ])
            .arg(format!("--user-data-dir={}", pipe("profile").display()))
            .arg("about:blank")
            .env("PIPE_IN", pipe("in"))
            .env("PIPE_OUT", pipe("out"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // In the shell's own order: each end waits for the other.
        let send = OpenOptions::new().write(true).open(pipe("in")).unwrap();
        let receive = BufReader::new(File::open(pipe("out")).unwrap());
        let mut browser = Self {
            process,
            send,
            receive,
            last_id: 0,
            session: String::new(),
            events: Vec::new(),
            _profile: profile,
        };
        let page = browser.call("Target.createTarget", json!({ "url": "about:blank" }));
        let attach = json!({ "targetId": page["targetId"], "flatten": true });
        let attached = browser.call("Target.attachToTarget", attach);
        browser.session = attached["sessionId"].as_str().unwrap().to_owned();
        for domain in ["Page", "Network", "Log", "Runtime"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        Some(browser)
    }

    /// Calls a method of the page's protocol and waits for its result.
    #[track_caller]
    pub fn call(&mut self, method: &str, params: Value) -> Value {
        self.last_id += 1;
        let mut message = json!({ "id": self.last_id, "method": method, "params": params });
        if !self.session.is_empty() {
            message["sessionId"] = json!(self.session);
        }
        write!(self.send, "{message}\0").unwrap();
        loop {
            let answer = self.next();
            if answer["id"] == self.last_id {
                assert!(answer["error"].is_null(), "{method}: {answer}");
                return answer["result"].clone();
            }
            self.events.push(answer);
        }
    }

    fn next(&mut self) -> Value {
        let mut message = Vec::new();
        self.receive.read_until(0, &mut message).unwrap();
        assert_eq!(message.pop(), Some(0), "the browser is gone");
        serde_json::from_slice(&message).unwrap()
    }

    /// How wide and tall the window is, and whether it is dark around.
    pub fn window(&mut self, width: u32, height: u32, is_dark: bool) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500 });
        self.call("Emulation.setDeviceMetricsOverride", size);
        let scheme = if is_dark { "dark" } else { "light" };
        let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.call("Emulation.setEmulatedMedia", media);
    }

    /// Whether pages may run scripts.
    pub fn scripts(&mut self, may_run: bool) {
        let value = json!({ "value": !may_run });
        self.call("Emulation.setScriptExecutionDisabled", value);
    }

    /// Opens a page and waits until it is there.
    pub fn open(&mut self, url: &str) {
        self.events.clear();
        let opened = self.call("Page.navigate", json!({ "url": url }));
        assert!(opened["errorText"].is_null(), "{opened}");
        self.wait_for("Page.loadEventFired");
    }

    /// Waits for an event, unless it came already.
    pub fn wait_for(&mut self, event: &str) {
        while !self.events.iter().any(|seen| seen["method"] == event) {
            let next = self.next();
            self.events.push(next);
        }
    }

    /// What came with events of this kind since the page was opened.
    pub fn seen(&self, event: &str) -> Vec<&Value> {
        let events = self.events.iter();
        events
            .filter(|seen| seen["method"] == event)
            .map(|seen| &seen["params"])
            .collect()
    }

    /// The value of an expression on the page.
    #[track_caller]
    pub fn evaluate(&mut self, expression: &str) -> Value {
        let params =
            json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let found = self.call("Runtime.evaluate", params);
        assert!(found["exceptionDetails"].is_null(), "{found}");
        found["result"]["value"].clone()
    }

    /// The rendered text of the page, found without running a script on it.
    pub fn html(&mut self) -> String {
        let document = self.call("DOM.getDocument", json!({ "depth": 0 }));
        let node = json!({ "nodeId": document["root"]["nodeId"] });
        let html = self.call("DOM.getOuterHTML", node);
        html["outerHTML"].as_str().unwrap().to_owned()
    }

    /// A picture of the whole page, as PNG in base64.
    pub fn picture(&mut self) -> String {
        let whole = json!({ "captureBeyondViewport": true, "format": "png" });
        let picture = self.call("Page.captureScreenshot", whole);
        picture["data"].as_str().unwrap().to_owned()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
