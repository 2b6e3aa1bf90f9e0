//! The one thread that writes to stderr.
//!
//! Lines are handed over in batches and written many at once. A stderr that
//! nobody reads blocks only this thread: what can't be kept meanwhile is dropped
//! and counted.

use std::{
    io::{self, Write},
    mem,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

/// Bytes that may wait.
const BYTES_MAX: usize = 4 << 20;
/// So many bytes are written without waiting for more.
const BYTES_ENOUGH: usize = 128 << 10;
/// A buffer that grew beyond this is given back.
const BYTES_KEPT: usize = 512 << 10;
/// How long lines that are not urgent wait for others: so many writes a second
/// at most, and so many wakes, however many calls there are.
const GATHER: Duration = Duration::from_millis(25);
/// How long the end waits for a stderr that nobody reads.
const CLOSE_WAIT: Duration = Duration::from_secs(2);
/// How long to wait before a stderr that would block is tried again.
const BLOCKED_PAUSE: Duration = Duration::from_millis(10);

static DROPPED: AtomicU64 = AtomicU64::new(0);

/// Log lines that were lost since the start, because stderr could not be written
/// (fast enough).
pub fn lines_dropped() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

/// Takes lines for the thread that writes them.
#[derive(Debug)]
pub struct Sink {
    state: Mutex<State>,
    wake: Condvar,
    ended: Condvar,
}

#[derive(Debug, Default)]
struct State {
    bytes: Vec<u8>,
    lines: u64,
    urgent: bool,
    closed: bool,
    ended: bool,
    writer: Writer,
}

/// What the writing thread does.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Writer {
    /// It writes, or looks for what there is.
    #[default]
    Busy,
    /// It waits for a first line.
    Idle,
    /// It waits for more.
    Gathers,
}

impl Sink {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// If the system gives none.
    pub fn start(out: impl Write + Send + 'static) -> io::Result<Arc<Self>> {
        let sink = Arc::new(Self {
            state: Mutex::default(),
            wake: Condvar::new(),
            ended: Condvar::new(),
        });
        let writer = Arc::clone(&sink);
        thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || writer.run(out))?;
        Ok(sink)
    }

    /// Hands over whole lines. Never waits for what they are written to.
    pub fn push(&self, bytes: &[u8], lines: u64, urgent: bool) {
        let mut state = self.state();
        if state.ended || state.bytes.len() + bytes.len() > BYTES_MAX {
            DROPPED.fetch_add(lines, Ordering::Relaxed);
            return;
        }
        state.bytes.extend_from_slice(bytes);
        state.lines += lines;
        state.urgent |= urgent;
        let is_enough = state.urgent || state.bytes.len() >= BYTES_ENOUGH;
        let wakes = match state.writer {
            Writer::Busy => false,
            Writer::Idle => true,
            Writer::Gathers => is_enough,
        };
        if wakes {
            state.writer = Writer::Busy;
            drop(state);
            self.wake.notify_one();
        }
    }

    /// Has everything written, as far as that takes no longer than [`CLOSE_WAIT`].
    pub fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        self.wake.notify_one();
        let waited = self
            .ended
            .wait_timeout_while(state, CLOSE_WAIT, |state| !state.ended);
        drop(waited);
    }

    fn run(&self, mut out: impl Write) {
        let mut bytes = Vec::new();
        let mut told = 0;
        while let Some(lines) = self.next(&mut bytes) {
            match write(&mut out, &bytes) {
                Ok(()) => told = tell_of_dropped(told),
                Err(_) => {
                    DROPPED.fetch_add(lines, Ordering::Relaxed);
                }
            }
            bytes.clear();
            if bytes.capacity() > BYTES_KEPT {
                bytes = Vec::new();
            }
        }
        self.state().ended = true;
        self.ended.notify_all();
    }

    /// Waits for lines, and puts them into `batch`; how many they are. `None` at the end.
    fn next(&self, batch: &mut Vec<u8>) -> Option<u64> {
        let mut state = self.state();
        while state.bytes.is_empty() {
            if state.closed {
                return None;
            }
            state.writer = Writer::Idle;
            state = self
                .wake
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        if !state.urgent && !state.closed && state.bytes.len() < BYTES_ENOUGH {
            state.writer = Writer::Gathers;
            let gathered = self.wake.wait_timeout_while(state, GATHER, |state| {
                state.writer == Writer::Gathers && !state.closed
            });
            state = gathered.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.writer = Writer::Busy;
        state.urgent = false;
        mem::swap(&mut state.bytes, batch);
        Some(mem::take(&mut state.lines))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes all of it, also to a stderr that somebody made non-blocking.
fn write(out: &mut impl Write, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match out.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(BLOCKED_PAUSE),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Says that lines were lost, once stderr takes lines again.
fn tell_of_dropped(told: u64) -> u64 {
    let dropped = lines_dropped();
    if dropped > told {
        let lines = dropped - told;
        tracing::warn!(
            lines,
            "log lines were lost: whatever reads stderr was too slow. Calls and trail are not touched by it; mend the log's reader, or set log.access: failures"
        );
    }
    dropped
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Takes the first write and then waits to be let go; what comes later is kept.
    struct Stuck {
        began: mpsc::Sender<()>,
        go: mpsc::Receiver<()>,
        kept: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.began.send(());
            let _ = self.go.recv();
            self.kept.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_that_stderr_does_not_take_are_dropped_and_counted_and_the_rest_is_written_at_the_end()
    {
        let (began, has_begun) = mpsc::channel();
        let (go, may_go) = mpsc::channel();
        let kept = Arc::new(Mutex::new(Vec::new()));
        let sink = Sink::start(Stuck {
            began,
            go: may_go,
            kept: Arc::clone(&kept),
        })
        .unwrap();
        sink.push(b"first\n", 1, true);
        has_begun.recv().unwrap();
        let block = vec![b'x'; 1 << 20];
        let before = lines_dropped();
        for _ in 0..6 {
            sink.push(&block, 1000, false);
        }
        // Other tests may drop none: nothing else here writes to a stuck sink.
        assert_eq!(lines_dropped() - before, 2000);
        drop(go);
        sink.close();
        assert_eq!(kept.lock().unwrap().len(), 6 + (4 << 20));
        sink.push(b"late\n", 1, true);
        assert_eq!(lines_dropped() - before, 2001);
    }
}
