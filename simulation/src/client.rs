//! The load: an operator at the gateway and people on the nodes ask for work of every kind, and change their minds.

use crate::effects::{Event, MINUTE, SECOND, Then, Us, Who};
use crate::founding::signed;
use crate::store::{SimTx, unix_ms};
use crate::world::World;
use ledger_core::kinds::{JobId, JobSpec, LimitScope, RateLimit, RequestReceived};
use ledger_core::statement::AuthoredStatement;
use ledger_core::{Draft, ReceiptId, Signature, Stream, Subject};
use ledger_projections::central::{StepError, put};
use ledger_projections::queue::{Phase, Refusal, decide};

/// The mean time between two wishes, in a short run and in a long one.
const EVERY: Us = 8 * SECOND;
const EVERY_LONG: Us = 150 * SECOND;
/// How often dead letters are looked through once the load ended.
const TIDY: Us = 30 * SECOND;

/// A request that may be sealed twice.
#[derive(Clone)]
pub(crate) struct Said(AuthoredStatement, Signature);

impl World {
    pub(crate) fn client(&mut self) {
        if self.quiet {
            self.after(TIDY, Event::Client);
            self.tidy();
            return;
        }
        let mean = if self.options.minutes > 120 {
            EVERY_LONG
        } else {
            EVERY
        };
        let wait = self.some_time(mean * 4 / 3);
        self.after(wait, Event::Client);
        match self.rng.u8(0..100) {
            0..70 => self.submit(),
            70..80 => self.cancel(),
            80..90 => self.steer(),
            90..95 => self.pause(),
            _ => self.limit(),
        }
    }

    fn some_job(&mut self, who: Who) -> Option<JobId> {
        let state = &self.machines[who].store.seen;
        let jobs: Vec<JobId> = state.jobs().rev().take(12).map(|job| job.id).collect();
        self.rng.choice(jobs)
    }

    fn spec(&mut self, who: Who) -> JobSpec {
        // Everybody's times are by the gateway's clock, as a person would have them.
        let now = self.wall(0);
        let handler = match self.rng.u8(0..100) {
            0..35 => "tidy",
            35..65 => "render",
            65..99 => "pay",
            _ => "dream",
        };
        let mut spec = JobSpec {
            handler: handler.to_owned(),
            machine: None,
            labels: Vec::new(),
            priority: self.rng.i16(0..3),
            attempts_max: self.rng.u16(1..=3),
            not_before: None,
            deadline: None,
            unique_key: None,
            concurrency_key: None,
            depends_on: Vec::new(),
            hold_on_failed_dependency: self.rng.bool(),
            retry_of: None,
            input: None,
        };
        match self.rng.u8(0..20) {
            0 => spec.not_before = Some(now + self.rng.i64(0..=5 * MINUTE)),
            1..3 => spec.deadline = Some(now + self.rng.i64(10 * SECOND..=10 * MINUTE)),
            3 => spec.unique_key = Some("only".to_owned()),
            4..6 => spec.concurrency_key = Some("disk".to_owned()),
            6..9 => {
                spec.depends_on.extend(self.some_job(who));
                spec.depends_on.extend(self.some_job(who));
            }
            9 if handler == "tidy" => spec.machine = Some(self.machines[who].id.clone()),
            _ => {}
        }
        spec
    }

    fn submit(&mut self) {
        let who = self.rng.usize(0..self.machines.len());
        let machine = &self.machines[who];
        if !machine.up || machine.wakes_at > self.now || (who == 0 && !self.central.decides()) {
            return;
        }
        let spec = match self.some_job(who) {
            Some(job) if self.rng.u8(0..12) == 0 => {
                match decide::retry_spec(&self.machines[who].store.seen, &job) {
                    Ok(spec) => spec,
                    Err(_) => return,
                }
            }
            _ => self.spec(who),
        };
        let mut random = [0; 10];
        self.rng.fill(&mut random);
        let (fleet, actor) = (
            self.machines[who].store.context.fleet,
            self.machines[who].actor.clone(),
        );
        let at = self.wall(who);
        let id = ReceiptId::v7(unix_ms(at), random);
        let subject = Subject::new("request").expect("short");
        let draft = Draft::of(&RequestReceived { spec }, subject);
        let (said, by) = signed(fleet, &actor, draft, id, at);
        let said = Said(said, by);
        self.seal_request(who, &said);
        // Sealed twice, offline and at the gateway, it is one job.
        if who != 0 && self.rng.u8(0..8) == 0 && self.machines[0].wakes_at <= self.now {
            self.seal_request(0, &said);
        }
    }

