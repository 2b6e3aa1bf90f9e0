//! Which node of a cluster has which key.

use super::{address::Address, resp::Reply};

/// How many slots a cluster has.
pub const SLOTS: u16 = 16_384;

/// Some slots, and the node that decides on them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    /// The first slot.
    pub first: u16,
    /// The last slot.
    pub last: u16,
    /// The master.
    pub master: Address,
    /// Its replicas, which know the map as well.
    pub replicas: Vec<Address>,
}

/// The slot of a key: the CRC of what stands in the first braces, else of it all
/// (Redis cluster specification, "Hash tags").
pub fn slot(key: &[u8]) -> u16 {
    let tag = || {
        let open = memchr::memchr(b'{', key)?;
        let rest = key.get(open + 1..)?;
        let close = memchr::memchr(b'}', rest)?;
        rest.get(..close).filter(|tag| !tag.is_empty())
    };
    crc16(tag().unwrap_or(key)) % SLOTS
}

/// CRC-16/XMODEM.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc: u16, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| {
            let shifted = crc << 1;
            if crc & 0x8000 == 0 {
                shifted
            } else {
                shifted ^ 0x1021
            }
        })
    })
}

/// A key with this beginning that the node of a range has: something to write to.
pub fn key_in(range: &Range, prefix: &str) -> String {
    let keys = (0..10 * u32::from(SLOTS)).map(|n| format!("{prefix}:probe:{n}"));
    let is_in = |key: &String| (range.first..=range.last).contains(&slot(key.as_bytes()));
    let mut keys = keys.filter(is_in);
    keys.next().unwrap_or_else(|| format!("{prefix}:probe"))
}

/// The map in an answer to `CLUSTER SLOTS`. A node without a name is the one that
/// was asked.
pub fn ranges(reply: &Reply, asked: &Address) -> Option<Vec<Range>> {
    let node = |reply: &Reply| {
        let [host, port, ..] = reply.list() else {
            return None;
        };
        let host = host.text().filter(|host| !host.is_empty() && *host != "?");
        Some(Address {
            host: host.unwrap_or(&asked.host).to_owned(),
            port: u16::try_from(port.number()?)
                .ok()
                .filter(|port| *port != 0)?,
        })
    };
    let number = |reply: &Reply| u16::try_from(reply.number()?).ok();
    let range = |reply: &Reply| {
        let [first, last, master, replicas @ ..] = reply.list() else {
            return None;
        };
        Some(Range {
            first: number(first)?,
            last: number(last).filter(|last| *last < SLOTS)?,
            master: node(master)?,
            replicas: replicas.iter().filter_map(node).collect(),
        })
    };
    let ranges: Vec<_> = reply.list().iter().map(range).collect::<Option<_>>()?;
    (!ranges.is_empty()).then_some(ranges)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!(crc16(b"123456789"), 0x31C3);
        assert_eq!(slot(b"foo"), 12_182);
        assert_eq!(slot(b"{user1000}.following"), slot(b"{user1000}.followers"));
        assert_eq!(slot(b"{user1000}.following"), crc16(b"user1000") % SLOTS);
        assert_eq!(slot(b"foo{}{bar}"), crc16(b"foo{}{bar}") % SLOTS);
        assert_eq!(slot(b"foo{{bar}}"), crc16(b"{bar") % SLOTS);
    }

    #[test]
    fn the_map_is_read_with_unnamed_nodes() {
        let text = |text: &str| Reply::Text(text.as_bytes().to_vec());
        let node = |host: Reply, port| Reply::List(vec![host, Reply::Number(port), text("id")]);
        let reply = Reply::List(vec![Reply::List(vec![
            Reply::Number(0),
            Reply::Number(5460),
            node(text(""), 7000),
            node(text("10.0.0.2"), 7001),
        ])]);
        let asked = Address {
            host: "seed".to_owned(),
            port: 1,
        };
        let ranges = ranges(&reply, &asked).unwrap();
        assert_eq!(ranges[0].master.to_string(), "seed:7000");
        assert_eq!(ranges[0].replicas[0].to_string(), "10.0.0.2:7001");
        let key = key_in(&ranges[0], "p");
        assert!(slot(key.as_bytes()) <= 5460);
        for bad in [
            Reply::List(vec![]),
            Reply::Nothing,
            Reply::List(vec![Reply::Number(1)]),
        ] {
            assert_eq!(super::ranges(&bad, &asked), None);
        }
    }
}
