//! A long list of tenants, read part by part.
//!
//! The YAML library makes events of a whole text before anything is made of them: of
//! 100,000 tenants that is half a gigabyte, and most of a second without giving way. A
//! list that is written as lists of tenants are (a dash for each, at one indentation) is
//! taken apart at the dashes, and its parts are read as texts of their own.
//!
//! Where that could read anything else than the whole would, the whole is read: a part
//! that begins outside of quotes, brackets and blocks and is valid by itself ends
//! outside of them, too, so the next dash at this indentation begins a tenant; an alias
//! or a tag that another part explains makes a part invalid; a list with anchors is read
//! as a whole, and so is one with ends of lines that only YAML takes for such.

use super::{Raw, Tenant};
use crate::background;

/// Bytes of one part: some twenty tenants, which take about a fifth of a millisecond.
const PART: usize = 4 << 10;

/// The key whose list is taken apart.
const KEY: &str = "tenants:";

/// Reads a config whose tenants can be read part by part; `None` if they can't, or if
/// anything is wrong with it.
pub fn read(text: &str) -> Option<Raw> {
    let (before, list, after) = taken_out(text)?;
    // Valid by itself, so the key after it is one, and not within something.
    serde_yaml::from_str::<Option<Raw>>(before).ok()?;
    let mut raw: Raw = serde_yaml::from_str(&[before, KEY, " []\n", after].concat()).ok()?;
    let tenants = raw.tenants.as_mut()?;
    for part in parts(list) {
        background::give_way();
        if part.contains('&') || has_other_line_ends(part) {
            return None;
        }
        let part: Vec<Option<Tenant>> = serde_yaml::from_str(part).ok()?;
        if tenants.is_empty() {
            // To grow a long list is to copy it, in one go. It is a guess, and may be far off.
            let _ = tenants.try_reserve(part.len() * (list.len() / PART + 1));
        }
        tenants.extend(part);
    }
    Some(raw)
}

/// What stands before the key, its list, and what stands after it.
fn taken_out(text: &str) -> Option<(&str, &str, &str)> {
    let mut at = 0;
    let mut begin = None;
    let mut indent = None;
    for line in text.split_inclusive('\n') {
        background::give_way();
        let start = at;
        at += line.len();
        let Some((_, first)) = begin else {
            if bare(line) == KEY {
                begin = Some((start, at));
            }
            continue;
        };
        if is_blank(line) {
            continue;
        }
        let own = indent_of(line);
        let indent = *indent.get_or_insert(own);
        if own < indent || (own == indent && !is_entry(line, indent)) {
            return cut(text, begin?.0, first, start);
        }
    }
    let (key, first) = begin?;
    cut(text, key, first, text.len())
}

fn cut(text: &str, key: usize, first: usize, end: usize) -> Option<(&str, &str, &str)> {
    let list = text.get(first..end)?;
    (list.len() > PART).then_some(())?;
    Some((text.get(..key)?, list, text.get(end..)?))
}

/// Without its end: other white space than this may mean something to YAML.
fn bare(line: &str) -> &str {
    line.trim_end_matches([' ', '\r', '\n'])
}

/// What ends a line for the parser besides LF and CR LF (YAML 1.1, 4.2).
fn has_other_line_ends(part: &str) -> bool {
    let has_cr = part.contains('\r') && part.replace("\r\n", "").contains('\r');
    has_cr || part.contains(['\u{85}', '\u{2028}', '\u{2029}'])
}

/// Nothing, or a comment.
fn is_blank(line: &str) -> bool {
    let line = bare(line).trim_start_matches(' ');
    line.is_empty() || line.starts_with('#')
}

fn indent_of(line: &str) -> usize {
    line.len() - line.trim_start_matches(' ').len()
}

/// Whether an entry of a list at this indentation begins here.
fn is_entry(line: &str, indent: usize) -> bool {
    let said = line.trim_start_matches(' ');
    indent_of(line) == indent && (said.starts_with("- ") || bare(said) == "-")
}

