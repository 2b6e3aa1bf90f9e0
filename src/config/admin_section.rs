//! The admin section alone: what asks a running gateway needs nothing else of its config,
//! and that on disk may be invalid meanwhile.

use std::{borrow::Cow, net::SocketAddr, path::Path};

use super::{
    nests_sanely,
    problem::{FieldPath, Problem, Problems},
    raw::{self, Collected, NotYaml},
    read_bytes,
    settings::Admin,
    validate, without_mark,
};

/// With what the section begins, and nothing before it in its line.
const BEGINS: &str = "admin:";

/// What a config says of the admin listener, whatever is wrong with the rest of it.
#[derive(Debug)]
pub struct AdminSection {
    file: String,
    /// Where the places of problems are.
    text: String,
    admin: Admin,
    /// Whether the fields stand there.
    has_address: bool,
    has_socket: bool,
    problems: Vec<Problem>,
}

/// Reads the admin section of a config; `-` is standard input.
///
/// # Errors
///
/// If the config can't be read, or has such a section, which is no YAML.
pub fn admin(path: &Path) -> Result<AdminSection, Problems> {
    let file = path.display().to_string();
    let bytes = read_bytes(path).map_err(|message| Problems::with_file(&file, message))?;
    let text = String::from_utf8_lossy(&bytes);
    let (text, collected) = collect(without_mark(&text))
        .map_err(|problem| Problems::with_places(&file, vec![*problem]))?;
    let given = collected.raw.admin.as_ref();
    let has_address = given.is_some_and(|admin| admin.address.is_some());
    let has_socket = given.is_some_and(|admin| admin.socket.is_some());
    let directory = path.parent().unwrap_or(Path::new(""));
    let (admin, problems) = validate::admin(collected.raw, directory, collected.misfits);
    Ok(AdminSection {
        text: text.into_owned(),
        file,
        admin,
        has_address,
        has_socket,
        problems,
    })
}

impl AdminSection {
    /// `admin.address`; `None` if it is off.
    ///
    /// # Errors
    ///
    /// If what stands there can't be told.
    pub fn address(&self) -> Result<Option<SocketAddr>, Problems> {
        self.is_told("address", self.has_address)
            .map(|()| self.admin.address)
    }

    /// `admin.socket`, if there is one.
    ///
    /// # Errors
    ///
    /// If what stands there can't be told.
    pub fn socket(&self) -> Result<Option<&Path>, Problems> {
        self.is_told("socket", self.has_socket)
            .map(|()| self.admin.socket.as_deref())
    }

    /// Whether nothing is wrong that concerns this field: other fields are left alone.
    fn is_told(&self, field: &'static str, is_there: bool) -> Result<(), Problems> {
        let at = FieldPath::root().key("admin").key(field);
        let concerns = |problem: &&Problem| {
            let path = &problem.path;
            // An unknown key may be this one, misspelt.
            problem.is_about_key && !is_there || path.contains(&at) || at.contains(path)
        };
        let found: Vec<_> = self.problems.iter().filter(concerns).cloned().collect();
        if found.is_empty() {
            return Ok(());
        }
        Err(Problems::locate(&self.file, &self.text, found))
    }
}

/// The section, and the text that it was read from. It is cut out first: the rest need not
/// be YAML, and may be long.
fn collect(text: &str) -> Result<(Cow<'_, str>, Collected), NotYaml> {
    let cut = cut(text);
    if let Some(Ok(collected)) = cut.as_deref().map(collect_sanely) {
        return Ok((cut.unwrap_or_default().into(), collected));
    }
    match collect_sanely(text) {
        Ok(collected) => Ok((text.into(), collected)),
        Err(problem) if names_section(text) => Err(problem),
        // Most configs have none: the defaults hold.
        Err(_) => Ok(("".into(), raw::collect_admin("{}")?)),
    }
}

