//! The fold of the queue: the order's `job.*` and `handler.*` applied by the table.
//!
//! Every function tells whether the receipt did what it says; `false` means that it is not possible in the state that it
//! met (or names a claim that is not in force), and the caller counts it. Nothing here decides.

use super::Claim;
use super::dependencies::Stood;
use super::index::Marks;
use super::job::{Handler, JUDGED_MAX, Job, JobState, Judged, RunVerdict, Success};
use super::state::{ClaimKey, Queue};
use super::table::{Event, Outcome, Phase, outcome};
use crate::order::Place;
use crate::table::Table;
use ledger::{Changes, Receipt};
use ledger_core::ReceiptId;
use ledger_core::kinds::{
    AnyDetail, Fence, HandlerDeclared, HandlerWithdrawn, JobAccepted, JobClaimProven, JobClaimed, JobId,
    LateVerdict, RequeueReason,
};
use std::sync::Arc;

/// Where and when the order says something, and why.
#[derive(Clone, Copy)]
pub(crate) struct At {
    pub(crate) place: Place,
    /// Microseconds since 1970.
    pub(crate) time: i64,
    pub(crate) cause: Option<ReceiptId>,
}

/// What folding one receipt came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Folded {
    /// It did what it says.
    Done,
    /// It did, and this report under this claim has its final verdict.
    Judged(Fence, ReceiptId),
    /// Not possible here; the queue is as before.
    Inert,
}

impl Queue {
    /// Applies one receipt of the families `job`, `handler` and `queue`.
    pub(crate) fn fold(
        &mut self,
        receipt: &Receipt,
        detail: AnyDetail,
        at: At,
        changes: &mut Changes,
    ) -> Folded {
        match detail {
            AnyDetail::JobAccepted(d) => self.accepted(d, at, changes),
            AnyDetail::JobClaimed(d) => self.claimed(d, receipt, at, changes),
            AnyDetail::JobClaimProven(d) => self.claim_proven(d, changes),
            AnyDetail::HandlerDeclared(d) => self.declared(d, changes),
            AnyDetail::HandlerWithdrawn(d) => self.withdrawn(&d, changes),
            AnyDetail::HandlerPaused(d) => {
                self.paused(d, at.time, at.place, changes);
                Folded::Done
            }
            AnyDetail::HandlerResumed(d) => {
                let was_paused = self.unpaused(&d.handler, changes);
                if was_paused { Folded::Done } else { Folded::Inert }
            }
            AnyDetail::QueueLimited(d) => {
                self.limited(d, at.time, changes);
                Folded::Done
            }
            detail => self.changed(&detail, at, changes),
        }
    }

    fn accepted(&mut self, d: JobAccepted, at: At, changes: &mut Changes) -> Folded {
        if d.job != JobId::of_request(&d.requester, &d.request) {
            return Folded::Inert;
        }
        let state = match d.spec.not_before {
            // Whether it is due is the decider's to say, which knows the wall clock; the fold must not compare with the
            // hybrid one, which may be ahead of it.
            Some(not_before) => JobState::Scheduled { not_before },
            None => JobState::Accepted,
        };
        let job = Job {
            id: d.job,
            spec: d.spec,
            requester: d.requester,
            request: d.request,
            evidence: d.evidence,
            accepted: at.place,
            accepted_at: at.time,
            changed_at: at.time,
            state,
            last_fence: None,
            attempts: 0,
            losses: 0,
            failovers: 0,
            losses_max: d.losses_max,
            excluded: Vec::new(),
            progress: None,
            cancel_asked: false,
            conflicts: 0,
            retried_as: None,
        };
        let retry_of = job.spec.retry_of;
        if self.jobs.add(d.job, job, changes) {
            self.indexes
                .added(self.jobs.get(&d.job).expect("it was just added"));
            if let Some(earlier) = retry_of {
                self.note_retry(&earlier, d.job, changes);
            }
            return Folded::Done;
        }
        Folded::Inert
    }

