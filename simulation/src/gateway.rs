//! The gateway's side: hello, push, pull, claim and beat as `server/src/gateway/` answers them, its ticker, its own worker.
//!
//! What is decided within a commit is the real code (`ledger_projections::central` and the deciders behind it). What is asked before
//! a commit, what waits, and what is answered when, is modelled after the server's tasks.

use crate::Control;
use crate::effects::{Ask, Given, MS, Reply, Request, SECOND, Then, Timer, Us, Who};
use crate::link::POLL;
use crate::link::RUN_RECORDS;
use crate::store::{Mark, NotTaken};
use crate::world::World;
use ledger::Receipt;
use ledger::intake::VerifiedRun;
use ledger_core::kinds::{Fence, HandlerDeclared, JobId};
use ledger_core::{Chain, LogId, MachineId, Stream};
use ledger_projections::central::{self, Asked, Heard, Leases, StepError};
use ledger_projections::{Place, Policy};
use std::collections::{BTreeMap, BTreeSet};

const TICK: Us = SECOND;
/// A pause of the ticker from which on the process is taken to have slept.
const PAUSE_MS: u64 = 4000;
const HEAL_WAIT: Us = 60 * SECOND;
/// Jobs in one answer to a claim.
const JOBS_MAX: u32 = 16;

#[derive(Clone, PartialEq, Eq, Debug)]
enum Serving {
    Healing,
    Deciding,
    Frozen,
}

struct Waiting {
    request: Request,
    ask: Ask,
    hellos: u64,
}

/// Central beside its state; dies with the gateway's process.
pub(crate) struct Central {
    serving: Serving,
    leases: Leases,
    heard: BTreeMap<MachineId, Heard>,
    told: BTreeSet<Who>,
    hellos: BTreeMap<Who, u64>,
    waiting: BTreeMap<u64, Waiting>,
    absences: Vec<(i64, i64)>,
    watched_since: i64,
    started_ms: u64,
    heal_until: Us,
    last_tick_ms: u64,
    claims: u64,
}

impl Central {
    pub(crate) fn new(policy: &Policy) -> Self {
        Self {
            serving: Serving::Healing,
            leases: Leases::new(u64::from(policy.term_ms)),
            heard: BTreeMap::new(),
            told: BTreeSet::new(),
            hellos: BTreeMap::new(),
            waiting: BTreeMap::new(),
            absences: Vec::new(),
            watched_since: 0,
            started_ms: 0,
            heal_until: 0,
            last_tick_ms: 0,
            claims: 0,
        }
    }

    pub(crate) fn decides(&self) -> bool {
        self.serving == Serving::Deciding
    }
}

impl World {
    /// The gateway's process begins.
    pub(crate) fn start_gateway(&mut self) {
        self.central = Central::new(&self.policy);
        self.central.started_ms = self.running_ms(0);
        self.central.last_tick_ms = self.central.started_ms;
        self.central.heal_until = self.now + HEAL_WAIT;
        self.central.watched_since = self.wall(0);
        self.wake(0, TICK, Timer::Tick);
    }

    /// Whether signatures are made and verified in this seed.
    pub(crate) fn verifies(&self) -> bool {
        self.options.seed.is_multiple_of(16)
    }

    /// Verifies a run as the engine's intake does.
    pub(crate) fn verify(&self, records: &[Receipt]) -> bool {
        let raw = records
            .iter()
            .map(|r| (r.record.bytes().to_vec(), None))
            .collect();
        let log = records.first().map(Receipt::log);
        let owner = self.machines.iter().find_map(|m| m.store.get(&log?, 0));
        let chain = owner.and_then(|genesis| Chain::start(&genesis.record).ok());
        VerifiedRun::verify(raw, chain.as_ref()).is_ok_and(|run| run.is_some())
    }

    fn node_of(&self, request: &Request) -> MachineId {
        self.machines[request.node].id.clone()
    }

    pub(crate) fn serve(&mut self, request: Request, ask: Ask) {
        let id = self.node_of(&request);
        let (now_us, now_ms) = (self.wall(0), self.running_ms(0));
        let heard = self.central.heard.entry(id).or_insert(Heard {
            first_us: now_us,
            last_us: now_us,
            last_ms: now_ms,
        });
        (heard.last_us, heard.last_ms) = (now_us, now_ms);
        match ask {
            Ask::Hello {
                logs,
                order,
                fences,
                handlers,
            } => self.serve_hello(request, &logs, order, &fences, &handlers),
            Ask::Push { log, records } => self.serve_push(request, log, &records),
            Ask::Pull { wait, .. } | Ask::Claim { wait, .. } => self.serve_poll(request, ask, wait),
            Ask::Beat { fences } => self.serve_beat(request, &fences),
        }
    }

