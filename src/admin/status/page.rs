//! The facts as a page: plain HTML, small plots as SVG, nothing from elsewhere.
//! It works without JavaScript, and refreshes itself with it.

use std::fmt::Write;

use jiff::Timestamp;

use super::{
    Facts, LimitFacts, OtherTenants, PROBLEMS_MAX, Seen, StoreFacts, TenantFacts,
    concerns::is_low,
    plot::{Line, plot},
    until,
    words::{Text, bytes, moment, rate, seconds, since, span},
};
use crate::{code::Code, config::settings::Mode, limits::BreakerState, metrics::Span};

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// The page. Its inline style and script carry `nonce`, which its policy names.
pub fn page(facts: &Facts, nonce: &str) -> String {
    let mut out = String::with_capacity(32 << 10);
    let title = if facts.unready.is_none() {
        "ready"
    } else {
        "NOT READY"
    };
    // Writing to a string can't fail.
    let _ = write!(
        out,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <noscript><meta http-equiv=\"refresh\" content=\"10\"></noscript>\n\
         <title>{title} · alloy-gateway</title>\n<link rel=\"icon\" href=\"data:,\">\n\
         <style nonce=\"{nonce}\">\n{STYLE}</style>\n</head>\n<body>\n\
         <header class=\"top\"><h1>alloy-gateway</h1><span class=\"dim\">{}</span></header>\n<p id=\"stale\" class=\"state bad\" role=\"status\">The gateway does not answer: what stands below is old.</p>\n<main>\n",
        env!("CARGO_PKG_VERSION"),
    );
    state(&mut out, facts);
    plots(&mut out, facts);
    tenants(&mut out, facts);
    out.push_str("<div class=\"grid\">\n");
    incidents(&mut out, "Recent failures", &facts.failures, facts.now);
    incidents(&mut out, "Recent refusals", &facts.refusals, facts.now);
    upstream(&mut out, facts);
    if let Some(found) = &facts.store {
        store(&mut out, found);
    }
    trail(&mut out, facts);
    config(&mut out, facts);
    let _ = write!(
        out,
        "</div>\n<footer>As of <time>{}</time>. The same as <a href=\"status.json\">JSON</a>; <a href=\"metrics\">metrics</a>.</footer>\n</main>\n\
         <script nonce=\"{nonce}\">\n{SCRIPT}</script>\n</body>\n</html>\n",
        moment(facts.now),
    );
    out
}

fn state(out: &mut String, facts: &Facts) {
    let concerns = facts.concerns();
    let (class, headline) = match (&facts.unready, concerns.is_empty()) {
        (Some(_), _) => ("bad", "Not ready"),
        (None, true) => ("good", "Ready"),
        (None, false) => ("warn", "Ready, with something to look at"),
    };
    let _ = write!(
        out,
        "<section id=\"state\" class=\"state {class}\"><strong>{headline}</strong>"
    );
    if concerns.is_empty() {
        let up = since(facts.now, facts.started_at);
        let _ = write!(
            out,
            "Calls are taken, each is on disk before it is sent. Up for {up}."
        );
    } else {
        out.push_str("<ul>");
        for concern in concerns {
            let _ = write!(out, "<li>{}</li>", Text(&concern));
        }
        out.push_str("</ul>");
    }
    out.push_str("</section>\n");
}

