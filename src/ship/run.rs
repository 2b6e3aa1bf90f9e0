//! The thread's work: connect, ask where the database stands, and write what is behind
//! that, for as long as it goes well; then again, after a pause.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use tokio_postgres::Client;
use uuid::Uuid;

use super::{
    State,
    cursor::{self, Anew, Cursor},
    database::{Database, in_time},
    fault::{Failure, Reason},
    host_name, schema, write,
};
use crate::{
    audit::{Tail, Trail},
    config::settings::Ship,
    ids::random,
    named_file,
};

/// How long records wait for others.
const GATHER: Duration = Duration::from_millis(250);
/// How often the database hears of a gateway that has nothing to say.
const SEEN_EVERY: Duration = Duration::from_secs(60);
/// The pause after the first failure; doubled for each further one, and jittered.
const BACK_OFF: Duration = Duration::from_millis(500);
/// Doublings of the pause at most: 16 s.
const DOUBLINGS_MAX: u32 = 5;

/// What the thread works with.
pub struct Work {
    trail: Trail,
    settings: Ship,
    gateway: String,
    state: Arc<State>,
    closing: watch::Receiver<bool>,
    has_told_faults: bool,
}

/// How a time with a working database ended.
enum Ended {
    /// All is written, and it is to end.
    Closing,
    /// Somebody else wrote, or the database seems to stand elsewhere: ask anew. If that
    /// does not help, this is why.
    Moved(Failure),
}

impl Work {
    pub fn new(
        trail: Trail,
        settings: Ship,
        state: Arc<State>,
        closing: watch::Receiver<bool>,
    ) -> Self {
        Self {
            gateway: settings.gateway.clone().unwrap_or_else(host_name),
            trail,
            settings,
            state,
            closing,
            has_told_faults: false,
        }
    }

    /// Until it is told to end.
    pub async fn run(mut self) {
        let state = Arc::clone(&self.state);
        let _guard = Guard(&state);
        let (mut failures, mut has_moved) = (0, false);
        while !*self.closing.borrow() {
            let before = self.state.records();
            let ended = self.session().await;
            // Whoever wrote something begins with short pauses again.
            let has_worked = self.state.records() > before;
            failures = if has_worked { 1 } else { failures + 1 };
            // Once it may be so; again, without a record in between, it will stay so.
            has_moved = match ended {
                Ok(Ended::Closing) => return,
                Ok(Ended::Moved(_)) if has_worked || !has_moved => true,
                Ok(Ended::Moved(failure)) | Err(failure) => {
                    let stays = has_moved && !has_worked;
                    self.state.failed(&failure);
                    stays
                }
            };
            tokio::select! {
                () = sleep(back_off(failures)) => {}
                _ = self.closing.wait_for(|closing| *closing) => {}
            }
        }
    }

    fn say_it_works(&self, unsaid: &mut Option<u64>, database: &Database) {
        if let Some(missing) = unsaid.take() {
            self.state.works(database.shown(), missing);
        }
    }

    /// Where it is: read anew, since passwords are changed. As while a reload reads, a
    /// pipe is refused: whoever writes into it may never come.
    fn database(&self) -> Result<Database, Failure> {
        let (database, _) = named_file::while_running(|| super::way::database(&self.settings));
        database
            .map(Database::for_writing)
            .map_err(|problem| Failure::new(Reason::Config, problem.to_string()))
    }

    /// One connection, as long as it is good.
    async fn session(&mut self) -> Result<Ended, Failure> {
        let database = self.database()?;
        let mut connected = database.connect().await?;
        match self.ship(&mut connected.client, &database).await {
            // A table went away meanwhile: what that is, and what to do, is told of all.
            Err(failure) if failure.reason == Reason::Schema => {
                in_time(schema::check(&mut connected.client)).await?;
                Err(failure)
            }
            ended => ended,
        }
    }

