//! Freezes of a whole fleet: what one gateway freezes, all do.
//!
//! Each gateway looks at the register in the store some times a second, takes over
//! what others froze or thawed, and enters what is missing. An entry that is missing
//! never thaws: a store that was restarted empty gets all freezes back from those
//! who hold them. Of two freezes of one tenant the later one stands, everywhere. An
//! end names the freeze that it ends: one that a gateway made by itself meanwhile
//! stands, and is told to the others. While the store does not answer, what is known
//! holds.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        self, Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use tokio::{
    sync::{MutexGuard, Notify},
    time::{sleep, timeout},
};

use super::{
    Containment, Freeze, Scope,
    register::{Entry, Register},
};
use crate::{
    audit::Trail,
    config::settings::FreezeAfter,
    fleet::{Client, Counted, Trouble},
};

/// How often the register is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How long a start waits for the register, and how often it tries.
const FIRST_LOOK_MAX: Duration = Duration::from_secs(1);
const FIRST_LOOK_EVERY: Duration = Duration::from_millis(20);
/// Deletions that may wait to be counted in the store; older ones are left out.
const UNCOUNTED_MAX: usize = 4096;
/// What stands behind whoever froze or thawed elsewhere.
const ELSEWHERE: &str = ", through the store";

/// What a gateway of a fleet knows of the others' freezes.
#[derive(Debug)]
pub struct FleetFreezes {
    register: Register,
    /// Something was frozen here: the others are to be told at once.
    changed: Notify,
    /// One look at a time, and none while an operator's thaw is told. Whoever has it waits
    /// for the store at most, never for the disk: that may hang, and the store answer.
    turn: tokio::sync::Mutex<()>,
    /// When the register was looked at last, in ms since 1970.
    looked_at_ms: AtomicU64,
    uncounted: Mutex<VecDeque<Deletion>>,
    deleted: Notify,
}

/// What the others' freezes are taken over into.
#[derive(Debug, Clone)]
struct Here {
    /// Until the gateway ends.
    containment: Weak<Containment>,
    trail: Trail,
}

/// A deletion that is to be counted over the fleet.
#[derive(Debug, Clone)]
struct Deletion {
    tenant: Arc<str>,
    credential: u128,
    budget: FreezeAfter,
    at: Instant,
}

impl FleetFreezes {
    /// Freezes here what is frozen in the fleet, before any call is taken. A store that
    /// does not answer holds up a start for a second.
    pub async fn hear_first(containment: &Containment, trail: &Trail, client: &Arc<Client>) {
        let register = Register::new(client);
        let reading = async {
            loop {
                match register.read().await {
                    // The connection may just be being opened.
                    Err(Trouble::Connect) => sleep(FIRST_LOOK_EVERY).await,
                    read => return read,
                }
            }
        };
        let read = timeout(FIRST_LOOK_MAX, reading).await;
        let entries = match read.unwrap_or(Err(Trouble::Timeout)) {
            Ok(entries) => entries,
            Err(trouble) => {
                tracing::warn!(
                    reason = trouble.as_str(),
                    "what the fleet froze could not be read from the limits store at the start: {trouble}. Calls are taken, and it is heard as soon as it can be"
                );
                return;
            }
        };
        for entry in entries.iter().filter(|entry| entry.stands) {
            take_over(trail, containment, entry);
        }
    }

    /// Joins, within the runtime that this is called in, for as long as `containment` lives.
    pub fn join(containment: &Arc<Containment>, trail: &Trail, client: &Arc<Client>) {
        let fleet = Arc::new(Self {
            register: Register::new(client),
            changed: Notify::new(),
            turn: tokio::sync::Mutex::default(),
            looked_at_ms: AtomicU64::new(0),
            uncounted: Mutex::default(),
            deleted: Notify::new(),
        });
        if containment.fleet.set(Arc::clone(&fleet)).is_ok() {
            let here = Here {
                containment: Arc::downgrade(containment),
                trail: trail.clone(),
            };
            tokio::spawn(Arc::clone(&fleet).follow(here.clone()));
            tokio::spawn(fleet.count_all(here));
        }
    }

