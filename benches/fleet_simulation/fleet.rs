//! The run: one thing after the other, in the order of simulated time.

use std::time::Duration;

use alloy_gateway::{
    fleet::{Answer, Window},
    limits::Spent,
};
use tokio::time::Instant;

use super::{
    agenda::Agenda,
    clock::{Clock, Running},
    dice::{Dice, Zipf},
    outcome::Outcome,
    plan::{Load, Plan, Sharing},
    sidecar::{Sidecar, Waiting},
    store::Store,
    weather::{Way, What, way},
};

/// `limits_store.timeout`, at its default.
const TIMEOUT: Duration = Duration::from_millis(50);
/// How long a connection may take to be opened.
const CONNECT_MAX: Duration = Duration::from_secs(1);
/// The time that a message needs at least, and how much more on average.
const FLIGHT: (Duration, Duration) = (Duration::from_micros(100), Duration::from_micros(200));
/// Callers come when the fleet has connected.
const LOAD_FROM: Duration = Duration::from_secs(1);
/// How long a sidecar is gone that is restarted.
const RESTART: Duration = Duration::from_secs(2);
/// The shortest window that is counted from the trail after a start.
const COUNTED_FROM_TRAIL_MIN: Duration = Duration::from_secs(60);
/// Calls of one sidecar that greedy callers have under way at once.
const AT_ONCE: usize = 3;

enum Event {
    /// A call comes to a sidecar; if callers are greedy, more follow until one is refused.
    Come { sidecar: usize },
    /// A question comes to the store.
    Reach(Question),
    /// An answer comes to the sidecar.
    Answered(Question, Answer),
    /// The time of a question is over.
    Late(Question),
    /// A sidecar tries to reach the store.
    Try { sidecar: usize, connection: u32 },
    /// And this came of it.
    Tried {
        sidecar: usize,
        connection: u32,
        is_good: bool,
    },
    /// A spell of weather begins.
    Begin { spell: usize },
    /// A sidecar ends, and will start again.
    Stop { sidecar: usize },
    /// It starts.
    Start { sidecar: usize },
}

/// What a call asks the store, on its way there or back.
#[derive(Clone)]
struct Question {
    sidecar: usize,
    connection: u32,
    call: u64,
    /// When its sidecar gives it up.
    deadline: Duration,
    /// When the store decided.
    decided: Duration,
    windows: Vec<Window>,
}

struct Fleet<'a> {
    plan: &'a Plan,
    clock: Running<'a>,
    agenda: Agenda<Event>,
    dice: Dice,
    zipf: Zipf,
    store: Store,
    sidecars: Vec<Sidecar>,
    /// How many of them run.
    up: u32,
    calls: u64,
    outcome: Outcome,
}

/// Runs a plan. The same plan has the same outcome every time.
pub fn run(plan: &Plan) -> Outcome {
    let clock = Clock::new();
    let mut dice = Dice::new(plan.seed);
    let clock = clock.enter();
    let sidecars = (0..plan.sidecars)
        .map(|_| Sidecar::new(&plan.limits, plan.sharing, dice.byte()))
        .collect();
    let mut fleet = Fleet {
        plan,
        clock,
        agenda: Agenda::new(),
        dice,
        zipf: Zipf::new(plan.sidecars),
        store: Store::default(),
        sidecars,
        up: u32::try_from(plan.sidecars).unwrap_or(u32::MAX),
        calls: 0,
        outcome: Outcome::default(),
    };
    fleet.begin();
    while let Some((at, event)) = fleet.agenda.next() {
        if at >= plan.span {
            break;
        }
        fleet.clock.set(at);
        fleet.happen(event);
    }
    let mut outcome = fleet.outcome;
    outcome.admitted.sort_unstable();
    outcome
}