fn plots(out: &mut String, facts: &Facts) {
    let values = |of: fn(&Span) -> Option<f64>| facts.spans.iter().map(of).collect();
    let last = facts.spans.last();
    out.push_str("<div class=\"grid\">\n");
    let figure = last.map(|span| rate(span.requests));
    card(out, "Calls a second", figure, |out| {
        let line = Line {
            class: "blue",
            values: values(|span| Some(span.requests)),
        };
        plot(out, "Calls a second over the last five minutes", &[line]);
    });
    let figure = last.map(|span| rate(span.failures));
    card(out, "Failures a second", figure, |out| {
        let line = Line {
            class: "red",
            values: values(|span| Some(span.failures)),
        };
        plot(out, "Failures a second over the last five minutes", &[line]);
    });
    let lately = facts
        .lately
        .as_ref()
        .and_then(|(span, _)| Some((span.p50?, span.p99?)));
    let figure = lately.map(|(p50, p99)| {
        format!(
            "{} <small>p50</small> · {} <small>p99</small>",
            seconds(p50),
            seconds(p99)
        )
    });
    card(out, "Time of a call", figure, |out| {
        let p50 = Line {
            class: "blue",
            values: values(|span| span.p50),
        };
        let p99 = Line {
            class: "dash",
            values: values(|span| span.p99),
        };
        plot(
            out,
            "Time of calls over the last five minutes: median, and dashed the 99th percentile",
            &[p50, p99],
        );
    });
    out.push_str("</div>\n");
}

/// `figure` is HTML already.
fn card(out: &mut String, title: &str, figure: Option<String>, draw: impl FnOnce(&mut String)) {
    let figure = figure.unwrap_or_else(|| "–".to_owned());
    let _ = write!(
        out,
        "<section class=\"card\"><h3>{title}</h3><p class=\"figure\">{figure}</p>"
    );
    draw(out);
    out.push_str("<p class=\"scale\"><small>5 min ago</small><small>now</small></p></section>\n");
}

fn tenants(out: &mut String, facts: &Facts) {
    let _ = write!(
        out,
        "<section id=\"tenants\" class=\"card\"><h2>Tenants <span class=\"dim\">({})</span></h2>\n<table class=\"wide\"><thead><tr><th>tenant</th><th class=\"n\">passed on</th><th class=\"n\">refused</th><th class=\"n\">in flight</th><th class=\"n\">waiting</th><th>what is left of its limits</th></tr></thead><tbody>\n",
        facts.tenants_total
    );
    for tenant in &facts.tenants {
        row(out, tenant, facts.now);
    }
    if let Some(others) = &facts.others {
        let OtherTenants {
            tenants,
            passed_on,
            refused,
            in_flight,
            waiting,
        } = others;
        let name = format!("{tenants} more");
        counts(
            out,
            &Text(&name).to_string(),
            [*passed_on, *refused],
            &in_flight.to_string(),
            *waiting,
        );
        out.push_str("<td></td></tr>\n");
    }
    out.push_str("</tbody></table></section>\n");
}

fn row(out: &mut String, tenant: &TenantFacts, now: Timestamp) {
    let mut name = format!("<strong>{}</strong>", Text(&tenant.name));
    if tenant.mode != Mode::Enforce {
        let _ = write!(
            name,
            " <span class=\"tag warn\">{}</span>",
            tenant.mode.as_str()
        );
    }
    if tenant.is_frozen {
        name += " <span class=\"tag bad\">frozen</span>";
    }
    if let Some(expires) = tenant.expires {
        let _ = if expires > now {
            let left = span(until(now, expires));
            write!(
                name,
                " <small class=\"dim\">a token expires in {left}</small>"
            )
        } else {
            write!(name, " <span class=\"tag bad\">no valid token</span>")
        };
    }
    let in_flight = format!(
        "{} <span class=\"dim\">of {}</span>",
        tenant.in_flight, tenant.in_flight_max
    );
    let done = [tenant.passed_on, tenant.refused];
    counts(out, &name, done, &in_flight, tenant.waiting);
    out.push_str("<td class=\"limits\">");
    if tenant.limits.is_empty() {
        out.push_str("<span class=\"dim\">none</span>");
    }
    for limit in &tenant.limits {
        let LimitFacts {
            name,
            remaining,
            burst,
            requests,
            per,
        } = limit;
        let per = span(*per);
        let _ = write!(
            out,
            "<div class=\"limit\"><meter min=\"0\" max=\"{burst}\" low=\"{low}\" optimum=\"{burst}\" value=\"{remaining}\">{remaining}</meter><span>{remaining} <span class=\"dim\">of {burst} · {name}, {requests} in {per}</span></span></div>",
            low = burst / 5,
            name = Text(name),
        );
    }
    out.push_str("</td></tr>\n");
}