    /// When the register was looked at last, in seconds since 1970; 0 if never.
    #[expect(clippy::cast_precision_loss, reason = "exact for ages to come")]
    pub fn looked_at(&self) -> f64 {
        self.looked_at_ms.load(Ordering::Relaxed) as f64 / 1e3
    }

    /// Lets nobody else look or thaw until it is dropped: before anything waits for the
    /// disk, or freezes were neither told nor heard for as long as that hangs.
    pub async fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    /// Tells the others of what is frozen here, and hears of what they froze.
    async fn tell(&self, containment: &Arc<Containment>, trail: &Trail) -> Result<(), Trouble> {
        let _turn = self.turn().await;
        self.look(containment, trail).await
    }

    /// Tells the others of a freeze that an operator made here: it takes the place of
    /// one that stands, as it does here.
    ///
    /// # Errors
    ///
    /// If the store does not answer: they are told when it does.
    pub async fn freeze(
        &self,
        containment: &Arc<Containment>,
        trail: &Trail,
        scope: Scope<'_>,
        freeze: &Freeze,
    ) -> Result<(), Trouble> {
        let _turn = self.turn().await;
        // Unless it was thawed until the turn came, or another stands by then.
        let standing = containment.standing(scope);
        if standing.is_some_and(|standing| standing.id == freeze.id) {
            self.register.enter(scope, freeze, true).await?;
        }
        self.look(containment, trail).await
    }

    /// Enters that a freeze ended; `end` says who did it and why. Then each gateway
    /// ends it by itself.
    ///
    /// # Errors
    ///
    /// If the store does not answer: it would be frozen again by the others.
    pub async fn end(&self, scope: Scope<'_>, end: &Freeze) -> Result<(), Trouble> {
        self.register.end(scope, end).await
    }

    /// Something was frozen here.
    pub(super) fn changed(&self) {
        self.changed.notify_one();
    }

    /// Something was deleted here, which is to be counted over the fleet: beside the
    /// call, which does not wait for it.
    pub(super) fn deleted(&self, tenant: &Arc<str>, credential: u128, budget: FreezeAfter) {
        let mut uncounted = self.uncounted();
        if uncounted.len() >= UNCOUNTED_MAX {
            uncounted.pop_front();
        }
        uncounted.push_back(Deletion {
            tenant: Arc::clone(tenant),
            credential,
            budget,
            at: Instant::now(),
        });
        self.deleted.notify_one();
    }

    async fn follow(self: Arc<Self>, here: Here) {
        loop {
            let Some(containment) = here.containment.upgrade() else {
                return;
            };
            let looked = self.tell(&containment, &here.trail).await;
            self.register.store().board().freezes_looked_at(looked);
            drop(containment);
            // Woken or not, it is time.
            let _ = timeout(LOOK_EVERY, self.changed.notified()).await;
        }
    }

