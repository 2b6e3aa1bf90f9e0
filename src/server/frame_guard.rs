//! A look at the frames of an HTTP/2 connection, for floods that the library
//! answers patiently.
//!
//! h2 0.4 bounds streams that are reset before they were looked at, and the frames
//! of one header block. Frames that cost a peer nothing and us some work are not
//! bounded: PING and SETTINGS, each of which must be answered (CVE-2019-9512,
//! CVE-2019-9515), PRIORITY (CVE-2019-9513), DATA without data (CVE-2019-9518),
//! WINDOW_UPDATE, resets of streams that were begun (CVE-2023-44487), and what is
//! read and dropped: answers to pings that were not sent, frames of unknown types.
//!
//! The guard counts them against what an honest client does. It only ever ends
//! the connection: what it lets pass is still read by the library.

use std::time::Duration;

use tokio::time::Instant;

use super::progress::Seen;

/// The length of a frame's head (RFC 9113 §4.1).
const HEAD: usize = 9;
/// The connection preface comes before all frames (RFC 9113 §3.4).
const PREFACE: u64 = 24;
/// What a connection may spend at once.
const CREDIT_MAX: f64 = 200.0;
/// What comes back in a second.
const CREDIT_A_SECOND: f64 = 50.0;
/// What a begun stream gives: a request has a right to some control frames.
const CREDIT_A_STREAM: f64 = 4.0;
/// What resetting a stream costs: more than beginning it gave.
const RESET_COSTS: f64 = 6.0;
/// What it costs if the stream lived long: what beginning it gave. A client whose call took
/// too long cancels it, and so many at once as it may have; no stream is cheaper for it.
const LATE_RESET_COSTS: f64 = CREDIT_A_STREAM;
/// A reset before that is the rapid one, which leaves us work and the peer none; one after
/// twice of it is late.
const LONG: Duration = Duration::from_millis(100);
/// DATA below this many bytes is more head than content.
const DATA_MIN: u32 = 64;

/// Frame types (RFC 9113 §6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const CONTINUATION: u8 = 9;
/// A flag.
const END_HEADERS: u8 = 4;

/// Follows the frames of one HTTP/2 connection.
#[derive(Debug)]
pub struct FrameGuard {
    head: [u8; HEAD],
    have: usize,
    /// Bytes of the preface, or of a payload, that are still to come.
    skip: u64,
    credit: f64,
    at: Instant,
    is_flood: bool,
    /// Whether a header block was begun and has not ended.
    is_in_block: bool,
    streams: Streams,
}

/// Which streams a peer began, and roughly when. Their numbers only grow (RFC 9113 §5.1.1):
/// so it is enough to know how far they had come a while ago.
#[derive(Debug)]
struct Streams {
    last: u32,
    last_began: Instant,
    /// One that began some time ago, with when that was. It is moved on once it is old.
    mark: (u32, Instant),
    /// All up to this one are [`LONG`] old.
    old: u32,
}

impl Streams {
    fn none(now: Instant) -> Self {
        Self {
            last: 0,
            last_began: now,
            mark: (0, now),
            old: 0,
        }
    }

    /// Notes HEADERS on this stream; whether they begin it.
    fn begins(&mut self, stream: u32, now: Instant) -> bool {
        let begins = stream > self.last;
        if begins {
            self.look(now);
            (self.last, self.last_began) = (stream, now);
        }
        begins
    }

    /// Whether this stream began long ago; whether it is over is not known here.
    fn is_old(&mut self, stream: u32, now: Instant) -> bool {
        self.look(now);
        stream <= self.old
    }

    fn look(&mut self, now: Instant) {
        // Twice: with the mark, what has begun last may be old.
        for _ in 0..2 {
            let (stream, began) = self.mark;
            if now.duration_since(began) >= LONG {
                self.old = stream;
                self.mark = (self.last, self.last_began);
            }
        }
    }
}

impl FrameGuard {
    /// A connection of which nothing was read yet.
    pub fn new() -> Self {
        let now = Instant::now();
        Self {
            head: [0; HEAD],
            have: 0,
            skip: PREFACE,
            credit: CREDIT_MAX,
            at: now,
            is_flood: false,
            is_in_block: false,
            streams: Streams::none(now),
        }
    }

    /// Whether the peer floods us.
    pub fn is_flood(&self) -> bool {
        self.is_flood
    }

