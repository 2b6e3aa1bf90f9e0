//! The scripts that the store runs, and how they are called and answered.

use std::{sync::LazyLock, time::Duration};

use aws_lc_rs::digest;
use bytes::BytesMut;

use super::resp::{self, Reply};
use crate::{gcra::Shape, secret::hex};

/// A script, and the name that the store knows it by once it has seen it.
#[derive(Debug)]
pub struct Script {
    text: &'static str,
    /// Its SHA-1 in hex: the store's name for it, no protection of anything.
    name: String,
}

/// Takes one unit of every window, or nothing.
pub static LIMITS: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("limits.lua")));
/// Counts different things that were seen lately.
pub static SEEN: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("seen.lua")));

impl Script {
    fn new(text: &'static str) -> Self {
        let sum = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
        Self {
            text,
            name: hex(sum.as_ref()),
        }
    }

    /// The command that shows it to the store.
    pub fn load(&self, out: &mut BytesMut) {
        resp::command(out, &[b"SCRIPT", b"LOAD", self.text.as_bytes()]);
    }

    /// Begins a call with so many keys and arguments; they follow. `as_text` sends
    /// the script itself, for a store that has forgotten it.
    pub fn call(&self, out: &mut BytesMut, as_text: bool, keys: usize, arguments: usize) {
        resp::begin(out, 3 + keys + arguments);
        if as_text {
            resp::part(out, b"EVAL");
            resp::part(out, self.text.as_bytes());
        } else {
            resp::part(out, b"EVALSHA");
            resp::part(out, self.name.as_bytes());
        }
        resp::number(out, keys as u64);
    }
}

/// One window of a call.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    /// Whether all tenants of the key share it.
    pub is_of_key: bool,
    /// Its length, which is its name in the store.
    pub per: Duration,
    /// Its size.
    pub shape: Shape,
    /// What this gateway knows to be spent of it, in time.
    pub known: Duration,
}

/// What one call asks for: a unit of each of these windows.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// What stands before the name of everything in the store.
    pub prefix: &'a str,
    /// The name of the Alloy key.
    pub key: &'a str,
    /// The name of the tenant.
    pub tenant: &'a str,
    /// The windows, shortest first.
    pub windows: &'a [Window],
}

/// What the store says to it.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// The place of the window that refuses, and when a retry passes.
    pub refused: Option<(usize, Duration)>,
    /// What is spent of each window now, in time.
    pub spent: Vec<Duration>,
}

impl Ask<'_> {
    /// Writes the call. All names of one Alloy key have the same hash tag, its
    /// name, so that a cluster keeps them in one place and one script sees them all.
    pub fn write(&self, out: &mut BytesMut, as_text: bool) {
        let windows = self.windows;
        LIMITS.call(out, as_text, windows.len(), 3 * windows.len());
        let mut name = Vec::with_capacity(96);
        for window in windows {
            name.clear();
            tag(&mut name, self.prefix, self.key);
            if window.is_of_key {
                name.extend_from_slice(b":key:");
            } else {
                name.extend_from_slice(b":tenant:");
                name.extend_from_slice(self.tenant.as_bytes());
                name.extend_from_slice(b":");
            }
            let mut digits = itoa::Buffer::new();
            name.extend_from_slice(digits.format(window.per.as_millis()).as_bytes());
            resp::part(out, &name);
        }
        for window in windows {
            micros(out, window.shape.unit_ns);
            resp::number(out, window.shape.burst.into());
            resp::number(
                out,
                u64::try_from(window.known.as_micros()).unwrap_or(u64::MAX),
            );
        }
    }
}

impl Answer {
    /// Reads the answer about so many windows.
    pub fn read(reply: &Reply, windows: usize) -> Option<Self> {
        let [refused, wait, spent @ ..] = reply.list() else {
            return None;
        };
        let micros = |reply: &Reply| {
            let micros = u64::try_from(reply.number()?).ok()?;
            Some(Duration::from_micros(micros))
        };
        let spent: Vec<_> = spent.iter().map(micros).collect::<Option<_>>()?;
        let refused = usize::try_from(refused.number()?).ok()?;
        if spent.len() != windows || refused > windows {
            return None;
        }
        Some(Self {
            refused: match refused.checked_sub(1) {
                Some(at) => Some((at, micros(wait)?)),
                None => None,
            },
            spent,
        })
    }
}

/// The beginning of every name that belongs to one Alloy key.
pub fn tag(name: &mut Vec<u8>, prefix: &str, key: &str) {
    name.extend_from_slice(prefix.as_bytes());
    name.extend_from_slice(b":{");
    name.extend_from_slice(key.as_bytes());
    name.extend_from_slice(b"}");
}

/// Nanoseconds as microseconds with three decimals.
fn micros(out: &mut BytesMut, nanos: u64) {
    let (whole, rest) = (nanos / 1000, nanos % 1000);
    if rest == 0 {
        resp::number(out, whole);
    } else {
        resp::part(out, format!("{whole}.{rest:03}").as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(is_of_key: bool, per_secs: u64) -> Window {
        Window {
            is_of_key,
            per: Duration::from_secs(per_secs),
            shape: Shape {
                unit_ns: 333_333_333,
                burst: 20,
            },
            known: Duration::from_micros(7),
        }
    }

    #[test]
    fn the_store_is_told_names_of_tenant_and_key_and_windows_and_nothing_else() {
        let ask = Ask {
            prefix: "alloy-gateway",
            key: "production",
            tenant: "billing",
            windows: &[window(false, 1), window(true, 60)],
        };
        let mut out = BytesMut::new();
        ask.write(&mut out, false);
        let text = String::from_utf8(out.to_vec()).unwrap();
        let parts: Vec<_> = text
            .split("\r\n")
            .filter(|part| !part.starts_with(['$', '*']))
            .collect();
        assert_eq!(parts[0], "EVALSHA");
        assert_eq!(parts[1].len(), 40);
        assert_eq!(
            parts[2..],
            [
                "2",
                "alloy-gateway:{production}:tenant:billing:1000",
                "alloy-gateway:{production}:key:60000",
                "333333.333",
                "20",
                "7",
                "333333.333",
                "20",
                "7",
                "",
            ]
        );
        assert!(text.starts_with("*11\r\n"));
    }

    #[test]
    fn an_answer_is_read_and_anything_else_is_none() {
        let list =
            |numbers: &[i64]| Reply::List(numbers.iter().map(|n| Reply::Number(*n)).collect());
        let taken = Answer::read(&list(&[0, 0, 5, 6]), 2).unwrap();
        assert_eq!(taken.refused, None);
        assert_eq!(
            taken.spent,
            [Duration::from_micros(5), Duration::from_micros(6)]
        );
        let refused = Answer::read(&list(&[2, 9, 5, 6]), 2).unwrap();
        assert_eq!(refused.refused, Some((1, Duration::from_micros(9))));
        for bad in [
            list(&[]),
            list(&[0, 0, 5]),
            list(&[3, 9, 5, 6]),
            list(&[0, 0, -1, 5]),
            Reply::Nothing,
        ] {
            assert_eq!(Answer::read(&bad, 2), None, "{bad:?}");
        }
    }
}
