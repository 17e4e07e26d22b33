//! A machine tells what became of a run: every end gets exactly one final verdict.
//!
//! The rows of the table of late results (`docs/QUEUE.md`) are here, one arm each. A verdict names its report as its
//! cause, so that a report that has one is recognised.

use super::accept::inadmissible;
use super::prove::{held_for_lost_claim, is_of_lost_tail};
use super::{OrderDraft, about, after_loss, parked, ready, retry_after_ms, stopped};
use crate::FleetState;
use crate::notices;
use crate::queue::{Claim, Job, Phase, Policy, Refusal, micros};
use ledger::Receipt;
use ledger_core::digest::derived_id;
use ledger_core::kinds::{
    AnyDetail, Class, Costs, Detail, ErrorClass, Evidence, Fence, InadmissibleReason, JobAttemptFailed,
    JobCharged, JobCheckpointed, JobFailed, JobId, JobLateResult, JobRequeued, JobResultConflict, JobStarted,
    JobSucceeded, LateVerdict, Money, NoticeTopic, ParkedReason, ReadyReason, RequeueReason, RunCharged,
    RunCheckpointed, RunFailed, RunLost, RunStarted, RunSucceeded, RunYielded, SuccessVerdict,
};
use ledger_core::limits::CURRENCIES_MAX;
use ledger_core::{MachineId, ReceiptId};

const KINDS: [&str; 7] = [
    RunStarted::KIND,
    RunCheckpointed::KIND,
    RunSucceeded::KIND,
    RunFailed::KIND,
    RunLost::KIND,
    RunYielded::KIND,
    RunCharged::KIND,
];

/// A report under a claim that this order gave to that very machine.
struct Known<'a> {
    job: &'a Job,
    claim: &'a Claim,
    fence: Fence,
    /// Whether the claim is in force.
    in_force: bool,
    report: ReceiptId,
    evidence: Evidence,
}

/// What follows from a `run.*` receipt of a machine's work log. Other kinds, and reports that have their verdict, give
/// nothing. `machine` is whose log the caller took it from.
///
/// # Errors
/// [`Refusal::MachineUnknown`] when the fleet has no such machine.
pub fn report(
    state: &FleetState,
    report: &Receipt,
    machine: &MachineId,
    now: i64,
    policy: &Policy,
) -> Result<Vec<OrderDraft>, Refusal> {
    let statement = report.statement();
    if !KINDS.contains(&statement.kind.as_str()) {
        return Ok(Vec::new());
    }
    let row = state
        .machine(machine)
        .ok_or_else(|| Refusal::MachineUnknown(machine.clone()))?;
    if row.machine_key != statement.author || report.record.author_signature().is_some() {
        return Ok(vec![inadmissible(report, InadmissibleReason::NotPermitted)]);
    }
    let detail = match statement.any_detail() {
        Ok(detail) => detail,
        Err(ledger_core::kinds::DetailError::Unknown { .. }) => {
            return Ok(vec![inadmissible(report, InadmissibleReason::UnknownSchema)]);
        }
        Err(_) => return Ok(vec![inadmissible(report, InadmissibleReason::MalformedDetail)]),
    };
    let Some((job, fence, ends)) = names(&detail) else {
        return Ok(Vec::new());
    };
    if state.verdict(&fence, &report.id()).is_some() {
        return Ok(Vec::new());
    }
    let known = state
        .fence(&fence)
        .filter(|claim| claim.job == job && claim.machine == *machine);
    let Some((claim, row)) = known.and_then(|claim| Some((claim, state.job(&job)?))) else {
        let rejected = late(&job, fence, LateVerdict::Rejected, report.id(), report.evidence());
        return Ok(if ends { vec![rejected] } else { Vec::new() });
    };
    let in_force = row.lease().is_some_and(|lease| lease.fence == fence);
    let known = Known {
        job: row,
        claim,
        fence,
        in_force,
        report: report.id(),
        evidence: report.evidence(),
    };
    Ok(match detail {
        AnyDetail::RunStarted(_) => started(&known),
        AnyDetail::RunCheckpointed(_) => checkpointed(&known),
        AnyDetail::RunSucceeded(success) => {
            with_costs(succeeded(state, &known, &success), &known, success.costs)
        }
        AnyDetail::RunFailed(failure) => with_costs(
            failed(state, &known, &failure, now, policy),
            &known,
            failure.costs,
        ),
        AnyDetail::RunCharged(d) if !is_money(&d.money) => {
            vec![inadmissible(report, InadmissibleReason::MalformedDetail)]
        }
        AnyDetail::RunCharged(d) => vec![charged(&known, Costs::default(), d.money)],
        AnyDetail::RunLost(_) => lost(state, &known, now),
        AnyDetail::RunYielded(_) => yielded(state, &known, now),
        _ => Vec::new(),
    })
}

