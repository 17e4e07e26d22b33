//! What must hold, whatever happens: checked at every batch that becomes durable, at every restart, and at the end.
//!
//! The numbers are those of the invariants in `docs/ARCHITECTURE.md`.

use crate::control::said;
use crate::effects::{Us, Who};
use crate::runs::Outcome;
use crate::store::{Mark, Store};
use crate::world::World;
use ledger::Receipt;
use ledger_core::kinds::{AnyDetail, Class, ErrorClass, Fence, JobId, LateVerdict};
use ledger_core::{LogId, SealDigest, Stream};
use ledger_projections::queue::Phase;
use std::collections::{BTreeMap, BTreeSet};

/// One in so many seeds folds all journals anew at the end.
const REBUILD_EVERY: u64 = 8;

/// A rule that did not hold.
pub(crate) struct Broken {
    pub(crate) at: Us,
    pub(crate) invariant: u8,
    pub(crate) text: String,
}

/// A process that ran, as the world knows it and no machine alone.
struct Ran {
    job: JobId,
    class: Class,
    /// Absent while it runs; then how it ended, or nothing when it died with its machine.
    ended: Option<Option<Outcome>>,
}

/// What only somebody who sees everything knows.
#[derive(Default)]
pub(crate) struct Oracle {
    pub(crate) broken: Option<Broken>,
    /// Requests whose authors were told that they are kept.
    pub(crate) asked: Vec<JobId>,
    pub(crate) late: u64,
    durable: BTreeMap<(LogId, u64), SealDigest>,
    promises: BTreeMap<Who, BTreeMap<(LogId, u64), SealDigest>>,
    ran: BTreeMap<Fence, Ran>,
    finals: BTreeSet<JobId>,
}

impl Oracle {
    pub(crate) fn breaks(&mut self, at: Us, invariant: u8, text: String) {
        if self.broken.is_none() {
            self.broken = Some(Broken { at, invariant, text });
        }
    }

    /// What a machine begins with.
    pub(crate) fn founded(&mut self, store: &Store) {
        for receipt in &store.journal {
            self.durable
                .insert((receipt.log(), receipt.seq()), receipt.seal_digest());
        }
    }

    /// Somebody was told that a machine durably has this.
    pub(crate) fn promise(&mut self, who: Who, log: LogId, mark: Mark) {
        self.promises
            .entry(who)
            .or_default()
            .insert((log, mark.0), mark.1);
    }

    pub(crate) fn ended(&mut self, fence: &Fence, outcome: Option<Outcome>) {
        if let Some(ran) = self.ran.get_mut(fence) {
            ran.ended = Some(outcome);
        }
    }

    pub(crate) fn runs(&self) -> usize {
        self.ran.len()
    }
}

impl World {
    /// Records of a machine's store became durable.
    pub(crate) fn published(&mut self, who: Who, new: &[Receipt]) {
        let order = self.machines[0].voice.log(Stream::Order);
        for receipt in new {
            let (log, place) = (receipt.log(), (receipt.log(), receipt.seq()));
            let own = self.machines[who].voice.logs.contains(&Some(log));
            let known = self.oracle.durable.get(&place).copied();
            match known {
                None if own => {
                    self.oracle.durable.insert(place, receipt.seal_digest());
                }
                Some(seal) if seal == receipt.seal_digest() && !own => {}
                _ => {
                    let name = &self.machines[who].id;
                    let what = format!("{name} has another record at seq {} of {}", place.1, log.short());
                    self.breaks(if own { 3 } else { 8 }, what);
                }
            }
            if who == 0 && log == order {
                self.judge(receipt);
            }
        }
        let state = &self.machines[0].store.seen;
        if who == 0 && state.order().is_some_and(|order| order.inert > 0) {
            let kinds: Vec<&str> = new.iter().map(Receipt::kind).collect();
            self.breaks(7, format!("Central wrote what is not possible: {kinds:?}"));
        }
    }

    // One decision of the order against what really happened.
    fn judge(&mut self, receipt: &Receipt) {
        let Some(detail) = said(receipt) else {
            self.breaks(7, format!("{} cannot be read", receipt.kind()));
            return;
        };
        if receipt.kind() != "log.pinned" {
            self.note(|_| format!("order {} {}: {:?}", receipt.seq(), receipt.kind(), detail));
        }
        let ended = |fence: &Fence| self.oracle.ran.get(fence).and_then(|ran| ran.ended).flatten();
        let wrong = match &detail {
            AnyDetail::JobSucceeded(d) => {
                let real = matches!(ended(&d.fence), Some(Outcome::Success { .. }));
                let state = &self.machines[0].store.seen;
                let exclusive = state
                    .fence(&d.fence)
                    .is_some_and(|claim| claim.class == Class::Exclusive);
                let last = state.job(&d.job).and_then(|job| job.last_fence) == Some(d.fence);
                let known = self.oracle.durable.get(&(d.evidence.log, d.evidence.seq));
                if !real {
                    Some("a success stands that no run had")
                } else if exclusive && !last {
                    Some("a success of an exclusive job stands though it was given out again")
                } else if known != Some(&d.evidence.seal) {
                    Some("a success stands whose report is nowhere")
                } else {
                    None
                }
            }
            AnyDetail::JobAttemptFailed(d) => match ended(&d.fence) {
                Some(Outcome::Failure { error, .. }) if error != ErrorClass::Cancelled => None,
                Some(Outcome::Failure { .. }) => {
                    Some("an attempt is charged for a run that was told to stop")
                }
                _ => Some("an attempt is charged for what no handler reported"),
            },
            AnyDetail::JobLateResult(d) => {
                self.oracle.late += 1;
                let stray = d.verdict == LateVerdict::Rejected;
                stray.then_some("a report came under a claim that was never given")
            }
            _ => None,
        };
        if let Some(wrong) = wrong {
            self.breaks(7, format!("{wrong}: {detail:?}"));
        }
        let ends = match &detail {
            AnyDetail::JobSucceeded(d) => Some(d.job),
            AnyDetail::JobFailed(d) => Some(d.job),
            AnyDetail::JobCancelled(d) => Some(d.job),
            AnyDetail::JobExpired(d) => Some(d.job),
            AnyDetail::JobDiscarded(d) => Some(d.job),
            _ => None,
        };
        if let Some(job) = ends
            && !self.oracle.finals.insert(job)
        {
            self.breaks(7, format!("job {job} ended twice: {detail:?}"));
        }
    }

