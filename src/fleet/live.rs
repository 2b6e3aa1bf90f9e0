//! What goes on between a gateway and the store beside the calls: each gateway says
//! now and then that it lives, so that every one knows how many there are.

use std::{sync::Arc, time::Duration};

use tokio::{task::JoinHandle, time::sleep};

use super::{
    BESIDE_PATIENCE, Store, connect::Role, distinct, nodes::Client, resp, trouble::Counted,
};

/// What the gateways that live are noted under.
const NAME: &str = "live";
/// How often a gateway says that it lives.
const BEAT: Duration = Duration::from_secs(2);
/// A gateway that was silent for so long lives no more: one beat may be lost.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// A gateway's sign of life. Ends when dropped, and is then forgotten after a while.
#[derive(Debug)]
pub struct Life {
    client: Arc<Client>,
    beating: JoinHandle<()>,
}

impl Life {
    /// Begins to say that this gateway lives, within the runtime it is called in.
    pub fn start(store: &Arc<Store>) -> Self {
        let client = Arc::new(Client::start(store, Role::Beside));
        Self {
            beating: tokio::spawn(beat(Arc::clone(&client))),
            client,
        }
    }

    /// The way to the store for what no call waits for.
    pub fn client(&self) -> &Arc<Client> {
        &self.client
    }

    /// Says that this gateway lives no more, if the store hears it within a second.
    pub async fn end(self) {
        self.beating.abort();
        let name = distinct::full(&self.client, NAME);
        let id = self.client.store().id.as_bytes();
        let leaving = self.client.ask(name.as_bytes(), BESIDE_PATIENCE, |out, _| {
            resp::command(out, &[b"ZREM", name.as_bytes(), id]);
        });
        // It is forgotten without it, only later.
        let _ = leaving.await;
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        self.beating.abort();
    }
}

async fn beat(client: Arc<Client>) {
    let store = client.store();
    let mut pause = Duration::from_millis(50);
    loop {
        sleep(pause).await;
        let beaten = distinct::count(&client, NAME, &store.id, Duration::ZERO, SILENCE_MAX);
        pause = match beaten.await {
            Ok(live) => {
                let live = u32::try_from(live).unwrap_or(u32::MAX);
                store.board.live_now(live, store.replicas());
                BEAT
            }
            Err(trouble) => {
                store.board.not_counted(Counted::Gateways, trouble);
                Duration::from_millis(250)
            }
        };
    }
}
