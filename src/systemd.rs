//! What systemd is told (`sd_notify(3)`): ready, reloading, stopping, alive.
//! Without systemd these do nothing.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use sd_notify::NotifyState;

use crate::server::Shared;

/// Whether the end was told: a config that is loaded meanwhile must not take it back.
static STOPPING: Mutex<bool> = Mutex::new(false);

/// Calls are taken, with this config.
pub fn ready(summary: &str) {
    tell_unless_stopping(&[NotifyState::Ready, NotifyState::Status(summary)]);
}

/// Another config is being loaded; [`ready`] follows, whatever came of it.
pub fn reloading() {
    tell_unless_stopping(&[NotifyState::Reloading]);
}

/// The end has begun. Nothing is told after it but that we are alive.
pub fn stopping() {
    let mut stopping = STOPPING.lock().unwrap_or_else(PoisonError::into_inner);
    *stopping = true;
    tell(&[NotifyState::Stopping, NotifyState::Status("draining")]);
}

fn tell_unless_stopping(state: &[NotifyState<'_>]) {
    let stopping = STOPPING.lock().unwrap_or_else(PoisonError::into_inner);
    if !*stopping {
        tell(state);
    }
}

/// Tells systemd that the gateway is alive, as often as the unit asks for
/// (`WatchdogSec=`) and while every worker is. Ends at once if it does not ask.
pub async fn keep_watchdog(shared: Arc<Shared>) {
    let Some(span) = sd_notify::watchdog_enabled() else {
        return;
    };
    // Half of it, as sd_watchdog_enabled(3) advises: not more wakes than needed.
    let every = (span / 2).max(Duration::from_millis(10));
    loop {
        match shared.stuck_worker() {
            None => tell(&[NotifyState::Watchdog]),
            Some(worker) => tracing::error!(
                worker,
                "a worker is stuck or gone: systemd is told nothing more, so that its watchdog restarts the process"
            ),
        }
        tokio::time::sleep(every).await;
    }
}

fn tell(state: &[NotifyState<'_>]) {
    // One that does not listen can't be told so either.
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "systemd can't be told");
    }
}
