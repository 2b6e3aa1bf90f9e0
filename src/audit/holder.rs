//! Who has the writer: its own thread or, with `relaxed`, a worker that has nothing else
//! to do. A worker that has it too long hangs with the disk, and its calls with it: the
//! thread sees that, and has another thread go on with them.

use std::{
    fmt,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

/// After how long a worker that writes is relieved, and how often that is looked at while
/// workers write.
const WATCH: Duration = Duration::from_millis(20);
/// For how long it is looked at after the last of their writes.
const WATCH_FOR: Duration = Duration::from_millis(100);

/// Goes on with the calls of a worker.
pub trait Relief: fmt::Debug + Send + Sync {
    /// The worker's write takes long: another thread is to go on with its calls.
    fn relieve(self: Arc<Self>);
}

/// Who has the writer.
#[derive(Debug, Default)]
pub struct Holder {
    by: Option<By>,
    /// The writer's thread is the next to have it.
    is_wanted: bool,
    /// How often workers had it.
    writes: u64,
    watch: Watch,
}

#[derive(Debug)]
enum By {
    Thread,
    Worker(Weak<dyn Relief>),
    /// Whoever had it broke it, by a bug.
    Lost,
}

/// What the writer's thread saw of the workers' writes.
#[derive(Debug, Default)]
struct Watch {
    is_on: bool,
    /// How many there were at the last look.
    writes: u64,
    /// When there were as many for the first time.
    since: Option<Instant>,
}

impl Holder {
    /// Whether nobody has it.
    pub fn is_free(&self) -> bool {
        self.by.is_none()
    }

    /// Whether the writer's thread is to have it, whoever else would.
    pub fn is_wanted(&self) -> bool {
        self.is_wanted
    }

    /// The writer's thread is to have it next.
    pub fn want(&mut self) {
        self.is_wanted = true;
    }

    /// The writer's thread has it.
    pub fn take(&mut self) {
        self.is_wanted = false;
        self.by = Some(By::Thread);
    }

    /// A worker has it, unless somebody else has, or is to. Whether it has.
    pub fn take_for(&mut self, relief: &Weak<dyn Relief>) -> bool {
        if self.by.is_some() || self.is_wanted {
            return false;
        }
        self.by = Some(By::Worker(Weak::clone(relief)));
        self.writes += 1;
        true
    }

    /// Whoever had it has it no more.
    pub fn give_back(&mut self) {
        self.by = None;
    }

    /// Whoever had it broke it: nobody gets it any more.
    pub fn lose(&mut self) {
        self.by = Some(By::Lost);
    }

    /// Whether it was broken.
    pub fn is_lost(&self) -> bool {
        matches!(self.by, Some(By::Lost))
    }

    /// Whether a worker has it.
    pub fn is_worker(&self) -> bool {
        matches!(self.by, Some(By::Worker(_)))
    }

    /// How soon the writer's thread has to look again, if it has to.
    pub fn look_in(&self) -> Option<Duration> {
        self.watch.is_on.then_some(WATCH)
    }

    /// Whether the writer's thread has to be woken to look from now on; it is told once.
    pub fn begin_to_look(&mut self) -> bool {
        !std::mem::replace(&mut self.watch.is_on, true)
    }

    /// The writer's thread looks: whom to relieve.
    pub fn look(&mut self, now: Instant) -> Option<Arc<dyn Relief>> {
        let watch = &mut self.watch;
        if watch.writes != self.writes {
            (watch.writes, watch.since) = (self.writes, Some(now));
            return None;
        }
        let quiet = watch.since.map_or(Duration::MAX, |since| now - since);
        match &self.by {
            Some(By::Worker(relief)) if quiet >= WATCH => relief.upgrade(),
            Some(By::Worker(_)) => None,
            Some(By::Thread | By::Lost) | None => {
                watch.is_on &= quiet < WATCH_FOR;
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Nobody;

    impl Relief for Nobody {
        fn relieve(self: Arc<Self>) {}
    }

    fn worker() -> (Arc<Nobody>, Weak<dyn Relief>) {
        let worker = Arc::new(Nobody);
        let relief = Arc::downgrade(&worker);
        (worker, relief)
    }

    #[test]
    fn one_at_a_time_has_it_and_the_thread_comes_first() {
        let (_worker, relief) = worker();
        let mut holder = Holder::default();
        assert!(holder.take_for(&relief));
        assert!(!holder.take_for(&relief), "somebody has it");
        holder.want();
        holder.give_back();
        assert!(!holder.take_for(&relief), "the thread is to have it");
        holder.take();
        assert!(!holder.take_for(&relief), "the thread has it");
        holder.give_back();
        assert!(holder.take_for(&relief));
    }

    #[test]
    fn who_has_it_too_long_is_relieved_and_who_has_it_again_and_again_is_not() {
        let (_worker, relief) = worker();
        let mut holder = Holder::default();
        let mut now = Instant::now();
        for _ in 0..10 {
            assert!(holder.take_for(&relief));
            assert!(holder.look(now).is_none());
            now += WATCH;
            holder.give_back();
        }
        assert!(holder.take_for(&relief));
        assert!(holder.look(now).is_none());
        assert!(holder.look(now + WATCH / 2).is_none());
        assert!(holder.look(now + WATCH).is_some());
    }

    #[test]
    fn nobody_looks_when_no_worker_has_written_for_a_while() {
        let (_worker, relief) = worker();
        let mut holder = Holder::default();
        let now = Instant::now();
        assert_eq!(holder.look_in(), None);
        assert!(holder.take_for(&relief));
        assert!(holder.begin_to_look());
        assert!(!holder.begin_to_look(), "it looks already");
        assert!(holder.look(now).is_none());
        holder.give_back();
        assert!(holder.look(now + WATCH_FOR / 2).is_none());
        assert_eq!(holder.look_in(), Some(WATCH));
        assert!(holder.look(now + WATCH_FOR).is_none());
        assert_eq!(holder.look_in(), None);
    }
}
