//! Where the database stands with a trail, as far as it is the trail that is on disk.

use std::{collections::HashMap, path::Path};

use tokio_postgres::{
    Client, Row,
    types::{ToSql, Type},
};
use uuid::Uuid;

use super::{
    database::{ask_one, in_time},
    fault::{Failure, Reason},
};
use crate::audit::{Hash, Head, Holds, Line, Tail, first_heads, holds, new_chain};

/// Where the database stands with a trail.
#[derive(Debug)]
pub struct Cursor {
    /// The chain's id in the database.
    pub chain: Uuid,
    /// The last record of it that is there.
    pub last: Head,
    /// The id that the trail carries.
    pub origin: Uuid,
    /// Nothing of this chain is there yet.
    pub is_new: bool,
    /// Why that is so, though it has a chain of this trail.
    pub anew: Option<Anew>,
}

/// Why a trail goes on in another chain than the one that the database has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anew {
    /// The database has records of this trail that are not in it: it was set back, or copied.
    Diverged {
        /// The number of the last record that both have.
        behind: u64,
    },
    /// Records that the database does not have were removed from the trail. Put behind
    /// what is there, the next ones would look as if somebody had taken out those between.
    Removed {
        /// The chain that ends there.
        ended: Uuid,
        /// The number of the first record that is missing.
        from: u64,
        /// The number of the last one.
        until: u64,
    },
}

/// More than one begins only where a trail was set back, copied or cut. What any gateway
/// may put in must fill nobody's memory: neither with rows, nor with hashes that are none.
const CHAINS: &str = "\
SELECT id, last_seq, last_hash FROM alloy_gateway.chain WHERE origin = $1 AND octet_length(last_hash) = 32 ORDER BY last_seq DESC LIMIT 1000";
/// The hashes of a chain's records between two numbers, of those with these numbers; one
/// that is none is not there. Both: the span leads to the index, the numbers are bounded.
pub const HASHES: &str = "\
SELECT seq, hash FROM alloy_gateway.record WHERE chain = $1 AND seq BETWEEN $2 AND $3 AND seq = ANY ($4) AND octet_length(hash) = 32";

/// Asks the database where it stands with the trail in `directory`, which carries the id
/// `origin` and was acknowledged up to `acknowledged`. Each question is bounded in time,
/// and not all of them together: what takes long for a large trail must still get done.
///
/// # Errors
///
/// If the database refuses or does not answer, or the trail can't be read.
pub async fn find(
    client: &mut Client,
    directory: &Path,
    origin: Uuid,
    acknowledged: &Head,
) -> Result<Cursor, Failure> {
    let rows = in_time(ask_one(client, CHAINS, &[(&origin, Type::UUID)])).await?;
    // Of each the one that comes furthest.
    let (mut ended, mut known) = (None, None);
    for row in rows {
        let (chain, seq, hash): (Uuid, i64, Vec<u8>) =
            (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let Some(last) = head(seq, &hash) else {
            continue;
        };
        match holds(directory, &last).map_err(unreadable)? {
            Holds::It => {
                return Ok(Cursor {
                    chain,
                    last,
                    origin,
                    is_new: false,
                    anew: None,
                });
            }
            Holds::NotAnyMore => ended = ended.or(Some((chain, last))),
            Holds::Another | Holds::NotYet => known = known.or(Some(chain)),
        }
    }
    // What differs from a chain begins another one, where the two part.
    let last = match known {
        Some(other) => last_in_common(client, other, directory, acknowledged).await?,
        None => Head::empty(),
    };
    let anew = match (ended, known) {
        (Some((chain, there)), _) if last == Head::empty() => {
            Some(removed(directory, chain, &there)?)
        }
        (None, None) => None,
        _ => Some(Anew::Diverged { behind: last.seq }),
    };
    Ok(Cursor {
        chain: anew.map_or(origin, |_| new_chain()),
        last,
        origin,
        is_new: true,
        anew,
    })
}

/// What is missing between the last record that the database has and the trail's first.
fn removed(directory: &Path, ended: Uuid, there: &Head) -> Result<Anew, Failure> {
    let begins = first_heads(directory).map_err(unreadable)?;
    let first = begins.first().map_or(there.seq, |first| first.seq);
    Ok(Anew::Removed {
        ended,
        from: there.seq + 1,
        until: first.saturating_sub(1),
    })
}

/// The last record of the trail that the database has in the same chain, too. Few
/// questions find the segment, and only that one is held against it record by record.
async fn last_in_common(
    client: &mut Client,
    chain: Uuid,
    directory: &Path,
    acknowledged: &Head,
) -> Result<Head, Failure> {
    let mut begins = first_heads(directory).map_err(unreadable)?;
    begins.retain(|begin| begin.seq <= acknowledged.seq);
    let is_there = async |head: Head| {
        let there = hashes(&mut *client, chain, &[head]).await?;
        Ok(is_among(&there, &head))
    };
    let begin = last_there(&begins, is_there).await?;
    let mut last = begin.unwrap_or(Head::empty());
    let mut tail = Tail::behind(directory, last).map_err(unreadable)?;
    loop {
        let batch = tail.read(acknowledged).map_err(unreadable)?;
        let heads: Vec<_> = batch
            .lines
            .iter()
            .filter_map(|line| line_head(line))
            .collect();
        if heads.is_empty() {
            return Ok(last);
        }
        let there = hashes(client, chain, &heads).await?;
        for head in &heads {
            if !is_among(&there, head) {
                return Ok(last);
            }
            last = *head;
        }
    }
}

/// The last of these that the database has, by bisection. Where one is there, so is all
/// before it: each record's hash holds what came before. A chain without its beginning
/// (one that parted from another, or whose old rows were deleted) can at worst hide the
/// place; then more is collected than need be.
async fn last_there(
    heads: &[Head],
    mut is_there: impl AsyncFnMut(Head) -> Result<bool, Failure>,
) -> Result<Option<Head>, Failure> {
    let (mut last, mut open) = (None, heads);
    loop {
        let (before, from_middle) = open.split_at(open.len() / 2);
        let Some((middle, behind)) = from_middle.split_first() else {
            return Ok(last);
        };
        open = if is_there(*middle).await? {
            last = Some(*middle);
            behind
        } else {
            before
        };
    }
}

async fn hashes(
    client: &mut Client,
    chain: Uuid,
    heads: &[Head],
) -> Result<HashMap<i64, Vec<u8>>, Failure> {
    let numbers: Vec<_> = heads.iter().map(|head| number(head.seq)).collect();
    let asked = Numbered::of(&chain, &numbers);
    let asked = asked.parameters();
    by_number(&in_time(ask_one(client, HASHES, &asked)).await?)
}

/// Records of a chain by their numbers, as [`HASHES`] asks for them.
pub struct Numbered<'a> {
    chain: &'a Uuid,
    numbers: &'a [i64],
    first: i64,
    end: i64,
}