    fn claimed(&mut self, d: JobClaimed, receipt: &Receipt, at: At, changes: &mut Changes) -> Folded {
        let Self {
            jobs,
            claims,
            claim_ids,
            indexes,
            ..
        } = self;
        let machine = d.machine.clone();
        let fence = Fence::of_claim(at.place.epoch, at.place.seq, &receipt.seal_digest());
        let done = jobs.change(&d.job, changes, |row, changes| {
            let Outcome::To(Phase::Leased) = outcome(row.phase(), Event::Claimed) else {
                return false;
            };
            let claim_id = ClaimKey {
                machine: d.machine.clone(),
                claim: d.claim,
            };
            if !claim_ids.add(claim_id, fence, changes) {
                return false;
            }
            let claim = Claim {
                job: d.job,
                machine: d.machine,
                incarnation: d.incarnation,
                class: d.class,
                attempt: d.attempt,
                term_ms: d.term_ms,
                claim: d.claim,
                started: false,
                judged: Vec::new(),
            };
            let marks = Marks::of(row, true);
            let job = Arc::make_mut(row);
            job.last_fence = Some(fence);
            job.changed_at = at.time;
            job.state = JobState::Leased(claim.lease(fence));
            claims.set_new(fence, claim, changes);
            indexes.moved(marks, job);
            true
        });
        match done {
            Some(true) => {
                self.count_claim(&d.job, &machine, at.time, changes);
                Folded::Done
            }
            _ => Folded::Inert,
        }
    }

    // The job is not touched: the claim gives no right to run, it is only known from here on.
    fn claim_proven(&mut self, d: JobClaimProven, changes: &mut Changes) -> Folded {
        if self.jobs.get(&d.job).is_none() || self.claims.get(&d.fence).is_some() {
            return Folded::Inert;
        }
        let claim_id = ClaimKey {
            machine: d.machine.clone(),
            claim: d.claim,
        };
        self.claim_ids.add(claim_id, d.fence, changes);
        let claim = Claim {
            job: d.job,
            machine: d.machine,
            incarnation: d.incarnation,
            class: d.class,
            attempt: d.attempt,
            term_ms: d.term_ms,
            claim: d.claim,
            started: false,
            judged: Vec::new(),
        };
        self.claims.set_new(d.fence, claim, changes);
        Folded::Done
    }

    fn declared(&mut self, d: HandlerDeclared, changes: &mut Changes) -> Folded {
        let handler = Handler {
            class: d.class,
            labels: d.labels,
            slots: d.slots,
        };
        self.set_handler((d.machine, d.handler), Some(handler), changes);
        Folded::Done
    }

    fn withdrawn(&mut self, d: &HandlerWithdrawn, changes: &mut Changes) -> Folded {
        let key = (d.machine.clone(), d.handler.clone());
        if self.handlers.get(&key).is_none() {
            return Folded::Inert;
        }
        self.set_handler(key, None, changes);
        Folded::Done
    }

    fn changed(&mut self, detail: &AnyDetail, at: At, changes: &mut Changes) -> Folded {
        let Some((id, event, verdict)) = names(detail) else {
            return Folded::Inert;
        };
        let judged = match (verdict, at.cause) {
            (Some((fence, verdict)), Some(report)) => Some((fence, report, verdict)),
            _ => None,
        };
        let Self {
            jobs,
            claims,
            indexes,
            ..
        } = self;
        let changed = jobs.change(&id, changes, |row, _| {
            let phase = row.phase();
            let may = outcome(phase, event);
            if may == Outcome::Never {
                return None;
            }
            let marks = Marks::of(row, matches!(may, Outcome::To(_)));
            let stood = Stood::of(row);
            if may == Outcome::Note {
                let (lease, over) = (marks.lease, phase.is_final());
                return Some(Moved {
                    before: lease,
                    now: lease,
                    over,
                    stood: None,
                });
            }
            if !apply(row, claims, detail, at) {
                return None;
            }
            let job = row.as_ref();
            debug_assert!(
                match may {
                    Outcome::To(to) => job.phase() == to,
                    _ => job.phase() == phase,
                },
                "the fold goes where the table says: {phase} {event:?} -> {}",
                job.phase()
            );
            let moved = Moved {
                before: marks.lease,
                now: job.lease().map(|lease| (lease.fence, lease.started)),
                over: job.phase().is_final(),
                stood: Some(stood).filter(|stood| *stood != Stood::of(job)),
            };
            indexes.moved(marks, job);
            Some(moved)
        });
        let moved = match changed {
            Some(Some(moved)) => moved,
            Some(None) => return Folded::Inert,
            // A late result of a job that was never here is still judged: its verdict is the receipt itself.
            None => {
                return match (outcome(Phase::Absent, event), judged) {
                    (Outcome::Note, Some((fence, report, _))) => Folded::Judged(fence, report),
                    (Outcome::Note, None) => Folded::Done,
                    _ => Folded::Inert,
                };
            }
        };
        if let Some((fence, true)) = moved.now
            && moved.before != moved.now
        {
            self.note_started(&fence, changes);
        }
        let folded = match judged {
            Some((fence, report, verdict)) => {
                self.judge(&fence, report, verdict, changes);
                Folded::Judged(fence, report)
            }
            None => Folded::Done,
        };
        if let Some(stood) = moved.stood {
            self.note_waiting(stood, &id);
        }
        if moved.over {
            self.jobs.rest(&id);
        }
        folded
    }

