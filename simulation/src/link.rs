//! A node's side of the link, as `server/src/node/link.rs` and `beats.rs` have it: hello, everything that the gateway lacks, hello
//! again; the order by long poll; claims only after everything was judged and never beside a hello; beats.
//!
//! The loops are modelled here, since they are tasks there. What they send and what becomes of the answers follows the same rules.

use crate::effects::{Ask, Event, Given, Loop, MS, Reply, Request, SECOND, Then, Timer, Us, Who};
use crate::store::{Mark, NotTaken};
use crate::world::World;
use ledger_core::kinds::Fence;
use ledger_core::{LogId, Stream};
use std::collections::BTreeMap;

/// As the daemon's timing has it by default.
pub(crate) const POLL: Us = 10 * SECOND;
const BEAT: Us = 15 * SECOND;
const PULSE: Us = 60 * SECOND;
const MIRROR: Us = 60 * SECOND;
const EXCHANGE_TIMEOUT: Us = 10 * SECOND;
const HEALING_WAIT: Us = 250 * MS;
const RETRY_MIN: Us = 50 * MS;
/// Records in one push or answer to a pull.
pub(crate) const RUN_RECORDS: usize = 64;

/// What a node's process knows of its link.
#[derive(Default)]
pub(crate) struct Link {
    sent: BTreeMap<Loop, (u64, u64)>,
    failures: BTreeMap<Loop, u32>,
    ready_at: BTreeMap<Loop, Us>,
    marks: Option<Vec<(LogId, Option<Mark>)>>,
    synced: bool,
    next_hello: Us,
    pushing: Option<LogId>,
    hello_out: bool,
    hello_wanted: bool,
    unanswered: Option<[u8; 16]>,
    beat_ms: u64,
}

impl World {
    /// A node's process begins: its timers.
    pub(crate) fn start_link(&mut self, who: Who) {
        self.machines[who].link = Link::default();
        let jitter = self.rng.i64(0..=SECOND);
        for of in [Loop::Push, Loop::Pull, Loop::Mirror] {
            self.wake(who, jitter, Timer::Go(of));
        }
        self.wake(who, BEAT, Timer::Beat);
        self.wake(who, PULSE, Timer::Pulse);
    }

    fn request(&mut self, who: Who, of: Loop, ask: Ask, patience: Us) {
        self.requests += 1;
        let request = Request {
            node: who,
            of,
            number: self.requests,
            life: self.machines[who].life,
            gateway_life: self.machines[0].life,
        };
        let sent_ms = self.running_ms(who);
        self.machines[who].link.sent.insert(of, (request.number, sent_ms));
        self.note(|world| format!("{} asks {}", world.machines[who].id, ask.name()));
        self.wake(who, patience, Timer::Timeout(request));
        self.send(who, true, Event::Ask(request, ask));
    }

    fn own_logs(&self, who: Who) -> [LogId; 3] {
        let voice = &self.machines[who].voice;
        [Stream::Work, Stream::Facts, Stream::Pulse].map(|stream| voice.log(stream))
    }

    /// A loop goes on, if it may.
    pub(crate) fn go(&mut self, who: Who, of: Loop) {
        let link = &self.machines[who].link;
        let early = link.ready_at.get(&of).is_some_and(|at| *at > self.now);
        if who == 0 || !self.machines[who].up || early || link.sent.contains_key(&of) {
            return;
        }
        match of {
            Loop::Push => self.go_push(who),
            Loop::Pull => self.go_pull(who),
            Loop::Mirror => self.go_mirror(who),
            Loop::Claim => self.go_claim(who),
            Loop::Beat => {}
        }
    }

    fn go_push(&mut self, who: Who) {
        let Some(marks) = &self.machines[who].link.marks else {
            self.greet(who);
            return;
        };
        let own = marks.iter().map(|(log, _)| self.mark(who, log));
        let lacks: Vec<bool> = own.zip(marks).map(|(own, (_, mark))| own != *mark).collect();
        let synced = self.machines[who].link.synced;
        let judged = !lacks[0] && !lacks[1];
        match lacks.iter().position(|lacks| *lacks) {
            Some(at) if synced || !judged => {
                let (log, mark) = marks[at];
                let next = mark.map_or(0, |(seq, _)| seq + 1);
                let records = self.machines[who].store.run_of(&log, next, RUN_RECORDS);
                if records.is_empty() {
                    // The gateway has another record there, or more than is here.
                    self.fail(who, Loop::Push, "the gateway's mark is not ours");
                    return;
                }
                self.machines[who].link.pushing = Some(log);
                self.request(who, Loop::Push, Ask::Push { log, records }, EXCHANGE_TIMEOUT);
            }
            _ if !synced => self.greet(who),
            _ => {
                let wait = (self.machines[who].link.next_hello - self.now).max(0);
                if wait == 0 {
                    // A hello now and then notices what nobody else would.
                    self.machines[who].link.synced = false;
                    self.greet(who);
                }
            }
        }
    }

