//! The simulated fleet and its one thread of time: events in their order, commits, and the network between.

use crate::effects::{Ask, Event, Loop, MINUTE, MS, Reply, Request, SECOND, Then, Timer, Us, Who};
use crate::faults::{Faults, Wire};
use crate::founding::{BEGIN_US, NAMES, founded};
use crate::gateway::Central;
use crate::link::Link;
use crate::oracle::Oracle;
use crate::runs::{Held, Outcome};
use crate::store::{Mark, SimTx, Store, Voice};
use crate::{Control, Failure, Options, Report};
use ledger_core::kinds::{Fence, HandlerDeclared, PinnedRange};
use ledger_core::{LogId, MachineId, SigningKey, Stream};
use ledger_projections::Policy;
use ledger_projections::central::put;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

/// Steps after which a run is given up: something goes round in circles.
const STEPS_MAX: u64 = 50_000_000;
/// How long the fleet may take to come to rest once the faults end.
const REST_MAX: Us = 180 * MINUTE;
/// How often it is asked whether it has come to rest.
const REST_STEP: Us = 5 * SECOND;

/// A machine of the fleet. What is not in its store, its `leftovers` or its clocks dies with its process.
pub(crate) struct Machine {
    pub(crate) id: MachineId,
    pub(crate) voice: Voice,
    pub(crate) actor: Arc<SigningKey>,
    pub(crate) handlers: Vec<HandlerDeclared>,
    pub(crate) store: Store,
    pub(crate) up: bool,
    pub(crate) life: u32,
    /// Asleep until then.
    pub(crate) wakes_at: Us,
    /// How far its wall clock is off, and how fast it goes wrong, in parts per million.
    pub(crate) offset: Us,
    pub(crate) drift_ppm: i64,
    /// The longest that a sync takes.
    pub(crate) sync_max: Us,
    pub(crate) land_at: Us,
    pub(crate) held: BTreeMap<Fence, Held>,
    /// What runs left on disk before their end was told.
    pub(crate) leftovers: BTreeMap<Fence, Outcome>,
    pub(crate) link: Link,
}

struct Entry(Us, u64, Event);

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

/// See the module.
pub(crate) struct World {
    pub(crate) options: Options,
    pub(crate) rng: fastrand::Rng,
    pub(crate) now: Us,
    pub(crate) policy: Policy,
    pub(crate) machines: Vec<Machine>,
    pub(crate) central: Central,
    pub(crate) wires: Vec<Wire>,
    pub(crate) faults: Faults,
    pub(crate) oracle: Oracle,
    pub(crate) quiet: bool,
    pub(crate) requests: u64,
    signed: bool,
    events: BinaryHeap<Reverse<Entry>>,
    scheduled: u64,
    steps: u64,
    trace: Vec<String>,
}

impl World {
    pub(crate) fn new(options: Options) -> Self {
        let mut rng = fastrand::Rng::with_seed(options.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5eed);
        let policy = Policy::default();
        let machines: Vec<Machine> = founded()
            .iter()
            .map(|founded| Machine {
                id: founded.id.clone(),
                voice: founded.voice.clone(),
                actor: Arc::clone(&founded.actor),
                handlers: founded.handlers.clone(),
                store: founded.store.clone(),
                up: true,
                life: 0,
                wakes_at: 0,
                offset: 0,
                drift_ppm: 0,
                sync_max: 20 * MS,
                land_at: 0,
                held: BTreeMap::new(),
                leftovers: BTreeMap::new(),
                link: Link::default(),
            })
            .collect();
        let faults = Faults::drawn(&mut rng, options.minutes);
        let mut oracle = Oracle::default();
        for machine in &machines {
            oracle.founded(&machine.store);
        }
        let mut world = Self {
            // Signing and strict verification cost most of the time, and are the same code for every seed.
            signed: options.seed.is_multiple_of(16),
            wires: vec![Wire::default(); machines.len()],
            central: Central::new(&policy),
            options,
            rng,
            now: 0,
            policy,
            machines,
            faults,
            oracle,
            quiet: false,
            requests: 0,
            events: BinaryHeap::new(),
            scheduled: 0,
            steps: 0,
            trace: Vec::new(),
        };
        for who in 0..world.machines.len() {
            world.machines[who].drift_ppm = world.rng.i64(-100..=100);
            world.start(who);
        }
        world.after(SECOND, Event::Client);
        if world.faults.any() {
            world.after(SECOND, Event::Fault);
        }
        world
    }

    /// The whole run: faults and load, then rest.
    pub(crate) fn run(mut self) -> Result<Report, Failure> {
        let end = i64::try_from(self.options.minutes).unwrap_or(i64::MAX / MINUTE) * MINUTE;
        self.run_until(end);
        self.check_all();
        self.calm();
        let begun = self.now;
        while !self.is_broken() {
            let until = self.now + REST_STEP;
            self.run_until(until);
            let waits_for = self.unrest();
            let Some(what) = waits_for else { break };
            if self.now - begun > REST_MAX {
                let minutes = REST_MAX / MINUTE;
                self.breaks(
                    10,
                    format!("no rest {minutes} minutes after the last fault: {what}"),
                );
            }
        }
        let took = self.now - begun;
        self.check_all();
        self.check_rest();
        let report = self.report(took);
        match self.oracle.broken.take() {
            Some(broken) => Err(Failure {
                options: self.options,
                at_us: broken.at,
                invariant: broken.invariant,
                text: broken.text,
                trace: self.trace,
            }),
            None => Ok(report),
        }
    }

