//! The fold of the queue: the order's `job.*` and `handler.*` applied by the table.
//!
//! Every function tells whether the receipt did what it says; `false` means that it is not possible in the state that it
//! met (or names a claim that is not in force), and the caller counts it. Nothing here decides.

use super::job::{Handler, JUDGED_MAX, Job, JobState, Judged, RunVerdict, Success};
use super::state::Queue;
use super::table::{Event, Outcome, Phase, outcome};
use super::{Claim, Lease};
use crate::order::Place;
use ledger::{Changes, Receipt};
use ledger_core::ReceiptId;
use ledger_core::kinds::{
    AnyDetail, Fence, HandlerDeclared, HandlerWithdrawn, JobAccepted, JobClaimed, JobId, LateVerdict,
    RequeueReason,
};

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
    /// Applies one receipt of the families `job` and `handler`.
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
            AnyDetail::HandlerDeclared(d) => self.declared(d, changes),
            AnyDetail::HandlerWithdrawn(d) => self.withdrawn(&d, changes),
            detail => self.changed(detail, at, changes),
        }
    }

    fn accepted(&mut self, d: JobAccepted, at: At, changes: &mut Changes) -> Folded {
        if self.jobs.get(&d.job).is_some() || d.job != JobId::of_request(&d.requester, &d.request) {
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
        };
        self.set_job(None, job, changes);
        Folded::Done
    }

    fn claimed(&mut self, d: JobClaimed, receipt: &Receipt, at: At, changes: &mut Changes) -> Folded {
        let Some(before) = self.jobs.shared(&d.job) else {
            return Folded::Inert;
        };
        let Outcome::To(Phase::Leased) = outcome(before.phase(), Event::Claimed) else {
            return Folded::Inert;
        };
        let claim_id = (d.machine.clone(), d.claim);
        if self.claim_ids.get(&claim_id).is_some() {
            return Folded::Inert;
        }
        let fence = Fence::of_claim(at.place.epoch, at.place.seq, &receipt.seal_digest());
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
        let mut job = Job::clone(&before);
        job.last_fence = Some(fence);
        job.changed_at = at.time;
        job.state = JobState::Leased(claim.lease(fence));
        self.claims.set(fence, claim, changes);
        self.claim_ids.set(claim_id, fence, changes);
        self.set_job(Some(&before), job, changes);
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

    fn changed(&mut self, detail: AnyDetail, at: At, changes: &mut Changes) -> Folded {
        let Some((id, event, verdict)) = names(&detail) else {
            return Folded::Inert;
        };
        let judged = match (verdict, at.cause) {
            (Some((fence, verdict)), Some(report)) => Some((fence, report, verdict)),
            _ => None,
        };
        let Some(before) = self.jobs.shared(&id) else {
            // A late result of a job that was never here is still judged: its verdict is the receipt itself.
            return match (outcome(Phase::Absent, event), judged) {
                (Outcome::Note, Some((fence, report, _))) => Folded::Judged(fence, report),
                (Outcome::Note, None) => Folded::Done,
                _ => Folded::Inert,
            };
        };
        let phase = before.phase();
        let may = outcome(phase, event);
        let next = match may {
            Outcome::Never => return Folded::Inert,
            Outcome::Note => None,
            Outcome::Stay | Outcome::To(_) => match self.apply(Job::clone(&before), detail, at) {
                Some(next) => Some(next),
                None => return Folded::Inert,
            },
        };
        if let Some(mut next) = next {
            debug_assert!(
                match may {
                    Outcome::To(to) => next.phase() == to,
                    _ => next.phase() == phase,
                },
                "the fold goes where the table says: {phase} {event:?} -> {}",
                next.phase()
            );
            next.changed_at = at.time;
            if let Some(started) = fence_started(&next)
                && fence_started(&before) != Some(started)
            {
                self.note_started(&started, changes);
            }
            self.set_job(Some(&before), next, changes);
        }
        match judged {
            Some((fence, report, verdict)) => {
                self.judge(&fence, report, verdict, changes);
                Folded::Judged(fence, report)
            }
            None => Folded::Done,
        }
    }

    /// The job after an event that the table permits; `None` when the claim it names is not the one it may name.
    fn apply(&self, mut job: Job, detail: AnyDetail, at: At) -> Option<Job> {
        let lease = job.lease().cloned();
        let in_force = |fence: &Fence| lease.clone().filter(|lease| lease.fence == *fence);
        match detail {
            AnyDetail::JobReady(_) => job.state = JobState::Ready,
            AnyDetail::JobStarted(d) => {
                let lease = Lease {
                    started: true,
                    ..in_force(&d.fence)?
                };
                job.state = with_lease(job.state, lease);
            }
            AnyDetail::JobCheckpointed(d) => {
                in_force(&d.fence)?;
                job.progress = Some(d.evidence);
            }
            AnyDetail::JobLeaseExpired(d) => {
                let lease = in_force(&d.fence)?;
                job.state = JobState::Suspect {
                    lease,
                    since: at.time,
                    failover_at: d.failover_at,
                };
            }
            AnyDetail::JobResumed(d) => {
                let claim = self.claims.get(&d.fence).filter(|claim| claim.job == job.id)?;
                if job.last_fence != Some(d.fence) {
                    return None;
                }
                job.state = JobState::Leased(claim.lease(d.fence));
            }
            AnyDetail::JobRequeued(d) => {
                let lease = in_force(&d.fence)?;
                let lost = match d.reason {
                    RequeueReason::Lost => true,
                    RequeueReason::LeaseExpired => lease.started,
                    RequeueReason::NeverStarted | RequeueReason::Yielded => false,
                };
                job.losses = job.losses.saturating_add(u16::from(lost));
                job.state = JobState::Ready;
            }
            AnyDetail::JobFailedOver(d) => {
                in_force(&d.fence)?;
                if !job.excluded.contains(&d.excluded) {
                    job.excluded.push(d.excluded);
                }
                job.failovers = job.failovers.saturating_add(1);
                job.state = JobState::Ready;
            }
            AnyDetail::JobAttemptFailed(d) => {
                in_force(&d.fence)?;
                job.attempts = job.attempts.saturating_add(1);
                job.state = JobState::Backoff {
                    retry_at: d.retry_at,
                    error: d.error,
                };
            }
            AnyDetail::JobSucceeded(d) => {
                self.claims.get(&d.fence).filter(|claim| claim.job == job.id)?;
                job.state = JobState::Succeeded(Success {
                    fence: d.fence,
                    machine: d.machine,
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
                // A job that was never claimed, or whose claim is named, and no other.
                match (&lease, &d.fence) {
                    (Some(lease), Some(fence)) if lease.fence == *fence => {
                        job.losses = job.losses.saturating_add(u16::from(lease.started));
                    }
                    (Some(_), _) => return None,
                    (None, _) => {}
                }
                job.state = JobState::Parked(d.reason);
            }
            AnyDetail::JobResultConflict(_) => job.conflicts = job.conflicts.saturating_add(1),
            _ => return None,
        }
        Some(job)
    }

    fn note_started(&mut self, fence: &Fence, changes: &mut Changes) {
        if self.claims.get(fence).is_some_and(|claim| !claim.started) {
            self.claims.change(fence, changes, |claim| claim.started = true);
        }
    }

    fn judge(&mut self, fence: &Fence, report: ReceiptId, verdict: RunVerdict, changes: &mut Changes) {
        self.claims.change(fence, changes, |claim| {
            if claim.judged.iter().any(|judged| judged.report == report) {
                return;
            }
            if claim.judged.len() >= JUDGED_MAX {
                claim.judged.remove(0);
            }
            claim.judged.push(Judged { report, verdict });
        });
    }
}

/// The claim in force, when its machine reported the start.
fn fence_started(job: &Job) -> Option<Fence> {
    job.lease().filter(|lease| lease.started).map(|lease| lease.fence)
}

fn with_lease(state: JobState, lease: Lease) -> JobState {
    match state {
        JobState::Suspect {
            since, failover_at, ..
        } => JobState::Suspect {
            lease,
            since,
            failover_at,
        },
        _ => JobState::Leased(lease),
    }
}

/// The job, the event, and the verdict that it is on a report under a claim.
type Named = (JobId, Event, Option<(Fence, RunVerdict)>);

/// Which job, which event, and which verdict on a report it is.
fn names(detail: &AnyDetail) -> Option<Named> {
    let late = |fence, verdict| Some((fence, RunVerdict::Late(verdict)));
    Some(match detail {
        AnyDetail::JobReady(d) => (d.job, Event::Ready, None),
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
