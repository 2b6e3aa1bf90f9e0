//! A small table of names and texts that all gateways see: a hash of the store.

use std::sync::Arc;

use super::{BESIDE_PATIENCE, nodes::Client, resp, trouble::Trouble};

/// A table in the store. It has no end of its own, nor have its entries.
#[derive(Debug, Clone)]
pub struct Table {
    client: Arc<Client>,
    name: String,
}

impl Table {
    /// The table of this name, behind the prefix of the config.
    pub fn new(client: &Arc<Client>, name: &str) -> Self {
        Self {
            name: format!("{}:{name}", client.store().way.prefix),
            client: Arc::clone(client),
        }
    }

    /// Every entry: its name and its text.
    ///
    /// # Errors
    ///
    /// If the store does not answer within a second: the last known state holds.
    pub async fn read(&self) -> Result<Vec<(String, String)>, Trouble> {
        let reply = self.command(b"HGETALL", &[]).await?;
        let texts = reply.list().iter().map(|it| it.text().map(str::to_owned));
        let texts: Vec<_> = texts.collect::<Option<_>>().ok_or(Trouble::Error)?;
        let mut texts = texts.into_iter();
        let mut entries = Vec::with_capacity(texts.len() / 2);
        while let (Some(name), Some(text)) = (texts.next(), texts.next()) {
            entries.push((name, text));
        }
        Ok(entries)
    }

    /// Sets an entry, whether it was there or not.
    ///
    /// # Errors
    ///
    /// If the store does not answer within a second; it may be set all the same.
    pub async fn set(&self, name: &str, text: &str) -> Result<(), Trouble> {
        self.command(b"HSET", &[name.as_bytes(), text.as_bytes()])
            .await
            .map(drop)
    }

    async fn command(&self, verb: &[u8], rest: &[&[u8]]) -> Result<resp::Reply, Trouble> {
        let name = self.name.as_bytes();
        let command = [&[verb, name], rest].concat();
        let asked = self.client.ask(name, BESIDE_PATIENCE, |out, _| {
            resp::command(out, &command);
        });
        asked.await
    }
}