    fn report(&self, rest_us: Us) -> Report {
        let state = &self.machines[0].store.seen;
        Report {
            steps: self.steps,
            receipts: self.machines.iter().map(|m| m.store.journal.len()).sum(),
            jobs: state.jobs().count(),
            succeeded: state.jobs_in(ledger_projections::queue::Phase::Succeeded).count(),
            late: self.oracle.late,
            runs: self.oracle.runs(),
            faults: self.faults.happened,
            rest_us,
        }
    }

    fn run_until(&mut self, until: Us) {
        while !self.is_broken() {
            let due = self.events.peek().is_some_and(|Reverse(entry)| entry.0 <= until);
            let Some(Reverse(Entry(at, _, event))) = due.then(|| self.events.pop()).flatten() else {
                self.now = until;
                return;
            };
            self.now = at;
            self.steps += 1;
            if self.steps > STEPS_MAX {
                self.breaks(14, format!("more than {STEPS_MAX} steps"));
            }
            self.step(event);
        }
    }

    fn step(&mut self, event: Event) {
        match event {
            Event::Ask(request, ask) => self.asked(request, ask),
            Event::Reply(request, reply) => {
                let machine = &self.machines[request.node];
                if machine.up && machine.life == request.life && machine.wakes_at <= self.now {
                    self.replied(request, reply);
                }
            }
            Event::Wake(who, life, timer) => {
                let machine = &self.machines[who];
                if !machine.up || machine.life != life {
                    return;
                }
                if machine.wakes_at > self.now {
                    let at = machine.wakes_at;
                    self.at(at, Event::Wake(who, life, timer));
                    return;
                }
                self.woken(who, timer);
            }
            Event::Client => self.client(),
            Event::Fault => self.fault(),
            Event::Restart(who) => self.restart(who),
            Event::Heal(fault) => self.heal(fault),
        }
    }

    fn woken(&mut self, who: Who, timer: Timer) {
        match timer {
            Timer::Land => self.land(who),
            Timer::Go(of) => self.go(who, of),
            Timer::Timeout(request) => self.timed_out(request),
            Timer::Beat => self.beat(who),
            Timer::Pulse => self.pulse(who),
            Timer::Tick => self.tick(),
            Timer::PollEnds(number) => self.poll_ends(number),
            Timer::RunEnds(fence) => self.run_ends(who, &fence),
            Timer::Checkpoint(fence) => self.checkpoint(who, &fence),
            Timer::Tell(fence) => self.tell(who, &fence),
        }
    }

    pub(crate) fn at(&mut self, at: Us, event: Event) {
        self.scheduled += 1;
        self.events
            .push(Reverse(Entry(at.max(self.now), self.scheduled, event)));
    }

    pub(crate) fn after(&mut self, wait: Us, event: Event) {
        self.at(self.now + wait, event);
    }

    /// Wakes a machine's present process after a while.
    pub(crate) fn wake(&mut self, who: Who, wait: Us, timer: Timer) {
        let life = self.machines[who].life;
        self.after(wait, Event::Wake(who, life, timer));
    }

    /// A machine's wall clock, microseconds since 1970.
    pub(crate) fn wall(&self, who: Who) -> i64 {
        let machine = &self.machines[who];
        BEGIN_US + self.now + machine.offset + self.now / 1_000_000 * machine.drift_ppm
    }

    /// A machine's clock that counts sleep, milliseconds.
    pub(crate) fn running_ms(&self, who: Who) -> u64 {
        let machine = &self.machines[who];
        u64::try_from((self.now + self.now / 1_000_000 * machine.drift_ppm) / MS).unwrap_or(0)
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.oracle.broken.is_some()
    }

    pub(crate) fn breaks(&mut self, invariant: u8, text: String) {
        self.oracle.breaks(self.now, invariant, text);
    }

    /// Notes a line for whoever replays a seed.
    pub(crate) fn note(&mut self, line: impl FnOnce(&Self) -> String) {
        if self.options.trace {
            let seconds = self.now / SECOND;
            let text = line(self);
            let (m, s, ms) = (seconds / 60, seconds % 60, self.now / MS % 1000);
            self.trace.push(format!("{m:>4}:{s:02}.{ms:03} {text}"));
        }
    }

