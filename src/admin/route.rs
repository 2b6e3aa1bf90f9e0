//! The paths of the admin listener, and the methods that each takes.

use http::Method;

/// What a path leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route<'a> {
    /// Something to see.
    Page(Page),
    /// The log level, which can be seen and changed.
    Level,
    /// Something to change.
    Change(Change<'a>),
}

/// What there is to see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Page {
    Liveness,
    Readiness,
    Metrics,
    Version,
    Status,
    StatusJson,
    Config,
}

/// What an operator changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change<'a> {
    Reload,
    Drain,
    Freeze,
    Thaw,
    /// To the next key of this name.
    RotateKey(&'a str),
}

impl<'a> Route<'a> {
    /// Where a path leads, if it is one.
    pub fn of(path: &'a str) -> Option<Self> {
        Some(match path {
            "/livez" | "/healthz" => Self::Page(Page::Liveness),
            "/readyz" => Self::Page(Page::Readiness),
            "/metrics" => Self::Page(Page::Metrics),
            "/version" => Self::Page(Page::Version),
            "/status" => Self::Page(Page::Status),
            "/status.json" => Self::Page(Page::StatusJson),
            "/config" => Self::Page(Page::Config),
            "/log-level" => Self::Level,
            "/-/reload" => Self::Change(Change::Reload),
            "/-/drain" => Self::Change(Change::Drain),
            "/-/freeze" => Self::Change(Change::Freeze),
            "/-/thaw" => Self::Change(Change::Thaw),
            _ => Self::Change(Change::RotateKey(path.strip_prefix("/-/rotate-key/")?)),
        })
    }

    /// The methods that it takes, as `Allow` says them.
    pub fn methods(self) -> &'static str {
        match self {
            Self::Page(_) => "GET, HEAD",
            Self::Level => "GET, HEAD, PUT",
            Self::Change(_) => "POST",
        }
    }

    /// Whether it takes this method.
    pub fn takes(self, method: &Method) -> bool {
        self.methods()
            .split(", ")
            .any(|taken| taken == method.as_str())
    }
}