/// The beginning of a row; `name` and `in_flight` are HTML already.
fn counts(
    out: &mut String,
    name: &str,
    [passed_on, refused]: [u64; 2],
    in_flight: &str,
    waiting: u32,
) {
    let _ = write!(
        out,
        "<tr><td class=\"name\">{name}</td><td class=\"n\" data-is=\"passed on\">{passed_on}</td><td class=\"n\" data-is=\"refused\">{refused}</td><td class=\"n\" data-is=\"in flight\"><span>{in_flight}</span></td><td class=\"n\" data-is=\"waiting\">{waiting}</td>"
    );
}

fn incidents(out: &mut String, title: &str, found: &[Seen], now: Timestamp) {
    let _ = writeln!(out, "<section class=\"card\"><h2>{title}</h2>");
    if found.is_empty() {
        out.push_str("<p class=\"dim\">None.</p></section>\n");
        return;
    }
    out.push_str("<table><tbody>\n");
    for Seen { at, incident } in found {
        let what = match incident.code {
            Code::PassedOn => "upstream's own answer",
            code => code.as_str(),
        };
        let tenant = incident.tenant.as_deref().unwrap_or("an unknown caller");
        let _ = writeln!(
            out,
            "<tr><td class=\"name\">{} {what} <span class=\"dim\">for</span> {}<br><code class=\"dim\">{}</code></td><td class=\"n\"><time datetime=\"{}\">{} ago</time></td></tr>",
            incident.status,
            Text(tenant),
            incident.request_id.as_str(),
            moment(*at),
            since(now, *at),
        );
    }
    out.push_str("</tbody></table></section>\n");
}

fn upstream(out: &mut String, facts: &Facts) {
    let _ = write!(
        out,
        "<section id=\"upstream\" class=\"card\"><h2>Upstream</h2>\n<dl><dt>host</dt><dd>{}</dd>",
        Text(&facts.upstream)
    );
    let took = facts
        .lately
        .as_ref()
        .and_then(|(span, over)| Some((span.upstream_p50?, span.upstream_p99?, over)));
    if let Some((p50, p99, over)) = took {
        let _ = write!(
            out,
            "<dt>answers within</dt><dd>{} (p50), {} (p99) <span class=\"dim\">over {}</span></dd>",
            seconds(p50),
            seconds(p99),
            span(*over)
        );
    } else {
        out.push_str("<dt>answers within</dt><dd class=\"dim\">no calls lately</dd>");
    }
    out.push_str("</dl><table><thead><tr><th>key</th><th>fingerprint</th><th>breaker</th><th class=\"n\">times refused</th></tr></thead><tbody>\n");
    for key in &facts.keys {
        let (class, state) = match key.breaker {
            BreakerState::Closed => ("good", "closed"),
            BreakerState::Open => ("bad", "open"),
            BreakerState::HalfOpen => ("warn", "half open"),
        };
        let _ = writeln!(
            out,
            "<tr><td class=\"name\">{}</td><td>{}</td><td><span class=\"tag {class}\">{state}</span></td><td class=\"n\">{}</td></tr>",
            Text(&key.name),
            Text(&key.fingerprint),
            key.refusals
        );
    }
    out.push_str("</tbody></table></section>\n");
}

fn store(out: &mut String, store: &StoreFacts) {
    out.push_str("<section id=\"limits-store\" class=\"card\"><h2>Limits store</h2>\n<dl>");
    let (class, state) = match store.degraded {
        false => ("good", "limits are shared"),
        true => ("warn", "each gateway takes its fair share"),
    };
    entry(
        out,
        "state",
        &format!("<span class=\"tag {class}\">{state}</span>"),
    );
    if let Some(why) = &store.why {
        entry(out, "because", &Text(&why.to_string()).to_string());
    }
    let live = match store.live {
        0 => "not known".to_owned(),
        live => live.to_string(),
    };
    let live = format!("{live} <span class=\"dim\">of {}</span>", store.replicas);
    entry(out, "gateways", &live);
    out.push_str("</dl></section>\n");
}