    fn seal_request(&mut self, who: Who, said: &Said) {
        if who == 0 && !(self.machines[0].up && self.central.decides()) {
            return;
        }
        let stream = if who == 0 { Stream::Order } else { Stream::Facts };
        let policy = self.policy;
        self.commit(who, |tx| {
            let receipt = tx.append_signed(stream, &said.0, said.1);
            let statement = receipt.statement();
            let job = JobId::of_request(&statement.author, &statement.id);
            if who == 0 && tx.store.tip.job(&job).is_none() {
                let drafts = decide::accept_request(&tx.store.tip, &receipt, tx.now_us, &policy)?;
                put(tx, drafts)?;
            }
            Ok::<_, StepError>(vec![
                Then::Promise(receipt.log(), receipt.seq(), receipt.seal_digest()),
                Then::Asked(job),
            ])
        });
    }

    // The operator at the gateway; what is refused changes nothing.
    fn by_hand(&mut self, f: impl FnOnce(&SimTx<'_>) -> Result<Vec<Draft>, Refusal>) {
        let gateway = &self.machines[0];
        if !gateway.up || gateway.wakes_at > self.now || !self.central.decides() {
            return;
        }
        self.commit(0, |tx| {
            let drafts = f(tx)?;
            put(tx, drafts)?;
            Ok::<_, StepError>(Vec::new())
        });
    }

    fn cancel(&mut self) {
        let force = self.rng.u8(0..3) == 0;
        if let Some(job) = self.some_job(0) {
            self.by_hand(|tx| decide::cancel(&tx.store.tip, &job, force, "why not"));
        }
    }

    fn steer(&mut self) {
        let what = self.rng.u8(0..4);
        let Some(job) = self.some_job(0) else { return };
        self.by_hand(|tx| {
            let (state, now) = (&tx.store.tip, tx.now_us);
            match what {
                0 => decide::hold(state, &job, "wait"),
                1 => decide::release(state, &job, now, "go"),
                2 => decide::discard(state, &job, "no"),
                _ => decide::drain(state, "dream", "stale"),
            }
        });
    }

    fn pause(&mut self) {
        let handler = ["tidy", "render", "pay"][self.rng.usize(0..3)];
        let pauses = self.rng.bool();
        let lasts = self.rng.i64(SECOND..=2 * MINUTE);
        self.by_hand(|tx| {
            let (state, now) = (&tx.store.tip, tx.now_us);
            if pauses {
                decide::pause(state, handler, Some(now + lasts), now, "lunch")
            } else {
                decide::unpause(state, handler, "back")
            }
        });
    }

    fn limit(&mut self) {
        let (most, rate) = (self.rng.bool(), self.rng.bool());
        let rate = rate.then_some(RateLimit {
            claims: 2,
            period_ms: 20_000,
        });
        let scope = LimitScope::Handler("tidy".to_owned());
        self.by_hand(|tx| decide::limit(&tx.store.tip, &scope, most.then_some(2), rate, "enough"));
    }

    // The load ended: what only a person can settle is settled.
    fn tidy(&mut self) {
        let state = &self.machines[0].store.seen;
        let parked = state.jobs_in(Phase::Parked).map(|job| job.id);
        let held = state.jobs_in(Phase::Held).filter(|job| {
            use ledger_core::kinds::HeldReason::{ByHand, DependencyFailed};
            use ledger_projections::queue::JobState;
            matches!(
                &job.state,
                JobState::Held {
                    reason: ByHand | DependencyFailed
                }
            )
        });
        let stuck: Vec<JobId> = parked.chain(held.map(|job| job.id)).collect();
        for job in stuck {
            self.by_hand(|tx| decide::discard(&tx.store.tip, &job, "the load ended"));
        }
    }
}
