//! The paths of the admin listener, and the methods that each takes.

use http::Method;

use crate::closed_list::closed_list;

/// Another path of [`Page::Liveness`].
const HEALTHZ: &str = "/healthz";
/// The path of the log level.
const LOG_LEVEL: &str = "/log-level";
/// Behind it stands the name of a key.
const ROTATE_KEY: &str = "/-/rotate-key/";
/// What the path is called whose name is no key's.
const ROTATE_ANY: &str = "/-/rotate-key/{name}";

/// What a path leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route<'a> {
    /// Something to see.
    Page(Page),
    /// The log level, which can be seen and changed.
    Level,
    /// Something to change.
    Change(Change),
    /// A key of this name to move on from, to its next one.
    RotateKey(&'a str),
}

closed_list! {
    /// What there is to see, by its path.
    pub enum Page {
        Liveness => "/livez",
        Readiness => "/readyz",
        Metrics => "/metrics",
        Status => "/status",
        StatusJson => "/status.json",
        Version => "/version",
        Config => "/config",
    }
}

closed_list! {
    /// What an operator changes, by its path.
    pub enum Change {
        Reload => "/-/reload",
        Drain => "/-/drain",
        Freeze => "/-/freeze",
        Thaw => "/-/thaw",
    }
}

impl<'a> Route<'a> {
    /// Where a path leads, if it is one.
    pub fn of(path: &'a str) -> Option<Self> {
        if let Some(page) = Page::ALL.into_iter().find(|page| page.as_str() == path) {
            return Some(Self::Page(page));
        }
        let mut changes = Change::ALL.into_iter();
        if let Some(change) = changes.find(|change| change.as_str() == path) {
            return Some(Self::Change(change));
        }
        match path {
            HEALTHZ => Some(Self::Page(Page::Liveness)),
            LOG_LEVEL => Some(Self::Level),
            _ => path.strip_prefix(ROTATE_KEY).map(Self::RotateKey),
        }
    }

    /// What a path that leads somewhere is called in log and trail: as it is, if all that
    /// stands in it is known. In place of a key's name somebody may have put the key itself.
    pub fn told(path: &'a str, is_key: impl FnOnce(&str) -> bool) -> &'a str {
        match Self::of(path) {
            Some(Self::RotateKey(name)) if !is_key(name) => ROTATE_ANY,
            Some(_) => path,
            None => "",
        }
    }

    /// The methods that it takes, as `Allow` says them.
    pub fn methods(self) -> &'static str {
        match self {
            Self::Page(_) => "GET, HEAD",
            Self::Level => "GET, HEAD, PUT",
            Self::Change(_) | Self::RotateKey(_) => "POST",
        }
    }

    /// Whether it takes this method.
    pub fn takes(self, method: &Method) -> bool {
        self.methods()
            .split(", ")
            .any(|taken| taken == method.as_str())
    }
}

impl Page {
    /// Whether only an operator sees it.
    pub fn is_for_operators(self) -> bool {
        match self {
            Self::Config => true,
            Self::Liveness
            | Self::Readiness
            | Self::Metrics
            | Self::Status
            | Self::StatusJson
            | Self::Version => false,
        }
    }
}

/// What there is, for those who look elsewhere: a line.
pub fn all() -> String {
    let pages = |for_operators| {
        let pages = Page::ALL.into_iter();
        let pages = pages.filter(move |page| page.is_for_operators() == for_operators);
        pages.map(Page::as_str).collect::<Vec<_>>().join(" ")
    };
    let (open, closed) = (pages(false), pages(true));
    let changes = Change::ALL.map(Change::as_str).join(", ");
    format!(
        "here are {open} {HEALTHZ} {LOG_LEVEL}, and for admin.socket or admin.token {closed}, PUT {LOG_LEVEL}, POST {changes} and {ROTATE_KEY}NAME\n"
    )
}