/// The job and claim that a report names, and whether it ends the run.
fn names(detail: &AnyDetail) -> Option<(JobId, Fence, bool)> {
    Some(match detail {
        AnyDetail::RunStarted(d) => (d.job, d.fence, false),
        AnyDetail::RunCheckpointed(d) => (d.job, d.fence, false),
        AnyDetail::RunSucceeded(d) => (d.job, d.fence, true),
        AnyDetail::RunFailed(d) => (d.job, d.fence, true),
        AnyDetail::RunLost(d) => (d.job, d.fence, true),
        AnyDetail::RunYielded(d) => (d.job, d.fence, true),
        AnyDetail::RunCharged(d) => (d.job, d.fence, false),
        _ => return None,
    })
}

fn late(
    job: &JobId,
    fence: Fence,
    verdict: LateVerdict,
    report: ReceiptId,
    evidence: Evidence,
) -> OrderDraft {
    about(
        job,
        &JobLateResult {
            job: *job,
            fence,
            verdict,
            evidence,
        },
        Some(report),
    )
}

/// What a run cost is told once: by the decision that carries it, or beside one that does not.
fn with_costs(mut drafts: Vec<OrderDraft>, known: &Known<'_>, costs: Costs) -> Vec<OrderDraft> {
    let carries =
        |draft: &OrderDraft| [JobSucceeded::KIND, JobAttemptFailed::KIND].contains(&draft.kind.as_str());
    if costs != Costs::default() && !drafts.is_empty() && !drafts.iter().any(carries) {
        drafts.push(charged(known, costs, Vec::new()));
    }
    drafts
}

fn charged(known: &Known<'_>, costs: Costs, money: Vec<Money>) -> OrderDraft {
    let charged = JobCharged {
        job: known.job.id,
        fence: known.fence,
        machine: known.claim.machine.clone(),
        costs,
        money,
        evidence: known.evidence,
    };
    let id = derived_id(&[b"job charged", &known.report.0]);
    about(&known.job.id, &charged, Some(known.report)).id(id)
}

fn is_money(money: &[Money]) -> bool {
    let letters = |m: &Money| m.currency.len() == 3 && m.currency.bytes().all(|b| b.is_ascii_uppercase());
    !money.is_empty() && money.len() <= CURRENCIES_MAX && money.iter().all(letters)
}

fn started(known: &Known<'_>) -> Vec<OrderDraft> {
    let Known {
        job,
        claim,
        fence,
        in_force,
        report,
        evidence,
    } = *known;
    if !in_force || claim.started {
        return Vec::new();
    }
    vec![about(
        &job.id,
        &JobStarted {
            job: job.id,
            fence,
            evidence,
        },
        Some(report),
    )]
}

fn checkpointed(known: &Known<'_>) -> Vec<OrderDraft> {
    let Known {
        job,
        fence,
        in_force,
        report,
        evidence,
        ..
    } = *known;
    if !in_force || job.progress == Some(evidence) {
        return Vec::new();
    }
    vec![about(
        &job.id,
        &JobCheckpointed {
            job: job.id,
            fence,
            evidence,
        },
        Some(report),
    )]
}