    /// A process starts.
    pub(crate) fn started(&mut self, who: Who, fence: Fence, job: JobId, class: Class) {
        self.note(|world| format!("{} starts {job} under {fence}", world.machines[who].id));
        let ran = Ran {
            job,
            class,
            ended: None,
        };
        if self.oracle.ran.insert(fence, ran).is_some() {
            self.breaks(7, format!("claim {fence} of job {job} was started twice"));
        }
        if class != Class::Exclusive {
            return;
        }
        // What takes effect outside starts again only after its handler itself said that it failed.
        let again = self.oracle.ran.iter().find(|(other, ran)| {
            let failed = matches!(ran.ended, Some(Some(Outcome::Failure { .. })));
            ran.job == job && ran.class == Class::Exclusive && **other != fence && !failed
        });
        if let Some((other, ran)) = again {
            let ended = ran.ended;
            self.breaks(
                7,
                format!("exclusive job {job} started again under {fence}; under {other} it was {ended:?}"),
            );
        }
    }

    /// Whoever was told that a machine keeps something finds it there.
    pub(crate) fn check_promises(&mut self, who: Who) {
        let store = &self.machines[who].store;
        let promises = self.oracle.promises.get(&who);
        let lost = promises.and_then(|promises| {
            promises
                .iter()
                .find(|((log, seq), seal)| !store.holds(log, &(*seq, **seal)))
        });
        if let Some(((log, seq), _)) = lost {
            let name = &self.machines[who].id;
            let text = format!(
                "{name} lost seq {seq} of {}, which it had acknowledged",
                log.short()
            );
            self.breaks(1, text);
        }
    }

    pub(crate) fn check_all(&mut self) {
        for who in 0..self.machines.len() {
            if self.machines[who].up {
                self.check_promises(who);
            }
        }
    }

    /// What the fleet still waits for; nothing when it is at rest.
    pub(crate) fn unrest(&self) -> Option<String> {
        let gateway = &self.machines[0];
        if !self.central.decides() {
            return Some("Central does not decide".to_owned());
        }
        let state = &gateway.store.seen;
        if let Some(job) = state.jobs().find(|job| !job.phase().is_final()) {
            return Some(format!(
                "job {} ({}) is {:?}; the gateway holds {:?}, {:?}",
                job.id,
                job.spec.handler,
                job.state,
                gateway.held,
                state.queue().limits().collect::<Vec<_>>()
            ));
        }
        let order = gateway.voice.log(Stream::Order);
        for (who, machine) in self.machines.iter().enumerate() {
            let name = &machine.id;
            if !self.is_idle(who) {
                return Some(format!("{name} has something to do"));
            }
            if machine.store.seen.runs().next().is_some() {
                return Some(format!("{name} has a run without a verdict"));
            }
            if self.mark(who, &order) != self.mark(0, &order) {
                return Some(format!("{name} lacks a part of the order"));
            }
            for stream in [Stream::Work, Stream::Facts] {
                let (own, of_gateway) = (machine.voice.log(stream), gateway.voice.log(stream));
                if self.mark(0, &own) != self.mark(who, &own) {
                    return Some(format!("the gateway lacks a part of {name}'s {stream}"));
                }
                if self.mark(who, &of_gateway) != self.mark(0, &of_gateway) {
                    return Some(format!("{name} lacks a part of the gateway's {stream}"));
                }
            }
        }
        None
    }

    /// At rest: every request became a job, and every store says the same.
    pub(crate) fn check_rest(&mut self) {
        if self.is_broken() {
            return;
        }
        let state = self.machines[0].store.seen.clone();
        if let Some(job) = self.oracle.asked.iter().find(|job| state.job(job).is_none()) {
            self.breaks(1, format!("request {job} was acknowledged and became no job"));
        }
        if let Some(machine) = self
            .machines
            .iter()
            .find(|m| m.store.seen.queue() != state.queue())
        {
            let text = format!("{} knows another queue than the gateway", machine.id);
            self.breaks(9, text);
        }
        if self.options.seed.is_multiple_of(REBUILD_EVERY) {
            let differs = self.machines.iter().find(|m| m.store.rebuilt() != m.store.seen);
            if let Some(id) = differs.map(|machine| machine.id.clone()) {
                self.breaks(9, format!("folding {id}'s journal anew gives another state"));
            }
        }
        let unfinished = state
            .jobs()
            .any(|job| !job.phase().is_final() || job.phase() == Phase::Parked);
        if unfinished {
            self.breaks(7, "a job has no final state".to_owned());
        }
    }
}