    /// Writes what is behind where the database stands, for as long as that goes well.
    async fn ship(&mut self, client: &mut Client, database: &Database) -> Result<Ended, Failure> {
        in_time(schema::check(client)).await?;
        let head = self.trail.status().head;
        let Some(chain) = self.state.collected().chain() else {
            return Err(Failure::new(Reason::Trail, "the trail carries no id"));
        };
        let directory = self.trail.directory().to_owned();
        let mut cursor = cursor::find(client, &directory, chain, &head).await?;
        let mut tail = Tail::behind(&directory, cursor.last).map_err(unreadable)?;
        self.state.wrote(0, cursor.last.seq);
        let missing = head.seq.saturating_sub(cursor.last.seq);
        // That it can be reached says nothing of whether it takes records.
        let mut unsaid = Some(missing);
        let mut seen = Instant::now();
        loop {
            // Asked first: what is there afterwards is not taken back any more.
            let closing = *self.closing.borrow();
            let (head, now) = (self.trail.status().head, std::time::Instant::now());
            // Mostly there is nothing, and nothing to look for.
            while cursor.last.seq < head.seq {
                let batch = tail.read(&head).map_err(unreadable)?;
                self.tell_faults(batch.faults);
                let Some(last) = batch.last else { break };
                let written = write::write(client, &mut cursor, &self.gateway, &batch);
                if !in_time(written).await? {
                    return Ok(Ended::Moved(moved(&cursor)));
                }
                self.state.wrote(batch.lines.len(), last.seq);
                self.say_it_works(&mut unsaid, database);
                if let Some(anew) = cursor.anew.take() {
                    self.tell_anew(anew, &cursor.chain);
                }
                seen = Instant::now();
            }
            self.say_it_works(&mut unsaid, database);
            if cursor.last.seq >= head.seq {
                self.state.whole(now);
            }
            if closing {
                return Ok(Ended::Closing);
            }
            if seen.elapsed() >= SEEN_EVERY {
                in_time(write::seen(client, &cursor, &self.gateway)).await?;
                seen = Instant::now();
            }
            tokio::select! {
                () = sleep(GATHER) => {}
                _ = self.closing.wait_for(|closing| *closing) => {}
            }
            if client.is_closed() {
                return Err(Failure::new(
                    Reason::Lost,
                    "the database closed the connection",
                ));
            }
        }
    }

    /// Why a chain begins that is there from now on.
    fn tell_anew(&self, anew: Anew, chain: &Uuid) {
        match anew {
            Anew::Diverged { behind } => {
                self.state.count(Reason::Diverged, 1);
                tracing::error!(
                    %chain,
                    behind,
                    "the database has records of this trail that are not in it: it was set back or copied. What differs is collected as a chain of its own; if nobody did that, treat it as an incident"
                );
            }
            Anew::Removed { ended, from, until } => {
                self.state.count(Reason::Removed, 1);
                tracing::error!(
                    %chain,
                    %ended,
                    from,
                    until,
                    "records were removed from the trail before the database had them. What is left is collected as a chain of its own; if audit.ship was not off, nor the database restored from a backup, treat it as an incident"
                );
            }
        }
    }

    fn tell_faults(&mut self, faults: u64) {
        if faults == 0 {
            return;
        }
        self.state.count(Reason::Trail, faults);
        if !self.has_told_faults {
            self.has_told_faults = true;
            tracing::error!(
                "lines of the trail are missing or can't be read, and are not collected: see alloy-gateway audit verify, and treat it as an incident"
            );
        }
    }
}

/// Why a record does not get behind where the database said that it stands.
fn moved(cursor: &Cursor) -> Failure {
    let chain = cursor.chain;
    if cursor.is_new {
        return Failure::new(
            Reason::Conflict,
            format!(
                "alloy_gateway.chain takes no row for chain {chain} of this trail: it has one that says it is of another trail, so somebody changed its origin, or put it there, and it is to be treated as an incident; or a trigger or a rule keeps rows out"
            ),
        );
    }
    Failure::new(
        Reason::Refused,
        format!(
            "the database takes the change of this trail's row in alloy_gateway.chain (chain {chain}), and changes nothing: a policy (row level security), a trigger or a rule keeps it as it is, or another program writes it"
        ),
    )
}

/// However the thread ends, the metrics must not say that it works.
struct Guard<'a>(&'a State);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.0.ended();
    }
}

/// Between half and one and a half times the pause, so that gateways that failed
/// together do not come back together.
fn back_off(failures: u32) -> Duration {
    let span = BACK_OFF * 2_u32.saturating_pow(failures.saturating_sub(1).min(DOUBLINGS_MAX));
    let [random] = random::<1>();
    span / 2 + span * u32::from(random) / 256
}

fn unreadable(error: std::io::Error) -> Failure {
    Failure::new(Reason::Trail, format!("the trail cannot be read: {error}"))
}