    // A hello that settles fences and a claim exclude each other.
    fn greet(&mut self, who: Who) {
        let link = &mut self.machines[who].link;
        if link.sent.contains_key(&Loop::Claim) {
            link.hello_wanted = true;
            return;
        }
        link.hello_wanted = false;
        link.hello_out = true;
        link.unanswered = None;
        let fences = self.fences(who);
        let logs = self.own_logs(who).map(|log| (log, self.mark(who, &log))).to_vec();
        let order = self.machines[who].store.seen.order();
        let order = order.and_then(|o| Some((o.epoch, o.log, self.mark(who, &o.log)?)));
        let handlers = self.machines[who].handlers.clone();
        let hello = Ask::Hello {
            logs,
            order,
            fences,
            handlers,
        };
        self.request(who, Loop::Push, hello, EXCHANGE_TIMEOUT);
    }

    fn go_pull(&mut self, who: Who) {
        let Some(log) = self.machines[who].store.seen.order().map(|order| order.log) else {
            return;
        };
        let after = self.mark(who, &log);
        let pull = Ask::Pull {
            log,
            after,
            wait: POLL,
        };
        self.request(who, Loop::Pull, pull, EXCHANGE_TIMEOUT + POLL);
    }

    // The gateway's own work and facts, in turns.
    fn go_mirror(&mut self, who: Who) {
        if !self.machines[who].link.synced {
            self.wake(who, MIRROR, Timer::Go(Loop::Mirror));
            return;
        }
        let behind = [Stream::Work, Stream::Facts].map(|stream| self.machines[0].voice.log(stream));
        let log = behind[usize::from(self.rng.bool())];
        let pull = Ask::Pull {
            log,
            after: self.mark(who, &log),
            wait: 0,
        };
        self.request(who, Loop::Mirror, pull, EXCHANGE_TIMEOUT);
    }

    fn go_claim(&mut self, who: Who) {
        let link = &self.machines[who].link;
        if !link.synced || link.hello_out || link.hello_wanted {
            return;
        }
        let term_ms = u64::from(self.policy.term_ms);
        let leased = self.running_ms(who).saturating_sub(link.beat_ms) < term_ms * 8 / 10;
        let free = self.free(who);
        if free.is_empty() || !leased {
            self.wake(who, BEAT, Timer::Go(Loop::Claim));
            return;
        }
        let mut fresh = [0; 16];
        self.rng.fill(&mut fresh);
        let claim = *self.machines[who].link.unanswered.get_or_insert(fresh);
        let ask = Ask::Claim {
            claim,
            free,
            wait: POLL,
        };
        self.request(who, Loop::Claim, ask, EXCHANGE_TIMEOUT + POLL);
    }

    /// A slot became free: a claim that is on its way is asked again with it, under the same id.
    pub(crate) fn room(&mut self, who: Who) {
        if who == 0 {
            self.claim_here();
        } else {
            self.machines[who].link.sent.remove(&Loop::Claim);
            if self.machines[who].link.hello_wanted {
                self.go(who, Loop::Push);
            }
            self.go(who, Loop::Claim);
        }
    }

    pub(crate) fn beat(&mut self, who: Who) {
        self.wake(who, BEAT, Timer::Beat);
        let fences = self.fences(who);
        self.request(who, Loop::Beat, Ask::Beat { fences }, BEAT);
    }

    pub(crate) fn pulse(&mut self, who: Who) {
        self.wake(who, PULSE, Timer::Pulse);
        self.say_pulse(who);
    }

    pub(crate) fn timed_out(&mut self, request: Request) {
        let link = &mut self.machines[request.node].link;
        if link.sent.get(&request.of).map(|(number, _)| *number) == Some(request.number) {
            link.sent.remove(&request.of);
            self.fail(request.node, request.of, "no answer");
        }
    }

    // An exchange failed: hello comes first again, and a claim that is on its way is not heeded any more.
    fn fail(&mut self, who: Who, of: Loop, why: &'static str) {
        if of == Loop::Beat {
            return;
        }
        self.note(|world| format!("{}: {of:?} failed: {why}", world.machines[who].id));
        let link = &mut self.machines[who].link;
        let failures = link.failures.entry(of).or_insert(0);
        *failures = (*failures + 1).min(12);
        let base = (RETRY_MIN << *failures).min(POLL);
        let wait = base / 2 + self.rng.i64(0..=base / 2);
        link.ready_at.insert(of, self.now + wait);
        link.synced = false;
        if of == Loop::Push {
            link.marks = None;
            link.hello_out = false;
        }
        if of != Loop::Claim && link.sent.remove(&Loop::Claim).is_some() {
            link.unanswered = None;
        }
        let push_waits = !link.sent.contains_key(&Loop::Push);
        if of != Loop::Push && push_waits {
            link.marks = None;
            self.wake(who, 0, Timer::Go(Loop::Push));
        }
        self.wake(who, wait, Timer::Go(of));
    }