    /// Takes the next bytes of the connection.
    pub fn see(&mut self, mut bytes: &[u8]) -> Seen {
        while !bytes.is_empty() && !self.is_flood {
            if self.skip > 0 {
                let here = usize::try_from(self.skip)
                    .unwrap_or(usize::MAX)
                    .min(bytes.len());
                self.skip -= here as u64;
                bytes = bytes.get(here..).unwrap_or_default();
                continue;
            }
            let here = (HEAD - self.have).min(bytes.len());
            let (head, rest) = bytes.split_at_checked(here).unwrap_or_default();
            if let Some(place) = self.head.get_mut(self.have..self.have + here) {
                place.copy_from_slice(head);
            }
            self.have += here;
            bytes = rest;
            if self.have == HEAD {
                self.have = 0;
                self.frame();
            }
        }
        let is_in_frame = self.skip > 0 && {
            let [_, _, _, kind, ..] = self.head;
            matches!(kind, HEADERS | CONTINUATION)
        };
        if self.is_in_block || is_in_frame {
            Seen::PartOfHead
        } else {
            Seen::Whole
        }
    }

    fn frame(&mut self) {
        let [l2, l1, l0, kind, flags, s3, s2, s1, s0] = self.head;
        let len = u32::from_be_bytes([0, l2, l1, l0]);
        let stream = u32::from_be_bytes([s3 & 0x7f, s2, s1, s0]);
        let now = Instant::now();
        self.skip = len.into();
        if matches!(kind, HEADERS | CONTINUATION) {
            self.is_in_block = flags & END_HEADERS == 0;
        }
        let cost = match kind {
            // Those of a trailer begin nothing.
            HEADERS if self.streams.begins(stream, now) => -CREDIT_A_STREAM,
            DATA if len >= DATA_MIN => return,
            // The frames of one header block are bounded by the library.
            CONTINUATION => return,
            RST_STREAM if self.streams.is_old(stream, now) => LATE_RESET_COSTS,
            RST_STREAM => RESET_COSTS,
            _ => 1.0,
        };
        let back = now.duration_since(self.at).as_secs_f64() * CREDIT_A_SECOND;
        self.at = now;
        self.credit = (self.credit + back - cost).min(CREDIT_MAX);
        self.is_flood = self.credit < 0.0;
    }

    /// What tells the peer why: GOAWAY with ENHANCE_YOUR_CALM (RFC 9113 §6.8, §7).
    pub fn go_away(&self) -> [u8; HEAD + 8] {
        let [s3, s2, s1, s0] = self.streams.last.to_be_bytes();
        [0, 0, 8, 7, 0, 0, 0, 0, 0, s3, s2, s1, s0, 0, 0, 0, 0x0b]
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const PRIORITY: u8 = 2;
    const SETTINGS: u8 = 4;
    const PING: u8 = 6;
    const WINDOW_UPDATE: u8 = 8;
    const ACK: u8 = 1;
    const END_STREAM: u8 = 1;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let len = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = vec![len[1], len[2], len[3], kind, flags];
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        frame
    }

    fn preface() -> Vec<u8> {
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        bytes.extend(frame(SETTINGS, 0, 0, &[]));
        bytes
    }