    fn note_started(&mut self, fence: &Fence, changes: &mut Changes) {
        self.claims.change(fence, changes, |claim| claim.started = true);
    }

    fn judge(&mut self, fence: &Fence, report: ReceiptId, verdict: RunVerdict, changes: &mut Changes) {
        self.claims.change(fence, changes, |claim| {
            let judged = &mut claim.judged;
            if judged.iter().any(|judged| judged.report == report) {
                return;
            }
            if judged.len() >= JUDGED_MAX {
                judged.remove(0);
            }
            judged.push(Judged { report, verdict });
        });
    }
}

/// What an event made of a job's claim: the one in force and whether it was started, and whether the job is final.
struct Moved {
    before: Option<(Fence, bool)>,
    now: Option<(Fence, bool)>,
    over: bool,
    /// How it stood before, when that changed.
    stood: Option<Stood>,
}

/// Changes a job by an event that the table permits; `false`, and no change, when the claim it names is not the one it may name.
fn apply(row: &mut Arc<Job>, claims: &Table<Fence, Claim>, detail: &AnyDetail, at: At) -> bool {
    let in_force = |fence: &Fence| row.lease().is_some_and(|lease| lease.fence == *fence);
    let right = match detail {
        AnyDetail::JobStarted(d) => in_force(&d.fence),
        AnyDetail::JobCheckpointed(d) => in_force(&d.fence),
        AnyDetail::JobLeaseExpired(d) => in_force(&d.fence),
        AnyDetail::JobRequeued(d) => in_force(&d.fence),
        AnyDetail::JobFailedOver(d) => in_force(&d.fence),
        AnyDetail::JobAttemptFailed(d) => in_force(&d.fence),
        AnyDetail::JobResumed(d) => {
            let given = claims.get(&d.fence).is_some_and(|claim| claim.job == row.id);
            given && row.last_fence == Some(d.fence)
        }
        // The claim in force is one of this job's; any other is looked up.
        AnyDetail::JobSucceeded(d) => {
            in_force(&d.fence) || claims.get(&d.fence).is_some_and(|claim| claim.job == row.id)
        }
        // A job that was never claimed, or whose claim is named, and no other.
        AnyDetail::JobParked(d) => row.lease().is_none_or(|lease| d.fence == Some(lease.fence)),
        AnyDetail::JobReady(_)
        | AnyDetail::JobHeld(_)
        | AnyDetail::JobReleased(_)
        | AnyDetail::JobDiscarded(_)
        | AnyDetail::JobFailed(_)
        | AnyDetail::JobCancelAsked(_)
        | AnyDetail::JobCancelled(_)
        | AnyDetail::JobExpired(_)
        | AnyDetail::JobResultConflict(_) => true,
        _ => false,
    };
    if right {
        let job = Arc::make_mut(row);
        job.changed_at = at.time;
        take(job, claims, detail, at);
    }
    right
}