fn collect_sanely(text: &str) -> Result<Collected, NotYaml> {
    nests_sanely(text).map_err(|message| Box::new((None, message.into())))?;
    raw::collect_admin(text)
}

/// Whether a text that can't be read seems to have the section, however it is written.
fn names_section(text: &str) -> bool {
    text.match_indices("admin").any(|(at, name)| {
        let after = text.get(at + name.len()..).unwrap_or_default();
        let after = after.trim_start_matches(['"', '\'']).trim_start();
        after.starts_with(':')
    })
}

/// The lines of the section, each in its place, if there is one that begins a line.
fn cut(text: &str) -> Option<String> {
    let mut is_within = false;
    let mut is_there = false;
    let mut cut = String::new();
    for line in text.lines() {
        // What is indented, empty or a comment ends no section.
        if line.starts_with(|c: char| !c.is_whitespace() && c != '#') {
            let after = line.strip_prefix(BEGINS);
            is_within = after.is_some_and(|it| it.is_empty() || it.starts_with([' ', '\t']));
            is_there |= is_within;
        }
        if is_within {
            cut += line;
        }
        cut.push('\n');
    }
    is_there.then_some(cut)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Result<String, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("c.yaml");
        std::fs::write(&path, text).unwrap();
        match admin(&path).and_then(|section| section.address()) {
            Ok(address) => Ok(address.map_or("off".to_owned(), |it| it.to_string())),
            Err(problems) => {
                let all = problems.to_string();
                Err(all.rsplit_once("c.yaml").unwrap().1.trim().to_owned())
            }
        }
    }

    fn found(address: &str) -> Result<String, String> {
        Ok(address.to_owned())
    }

    #[test]
    fn the_section_is_found_however_the_rest_is_written_or_broken() {
        let section = "admin:\n  address: 127.0.0.1:9\n";
        for text in [
            section,
            "admin: { address: \"127.0.0.1:9\" }",
            "\u{feff}admin:\r\n\r\n  address: 127.0.0.1:9\r\nx: 1\r\n",
            "{ admin: { address: \"127.0.0.1:9\" },\n listen: 7 }",
            "\"admin\":\n  address: 127.0.0.1:9\nlisten: 7\n",
            "admin:\n# why\n  address: 127.0.0.1:9\nx: [\n",
            "x: &a [ 1 ]\nadmin: { address: \"127.0.0.1:9\", hosts: [ \"/\" ], token: 7 }\n",
            "a: &a \"127.0.0.1:9\"\nadmin: { address: *a }\n",
            "admin: { address: \"127.0.0.1:9\", tokens: [ ] }\n",
        ] {
            assert_eq!(address(text), found("127.0.0.1:9"), "{text}");
        }
        let deep = format!("{section}x: {}\n", "[".repeat(100_000));
        assert_eq!(address(&deep), found("127.0.0.1:9"));
        for text in ["", "version: 1\n", "just words", "x: [\n", "admins: [\n"] {
            assert_eq!(address(text), found("127.0.0.1:9465"), "{text}");
        }
    }

    #[test]
    fn what_is_needed_and_cannot_be_told_is_told_with_its_place() {
        for (text, expected) in [
            (
                "x: [\nadmin:\n  address: 7\n",
                ":3:12: admin.address: found",
            ),
            ("admin: off\n", ":1:8: admin: found a text"),
            ("admin:\n  adress: off\n", ":2:3: admin.adress: unknown key"),
            ("admin: {\n", "not YAML"),
            (
                "{ \"admin\": { \"address\": \"127.0.0.1:9\" },\n \"x\": [ ,\n",
                "not YAML",
            ),
            ("admin : { address: 127.0.0.1:9 }\nx: [\n", "not YAML"),
            ("admin: off\nadmin:\n  address: off\n", "stands twice"),
        ] {
            let said = address(text).unwrap_err();
            assert!(said.contains(expected), "{expected} in {said}");
        }
    }
}