fn succeeded(state: &FleetState, known: &Known<'_>, success: &RunSucceeded) -> Vec<OrderDraft> {
    let Known {
        job,
        claim,
        fence,
        in_force,
        report,
        evidence,
    } = *known;
    let stands = |verdict| {
        let succeeded = JobSucceeded {
            job: job.id,
            fence,
            machine: claim.machine.clone(),
            verdict,
            result: success.result,
            outputs: success.outputs,
            costs: success.costs,
            evidence,
        };
        vec![about(&job.id, &succeeded, Some(report))]
    };
    let exclusive = claim.class == Class::Exclusive;
    let last = job.last_fence == Some(fence);
    match job.phase() {
        Phase::Leased | Phase::Suspect if in_force => stands(SuccessVerdict::OnTime),
        Phase::Leased | Phase::Suspect if !exclusive => stands(SuccessVerdict::Adopted),
        Phase::Leased | Phase::Suspect => superseded(state, known, "a newer run goes on"),
        Phase::Parked if exclusive => superseded(state, known, "it is parked; decide by hand"),
        Phase::Held | Phase::Scheduled | Phase::Ready | Phase::Backoff if exclusive && !last => {
            superseded(state, known, "a newer claim was given since")
        }
        Phase::Held | Phase::Scheduled | Phase::Ready | Phase::Backoff | Phase::Parked => {
            stands(SuccessVerdict::Adopted)
        }
        Phase::Succeeded => duplicate(state, known, success),
        Phase::Failed | Phase::Cancelled | Phase::Expired | Phase::Discarded => {
            let discarded = late(&job.id, fence, LateVerdict::Discarded, report, evidence);
            // Nobody who ended the job could know of that claim.
            let told = is_of_lost_tail(state, &fence).then(|| told(state, known, "its job has ended since"));
            std::iter::once(discarded)
                .chain(told.into_iter().flatten())
                .collect()
        }
        // No claim can have been given yet.
        Phase::Absent | Phase::Accepted => {
            vec![late(&job.id, fence, LateVerdict::Rejected, report, evidence)]
        }
    }
}

/// Recorded, its outputs quarantined, and told: a person decides.
fn superseded(state: &FleetState, known: &Known<'_>, why: &str) -> Vec<OrderDraft> {
    let (job, verdict) = (&known.job.id, LateVerdict::Superseded);
    let late = late(job, known.fence, verdict, known.report, known.evidence);
    let told = told(state, known, why);
    std::iter::once(late).chain(told).collect()
}

/// The notice of a success that does not count.
fn told(state: &FleetState, known: &Known<'_>, why: &str) -> Vec<OrderDraft> {
    let Known {
        job, claim, fence, ..
    } = *known;
    let class = if claim.class == Class::Exclusive {
        "exclusive "
    } else {
        ""
    };
    let text = format!(
        "{class}job {} also succeeded on {} under an older claim: {why}",
        job.id, claim.machine
    );
    let key: [&[u8]; 3] = [b"superseded", &job.id.0.0, &fence.digest];
    let about = Some(&claim.machine);
    notices::raise(state, NoticeTopic::ResultConflict, about, &text, &key)
}

fn duplicate(state: &FleetState, known: &Known<'_>, success: &RunSucceeded) -> Vec<OrderDraft> {
    let Known {
        job,
        claim,
        fence,
        report,
        evidence,
        ..
    } = *known;
    let stands = job.success().expect("the state is succeeded");
    if stands.evidence == evidence {
        return Vec::new();
    }
    if stands.result == success.result && stands.outputs == success.outputs {
        return vec![late(
            &job.id,
            fence,
            LateVerdict::DuplicateAgrees,
            report,
            evidence,
        )];
    }
    let conflict = JobResultConflict {
        job: job.id,
        fence,
        outputs: success.outputs,
        evidence,
    };
    let mut drafts = vec![about(&job.id, &conflict, Some(report))];
    let text = format!(
        "job {} succeeded twice with different results: {}'s stands, {}'s came later",
        job.id, stands.machine, claim.machine
    );
    let key: [&[u8]; 3] = [b"differs", &job.id.0.0, &fence.digest];
    drafts.extend(notices::raise(
        state,
        NoticeTopic::ResultConflict,
        Some(&claim.machine),
        &text,
        &key,
    ));
    drafts
}