    fn serve_hello(
        &mut self,
        request: Request,
        logs: &[(LogId, Option<Mark>)],
        order: Option<(u64, LogId, Mark)>,
        fences: &[Fence],
        handlers: &[HandlerDeclared],
    ) {
        let store = &self.machines[0].store;
        if let Some((_, log, mark)) = &order
            && !store.holds(log, mark)
        {
            // Somebody has seen what this store lost. Its own disk keeps what it acknowledged, so that must not happen.
            self.central.serving = Serving::Frozen;
            let node = self.node_of(&request);
            self.breaks(
                1,
                format!("{node} has seen seq {} of the order, the gateway lost it", mark.0),
            );
            return;
        }
        *self.central.hellos.entry(request.node).or_insert(0) += 1;
        self.central.told.insert(request.node);
        let marks: Vec<_> = logs.iter().map(|(log, _)| (*log, self.mark(0, log))).collect();
        let pairs = || logs.iter().zip(&marks);
        let behind =
            pairs().any(|((_, theirs), (_, ours))| theirs.map(|mark| mark.0) < ours.map(|mark| mark.0));
        if behind {
            // A hello that was held up on its way tells less than its node has by now; one that tells the truth lost something.
            let lost = logs.iter().any(|(log, _)| {
                let now = self.mark(request.node, log).map(|mark| mark.0);
                now < self.mark(0, log).map(|mark| mark.0)
            });
            if lost {
                let node = self.node_of(&request);
                self.breaks(6, format!("{node} lost what it had pushed"));
            }
            self.answer(request, Reply::Refused("behind"));
            return;
        }
        let all_here = pairs().take(2).all(|((_, theirs), (_, ours))| theirs == ours);
        let healing = !self.central.decides();
        if healing || !all_here {
            let reply = Reply::Hello {
                marks,
                synced: false,
                healing,
            };
            self.answer(request, reply);
            return;
        }
        let now_ms = self.running_ms(0);
        let node = self.node_of(&request);
        let fences = match self.options.control {
            Control::DeafHello => &[],
            _ => fences,
        };
        for fence in fences {
            let claim = self.machines[0].store.seen.fence(fence);
            if claim.is_some_and(|claim| claim.machine == node) {
                self.central.leases.renew(fence, now_ms);
            }
        }
        let seen = match (self.options.control, order) {
            (Control::StaleHello, _) => Place::MAX,
            (_, Some((epoch, _, (seq, _)))) => Place { epoch, seq },
            (_, None) => Place::MIN,
        };
        let settled = self.commit(0, |tx| {
            central::greet(tx, &node, handlers, fences, seen)?;
            Ok::<_, StepError>(vec![Then::Greeted(request, marks)])
        });
        if !settled {
            self.answer(request, Reply::Refused("hello"));
        }
    }

    pub(crate) fn greeted(&mut self, request: Request, marks: Vec<(LogId, Option<Mark>)>) {
        let reply = Reply::Hello {
            marks,
            synced: true,
            healing: false,
        };
        self.answer(request, reply);
    }

    fn serve_push(&mut self, request: Request, log: LogId, records: &[Receipt]) {
        if !self.central.decides() {
            self.answer(request, Reply::Refused("Central does not decide"));
            return;
        }
        if self.verifies() && !self.verify(records) {
            self.breaks(8, "a pushed run does not verify".to_owned());
            return;
        }
        let (node, policy) = (self.node_of(&request), self.policy);
        let voice = &self.machines[request.node].voice;
        let streams = [Stream::Work, Stream::Facts, Stream::Pulse];
        let stream = streams.into_iter().find(|stream| voice.log(*stream) == log);
        let taken = self.commit(0, |tx| {
            let new = tx.intake(records).map_err(|e| match e {
                NotTaken::Gap => "a gap in a push".to_owned(),
                NotTaken::Fork => "a fork in a push".to_owned(),
            })?;
            let stream = stream.ok_or("a log of nobody")?;
            central::admit(tx, &new, &[], stream, None, &node, &policy).map_err(|e| e.to_string())?;
            Ok::<_, String>(vec![Then::Pushed(request, log)])
        });
        if !taken {
            self.answer(request, Reply::Refused("push"));
        }
    }