/// Takes in an event that was found right.
fn take(job: &mut Job, claims: &Table<Fence, Claim>, detail: &AnyDetail, at: At) {
    let losses = |job: &Job, lost: bool| job.losses.saturating_add(u16::from(lost));
    let was_started = job.lease().is_some_and(|lease| lease.started);
    match detail {
        AnyDetail::JobReady(_) | AnyDetail::JobReleased(_) => job.state = JobState::Ready,
        AnyDetail::JobHeld(d) => job.state = JobState::Held { reason: d.reason },
        AnyDetail::JobDiscarded(_) => job.state = JobState::Discarded,
        AnyDetail::JobStarted(_) => {
            if let JobState::Leased(lease) | JobState::Suspect { lease, .. } = &mut job.state {
                lease.started = true;
            }
        }
        AnyDetail::JobCheckpointed(d) => job.progress = Some(d.evidence),
        AnyDetail::JobLeaseExpired(d) => {
            if let Some(lease) = job.lease().cloned() {
                job.state = JobState::Suspect {
                    lease,
                    since: at.time,
                    failover_at: d.failover_at,
                };
            }
        }
        AnyDetail::JobResumed(d) => {
            if let Some(claim) = claims.get(&d.fence) {
                job.state = JobState::Leased(claim.lease(d.fence));
            }
        }
        AnyDetail::JobRequeued(d) => {
            let lost = match d.reason {
                RequeueReason::Lost => true,
                RequeueReason::LeaseExpired => was_started,
                RequeueReason::NeverStarted | RequeueReason::Yielded => false,
            };
            job.losses = losses(job, lost);
            job.state = JobState::Ready;
        }
        AnyDetail::JobFailedOver(d) => {
            if !job.excluded.contains(&d.excluded) {
                job.excluded.push(d.excluded.clone());
            }
            job.failovers = job.failovers.saturating_add(1);
            job.state = JobState::Ready;
        }
        AnyDetail::JobAttemptFailed(d) => {
            job.attempts = job.attempts.saturating_add(1);
            job.state = JobState::Backoff {
                retry_at: d.retry_at,
                error: d.error,
            };
        }
        AnyDetail::JobSucceeded(d) => {
            job.state = JobState::Succeeded(Success {
                fence: d.fence,
                machine: d.machine.clone(),
                verdict: d.verdict,
                result: d.result,
                outputs: d.outputs,
                costs: d.costs,
                evidence: d.evidence,
            });
        }
        AnyDetail::JobFailed(d) => job.state = JobState::Failed(d.error),
        AnyDetail::JobCancelAsked(_) => job.cancel_asked = true,
        AnyDetail::JobCancelled(_) => job.state = JobState::Cancelled,
        AnyDetail::JobExpired(_) => job.state = JobState::Expired,
        AnyDetail::JobParked(d) => {
            job.losses = losses(job, was_started);
            job.state = JobState::Parked(d.reason);
        }
        AnyDetail::JobResultConflict(_) => job.conflicts = job.conflicts.saturating_add(1),
        _ => {}
    }
}

/// The job, the event, and the verdict that it is on a report under a claim.
type Named = (JobId, Event, Option<(Fence, RunVerdict)>);

/// Which job, which event, and which verdict on a report it is.
fn names(detail: &AnyDetail) -> Option<Named> {
    let late = |fence, verdict| Some((fence, RunVerdict::Late(verdict)));
    Some(match detail {
        AnyDetail::JobReady(d) => (d.job, Event::Ready, None),
        AnyDetail::JobHeld(d) => (d.job, Event::Held, None),
        AnyDetail::JobReleased(d) => (d.job, Event::Released, None),
        AnyDetail::JobDiscarded(d) => (d.job, Event::Discarded, None),
        AnyDetail::JobStarted(d) => (d.job, Event::Started, None),
        AnyDetail::JobCheckpointed(d) => (d.job, Event::Checkpointed, None),
        AnyDetail::JobLeaseExpired(d) => (d.job, Event::LeaseExpired, None),
        AnyDetail::JobResumed(d) => (d.job, Event::Resumed, None),
        AnyDetail::JobRequeued(d) => (
            d.job,
            Event::Requeued,
            d.evidence.map(|_| (d.fence, RunVerdict::Loss)),
        ),
        AnyDetail::JobFailedOver(d) => (d.job, Event::FailedOver, None),
        AnyDetail::JobAttemptFailed(d) => (d.job, Event::AttemptFailed, Some((d.fence, RunVerdict::Failure))),
        AnyDetail::JobSucceeded(d) => (
            d.job,
            Event::Succeeded,
            Some((d.fence, RunVerdict::Success(d.verdict))),
        ),
        AnyDetail::JobFailed(d) => (d.job, Event::Failed, None),
        AnyDetail::JobCancelAsked(d) => (d.job, Event::CancelAsked, None),
        AnyDetail::JobCancelled(d) => {
            // Without evidence nobody reported: the cause is then whoever asked, and no report is judged.
            let confirmed = d.evidence.and(d.fence);
            (
                d.job,
                Event::Cancelled,
                confirmed.map(|fence| (fence, RunVerdict::Cancelled)),
            )
        }
        AnyDetail::JobExpired(d) => (d.job, Event::Expired, None),
        AnyDetail::JobParked(d) => (
            d.job,
            Event::Parked,
            d.fence.map(|fence| (fence, RunVerdict::Loss)),
        ),
        AnyDetail::JobResultConflict(d) => (
            d.job,
            Event::ResultConflict,
            late(d.fence, LateVerdict::DuplicateDiffers),
        ),
        AnyDetail::JobLateResult(d) => (d.job, Event::LateResult, late(d.fence, d.verdict)),
        _ => return None,
    })
}
