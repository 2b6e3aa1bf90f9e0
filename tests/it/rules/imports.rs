//! What a source file imports, with the groups of its `use` items written out.

/// The full path of each thing that `code`, the text of the module `module` (`a::b`, empty
/// for the root), imports from its own crate: `crate::…`. Of `self` in a group it is that of
/// the group, of all things in a module `…::*`; another name (`as`) is not told. Comments
/// may stand between, but no `use` within a string or a comment is told from a real one.
pub fn imports(module: &str, code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("use") {
        let is_name = |c: char| c.is_alphanumeric() || "_#".contains(c);
        let (before, after) = (&code[..at], &code[at + "use".len()..]);
        if !before.ends_with(is_name) && after.starts_with([' ', '\n', '/', ':', '{']) {
            Reader(after).tree("", &mut found);
        }
    }
    found
        .into_iter()
        .filter_map(|path| absolute(module, &path))
        .collect()
}

/// Of `super::x` and the like; `None` for what is in another crate, or in scope already.
fn absolute(module: &str, path: &str) -> Option<String> {
    let mut within: Vec<_> = ["crate"].into_iter().chain(module.split("::")).collect();
    within.retain(|name| !name.is_empty());
    let mut names = path.split("::").peekable();
    match *names.peek()? {
        "crate" => return Some(path.to_owned()),
        "self" => drop(names.next()),
        "super" => {
            while names.next_if_eq(&"super").is_some() {
                within.pop();
            }
        }
        _ => return None,
    }
    Some(
        within
            .into_iter()
            .chain(names)
            .collect::<Vec<_>>()
            .join("::"),
    )
}

/// What of the code was not read yet.
struct Reader<'a>(&'a str);

impl<'a> Reader<'a> {
    /// Reads one path, or a group of them, below `within`. What is none ends it.
    fn tree(&mut self, within: &str, found: &mut Vec<String>) {
        let mut path = within.to_owned();
        loop {
            self.take("::");
            if self.take("{") {
                return self.group(&path, found);
            }
            let name = if self.take("*") { "*" } else { self.name() };
            match name {
                // Prose, or the end of a group.
                "" => return,
                "self" if !path.is_empty() => {}
                _ if path.is_empty() => path.push_str(name),
                _ => path = format!("{path}::{name}"),
            }
            self.skip();
            if !self.0.starts_with("::") {
                break;
            }
        }
        if self.take("as ") {
            self.name();
        }
        found.push(path);
    }

    fn group(&mut self, within: &str, found: &mut Vec<String>) {
        while !self.take("}") {
            let before = self.0.len();
            self.tree(within, found);
            self.take(",");
            if self.0.len() == before {
                return;
            }
        }
    }

    fn take(&mut self, what: &str) -> bool {
        self.skip();
        let rest = self.0.strip_prefix(what);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    fn name(&mut self) -> &'a str {
        self.take("r#");
        let is_name = |c: char| c.is_alphanumeric() || c == '_';
        let end = self.0.find(|c| !is_name(c)).unwrap_or(self.0.len());
        let (name, rest) = self.0.split_at(end);
        self.0 = rest;
        name
    }

    /// Passes over whitespace and comments.
    fn skip(&mut self) {
        loop {
            self.0 = self.0.trim_start();
            let end = match self.0.get(..2) {
                Some("//") => "\n",
                Some("/*") => "*/",
                _ => return,
            };
            let behind = self.0.split_once(end).map(|(_, behind)| behind);
            self.0 = behind.unwrap_or_default();
        }
    }
}

#[test]
fn an_import_is_found_however_it_is_written() {
    let found = |code: &str| imports("server::worker", code);
    let admin = ["crate::admin::CONNECTIONS_MAX"];
    for code in [
        "use crate::admin::CONNECTIONS_MAX;",
        "pub(crate) use crate::admin::CONNECTIONS_MAX as MAX;",
        "use crate::{admin::CONNECTIONS_MAX};",
        "use crate::{\n    admin::{\n        CONNECTIONS_MAX,\n    },\n};\n",
        "use crate::{ // why\n admin /* why */ :: CONNECTIONS_MAX, };",
        "use {crate::{admin::{self as other, CONNECTIONS_MAX}}};",
        "use super::super::admin::CONNECTIONS_MAX;",
        "use super::{super::{admin::CONNECTIONS_MAX}};",
        "fn f() { use crate::r#admin::CONNECTIONS_MAX; }",
    ] {
        let mut found = found(code);
        found.retain(|path| path != "crate::admin");
        assert_eq!(found, admin, "{code}");
    }
    assert_eq!(
        found("use crate::{a::{self, b as c, *}, d};\nuse self::e;\nuse std::{io, fs};"),
        [
            "crate::a",
            "crate::a::b",
            "crate::a::*",
            "crate::d",
            "crate::server::worker::e"
        ]
    );
    assert_eq!(
        found("use crate as root; use crate::*;"),
        ["crate", "crate::*"]
    );
    for none in [
        "fn f() -> impl Iterator + use<> {}",
        "reuse crate::admin::x",
        "use it: {that crate::admin}",
        "use {{{",
        "use crate::{a-b",
        "use",
    ] {
        let found = found(none);
        assert!(
            !found.iter().any(|path| path.contains("admin")),
            "{found:?}"
        );
    }
}
