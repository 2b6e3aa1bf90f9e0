//! Bugs in the log.

use std::panic::{self, PanicHookInfo};

/// From now on a panic is a line like any other. What it says is left out unless
/// it stands in the source: what was put together at run time may hold anything.
pub fn report() {
    panic::set_hook(Box::new(|info: &PanicHookInfo<'_>| {
        let location = info.location().map(ToString::to_string);
        let what = info.payload().downcast_ref::<&'static str>().copied();
        tracing::error!(
            location = location.unwrap_or_default(),
            what = what.unwrap_or("not shown"),
            "a bug: please report it with this line"
        );
    }));
}
