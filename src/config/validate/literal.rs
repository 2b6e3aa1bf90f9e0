//! What a shell would replace in a path, and a config does not: taken literally, it would
//! be a file that nobody meant, and a directory that is made.

/// What stands in a path and is hardly meant as it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Literal {
    /// `~` or `~NAME` at its beginning.
    Home,
    /// `${NAME}` or `$(…)`, or `$NAME` where a name begins: `ke$y` may well be a file's name.
    Variable,
    /// A space, or the end of a line, before or behind it.
    Space,
}

impl Literal {
    /// The first that is found in a path.
    pub fn found_in(path: &str) -> Option<Self> {
        let is_named =
            |after: &str| after.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        let is_replaced = |(at, _): (usize, &str)| {
            let (before, from) = path.split_at(at);
            let after = from.trim_start_matches('$');
            let begins = before.is_empty() || before.ends_with('/');
            after.starts_with(['{', '(']) || begins && is_named(after)
        };
        if path.trim() != path {
            Some(Self::Space)
        } else if path.starts_with('~') {
            Some(Self::Home)
        } else if path.match_indices('$').any(is_replaced) {
            Some(Self::Variable)
        } else {
            None
        }
    }

    /// What is wrong with that, and what is expected.
    pub fn why(self) -> &'static str {
        match self {
            Self::Home => {
                "which is taken literally here: there are no home directories in the config; expected an absolute path, or one relative to the config file (./~…, if that is one)"
            }
            Self::Variable => {
                "which is taken literally here: there are no variables in the config; expected an absolute path, or one relative to the config file"
            }
            Self::Space => "which begins or ends with a space: expected a path without",
        }
    }

    /// What it is, of a path that is not repeated.
    pub fn told(self) -> &'static str {
        match self {
            Self::Home => " with a ~ at its beginning",
            Self::Variable => " with a $",
            Self::Space => "",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_shell_replaces_is_found_and_other_names_are_left_alone() {
        for (path, expected) in [
            ("~", Some(Literal::Home)),
            ("~/a", Some(Literal::Home)),
            ("~alloy/a", Some(Literal::Home)),
            ("$HOME/a", Some(Literal::Variable)),
            ("/var/${A}", Some(Literal::Variable)),
            ("/a-${A}.pem", Some(Literal::Variable)),
            ("/a/$b", Some(Literal::Variable)),
            ("$_a", Some(Literal::Variable)),
            ("$(pwd)/a", Some(Literal::Variable)),
            (" a", Some(Literal::Space)),
            ("a\n", Some(Literal::Space)),
            ("/a/b c~", None),
            ("./~", None),
            ("a$", None),
            ("ke$y", None),
            ("/a/b$c/d", None),
            ("a$/b", None),
            ("$1", None),
            ("", None),
        ] {
            assert_eq!(Literal::found_in(path), expected, "{path:?}");
        }
    }
}
