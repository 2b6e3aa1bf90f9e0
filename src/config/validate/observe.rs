//! `log`.

use super::check::Check;
use crate::{
    config::{problem::FieldPath, raw, suggest::quote},
    logging::{Access, Format, Level, Settings},
};

/// What is logged, and how.
pub fn log(check: &mut Check, raw: raw::Log) -> Settings {
    let at = |name: &str| FieldPath::root().key("log").key(name);
    let formats = [
        ("auto", None),
        ("json", Some(Format::Json)),
        ("text", Some(Format::Text)),
    ];
    let access = [
        ("all", Access::All),
        ("failures", Access::Failures),
        ("off", Access::Off),
    ];
    Settings {
        level: level(check, at("level"), raw.level),
        format: check.choice(at("format"), raw.format, &formats, None),
        access: check.choice(at("access"), raw.access, &access, Access::All),
    }
}

fn level(check: &mut Check, at: FieldPath, found: Option<String>) -> Level {
    let Some(found) = found else {
        return Level::default();
    };
    found.parse().unwrap_or_else(|why| {
        check.problem(at, format!("found {}, {why}", quote(&found)));
        Level::default()
    })
}