fn failed(
    state: &FleetState,
    known: &Known<'_>,
    failure: &RunFailed,
    now: i64,
    policy: &Policy,
) -> Vec<OrderDraft> {
    let Known {
        job,
        claim,
        fence,
        in_force,
        report,
        evidence,
    } = *known;
    if !in_force {
        return vec![late(&job.id, fence, LateVerdict::Stale, report, evidence)];
    }
    // Whatever ended it, it runs no longer and is not wanted any more.
    if job.cancel_asked {
        return stopped(job, fence, Some(evidence), Some(report), now);
    }
    if failure.error == ErrorClass::Cancelled {
        // Told to stop by nobody in the order as it is: who asked may have been lost with Central's disk. Its handler did not fail.
        return after_loss(state, job, fence, true, Some(evidence), Some(report), now);
    }
    let permanent = failure.permanent;
    let failures = job.attempts.saturating_add(1);
    let used_up = failures >= job.spec.attempts_max;
    let wait_ms = match permanent || used_up {
        true => 0,
        false => retry_after_ms(policy, &job.id, failures),
    };
    let attempt_failed = JobAttemptFailed {
        job: job.id,
        fence,
        attempt: claim.attempt,
        error: failure.error,
        permanent,
        retry_at: (wait_ms > 0).then(|| now.saturating_add(micros(wait_ms))),
        costs: failure.costs,
        evidence,
    };
    let mut drafts = vec![about(&job.id, &attempt_failed, Some(report))];
    if permanent {
        let failed = JobFailed {
            job: job.id,
            fence: Some(fence),
            error: failure.error,
            evidence: Some(evidence),
        };
        drafts.push(about(&job.id, &failed, Some(report)));
    } else if used_up {
        let (handler, reason) = (&job.spec.handler, ParkedReason::AttemptsUsedUp);
        drafts.extend(parked(state, &job.id, handler, reason, None, Some(report)));
    } else {
        drafts.extend((wait_ms == 0).then(|| ready(&job.id, ReadyReason::Retry, Some(report))));
        drafts.extend(held_for_lost_claim(state, job));
    }
    drafts
}

fn lost(state: &FleetState, known: &Known<'_>, now: i64) -> Vec<OrderDraft> {
    let Known {
        job,
        claim,
        fence,
        in_force,
        report,
        evidence,
    } = *known;
    if !in_force {
        return vec![late(&job.id, fence, LateVerdict::Stale, report, evidence)];
    }
    after_loss(
        state,
        job,
        fence,
        claim.started,
        Some(evidence),
        Some(report),
        now,
    )
}

// The machine gave it back: nothing is charged. What may have taken effect outside is nobody's to repeat, though.
fn yielded(state: &FleetState, known: &Known<'_>, now: i64) -> Vec<OrderDraft> {
    let Known {
        job,
        claim,
        fence,
        in_force,
        report,
        evidence,
    } = *known;
    if !in_force || job.cancel_asked || (claim.started && claim.class == Class::Exclusive) {
        return lost(state, known, now);
    }
    let requeued = JobRequeued {
        job: job.id,
        fence,
        reason: RequeueReason::Yielded,
        evidence: Some(evidence),
    };
    let held = held_for_lost_claim(state, job);
    std::iter::once(about(&job.id, &requeued, Some(report)))
        .chain(held)
        .collect()
}
