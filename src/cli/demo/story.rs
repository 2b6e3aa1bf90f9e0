//! The story of `demo --once`: six scenes, each verified.

use std::{thread, time::Duration};

use anyhow::Context;

use super::{
    caller::{Answer, delete, send},
    stage::{KEY, Stage},
};
use crate::{
    audit,
    cli::{
        audit::format::table,
        output::{Unwritable, try_outln},
    },
    simulated_alloy::Behaviour,
};

/// Longer lines are broken.
const WIDTH: usize = 100;

/// Counts what held and what did not.
struct Verdict {
    held: bool,
}

impl Verdict {
    fn check(&mut self, holds: bool, what: &str) -> Result<(), Unwritable> {
        self.held &= holds;
        try_outln!("  {} {what}", if holds { "ok  " } else { "FAIL" })
    }
}

/// Plays the story; whether all of it held.
pub fn play(stage: &Stage) -> anyhow::Result<bool> {
    try_outln!(
        "alloy-gateway demo: the real gateway before a simulated Alloy, over real TLS on loopback"
    )?;
    let mut verdict = Verdict { held: true };
    a_delete(stage, &mut verdict)?;
    a_stranger(stage, &mut verdict)?;
    a_foreign_user(stage, &mut verdict)?;
    a_burst(stage, &mut verdict)?;
    an_upstream_fault(stage, &mut verdict)?;
    the_trail(stage, &mut verdict)?;
    let end = if verdict.held {
        "All of it held."
    } else {
        "Something did not hold: see FAIL above."
    };
    try_outln!("\n{end}")?;
    Ok(verdict.held)
}

fn a_delete(stage: &Stage, verdict: &mut Verdict) -> anyhow::Result<()> {
    scene("1. An app deletes a credential. It holds a gateway token, not the Alloy key.")?;
    let request = delete(
        "/users/ana/credentials/slack",
        &[
            bearer(stage.billing()),
            "Cookie: session=7f3a".to_owned(),
            "X-Debug: 1".to_owned(),
        ],
    );
    show("app -> gateway", &masked(&request, stage))?;
    let answer = send(stage.address(), &request)?;
    let received = stage.alloy().received();
    let wire = received
        .last()
        .context("nothing reached the simulated Alloy")?
        .text();
    show("gateway -> Alloy", &wire)?;
    show("gateway -> app", &summary(&answer))?;
    let id = answer.field("x-request-id").unwrap_or_default();
    let expected = [
        "DELETE /users/ana/credentials/slack HTTP/1.1".to_owned(),
        format!("host: {}", stage.alloy_url().trim_start_matches("https://")),
        format!("authorization: bearer {KEY}"),
        "x-api-version: 2025-09".to_owned(),
        "accept: application/json".to_owned(),
        concat!("user-agent: alloy-gateway/", env!("CARGO_PKG_VERSION")).to_owned(),
        "via: 1.1 alloy-gateway".to_owned(),
        format!("x-request-id: {id}"),
    ];
    verdict.check(answer.status == 200, "Alloy's own answer came back: 200")?;
    verdict.check(
        wire.contains(KEY),
        "Alloy got the real key, and x-api-version: 2025-09",
    )?;
    let got: Vec<_> = wire.trim_end().split("\r\n").collect();
    verdict.check(
        got == expected,
        "Alloy got these eight lines and nothing else of the app's",
    )?;
    let everything = format!("{answer:?}");
    verdict.check(!everything.contains(KEY), "the app got nothing of the key")?;
    Ok(())
}

fn a_stranger(stage: &Stage, verdict: &mut Verdict) -> anyhow::Result<()> {
    scene("2. A stranger tries, without a token.")?;
    refused(
        stage,
        verdict,
        &[],
        "/users/ana/credentials/github",
        (401, "unauthenticated"),
    )
}

