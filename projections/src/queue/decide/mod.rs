//! The deciders: pure functions from the state and a command to drafts for the order, or a refusal.
//!
//! They are called inside the commit, against the durable state plus the batch being built; the caller appends the drafts
//! to the order log and folds them before it asks again. No clock is read: `now` is in the command, in microseconds since
//! 1970. Nothing to write is an empty list, so that a repeated command writes nothing.

mod accept;
mod backoff;
mod cancel;
mod claim;
mod dependencies;
mod handlers;
mod lease;
mod prove;
mod report;
mod routing;
mod steer;
mod time;

pub use accept::{ATTEMPTS_MAX, accept_request, check_bounds, check_spec, names_its_payload};
pub use backoff::retry_after_ms;
pub use cancel::{cancel, cancel_asked};
pub use claim::{CLAIM_SCAN_MAX, ClaimCommand, ClaimDecision, claim, nth_claim_id, opens_at, points};
pub use dependencies::settle;
pub use handlers::{HANDLERS_MAX, handler_declared};
pub(crate) use lease::hindrance;
pub use lease::{Holds, expire_lease, failover, failovers_due, give_up_on, resume, sees_another, stand_down};
pub use prove::prove_claim;
pub use report::report;
pub use routing::{candidates, may_run};
pub use steer::{
    BACKLOG, backlog, discard, drain, hold, limit, pause, release, retry_spec, spec_again, steered, steers,
    unpause,
};
pub use time::{DUE_MAX, due};

use super::{Job, Refusal};
use crate::FleetState;
use crate::notices;
use ledger_core::Draft;
use ledger_core::kinds::{
    Detail, Evidence, Fence, JobId, JobParked, JobReady, NoticeTopic, ParkedReason, ReadyReason,
};
use ledger_core::{MachineId, ReceiptId, Subject};

/// A draft for the order log, of Central's own machine key.
pub type OrderDraft = Draft;

/// A draft about a job, caused by a receipt when there is one.
fn about<D: Detail>(job: &JobId, detail: &D, cause: Option<ReceiptId>) -> OrderDraft {
    let draft = Draft::of(detail, job.subject());
    match cause {
        Some(cause) => draft.cause(cause),
        None => draft,
    }
}

/// The subject of a word about a name in a family. A name may come from the order, where nobody but its author bounded it; one that
/// no subject can hold leaves the family alone.
fn subject_of(family: &str, name: &str) -> Subject {
    Subject::new(&format!("{family}/{name}"))
        .or_else(|_| Subject::new(family))
        .expect("a family is short and printable")
}

fn ready(job: &JobId, reason: ReadyReason, cause: Option<ReceiptId>) -> OrderDraft {
    about(job, &JobReady { job: *job, reason }, cause)
}

/// Among the dead letters, with the notice that tells it.
fn parked(
    state: &FleetState,
    job: &JobId,
    handler: &str,
    reason: ParkedReason,
    fence: Option<Fence>,
    report: Option<ReceiptId>,
) -> Vec<OrderDraft> {
    let why = match reason {
        ParkedReason::UnknownHandler => "no machine declares its handler",
        ParkedReason::LossesUsedUp => "it was lost with its machine too often",
        ParkedReason::ExclusiveLost => "it was lost after its start and must not run twice; decide by hand",
        ParkedReason::AttemptsUsedUp => "it failed as often as it may; retry or discard it",
    };
    let mut drafts = vec![about(
        job,
        &JobParked {
            job: *job,
            reason,
            fence,
        },
        report,
    )];
    let fence_bytes = fence.map(|fence| fence.digest).unwrap_or_default();
    let text = format!("job {job} ({handler}) is parked: {why}");
    let name = format!("{reason:?}");
    let key: [&[u8]; 3] = [&job.0.0, &fence_bytes, name.as_bytes()];
    drafts.extend(notices::raise(state, NoticeTopic::JobParked, None, &text, &key));
    drafts
}

/// What a run that was told to stop, and did, makes of its job: expired when its deadline has passed, else cancelled. A report
/// of it gets its verdict either way.
fn stopped(
    job: &Job,
    fence: Fence,
    evidence: Option<Evidence>,
    report: Option<ReceiptId>,
    now: i64,
) -> Vec<OrderDraft> {
    use ledger_core::kinds::{JobCancelled, JobExpired, JobLateResult, LateVerdict};
    if job.spec.deadline.is_none_or(|deadline| deadline > now) {
        let cancelled = JobCancelled {
            job: job.id,
            fence: Some(fence),
            evidence,
        };
        return vec![about(&job.id, &cancelled, report)];
    }
    let expired = JobExpired {
        job: job.id,
        fence: Some(fence),
    };
    let verdict = evidence.map(|evidence| JobLateResult {
        job: job.id,
        fence,
        verdict: LateVerdict::Discarded,
        evidence,
    });
    let verdict = verdict.map(|late| about(&job.id, &late, report));
    std::iter::once(about(&job.id, &expired, report))
        .chain(verdict)
        .collect()
}

/// What follows when a claim is proven over without a result: ready again, or parked. `started` tells whether the run
/// had begun; what never began cannot have done anything.
fn after_loss(
    state: &FleetState,
    job: &Job,
    fence: Fence,
    started: bool,
    evidence: Option<Evidence>,
    report: Option<ReceiptId>,
    now: i64,
) -> Vec<OrderDraft> {
    use ledger_core::kinds::{Class, JobRequeued, RequeueReason};
    let class = job.lease().map_or(Class::Heavy, |lease| lease.class);
    if job.cancel_asked {
        return stopped(job, fence, evidence, report, now);
    }
    let handler = &job.spec.handler;
    let reason = match (started, class) {
        (false, _) => RequeueReason::NeverStarted,
        (true, Class::Exclusive) => {
            return parked(
                state,
                &job.id,
                handler,
                ParkedReason::ExclusiveLost,
                Some(fence),
                report,
            );
        }
        (true, _) if job.losses.saturating_add(1) > job.losses_max => {
            return parked(
                state,
                &job.id,
                handler,
                ParkedReason::LossesUsedUp,
                Some(fence),
                report,
            );
        }
        (true, _) => RequeueReason::Lost,
    };
    let requeued = JobRequeued {
        job: job.id,
        fence,
        reason,
        evidence,
    };
    let held = prove::held_for_lost_claim(state, job);
    std::iter::once(about(&job.id, &requeued, report))
        .chain(held)
        .collect()
}

fn job<'a>(state: &'a FleetState, id: &JobId) -> Result<&'a Job, Refusal> {
    state.job(id).ok_or(Refusal::JobUnknown(*id))
}

fn working_machine<'a>(
    state: &'a FleetState,
    machine: &MachineId,
) -> Result<&'a crate::members::Machine, Refusal> {
    let row = state
        .machine(machine)
        .ok_or_else(|| Refusal::MachineUnknown(machine.clone()))?;
    if row.retired {
        return Err(Refusal::MachineRetired(machine.clone()));
    }
    Ok(row)
}