fn trail(out: &mut String, facts: &Facts) {
    let trail = &facts.trail;
    let _ = write!(
        out,
        "<section id=\"trail\" class=\"card\"><h2>Trail</h2>\n<dl>"
    );
    let (class, state) = match &trail.writable {
        Ok(()) => ("good", "is written".to_owned()),
        Err(why) => ("bad", format!("can't be written: {} ({why})", why.cause)),
    };
    entry(
        out,
        "state",
        &format!("<span class=\"tag {class}\">{}</span>", Text(&state)),
    );
    entry(out, "durability", facts.durability.as_str());
    let head = format!(
        "{} <code>{}</code>",
        trail.head.seq,
        Text(trail.head.hash.as_str())
    );
    entry(out, "head", &head);
    let synced = trail.last_sync.and_then(|at| Timestamp::try_from(at).ok());
    let synced = synced.map_or_else(
        || "never".to_owned(),
        |at| format!("{} ago", since(facts.now, at)),
    );
    entry(out, "last sync", &synced);
    let disk = match facts.disk {
        None => "<span class=\"tag bad\">does not answer</span>".to_owned(),
        Some(disk) => {
            let class = if is_low(disk) { "tag bad" } else { "" };
            format!(
                "<span class=\"{class}\">{} free</span> <span class=\"dim\">of {}</span>",
                bytes(disk.free),
                bytes(disk.size)
            )
        }
    };
    entry(out, "disk", &disk);
    if let Some(ship) = &facts.shipping {
        let (class, state) = match (ship.is_up, ship.missing) {
            (true, 0) => ("good", "has everything".to_owned()),
            (true, missing) => ("good", format!("{missing} records to go")),
            (false, missing) => ("bad", format!("{missing} records wait for it")),
        };
        entry(
            out,
            "database",
            &format!("<span class=\"tag {class}\">{state}</span>"),
        );
    }
    entry(out, "waiting to be written", &trail.queue_depth.to_string());
    out.push_str("</dl></section>\n");
}

fn config(out: &mut String, facts: &Facts) {
    let reload = &facts.reload;
    out.push_str("<section id=\"config\" class=\"card\"><h2>Config</h2>\n<dl>");
    entry(
        out,
        "in effect",
        &format!("<code>{}</code>", Text(&facts.digest)),
    );
    let at = Timestamp::try_from(reload.at).unwrap_or(facts.now);
    let how = if reload.problems.is_empty() {
        "succeeded"
    } else {
        "failed"
    };
    let last = format!(
        "{how} {} ago <span class=\"dim\">({})</span>",
        since(facts.now, at),
        Text(&reload.by)
    );
    entry(out, "last load", &last);
    entry(out, "connections", &facts.connections.to_string());
    entry(
        out,
        "calls in flight",
        &facts.requests_in_flight.to_string(),
    );
    out.push_str("</dl>");
    if !reload.problems.is_empty() && facts.shows_problems {
        out.push_str("<ul>");
        for problem in reload.problems.iter().take(PROBLEMS_MAX) {
            let _ = write!(out, "<li><code>{}</code></li>", Text(problem));
        }
        out.push_str("</ul>");
    } else if !reload.problems.is_empty() {
        out.push_str("<p class=\"dim\">What is wrong with it stands in the log, and <code>alloy-gateway check</code> says it.</p>");
    }
    out.push_str("</section>\n");
}

/// `value` is HTML already.
fn entry(out: &mut String, name: &str, value: &str) {
    let _ = write!(out, "<dt>{name}</dt><dd>{value}</dd>");
}