    /// One command of a machine, decided at once; what `f` gives besides follows when it is durable. A command that fails leaves
    /// nothing behind.
    pub(crate) fn commit<E: std::fmt::Display>(
        &mut self,
        who: Who,
        f: impl FnOnce(&mut SimTx<'_>) -> Result<Vec<Then>, E>,
    ) -> bool {
        let now_us = self.wall(who);
        let pins = who == 0 && self.central.decides();
        let control = self.options.control;
        let machine = &mut self.machines[who];
        let (len, before) = (machine.store.journal.len(), machine.store.tip.clone());
        let mut tx = SimTx {
            store: &mut machine.store,
            voice: &machine.voice,
            now_us,
            rng: &mut self.rng,
            signed: self.signed,
            control,
        };
        let mut done = f(&mut tx);
        if pins && done.is_ok() && tx.store.journal.len() > len {
            pin_own(&mut tx);
        }
        if let Err(e) = &mut done {
            let text = e.to_string();
            machine.store.abandon(len, before);
            self.note(|world| format!("{}: refused: {text}", world.machines[who].id));
            return false;
        }
        let then = done.unwrap_or_default();
        let (early, late): (Vec<Then>, Vec<Then>) = then.into_iter().partition(|then| match control {
            Control::AckBeforeSync => true,
            Control::ClaimBeforeDurable => matches!(then, Then::Gave(..)),
            Control::StartBeforeDurable => matches!(then, Then::Begin(..)),
            _ => false,
        });
        let nothing = machine.store.journal.len() == len && machine.store.unsynced() == 0;
        machine.store.submit(late);
        if nothing {
            self.land(who);
        } else {
            let longest = self.machines[who].sync_max;
            let at = self.machines[who].land_at.max(self.now) + self.rng.i64(MS / 2..=longest);
            self.machines[who].land_at = at;
            let life = self.machines[who].life;
            self.at(at, Event::Wake(who, life, Timer::Land));
        }
        for then in early {
            self.follow(who, then);
        }
        true
    }

    // The oldest batch is durable.
    fn land(&mut self, who: Who) {
        let (new, then) = self.machines[who].store.land();
        self.published(who, &new);
        for then in then {
            self.follow(who, then);
        }
        if !new.is_empty() {
            self.changed(who);
        }
    }

    fn changed(&mut self, who: Who) {
        self.heed_all(who);
        if who == 0 {
            self.serve_waiting();
            self.claim_here();
        } else {
            self.go(who, Loop::Push);
        }
    }

    fn follow(&mut self, who: Who, then: Then) {
        match then {
            Then::Pushed(request, log) => self.pushed(request, &log),
            Then::Greeted(request, marks) => self.greeted(request, marks),
            Then::Gave(request, claims) => self.gave(request, &claims),
            Then::Promise(log, seq, seal) => self.oracle.promise(who, log, (seq, seal)),
            Then::Asked(job) => self.oracle.asked.push(job),
            Then::Begin(fence) => self.begin(who, &fence),
            Then::Told(fence) => self.told(who, &fence),
            Then::Pulled(of, more) => self.pulled(who, of, more),
        }
    }

    /// What a machine has of a log, as it tells others.
    pub(crate) fn mark(&self, who: Who, log: &LogId) -> Option<Mark> {
        self.machines[who].store.mark(log)
    }

    /// A message over a node's wire; `up` towards the gateway. It may be lost, doubled, late.
    pub(crate) fn send(&mut self, node: Who, up: bool, event: Event) {
        let wire = self.wires[node].clone();
        if (up && wire.up_cut) || (!up && wire.down_cut) || self.rng.f64() < wire.loss {
            return;
        }
        let copies = if self.rng.f64() < wire.doubles { 2 } else { 1 };
        for _ in 0..copies {
            let mut delay = self.rng.i64(MS..=wire.delay_max);
            if self.rng.f64() < wire.stalls {
                delay += self.rng.i64(0..=wire.stall_max);
            }
            self.after(delay, event.clone());
        }
    }

    pub(crate) fn answer(&mut self, request: Request, reply: Reply) {
        self.send(request.node, false, Event::Reply(request, reply));
    }

    fn asked(&mut self, request: Request, ask: Ask) {
        let gateway = &self.machines[0];
        if gateway.wakes_at > self.now {
            return;
        }
        // Requests are bound to the process that they are meant for.
        if !gateway.up || gateway.life != request.gateway_life {
            self.answer(request, Reply::Refused("nobody serves"));
            return;
        }
        self.serve(request, ask);
    }
}

// What `Central::batch_hook` does: the order pins what the batch brought to the gateway's own logs.
fn pin_own(tx: &mut SimTx<'_>) {
    let mut ranges = Vec::new();
    for stream in [Stream::Work, Stream::Facts] {
        let log = tx.voice.log(stream);
        let (last, seal) = tx.tip(&log);
        let first = tx.store.tip.pin(&log).map_or(0, |pin| pin.seq + 1);
        if first <= last {
            ranges.push(PinnedRange {
                log,
                first,
                last,
                seal,
                root: None,
            });
        }
    }
    if !ranges.is_empty() {
        put(tx, ledger_projections::pin(&ranges)).expect("the simulated engine takes every draft");
    }
}

const _: () = assert!(NAMES.len() == 4);