impl<'a> Numbered<'a> {
    /// About records with these numbers.
    pub fn of(chain: &'a Uuid, numbers: &'a [i64]) -> Self {
        Self {
            chain,
            numbers,
            first: numbers.iter().copied().min().unwrap_or_default(),
            end: numbers.iter().copied().max().unwrap_or_default(),
        }
    }

    /// The parameters of the statement.
    pub fn parameters(&self) -> [(&(dyn ToSql + Sync), Type); 4] {
        [
            (self.chain, Type::UUID),
            (&self.first, Type::INT8),
            (&self.end, Type::INT8),
            (&self.numbers, Type::INT8_ARRAY),
        ]
    }
}

fn is_among(there: &HashMap<i64, Vec<u8>>, head: &Head) -> bool {
    there
        .get(&number(head.seq))
        .is_some_and(|hash| *hash == head.hash.to_bytes())
}

/// Hashes by number, of rows that have both.
pub fn by_number(rows: &[Row]) -> Result<HashMap<i64, Vec<u8>>, Failure> {
    let pairs = rows
        .iter()
        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)));
    pairs.collect()
}

/// A record's number and hash, as the database has them.
pub fn head(seq: i64, hash: &[u8]) -> Option<Head> {
    Some(Head {
        seq: u64::try_from(seq).ok()?,
        hash: Hash::from_bytes(hash)?,
    })
}

fn line_head(line: &str) -> Option<Head> {
    let record: Line<'_> = serde_json::from_str(line).ok()?;
    Some(Head {
        seq: record.seq,
        hash: Hash::parse(&record.hash)?,
    })
}

/// A record's number, as the database has it.
pub fn number(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}

fn unreadable(error: std::io::Error) -> Failure {
    Failure::new(Reason::Trail, format!("the trail cannot be read: {error}"))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn heads(seqs: impl Iterator<Item = u64>) -> Vec<Head> {
        let hash = Hash::first();
        seqs.map(|seq| Head { seq, hash }).collect()
    }

    #[tokio::test]
    async fn the_place_in_a_trail_of_ten_thousand_segments_takes_few_questions() {
        // Pruned: it does not begin with record 1.
        let heads = heads((0..10_000).map(|n| 700_001 + 1_000 * n));
        for there in [
            0,
            700_000,
            700_001,
            704_500,
            5_000_000,
            10_699_001,
            u64::MAX,
        ] {
            let asked = Cell::new(0);
            let is_there = async |head: Head| {
                asked.set(asked.get() + 1);
                Ok(head.seq <= there)
            };
            let found = last_there(&heads, is_there).await.unwrap();
            let right = heads.iter().rfind(|head| head.seq <= there);
            assert_eq!(found.as_ref(), right, "{there}");
            assert!(asked.get() <= 14, "{}", asked.get());
        }
        let none = last_there(&[], async |_| Ok(true)).await.unwrap();
        assert_eq!(none, None);
    }

    #[tokio::test]
    async fn what_the_database_does_not_answer_ends_the_search() {
        let refused = async |_| Err(Failure::new(Reason::Timeout, "no answer"));
        let found = last_there(&heads(1..9), refused).await;
        assert_eq!(found.unwrap_err().reason, Reason::Timeout);
    }
}