    pub(crate) fn replied(&mut self, request: Request, reply: Reply) {
        let (who, of) = (request.node, request.of);
        let link = &mut self.machines[who].link;
        let Some((number, sent_ms)) = link.sent.get(&of).copied() else {
            return;
        };
        if number != request.number {
            return;
        }
        link.sent.remove(&of);
        if let Reply::Refused(why) = reply {
            self.fail(who, of, why);
            return;
        }
        link.failures.remove(&of);
        match reply {
            Reply::Hello {
                marks,
                synced,
                healing,
            } => self.hello_replied(who, sent_ms, marks, synced, healing),
            Reply::Push { mark } => self.push_replied(who, mark),
            Reply::Pull { records, complete } => self.pull_replied(who, of, records, complete),
            Reply::Claim { jobs } => self.claim_replied(who, jobs),
            Reply::Beat { standing, hello } => {
                self.machines[who].link.beat_ms = sent_ms;
                for (fence, standing) in standing {
                    self.heed(who, &fence, standing);
                }
                if hello {
                    self.fail(who, Loop::Mirror, "hello is wanted");
                }
            }
            Reply::Refused(_) => {}
        }
    }

    fn hello_replied(
        &mut self,
        who: Who,
        sent_ms: u64,
        marks: Vec<(LogId, Option<Mark>)>,
        synced: bool,
        healing: bool,
    ) {
        let link = &mut self.machines[who].link;
        link.hello_out = false;
        if healing {
            link.marks = None;
            link.ready_at.insert(Loop::Push, self.now + HEALING_WAIT);
            self.wake(who, HEALING_WAIT, Timer::Go(Loop::Push));
            return;
        }
        if synced {
            link.beat_ms = sent_ms;
        }
        if link.marks.is_some() {
            link.synced = synced;
            link.next_hello = self.now + POLL;
            self.wake(who, POLL, Timer::Go(Loop::Push));
        } else {
            link.marks = Some(marks);
        }
        self.wake(who, MS, Timer::Go(Loop::Push));
        self.go(who, Loop::Claim);
    }

    fn push_replied(&mut self, who: Who, mark: Option<Mark>) {
        self.note(|world| format!("{}: pushed up to {mark:?}", world.machines[who].id));
        let Some(log) = self.machines[who].link.pushing.take() else {
            return;
        };
        let marks = self.machines[who].link.marks.as_mut();
        let entry = marks.and_then(|marks| marks.iter_mut().find(|(of, _)| *of == log));
        let Some((_, before)) = entry else {
            self.go(who, Loop::Push);
            return;
        };
        if mark.map(|(seq, _)| seq) <= before.map(|(seq, _)| seq) {
            self.fail(who, Loop::Push, "the mark did not move by a push");
            return;
        }
        *before = mark;
        self.go(who, Loop::Push);
    }

    fn pull_replied(&mut self, who: Who, of: Loop, records: Vec<ledger::Receipt>, complete: bool) {
        if records.is_empty() {
            self.pulled(who, of, false);
            return;
        }
        if self.verifies() && !self.verify(&records) {
            self.breaks(8, "a pulled run does not verify".to_owned());
            return;
        }
        let taken = self.commit(who, |tx| match tx.intake(&records) {
            Ok(_) => Ok(vec![Then::Pulled(of, !complete)]),
            Err(NotTaken::Gap) => Err("a gap in what was pulled"),
            Err(NotTaken::Fork) => Err("a fork of what was pulled"),
        });
        if !taken {
            self.fail(who, of, "what was pulled does not fit");
        }
    }

    pub(crate) fn pulled(&mut self, who: Who, of: Loop, more: bool) {
        if of == Loop::Mirror && !more {
            self.wake(who, MIRROR, Timer::Go(of));
        } else {
            self.wake(who, MS, Timer::Go(of));
        }
    }

    fn claim_replied(&mut self, who: Who, jobs: Vec<Given>) {
        self.machines[who].link.unanswered = None;
        for given in jobs {
            self.take(who, given);
        }
        if self.machines[who].link.hello_wanted {
            self.go(who, Loop::Push);
        }
        self.wake(who, MS, Timer::Go(Loop::Claim));
    }

    /// Every claim that a machine holds and has not told the end of, as far as that is durable.
    pub(crate) fn fences(&self, who: Who) -> Vec<Fence> {
        let machine = &self.machines[who];
        let state = &machine.store.seen;
        let open = |fence: &Fence| state.run(fence).is_none_or(|run| run.ended.is_none());
        let runs = state.runs().filter(|(_, run)| run.ended.is_none());
        let mut fences: Vec<Fence> = runs.map(|(fence, _)| *fence).collect();
        fences.extend(machine.held.keys().filter(|fence| open(fence)));
        fences.sort_unstable();
        fences.dedup();
        fences
    }
}