    async fn look(&self, containment: &Arc<Containment>, trail: &Trail) -> Result<(), Trouble> {
        let entries = self.register.read().await?;
        for entry in &entries {
            let here = containment.standing(entry.scope());
            if entry.stands {
                take_over(trail, containment, entry);
            } else if here.is_some_and(|here| here.id == entry.freeze.id) {
                end_here(trail, containment, entry);
            }
        }
        let known: HashMap<_, _> = entries.iter().map(|it| (&it.tenant, it)).collect();
        for (tenant, freeze) in containment.all_standing() {
            // One that ended and could not be ended here yet is no news.
            let is_news = known.get(&tenant).is_none_or(|entry| {
                let is_another = entry.freeze.id != freeze.id;
                is_another && (!entry.stands || is_later(&freeze, &entry.freeze))
            });
            let scope = tenant.as_deref().map_or(Scope::All, Scope::Tenant);
            // The store may have taken its time with the one before, and a thaw may be on
            // its way, also where the store came back empty.
            if is_news && containment.stays(scope, &freeze.id) {
                self.register
                    .enter(scope, &first_hand(freeze), true)
                    .await?;
            }
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = u64::try_from(now.unwrap_or_default().as_millis()).unwrap_or(u64::MAX);
        self.looked_at_ms.store(now, Ordering::Relaxed);
        Ok(())
    }

    /// Counts deletions in the store, one after another; what it does not answer to
    /// waits.
    async fn count_all(self: Arc<Self>, here: Here) {
        loop {
            let _ = timeout(LOOK_EVERY, self.deleted.notified()).await;
            let Some(containment) = here.containment.upgrade() else {
                return;
            };
            loop {
                let Some(deletion) = self.uncounted().pop_front() else {
                    break;
                };
                let ago = deletion.at.elapsed();
                let board = self.register.store().board();
                // While the store counts none, whether it does again has to be asked.
                let is_old = ago >= deletion.budget.per;
                if is_old && !board.is_to_be_counted_again(Counted::Deletions) {
                    continue;
                }
                let count = match self.count(&deletion, ago).await {
                    Ok(count) => count,
                    Err(trouble) => {
                        board.not_counted(Counted::Deletions, trouble);
                        self.uncounted().push_front(deletion);
                        break;
                    }
                };
                board.counted(Counted::Deletions);
                if !is_old && count >= u64::from(deletion.budget.deletions.get()) {
                    freeze_spent(&containment, &here.trail, &deletion);
                }
            }
        }
    }

    async fn count(&self, deletion: &Deletion, ago: Duration) -> Result<u64, Trouble> {
        let Deletion {
            tenant,
            credential,
            budget,
            ..
        } = deletion;
        let counted = self.register.count(tenant, *credential, ago, budget.per);
        counted.await
    }

    fn uncounted(&self) -> sync::MutexGuard<'_, VecDeque<Deletion>> {
        locked(&self.uncounted)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn freeze_spent(containment: &Containment, trail: &Trail, deletion: &Deletion) {
    // Also if it is not in the config just now: it may be put back.
    containment.freeze_spent(&deletion.tenant, deletion.budget, |record| {
        drop(trail.frozen(&record));
    });
}

/// Whether a freeze was made after another, as their ids say (UUID version 7, RFC 9562
/// §5.7): gateways whose clocks differ all take the same one. See [`Freeze::after`] for
/// one that is made knowing the other.
fn is_later(freeze: &Freeze, other: &Freeze) -> bool {
    freeze.id > other.id
}

/// Freezes here what is frozen elsewhere, unless it is, or a later freeze stands here.
fn take_over(trail: &Trail, containment: &Containment, entry: &Entry) {
    let here = containment.standing(entry.scope());
    if here.is_some_and(|here| !is_later(&entry.freeze, &here)) {
        return;
    }
    let freeze = elsewhere(&entry.freeze);
    containment.freeze(entry.scope(), freeze, |record| drop(trail.frozen(&record)));
}

/// Ends here what was ended elsewhere, once that is in the trail. The look does not
/// wait for it.
fn end_here(trail: &Trail, containment: &Arc<Containment>, entry: &Entry) {
    let Some(ending) = containment.begin_ending(&entry.freeze.id) else {
        return;
    };
    // Frozen again, or the trail can't be written: the next look sees to it.
    let _ = ending.carry_out(containment, trail, entry.scope(), elsewhere(&entry.freeze));
}

/// A freeze, or the end of one, as those are told of it who did not make it.
fn elsewhere(freeze: &Freeze) -> Freeze {
    Freeze {
        by: format!("{}{ELSEWHERE}", freeze.by).into(),
        ..freeze.clone()
    }
}

/// A freeze as whoever made it named themselves.
fn first_hand(mut freeze: Freeze) -> Freeze {
    if let Some(by) = freeze.by.strip_suffix(ELSEWHERE) {
        freeze.by = by.into();
    }
    freeze
}
