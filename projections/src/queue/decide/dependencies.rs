//! Jobs that wait for others: what they may wait for, and what becomes of them when the waiting is over.

use super::{OrderDraft, about, ready};
use crate::FleetState;
use crate::queue::{Dependency, Job, Refusal};
use ledger_core::kinds::{HeldReason, JobCancelled, JobHeld, JobId, JobSpec, ReadyReason};
use std::collections::BTreeSet;

/// Jobs that are looked at for a circle before a request is refused for it.
const CIRCLE_SCAN_MAX: usize = 4096;

/// Whether a request may depend on what it names: on jobs that exist, none of which waits for what the request tries again.
/// A circle cannot come about otherwise, since a job that is yet to be accepted does not exist.
pub(super) fn check(state: &FleetState, spec: &JobSpec) -> Result<(), Refusal> {
    for job in &spec.depends_on {
        if state.job(job).is_none() {
            let why = "no such job was accepted; depend on jobs that exist";
            return Err(Refusal::Dependency { job: *job, why });
        }
    }
    match spec.retry_of {
        Some(again) if waits_for(state, &spec.depends_on, &again) => Err(Refusal::Dependency {
            job: again,
            why: "the request would wait for itself, since it tries this job again",
        }),
        _ => Ok(()),
    }
}

fn waits_for(state: &FleetState, on: &[JobId], target: &JobId) -> bool {
    let mut seen = BTreeSet::new();
    let mut left: Vec<JobId> = on.to_vec();
    while let Some(id) = left.pop() {
        let Some(job) = state.queue().newest_try(&id) else {
            continue;
        };
        if job.id == *target || seen.len() >= CIRCLE_SCAN_MAX {
            return true;
        }
        // What is final waits for nothing, unless it is tried again, and then it is not the newest.
        if !job.phase().is_final() && seen.insert(job.id) {
            left.extend(&job.spec.depends_on);
        }
    }
    false
}

/// What becomes of a job that nothing else keeps from being claimed: held while it waits for others or for its time, else
/// ready for the reason given.
pub(super) fn free(
    state: &FleetState,
    job: &JobId,
    spec: &JobSpec,
    now: i64,
    reason: ReadyReason,
) -> OrderDraft {
    let held = match state.queue().dependencies(spec) {
        Dependency::Met => None,
        // What has failed meanwhile is settled from there.
        Dependency::Open | Dependency::Failed => Some(HeldReason::Dependencies),
    };
    let early = spec.not_before.is_some_and(|not_before| not_before > now);
    match held.or(early.then_some(HeldReason::NotBefore)) {
        Some(reason) => self::held(job, reason, ""),
        None => ready(job, reason, None),
    }
}

pub(super) fn held(job: &JobId, reason: HeldReason, note: &str) -> OrderDraft {
    let held = JobHeld {
        job: *job,
        reason,
        note: note.to_owned(),
    };
    about(job, &held, None)
}

/// What becomes of a job whose dependency ended without success: cancelled, unless it said that it rather waits.
pub(super) fn failed(state: &FleetState, job: &JobId, spec: &JobSpec) -> OrderDraft {
    let failed = |id: &&JobId| state.queue().dependency(id) == Dependency::Failed;
    let culprit = spec.depends_on.iter().find(failed);
    let why = culprit.map_or_else(String::new, |culprit| {
        format!("job {culprit}, which it depends on, ended without success")
    });
    if spec.hold_on_failed_dependency {
        return held(job, HeldReason::DependencyFailed, &why);
    }
    let cancelled = JobCancelled {
        job: *job,
        fence: None,
        evidence: None,
    };
    about(job, &cancelled, None)
        .payload("text/plain", why.into_bytes())
        .expect("a short text")
}

/// Drafts for jobs that waited for others, and whose waiting is over: ready when all succeeded, else cancelled or held. Call
/// it after whatever may have ended a job was folded, again until it gives nothing: what it cancels may have dependants.
/// At most [`DUE_MAX`](super::DUE_MAX) at once.
pub fn settle(state: &FleetState, now: i64) -> Vec<OrderDraft> {
    // What is past its deadline expires, which is the ticker's to say.
    let in_time = |job: &&Job| job.spec.deadline.is_none_or(|deadline| deadline > now);
    let settled = state.queue().settled().filter(in_time).take(super::DUE_MAX);
    settled.map(|job| settled_one(state, job, now)).collect()
}

fn settled_one(state: &FleetState, job: &Job, now: i64) -> OrderDraft {
    match state.queue().dependencies(&job.spec) {
        Dependency::Failed => failed(state, &job.id, &job.spec),
        _ => free(state, &job.id, &job.spec, now, ReadyReason::DependenciesMet),
    }
}