fn a_foreign_user(stage: &Stage, verdict: &mut Verdict) -> anyhow::Result<()> {
    scene("3. The tenant `support` may touch the user bob. It tries ana.")?;
    let fields = [bearer(stage.support())];
    refused(
        stage,
        verdict,
        &fields,
        "/users/ana/credentials/github",
        (403, "user-not-allowed"),
    )
}

fn refused(
    stage: &Stage,
    verdict: &mut Verdict,
    fields: &[String],
    path: &str,
    (status, code): (u16, &str),
) -> anyhow::Result<()> {
    let before = stage.alloy().received().len();
    let answer = send(stage.address(), &delete(path, fields))?;
    show("gateway -> app", &summary(&answer))?;
    verdict.check(
        answer.status == status && answer.code() == code,
        &format!("{status} {code}"),
    )?;
    verdict.check(
        stage.alloy().received().len() == before,
        "nothing reached Alloy",
    )?;
    Ok(())
}

fn a_burst(stage: &Stage, verdict: &mut Verdict) -> anyhow::Result<()> {
    scene("4. `support` sends eight at once. Its limit is 5 per 10 s.")?;
    let before = stage.alloy().received().len();
    let address = stage.address();
    let callers: Vec<_> = (1..=8)
        .map(|n| {
            delete(
                &format!("/users/bob/credentials/c{n}"),
                &[bearer(stage.support())],
            )
        })
        .map(|request| thread::spawn(move || send(address, &request)))
        .collect();
    let mut answers = Vec::new();
    for caller in callers {
        answers.push(
            caller
                .join()
                .map_err(|_| anyhow::anyhow!("a caller panicked"))??,
        );
    }
    answers.sort_by_key(|answer| answer.status);
    let statuses: Vec<_> = answers
        .iter()
        .map(|answer| answer.status.to_string())
        .collect();
    try_outln!("  {}", statuses.join(" "))?;
    let limited: Vec<_> = answers
        .iter()
        .filter(|answer| answer.code() == "rate-limited")
        .collect();
    verdict.check(
        answers.iter().filter(|a| a.status == 200).count() == 5,
        "exactly five passed",
    )?;
    verdict.check(limited.len() == 3, "three got 429 rate-limited")?;
    verdict.check(
        stage.alloy().received().len() == before + 5,
        "five reached Alloy",
    )?;
    let refused = limited.first().context("nothing was limited")?;
    show("gateway -> app", &summary(refused))?;
    let seconds = refused
        .field("retry-after")
        .and_then(|text| text.parse().ok())
        .context("no Retry-After")?;
    try_outln!("  waiting the {seconds} s that Retry-After asks for")?;
    thread::sleep(Duration::from_secs(seconds));
    let retry = delete("/users/bob/credentials/c9", &[bearer(stage.support())]);
    verdict.check(
        send(address, &retry)?.status == 200,
        "then the retry passed",
    )?;
    Ok(())
}

fn an_upstream_fault(stage: &Stage, verdict: &mut Verdict) -> anyhow::Result<()> {
    scene("5. Alloy reads the request and hangs up without an answer, twice.")?;
    stage.alloy().script([Behaviour::Reset, Behaviour::Reset]);
    let before = stage.alloy().received().len();
    let request = delete("/users/ana/credentials/jira", &[bearer(stage.billing())]);
    let answer = send(stage.address(), &request)?;
    show("gateway -> app", &summary(&answer))?;
    verdict.check(
        stage.alloy().received().len() == before + 2,
        "the gateway tried once more, and no oftener",
    )?;
    verdict.check(
        answer.status == 502 && answer.code() == "upstream-reset",
        "502 upstream-reset",
    )?;
    let sent = answer.field("x-alloy-gateway-sent");
    verdict.check(
        sent == Some("unknown"),
        "it says honestly that the DELETE may have been carried out",
    )?;
    Ok(())
}