    #[tokio::test(start_paused = true)]
    async fn floods_of_free_frames_are_noticed_however_they_are_cut() {
        for (kind, flags, payload) in [
            (PING, 0, &[0; 8][..]),
            (SETTINGS, 0, &[]),
            (DATA, 0, &[]),
            (PRIORITY, 0, &[0; 5]),
            (WINDOW_UPDATE, 0, &[0, 0, 0, 1]),
            (RST_STREAM, 0, &[0, 0, 0, 8]),
            (PING, ACK, &[0; 8]),
            (DATA, END_STREAM, &[]),
            (DATA, 0, &[b'a'; DATA_MIN as usize - 1]),
            (0xfa, 0, &[0; 1000]),
        ] {
            for cut in [1, 7, 4096] {
                let mut guard = FrameGuard::new();
                let mut bytes = preface();
                for _ in 0..250 {
                    bytes.extend(frame(kind, flags, 1, payload));
                }
                let noticed = bytes.chunks(cut).any(|part| {
                    guard.see(part);
                    guard.is_flood()
                });
                assert!(noticed, "{kind} in parts of {cut}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn begun_and_reset_streams_are_a_flood_and_answered_ones_are_not() {
        let mut guard = FrameGuard::new();
        guard.see(&preface());
        let resets = (0..200).any(|n| {
            guard.see(&frame(HEADERS, 5, 2 * n + 1, &[0; 40]));
            guard.see(&frame(RST_STREAM, 0, 2 * n + 1, &[0; 4]));
            guard.is_flood()
        });
        assert!(resets);
        let mut guard = FrameGuard::new();
        guard.see(&preface());
        for n in 0..10_000 {
            guard.see(&frame(HEADERS, 4, 2 * n + 1, &[0; 40]));
            guard.see(&frame(DATA, END_STREAM, 2 * n + 1, &[]));
            guard.see(&frame(WINDOW_UPDATE, 0, 0, &[0; 4]));
            guard.see(&frame(SETTINGS, ACK, 0, &[]));
            assert!(!guard.is_flood());
        }
        assert_eq!(guard.go_away()[9..13], 19_999_u32.to_be_bytes());
        for _ in 0..1000 {
            guard.see(&frame(DATA, 0, 19_999, &[0; DATA_MIN as usize]));
            assert!(!guard.is_flood());
        }
    }

    fn begin(stream: u32) -> Vec<u8> {
        frame(HEADERS, 5, stream, &[0; 40])
    }

    fn reset(stream: u32) -> Vec<u8> {
        frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])
    }

    #[tokio::test(start_paused = true)]
    async fn calls_that_a_client_gives_up_are_no_flood_however_many_it_has_at_once() {
        for lived in [200, 1000, 20_000] {
            let mut guard = FrameGuard::new();
            guard.see(&preface());
            let streams = (0..100).map(|round| (0..30).map(move |n| 2 * (30 * round + n) + 1));
            for some in streams {
                some.clone().for_each(|n| _ = guard.see(&begin(n)));
                advance(Duration::from_millis(lived)).await;
                some.for_each(|n| _ = guard.see(&reset(n)));
                assert!(!guard.is_flood(), "after {lived} ms");
            }
            // As a time-out for each of them would have it: one begins, another one ends.
            for n in 3000..6000 {
                guard.see(&begin(2 * n + 1));
                if n >= 3030 {
                    guard.see(&reset(2 * (n - 30) + 1));
                }
                advance(Duration::from_millis(lived) / 30).await;
                assert!(!guard.is_flood(), "{n}, after {lived} ms");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn resets_of_young_streams_and_of_one_again_and_again_are_a_flood_also_much_later() {
        let is_flood = |lived: u64, again: bool| async move {
            let mut guard = FrameGuard::new();
            guard.see(&preface());
            guard.see(&begin(1));
            advance(Duration::from_secs(60)).await;
            for n in 1..2000 {
                guard.see(&begin(2 * n + 1));
                advance(Duration::from_millis(lived)).await;
                guard.see(&reset(if again { 1 } else { 2 * n + 1 }));
                if again {
                    guard.see(&reset(1));
                }
            }
            guard.is_flood()
        };
        assert!(is_flood(0, false).await);
        assert!(is_flood(10, false).await);
        assert!(is_flood(0, true).await);
    }

    #[tokio::test(start_paused = true)]
    async fn trailers_give_nothing_that_a_reset_could_be_paid_with() {
        let mut guard = FrameGuard::new();
        guard.see(&preface());
        let is_flood = (0..200).any(|n| {
            guard.see(&frame(HEADERS, END_HEADERS, 2 * n + 1, &[0; 40]));
            guard.see(&begin(2 * n + 1));
            guard.see(&reset(2 * n + 1));
            guard.is_flood()
        });
        assert!(is_flood);
    }

    #[tokio::test(start_paused = true)]
    async fn a_header_block_is_open_until_its_last_frame_is_whole() {
        let mut guard = FrameGuard::new();
        assert_eq!(guard.see(&preface()), Seen::Whole);
        let begun = frame(HEADERS, 0, 1, &[0; 40]);
        assert_eq!(guard.see(&begun), Seen::PartOfHead);
        let last = frame(CONTINUATION, END_HEADERS, 1, &[0; 40]);
        assert_eq!(guard.see(&last[..20]), Seen::PartOfHead);
        assert_eq!(guard.see(&last[20..]), Seen::Whole);
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            FrameGuard::new().see(&bytes);
        }
    }
}