impl Fleet<'_> {
    fn begin(&mut self) {
        for sidecar in 0..self.plan.sidecars {
            if self.plan.sharing == Sharing::Store {
                self.agenda.plan(
                    Duration::ZERO,
                    Event::Try {
                        sidecar,
                        connection: 0,
                    },
                );
            }
            if let Load::Greedy(pause) = self.plan.load {
                let at = LOAD_FROM + self.dice.within(pause);
                self.agenda.plan(at, Event::Come { sidecar });
            }
            if let Some(rollout) = self.plan.rollout {
                let nth = u32::try_from(sidecar + 1).unwrap_or(u32::MAX);
                let count = u32::try_from(self.plan.sidecars).unwrap_or(u32::MAX);
                let at = LOAD_FROM + rollout * nth / count;
                self.agenda.plan(at, Event::Stop { sidecar });
            }
        }
        if let Load::Uneven(_) = self.plan.load {
            self.next_uneven();
        }
        for (spell, it) in self.plan.spells.iter().enumerate() {
            let at = it.next_after(Duration::ZERO);
            self.agenda.plan(at, Event::Begin { spell });
        }
    }

    fn happen(&mut self, event: Event) {
        let now = self.clock.now();
        match event {
            Event::Come { sidecar } => self.come(sidecar),
            Event::Reach(question) => self.reach(question),
            Event::Answered(question, answer) => self.answered(question, answer),
            Event::Late(question) => self.late(&question),
            Event::Try {
                sidecar,
                connection,
            } => self.try_store(sidecar, connection),
            Event::Tried {
                sidecar,
                connection,
                is_good,
            } => {
                self.tried(sidecar, connection, is_good);
            }
            Event::Begin { spell } => self.begin_spell(spell),
            Event::Stop { sidecar } => {
                self.sidecars[sidecar].stop();
                self.up -= 1;
                self.agenda.plan(now + RESTART, Event::Start { sidecar });
                if let Some(rollout) = self.plan.rollout {
                    self.agenda.plan(now + rollout, Event::Stop { sidecar });
                }
            }
            Event::Start { sidecar } => self.start(sidecar),
        }
    }

    fn come(&mut self, at: usize) {
        let now = self.clock.now();
        match self.plan.load {
            Load::Greedy(pause) => {
                let next = now + self.dice.pause(pause);
                self.agenda.plan(next, Event::Come { sidecar: at });
                if self.sidecars[at].waiting.len() >= AT_ONCE {
                    return;
                }
            }
            Load::Uneven(_) => {
                self.outcome.came.push(now);
                self.next_uneven();
            }
        }
        self.call(at);
    }

    fn next_uneven(&mut self) {
        let Load::Uneven(pause) = self.plan.load else {
            return;
        };
        let from = self.clock.now().max(LOAD_FROM);
        let sidecar = self.zipf.pick(&mut self.dice);
        let next = from + self.dice.pause(pause);
        self.agenda.plan(next, Event::Come { sidecar });
    }

    /// One call, and if callers are greedy more of them, until one is refused or waits
    /// for the store.
    fn call(&mut self, at: usize) {
        let now = self.clock.now();
        loop {
            let sidecar = &self.sidecars[at];
            if !sidecar.is_up || sidecar.limits.try_pass().is_err() {
                return;
            }
            if self.plan.sharing == Sharing::Store {
                if sidecar.health.is_good() {
                    return self.ask(at);
                }
                let divisor = self.divisor(at);
                if sidecar
                    .limits
                    .settle(Instant::now(), None, divisor)
                    .is_err()
                {
                    return;
                }
            }
            self.admit(at, now);
            if matches!(self.plan.load, Load::Uneven(_)) {
                return;
            }
        }
    }

    fn admit(&mut self, at: usize, decided: Duration) {
        self.outcome.admitted.push(decided);
        let now = self.clock.now();
        self.sidecars[at].trail.push(now);
    }

    /// By what a limit is divided while the store does not decide
    /// (`fleet::Store::divisor`).
    fn divisor(&self, at: usize) -> u32 {
        self.plan.replicas.max(self.sidecars[at].live).max(1)
    }

    fn ask(&mut self, at: usize) {
        let now = self.clock.now();
        let call = self.calls;
        self.calls += 1;
        let flight = self.flight(at);
        let sidecar = &mut self.sidecars[at];
        sidecar.last.0 = sidecar.last.0.max(now + flight);
        sidecar.waiting.push_back(Waiting {
            call,
            asked: Instant::now(),
        });
        let question = Question {
            sidecar: at,
            connection: sidecar.connection,
            call,
            deadline: now + TIMEOUT,
            decided: now,
            windows: sidecar.limits.windows(),
        };
        let reached = sidecar.last.0;
        self.agenda.plan(reached, Event::Reach(question));
    }

    /// The time that a message takes now.
    fn flight(&mut self, at: usize) -> Duration {
        let now = self.clock.now();
        let slower = match way(&self.plan.spells, at, now) {
            Way::Open(slower) if !slower.is_zero() => self.dice.pause(slower),
            _ => Duration::ZERO,
        };
        FLIGHT.0 + self.dice.pause(FLIGHT.1) + slower
    }

    fn reach(&mut self, mut question: Question) {
        let now = self.clock.now();
        let at = question.sidecar;
        match way(&self.plan.spells, at, now) {
            // The sidecar knows already.
            Way::Killed => return,
            Way::CutOff => {
                let deadline = question.deadline.max(now);
                self.agenda.plan(deadline, Event::Late(question));
                return;
            }
            Way::Paused(until) => {
                if question.deadline < until {
                    self.agenda
                        .plan(question.deadline.max(now), Event::Late(question.clone()));
                }
                self.agenda.plan(until, Event::Reach(question));
                return;
            }
            Way::Open(_) => {}
        }
        // Whether or not somebody waits for it still.
        let answer = self.store.take(&question.windows, now);
        question.decided = now;
        let flight = self.flight(at);
        let sidecar = &mut self.sidecars[at];
        sidecar.last.1 = sidecar.last.1.max(now + flight);
        let back = sidecar.last.1;
        if back > question.deadline {
            self.agenda
                .plan(question.deadline.max(now), Event::Late(question));
        } else {
            self.agenda.plan(back, Event::Answered(question, answer));
        }
    }

    fn answered(&mut self, question: Question, answer: Answer) {
        let at = question.sidecar;
        match way(&self.plan.spells, at, self.clock.now()) {
            Way::Killed => return,
            Way::CutOff => {
                self.agenda.plan(question.deadline, Event::Late(question));
                return;
            }
            Way::Paused(_) | Way::Open(_) => {}
        }
        let divisor = self.divisor(at);
        let sidecar = &mut self.sidecars[at];
        if sidecar.connection != question.connection {
            return;
        }
        let place = sidecar
            .waiting
            .iter()
            .position(|it| it.call == question.call);
        let Some(Waiting { asked, .. }) = place.and_then(|place| sidecar.waiting.remove(place))
        else {
            return;
        };
        if sidecar.limits.settle(asked, Some(answer), divisor).is_ok() {
            self.outcome.by_store += 1;
            self.admit(at, question.decided);
            self.go_on(at);
        }
    }

    /// Greedy callers come again after a call that was admitted.
    fn go_on(&mut self, at: usize) {
        if matches!(self.plan.load, Load::Greedy(_)) {
            self.call(at);
        }
    }

    fn late(&mut self, question: &Question) {
        if self.sidecars[question.sidecar].connection == question.connection {
            self.fail(question.sidecar);
        }
    }

    /// The connection is given up: all who wait are decided by the fair share.
    fn fail(&mut self, at: usize) {
        let now = self.clock.now();
        let divisor = self.divisor(at);
        let sidecar = &mut self.sidecars[at];
        sidecar.connection += 1;
        sidecar.health.failed(now);
        let again = Event::Try {
            sidecar: at,
            connection: sidecar.connection,
        };
        self.agenda.plan(sidecar.health.try_at(), again);
        for waiting in std::mem::take(&mut sidecar.waiting) {
            let limits = &self.sidecars[at].limits;
            if limits.settle(waiting.asked, None, divisor).is_ok() {
                self.admit(at, now);
                self.go_on(at);
            }
        }
    }

    fn try_store(&mut self, at: usize, connection: u32) {
        let now = self.clock.now();
        if self.sidecars[at].connection != connection {
            return;
        }
        // There and back to connect, and once more to see how long that takes.
        let connected = self.flight(at) + self.flight(at);
        let answered = self.flight(at) + self.flight(at);
        let (takes, is_good) = match way(&self.plan.spells, at, now) {
            Way::Killed => (connected, false),
            Way::CutOff => (CONNECT_MAX, false),
            Way::Paused(_) => (connected + TIMEOUT, false),
            Way::Open(_) => (connected + answered.min(TIMEOUT), answered <= TIMEOUT),
        };
        let tried = Event::Tried {
            sidecar: at,
            connection,
            is_good,
        };
        self.agenda.plan(now + takes, tried);
    }

    fn tried(&mut self, at: usize, connection: u32, is_good: bool) {
        let now = self.clock.now();
        if self.sidecars[at].connection != connection {
            return;
        }
        let is_there = !matches!(way(&self.plan.spells, at, now), Way::Killed);
        if !(is_good && is_there) {
            return self.fail(at);
        }
        let sidecar = &mut self.sidecars[at];
        sidecar.live = self.up;
        sidecar.last = Default::default();
        sidecar.health.answered(now);
    }

    fn begin_spell(&mut self, number: usize) {
        let now = self.clock.now();
        let plan = self.plan;
        let spell = &plan.spells[number];
        self.agenda
            .plan(spell.next_after(now), Event::Begin { spell: number });
        match spell.what {
            What::Lost => self.store.lose(),
            What::Killed => {
                for at in (0..plan.sidecars).filter(|at| spell.hits(*at)) {
                    if self.sidecars[at].health.is_good() {
                        self.fail(at);
                    }
                }
            }
            What::Paused | What::CutOff | What::Slow(_) => {}
        }
    }

    /// A sidecar starts, and counts from its trail what it spent before.
    fn start(&mut self, at: usize) {
        let now = self.clock.now();
        let spread = self.dice.byte();
        self.up += 1;
        let sidecar = &mut self.sidecars[at];
        sidecar.start(&self.plan.limits, self.plan.sharing, spread);
        for bucket in sidecar.limits.buckets() {
            if bucket.window().per < COUNTED_FROM_TRAIL_MIN {
                continue;
            }
            let mut spent = Spent::new(self.plan.replicas);
            for sent in &sidecar.trail {
                spent.count(
                    bucket,
                    -i128::try_from((now - *sent).as_nanos()).unwrap_or(0),
                );
            }
            spent.take_from(bucket);
        }
        if self.plan.sharing == Sharing::Store {
            let connection = sidecar.connection;
            self.agenda.plan(
                now,
                Event::Try {
                    sidecar: at,
                    connection,
                },
            );
        }
    }
}