/// The list in parts, each of which begins with an entry.
fn parts(list: &str) -> impl Iterator<Item = &str> {
    let first = list.lines().find(|line| !is_blank(line));
    let indent = first.map_or(0, indent_of);
    let mut rest = list;
    std::iter::from_fn(move || {
        let mut at = 0;
        for line in rest.split_inclusive('\n') {
            if at >= PART && is_entry(line, indent) {
                break;
            }
            at += line.len();
        }
        let (part, left) = rest.split_at_checked(at)?;
        rest = left;
        (!part.is_empty()).then_some(part)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEAD: &str = "version: 1\nkeys: { main: { secret: { file: key } } }\n";

    fn whole(text: &str) -> Option<Raw> {
        serde_yaml::from_str::<Option<Raw>>(text).ok().flatten()
    }

    fn shown(raw: Option<&Raw>) -> String {
        format!("{raw:?}")
    }

    /// As many tenants as make some parts, in one of the ways to write them.
    fn tenants(entry: impl Fn(usize) -> String) -> String {
        (0..1000).map(entry).collect()
    }

    fn flow(n: usize) -> String {
        format!("  - {{ name: t{n}, key: main, users: all, in_flight: {n} }}\n")
    }

    fn block(n: usize) -> String {
        format!("- name: t{n}\n  key: main\n  users:\n  - u{n}\n\n  # the next one\n")
    }

    #[test]
    fn what_is_read_in_parts_is_what_the_whole_says() {
        for (list, after) in [
            (tenants(flow), ""),
            (tenants(flow), "audit: { directory: trail }\n"),
            (tenants(block), "# the end\naudit:\n  directory: trail\n"),
            (tenants(|n| flow(n).replace('\n', "\r\n")), "workers: 1"),
            (format!("# first\n\n{}  -\n", tenants(flow)), ""),
        ] {
            let text = format!("{HEAD}tenants: \n{list}{after}");
            let read = read(&text);
            assert!(read.is_some(), "{text}");
            assert_eq!(shown(read.as_ref()), shown(whole(&text).as_ref()));
        }
    }

    #[test]
    fn what_parts_could_read_otherwise_is_left_to_the_whole() {
        let list = tenants(flow);
        let comments = "  # x\n".repeat(PART / 4);
        for text in [
            // The key stands within a text.
            format!("log: \"\ntenants:\n{list}\"\n"),
            format!("audit: {{ directory: \"\ntenants:\n{list}\" }}\ntenants: []\n"),
            // It stands twice, or nothing is in the second.
            format!("{HEAD}tenants:\n{list}tenants: ~\n"),
            format!("{HEAD}tenants: []\ntenants:\n{list}"),
            format!("{HEAD}{{tenants:\n{list}}}"),
            // A text that goes on at the dash of what looks like an entry.
            format!(
                "{HEAD}tenants:\n  - name: \"{}\n  - \"\n",
                list.replace('\n', "\n\n")
            ),
            // What another part explains.
            format!("{HEAD}tenants:\n  - &one {{ name: one }}\n{list}  - *one\n"),
            format!("{HEAD}tenants:\n  - &one {{ name: one }}\n{list}log: *one\n"),
            // An anchor that another place defines, too.
            format!(
                "version: &n 1\ntenants:\n  - {{ name: x, in_flight: &n 2 }}\n{list}workers: *n\n"
            ),
            // A comment that ends before its line does.
            format!("{HEAD}tenants:\n  # x\r    - {{ name: hidden }}\n{comments}{list}"),
            format!("{HEAD}tenants:\n  # x\u{2028}    - {{ name: hidden }}\n{comments}{list}"),
            // No key for YAML, but a text.
            format!("{HEAD}tenants:\u{a0}\n{list}"),
            // Another document.
            format!("{HEAD}tenants:\n{list}---\naudit: {{}}\n"),
            // What is wrong is told of the whole.
            format!("{HEAD}tenants:\n{list}  - {{ nane: x }}\n"),
            format!("{HEAD}tenants:\n{list}  name: x\n"),
            format!("{HEAD}tenants:\n{list}\t- {{ name: x }}\n"),
            // Too short to be worth it.
            format!("{HEAD}tenants:\n  - {{ name: x }}\n"),
        ] {
            assert!(read(&text).is_none(), "{text}");
        }
    }

    /// Lines that have a meaning of their own somewhere.
    const LINES: &[&str] = &[
        "tenants:",
        "  - {name: a}",
        "  -",
        "- name: b",
        "  - name: \"c",
        "  - d\"",
        "  - 'e",
        "'",
        "  - name: |",
        "    - text",
        "  - name: >-",
        "  key: k",
        "    key: k",
        "audit: {}",
        "---",
        "...",
        "# x",
        "",
        "  - &a {name: f}",
        "  - *a",
        "  - &a {name: j}",
        "  # x\r  - {name: k}",
        "  # x\u{85}  - {name: l}",
        "  - {",
        "  }",
        "\t- x",
        "  - ? x",
        "\r  - {}",
        "  - !!map {name: g}",
        "  - name: h # y",
        "%TAG ! x",
        "log: \"",
        "tenants: []",
        "  - - name: i",
    ];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn parts_never_say_another_thing_than_the_whole(
            lines in prop::collection::vec((prop::sample::select(LINES), 0_usize..4), 1..24),
        ) {
            // Each of some lines so often that what follows is another part.
            let mut text = String::from("version: 1\ntenants:\n");
            for (line, filler) in lines {
                text.push_str(line);
                text.push('\n');
                if filler == 0 {
                    text.push_str(&"  - {name: t, key: main, users: all}\n".repeat(PART / 30));
                }
            }
            if let Some(read) = read(&text) {
                prop_assert_eq!(shown(Some(&read)), shown(whole(&text).as_ref()));
            }
        }
    }
}