    pub(crate) fn pushed(&mut self, request: Request, log: &LogId) {
        let durable = self.mark(0, log);
        let mark = match self.options.control {
            Control::AckBeforeSync => self.machines[0].store.mark_at_tip(log),
            _ => durable,
        };
        if let Some(mark) = mark {
            self.oracle.promise(0, *log, mark);
        }
        self.answer(request, Reply::Push { mark });
    }

    fn serve_poll(&mut self, request: Request, ask: Ask, wait: Us) {
        if matches!(ask, Ask::Claim { .. }) && !self.central.decides() {
            self.answer(request, Reply::Refused("Central does not decide"));
            return;
        }
        let hellos = self.central.hellos.get(&request.node).copied().unwrap_or(0);
        let waiting = Waiting { request, ask, hellos };
        if !self.serve_one(&waiting) {
            self.central.waiting.insert(request.number, waiting);
            self.wake(0, wait.min(POLL), Timer::PollEnds(request.number));
        }
    }

    // Whether a poll has its answer, or will have it when what it led to is durable.
    fn serve_one(&mut self, waiting: &Waiting) -> bool {
        let request = waiting.request;
        match &waiting.ask {
            Ask::Pull { log, after, .. } => {
                let store = &self.machines[0].store;
                if after.is_some_and(|mark| !store.holds(log, &mark)) {
                    let node = self.node_of(&request);
                    self.breaks(
                        8,
                        format!("{node} has a record of {} that nobody wrote", log.short()),
                    );
                    return true;
                }
                let next = after.map_or(0, |(seq, _)| seq + 1);
                let records = store.run_of(log, next, RUN_RECORDS);
                if records.is_empty() {
                    return false;
                }
                let complete = records.len() < RUN_RECORDS;
                self.answer(request, Reply::Pull { records, complete });
                true
            }
            Ask::Claim { claim, free, .. } => {
                let asked = Asked {
                    machine: self.node_of(&request),
                    incarnation: 1,
                    claim: *claim,
                    free: free.clone(),
                    most: JOBS_MAX,
                };
                // A hello voids what was claimed before it.
                let void = self.central.hellos.get(&request.node).copied().unwrap_or(0) != waiting.hellos;
                !void && self.give(&asked, Some(request))
            }
            _ => true,
        }
    }

    // Whether something was found to be given.
    fn give(&mut self, asked: &Asked, request: Option<Request>) -> bool {
        let (policy, now) = (self.policy, self.wall(0));
        let found = asked.finds(&self.machines[0].store.seen, now, &policy);
        if !found.unwrap_or(false) || !self.central.decides() {
            return false;
        }
        let mut empty = true;
        self.commit(0, |tx| {
            let claims = central::give(tx, asked, &policy)?;
            empty = claims.is_empty();
            Ok::<_, StepError>(vec![Then::Gave(request, claims)])
        });
        !empty
    }

    /// Claims are durable: they are told to whom they were given.
    pub(crate) fn gave(&mut self, request: Option<Request>, claims: &[(Fence, JobId)]) {
        if claims.is_empty() {
            return;
        }
        let now_ms = self.running_ms(0);
        let mut jobs = Vec::new();
        for (fence, job) in claims {
            self.central.leases.renew(fence, now_ms);
            // Early only where a control says so.
            let state = &self.machines[0].store.tip;
            let (Some(row), Some(claim)) = (state.job(job), state.fence(fence)) else {
                continue;
            };
            jobs.push(Given {
                fence: *fence,
                job: *job,
                handler: row.spec.handler.clone(),
                attempt: claim.attempt,
                class: claim.class,
            });
            let order = self.machines[0].voice.log(Stream::Order);
            let claimed = self.machines[0]
                .store
                .at(&order, fence.seq)
                .map(Receipt::seal_digest);
            if let Some(seal) = claimed {
                self.oracle.promise(0, order, (fence.seq, seal));
            }
        }
        match request {
            Some(request) => self.answer(request, Reply::Claim { jobs }),
            None => jobs.into_iter().for_each(|given| self.take(0, given)),
        }
    }

    /// Something is new: polls that wait may have their answer now.
    pub(crate) fn serve_waiting(&mut self) {
        let numbers: Vec<u64> = self.central.waiting.keys().copied().collect();
        for number in numbers {
            let Some(waiting) = self.central.waiting.remove(&number) else {
                continue;
            };
            if !self.serve_one(&waiting) {
                self.central.waiting.insert(number, waiting);
            }
        }
    }

    pub(crate) fn poll_ends(&mut self, number: u64) {
        let Some(waiting) = self.central.waiting.remove(&number) else {
            return;
        };
        let reply = match waiting.ask {
            Ask::Claim { .. } => Reply::Claim { jobs: Vec::new() },
            _ => Reply::Pull {
                records: Vec::new(),
                complete: true,
            },
        };
        self.answer(waiting.request, reply);
    }