fn the_trail(stage: &Stage, verdict: &mut Verdict) -> anyhow::Result<()> {
    scene("6. The trail: one record before each call, one after, hash-chained.")?;
    let report = audit::verify(&stage.trail_directory(), &audit::Known::default(), |_| {})?;
    let lines = trail_lines(stage)?;
    let doubtful = lines.iter().find(|line| line.contains("\"in-doubt\""));
    let id = doubtful.and_then(|line| line.split("\"request_id\":\"").nth(1)?.get(..36));
    let id = id.context("no call is in doubt")?;
    for line in lines.iter().filter(|line| line.contains(id)) {
        show_line("   ", line)?;
    }
    try_outln!("\n  Who deleted `slack`, and did it go through? And `jira`?")?;
    let mut rows = Vec::new();
    for credential in ["slack", "jira"] {
        let filter = audit::Filter {
            credential: Some(credential.to_owned()),
            ..audit::Filter::default()
        };
        let each = |row| rows.push(row);
        audit::query(
            &stage.trail_directory(),
            &audit::Known::default(),
            &filter,
            each,
            |_| {},
        )?;
    }
    try_outln!("{}", table(&rows))?;
    try_outln!("\n  {report}")?;
    verdict.check(report.is_intact(), "the chain verifies")?;
    verdict.check(
        report.intents == 8,
        "8 intents: each written before its DELETE was sent",
    )?;
    verdict.check(report.outcomes.deleted == 7, "7 outcomes: deleted")?;
    verdict.check(report.outcomes.in_doubt == 1, "1 outcome: in doubt")?;
    verdict.check(report.refusals == 5, "5 refusals")?;
    verdict.check(
        !lines.iter().any(|line| line.contains(KEY)),
        "no key in the trail",
    )?;
    let tokens = [stage.billing(), stage.support()];
    let speaks = lines
        .iter()
        .any(|line| tokens.iter().any(|token| line.contains(token)));
    verdict.check(!speaks, "no token in the trail")?;
    Ok(())
}

fn trail_lines(stage: &Stage) -> anyhow::Result<Vec<String>> {
    let mut files: Vec<_> = std::fs::read_dir(stage.trail_directory())?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "jsonl")
        })
        .collect();
    files.sort();
    let mut lines = Vec::new();
    for file in files {
        lines.extend(
            std::fs::read_to_string(file)?
                .lines()
                .map(ToOwned::to_owned),
        );
    }
    Ok(lines)
}

fn scene(title: &str) -> Result<(), Unwritable> {
    try_outln!("\n{title}")
}

fn show(who: &str, text: &str) -> Result<(), Unwritable> {
    try_outln!("  {who}")?;
    let mut lines = text.trim_end().lines();
    lines.try_for_each(|line| show_line("    |", line.trim_end()))
}

/// A line of the wire, or of the trail; JSON that is long is broken between fields.
fn show_line(margin: &str, line: &str) -> Result<(), Unwritable> {
    let (mut start, mut fits) = (0, 0);
    let ends = line.match_indices(",\"").map(|(at, _)| at + 1);
    for end in ends.chain([line.len()]) {
        if end - start > WIDTH && fits > start {
            try_outln!("{margin} {}", line.get(start..fits).unwrap_or_default())?;
            start = fits;
        }
        fits = end;
    }
    try_outln!("{margin} {}", line.get(start..).unwrap_or_default())
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}")
}

fn masked(text: &str, stage: &Stage) -> String {
    text.replace(stage.billing(), "agw_…")
}

/// What matters of an answer.
fn summary(answer: &Answer) -> String {
    let mut lines = vec![format!("HTTP/1.1 {}", answer.status)];
    for name in [
        "retry-after",
        "ratelimit",
        "x-alloy-gateway-source",
        "x-alloy-gateway-sent",
        "x-request-id",
    ] {
        if let Some(value) = answer.field(name) {
            lines.push(format!("{name}: {value}"));
        }
    }
    lines.push(answer.body.clone());
    lines.join("\n")
}
