//! Whom to ask: the one store, or the node of a cluster that has the key.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::BytesMut;
use tokio::{
    sync::Notify,
    task::AbortHandle,
    time::{Instant, sleep_until, timeout},
};

use super::{
    Store,
    address::Address,
    connect::{Role, is_moved, is_of_rights, once},
    link::Link,
    resp::Reply,
    script::{Answer, Ask},
    slots::{self, Range, slot},
    trouble::Trouble,
};

/// How often the map of a cluster is read without a reason to.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// The least time between two readings, whatever goes wrong.
const LOOK_PAUSE: Duration = Duration::from_millis(100);
/// How long one node may take to show the map.
const LOOK_MAX: Duration = Duration::from_millis(250);
/// More nodes than a cluster has: what is above is not looked at.
const NODES_MAX: usize = 1000;

/// The way of one thread to the store. Ends when dropped.
#[derive(Debug)]
pub struct Client {
    store: Arc<Store>,
    nodes: Nodes,
}

#[derive(Debug)]
enum Nodes {
    One(Arc<Link>),
    Many(Arc<Cluster>, AbortHandle),
}

#[derive(Debug)]
struct Cluster {
    role: Role,
    map: Mutex<Arc<Map>>,
    /// A slot that was asked for, and that no node has.
    lacking: Mutex<Option<u16>>,
    /// Something went wrong that another map may mend.
    is_stale: Arc<Notify>,
}

/// Which node has which slots.
#[derive(Debug, Default)]
struct Map {
    ranges: Vec<(Range, Arc<Link>)>,
}

impl Client {
    /// Begins to connect, within the runtime that will ask.
    pub fn start(store: &Arc<Store>, role: Role) -> Self {
        let nodes = if store.way.is_cluster {
            let cluster = Arc::new(Cluster {
                role,
                map: Mutex::default(),
                lacking: Mutex::default(),
                is_stale: Arc::default(),
            });
            let keeping = keep_map(Arc::clone(store), Arc::clone(&cluster));
            Nodes::Many(cluster, tokio::spawn(keeping).abort_handle())
        } else {
            let (address, probe) = (
                store.way.url.address.clone(),
                format!("{}:probe", store.way.prefix),
            );
            Nodes::One(Arc::new(Link::start(store, role, address, probe, None)))
        };
        Self {
            store: Arc::clone(store),
            nodes,
        }
    }

    /// The store.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Takes one unit of every window, or nothing, within `limits_store.timeout`; in
    /// twice that time if the store has forgotten the script.
    ///
    /// # Errors
    ///
    /// If the store does not decide; then it may have taken the units all the same.
    pub async fn take(&self, ask: &Ask<'_>) -> Result<Answer, Trouble> {
        let link = self.link(slot(ask.key.as_bytes()))?;
        let began = Instant::now();
        let span = self.store.way.timeout;
        let mut reply = link.ask(span, |out| ask.write(out, false)).await?;
        if reply.error_kind() == Some("NOSCRIPT") {
            reply = link.ask(span, |out| ask.write(out, true)).await?;
        }
        let reply = self.sound(&link, reply)?;
        let Some(answer) = Answer::read(&reply, ask.windows.len()) else {
            link.fail(Trouble::Error, None);
            return Err(Trouble::Error);
        };
        link.decided();
        self.store.board.took(began.elapsed());
        Ok(answer)
    }

    /// Asks anything about one key, to be answered within `span`. `write` may be
    /// called twice: with `true` it is to send scripts as text.
    ///
    /// # Errors
    ///
    /// If there is no good answer.
    pub async fn ask(
        &self,
        key: &[u8],
        span: Duration,
        write: impl Fn(&mut BytesMut, bool),
    ) -> Result<Reply, Trouble> {
        let link = self.link(slot(key))?;
        let mut reply = link.ask(span, |out| write(out, false)).await?;
        if reply.error_kind() == Some("NOSCRIPT") {
            reply = link.ask(span, |out| write(out, true)).await?;
        }
        self.sound(&link, reply)
    }

    fn link(&self, slot: u16) -> Result<Arc<Link>, Trouble> {
        match &self.nodes {
            Nodes::One(link) => Ok(Arc::clone(link)),
            Nodes::Many(cluster, _) => cluster.link(&self.store, slot),
        }
    }

    /// An answer that is no error. One that is would be the next call's as well: the
    /// connection is given up, and comes back when a try succeeds.
    fn sound(&self, link: &Link, reply: Reply) -> Result<Reply, Trouble> {
        let Reply::Error(text) = &reply else {
            return Ok(reply);
        };
        match &self.nodes {
            Nodes::Many(cluster, _) if is_moved(text) => {
                self.store.board.count(Trouble::Moved);
                // While a slot is being moved the map stays as it is, and each call would
                // have it read anew.
                if reply.error_kind() == Some("MOVED") {
                    cluster.is_stale.notify_one();
                }
                Err(Trouble::Moved)
            }
            // What else goes over the connection may be allowed, and must not fail for it.
            _ if link.role() == Role::Beside && is_of_rights(text) => {
                link.refused(text);
                Err(Trouble::Error)
            }
            _ => {
                link.fail(Trouble::Error, Some(text));
                Err(Trouble::Error)
            }
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if let Nodes::Many(cluster, keeping) = &self.nodes {
            keeping.abort();
            if cluster.lacking().take().is_some() {
                self.store.board.dropped(false);
            }
        }
    }
}

impl Map {
    fn link(&self, slot: u16) -> Option<Arc<Link>> {
        let mut ranges = self.ranges.iter();
        let found = ranges.find(|(range, _)| (range.first..=range.last).contains(&slot));
        found.map(|(_, link)| Arc::clone(link))
    }