    fn serve_beat(&mut self, request: Request, fences: &[Fence]) {
        let node = self.node_of(&request);
        let reply = central::beat(&self.machines[0].store.seen, &node, fences);
        let now_ms = self.running_ms(0);
        for fence in &reply.renewed {
            self.central.leases.renew(fence, now_ms);
        }
        let reply = Reply::Beat {
            standing: reply.standing,
            hello: reply.hello,
        };
        self.answer(request, reply);
    }

    /// The gateway's own worker claims, without the wire.
    pub(crate) fn claim_here(&mut self) {
        let free = self.free(0);
        if free.is_empty() || !self.central.decides() {
            return;
        }
        self.central.claims += 1;
        let mut claim = [0; 16];
        claim[..8].copy_from_slice(&self.central.claims.to_be_bytes());
        claim[8..12].copy_from_slice(&self.machines[0].life.to_be_bytes());
        let asked = Asked {
            machine: self.machines[0].id.clone(),
            incarnation: 1,
            claim,
            free,
            most: JOBS_MAX,
        };
        self.give(&asked, None);
    }

    pub(crate) fn tick(&mut self) {
        self.wake(0, TICK, Timer::Tick);
        let (now_ms, now_us) = (self.running_ms(0), self.wall(0));
        let pause_ms = now_ms.saturating_sub(self.central.last_tick_ms);
        self.central.last_tick_ms = now_ms;
        if pause_ms > PAUSE_MS {
            self.central.watched_since = now_us;
            for heard in self.central.heard.values_mut() {
                heard.last_ms += pause_ms;
            }
            self.central.leases.slept(pause_ms);
            if pause_ms >= self.policy.lost_after_ms {
                let pause_us = i64::try_from(pause_ms).unwrap_or(0) * MS;
                self.central.absences.push((now_us - pause_us, now_us));
            }
        }
        if self.central.serving == Serving::Healing {
            let all = self.central.told.len() + 1 == self.machines.len();
            if all || self.now >= self.central.heal_until {
                self.central.leases.clear();
                self.central.serving = Serving::Deciding;
                self.note(|_| "Central decides".to_owned());
                self.begin_work();
            }
        }
        if self.central.decides() {
            self.tick_once(now_ms, now_us);
            // Its own worker looks now and then, too: a rate admits more by time alone.
            self.claim_here();
        }
    }

    fn tick_once(&mut self, now_ms: u64, now_us: i64) {
        let state = self.machines[0].store.seen.clone();
        let heard = |id: &MachineId| self.central.heard.get(id).copied();
        let started_ms = self.central.started_ms;
        let mut due = central::silences(&state, heard, |_| None, started_ms, now_ms, &self.policy);
        let held = self.fences(0);
        due.over = central::overdue(&state, &held, &mut self.central.leases, now_ms);
        due.absences = std::mem::take(&mut self.central.absences);
        due.watched_since = self.central.watched_since;
        if due.is_quiet(&state, now_us, &self.policy) {
            return;
        }
        for (id, _) in &due.lost {
            self.central.heard.remove(id);
        }
        let policy = self.policy;
        let mut leases = self.central.leases.clone();
        let ticked = self.commit(0, |tx| {
            central::tick(tx, &due, &held, |fence| leases.is_over(fence, now_ms), &policy)?;
            Ok::<_, StepError>(Vec::new())
        });
        if !ticked {
            self.breaks(7, "the ticker could not write what time brought".to_owned());
        }
    }

    // What an earlier process left is told, what it claimed and never began is given back.
    fn begin_work(&mut self) {
        self.recover(0);
        let (id, fences) = (self.machines[0].id.clone(), self.fences(0));
        let handlers = self.machines[0].handlers.clone();
        self.commit(0, |tx| {
            central::greet(tx, &id, &handlers, &fences, Place::MAX)?;
            Ok::<_, StepError>(Vec::new())
        });
    }

    /// A process of a machine begins.
    pub(crate) fn start(&mut self, who: Who) {
        self.machines[who].up = true;
        self.machines[who].held.clear();
        if who == 0 {
            self.start_gateway();
        } else {
            self.start_link(who);
            self.recover(who);
        }
    }

    /// A machine that was killed comes back.
    pub(crate) fn restart(&mut self, who: Who) {
        if self.machines[who].up {
            return;
        }
        self.note(|world| format!("{} restarts", world.machines[who].id));
        self.check_promises(who);
        self.start(who);
    }
}
