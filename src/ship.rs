//! The collected trail: what the gateway's own trail says, written to a database that
//! speaks PostgreSQL's protocol, where the trails of many gateways can be asked at once.
//!
//! The trail on disk stays the one that counts. A thread of its own reads what the
//! trail's writer acknowledged and writes it there, batch by batch; no call ever waits
//! for it. Where it goes on is asked of the database, so nothing is kept here, and a
//! batch whose end was not heard is not written twice.

mod ask;
mod columns;
mod cursor;
mod database;
mod fault;
mod run;
mod schema;
mod state;
mod stream;
mod verify;
mod way;
mod write;

use std::{io, sync::Arc, thread, time::Duration};

use tokio::sync::watch;

pub use self::{
    ask::{Asked, ask},
    database::{Connected, Database},
    fault::{Failure, Reason},
    schema::{Migrated, VERSION as SCHEMA_VERSION, migrate, sql as schema_sql},
    state::State,
    verify::{ChainReport, verify},
    way::{check, database},
};
use crate::{audit::Trail, background, config::settings::Ship};

/// How long the end waits for the last records.
const CLOSE_WAIT: Duration = Duration::from_secs(3);

/// The running thread. It has to be told to end.
#[derive(Debug)]
pub struct Shipper {
    closing: watch::Sender<bool>,
    thread: thread::JoinHandle<()>,
}

impl Shipper {
    /// Starts writing what is in `trail`, which must have been opened for that.
    ///
    /// # Errors
    ///
    /// If the system gives no thread.
    pub fn start(trail: &Trail, settings: &Ship, state: &Arc<State>) -> io::Result<Self> {
        let (closing, closes) = watch::channel(false);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let work = run::Work::new(trail.clone(), settings.clone(), Arc::clone(state), closes);
        let thread = thread::Builder::new()
            .name("ship".to_owned())
            .spawn(move || {
                // What waited for days must not take the processor from calls.
                background::stand_behind();
                runtime.block_on(work.run());
            })?;
        Ok(Self { closing, thread })
    }

    /// Writes what is left, as far as that takes no longer than `CLOSE_WAIT`; the next
    /// start goes on with what is not there by then.
    pub async fn close(self) {
        self.closing.send_replace(true);
        let end = tokio::time::Instant::now() + CLOSE_WAIT;
        while !self.thread.is_finished() && tokio::time::Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// What people call the gateway if the config does not say it. Asked of the kernel:
/// systemd's `ProcSubset=pid` hides the file that has it.
pub fn host_name() -> String {
    let system = rustix::system::uname();
    match system.nodename().to_string_lossy() {
        name if name.is_empty() => "unknown".to_owned(),
        name => name.into_owned(),
    }
}