    /// Every node that may know the map, those in use first.
    fn nodes(&self, seed: &Address) -> Vec<Address> {
        let masters = self.ranges.iter().map(|(range, _)| &range.master);
        let replicas = self.ranges.iter().flat_map(|(range, _)| &range.replicas);
        let mut nodes: Vec<Address> = Vec::new();
        for node in masters.chain(replicas).chain([seed]).take(NODES_MAX) {
            if !nodes.contains(node) {
                nodes.push(node.clone());
            }
        }
        nodes
    }
}

impl Cluster {
    fn map(&self) -> Arc<Map> {
        Arc::clone(&self.map.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn lacking(&self) -> MutexGuard<'_, Option<u16>> {
        self.lacking.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn link(&self, store: &Store, slot: u16) -> Result<Arc<Link>, Trouble> {
        let map = self.map();
        let link = map.link(slot);
        // Before the first map nothing is known of any slot.
        if link.is_none() && !map.ranges.is_empty() {
            self.lacks(store, slot);
        }
        link.ok_or(Trouble::Connect)
    }

    /// Calls of this slot are decided by the fair share for as long as no node has it: as if
    /// there were a connection for it, which is not good.
    fn lacks(&self, store: &Store, slot: u16) {
        let mut lacking = self.lacking();
        if self.role != Role::Calls || lacking.is_some() {
            return;
        }
        *lacking = Some(slot);
        store.board.opened();
        let detail = format!("no node of the cluster has slot {slot}");
        store.board.failed(false, Trouble::Connect, &detail);
        self.is_stale.notify_one();
    }

    /// Another map: connections to nodes that stay masters stay.
    fn adopt(&self, store: &Arc<Store>, ranges: Vec<Range>) {
        let before = self.map();
        let is_same = before.ranges.len() == ranges.len()
            && before
                .ranges
                .iter()
                .zip(&ranges)
                .all(|((known, _), range)| known == range);
        if is_same {
            return;
        }
        let known = before.ranges.iter();
        let mut links: BTreeMap<String, Arc<Link>> = known
            .map(|(range, link)| (range.master.to_string(), Arc::clone(link)))
            .collect();
        let ranges = ranges.into_iter().take(NODES_MAX).map(|range| {
            let link = links.entry(range.master.to_string()).or_insert_with(|| {
                let probe = slots::key_in(&range, &store.way.prefix);
                let is_stale = Some(Arc::clone(&self.is_stale));
                Arc::new(Link::start(
                    store,
                    self.role,
                    range.master.clone(),
                    probe,
                    is_stale,
                ))
            });
            let link = Arc::clone(link);
            (range, link)
        });
        let map = Arc::new(Map {
            ranges: ranges.collect(),
        });
        *self.map.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&map);
        let found = self.lacking().take_if(|slot| map.link(*slot).is_some());
        if found.is_some() {
            store.board.found();
        }
    }
}

/// Keeps the map of a cluster up to date, as long as the task lives.
async fn keep_map(store: Arc<Store>, cluster: Arc<Cluster>) {
    let mut first = 0;
    loop {
        let looked = Instant::now();
        let mut nodes = cluster.map().nodes(&store.way.url.address);
        // Not always the same one first: it may be the one that is cut off.
        let count = nodes.len().max(1);
        nodes.rotate_left(first % count);
        first += 1;
        let mut failed = None;
        for node in &nodes {
            let shown = timeout(LOOK_MAX, once(&store.way, node, &[b"CLUSTER", b"SLOTS"])).await;
            let ranges = match shown {
                Ok(Ok(reply)) => slots::ranges(&reply, node)
                    .ok_or_else(|| (Trouble::Error, format!("{node}: shows no map of a cluster"))),
                Ok(Err(failed)) => Err(failed),
                Err(_) => Err((Trouble::Timeout, format!("{node}: does not answer"))),
            };
            match ranges {
                Ok(ranges) => {
                    failed = None;
                    cluster.adopt(&store, ranges);
                    break;
                }
                Err(why) => failed = Some(why),
            }
        }
        let mut again = looked + LOOK_EVERY;
        if let Some((trouble, detail)) = failed {
            if cluster.role == Role::Calls {
                store.board.failed(false, trouble, &detail);
            }
            again = looked + LOOK_MAX;
        }
        tokio::select! {
            () = sleep_until(again) => {}
            () = cluster.is_stale.notified() => {}
        }
        sleep_until(looked + LOOK_PAUSE).await;
    }
}
