//! What the ticker finds due: times that came, deadlines that passed, pauses that ended, jobs that waited for others.

use super::dependencies::{free, settle};
use super::steer::unpaused;
use super::{OrderDraft, about, parked, ready, routing};
use crate::FleetState;
use crate::queue::{Job, JobState, Phase, Policy, micros};
use ledger_core::kinds::{HeldReason, JobCancelAsked, JobExpired, ParkedReason, ReadyReason};

/// Drafts that one call gives; the next tick goes on.
pub const DUE_MAX: usize = 1024;

/// Drafts for everything that is due at `now`, microseconds since 1970: what waited for its time becomes ready; what is past
/// its deadline expires, and a run is told to stop first; parked jobs whose handler is declared by now are released; pauses
/// end; jobs whose dependencies ended go on or are given up, and so do those of which a lost order tells no more than that they
/// were accepted. Failovers are not among them.
pub fn due(state: &FleetState, now: i64, policy: &Policy) -> Vec<OrderDraft> {
    let timed = state.queue().timed_until(now);
    let timed = timed.filter_map(|job| time_came(job, now, policy));
    let served = state.jobs_in(Phase::Parked).filter(|job| {
        job.state == JobState::Parked(ParkedReason::UnknownHandler)
            && job.spec.deadline.is_none_or(|deadline| deadline > now)
            && job.spec.not_before.is_none_or(|not_before| not_before <= now)
            && routing::fitting(state, &job.spec).next().is_some()
    });
    let served = served.map(|job| free(state, &job.id, &job.spec, now, ReadyReason::HandlerDeclared));
    // An order that was lost behind the acceptance of a job ends before what followed from it.
    let cut_off = state.jobs_in(Phase::Accepted).flat_map(|job| {
        if routing::fitting(state, &job.spec).next().is_some() {
            return vec![free(state, &job.id, &job.spec, now, ReadyReason::Accepted)];
        }
        let reason = ParkedReason::UnknownHandler;
        parked(state, &job.id, &job.spec.handler, reason, None, None)
    });
    let ended = state.queue().pauses().filter_map(|(handler, pause)| {
        let over = pause.until.is_some_and(|until| until <= now);
        over.then(|| unpaused(handler, "its end came"))
    });
    let all = timed
        .chain(served)
        .chain(cut_off)
        .chain(ended)
        .chain(settle(state, now));
    all.take(DUE_MAX).collect()
}

fn time_came(job: &Job, now: i64, policy: &Policy) -> Option<OrderDraft> {
    if let Some(deadline) = job.spec.deadline
        && deadline <= now
    {
        return past_deadline(job, deadline, now, policy);
    }
    let reason = match &job.state {
        JobState::Scheduled { not_before } if *not_before <= now => ReadyReason::Due,
        JobState::Held {
            reason: HeldReason::NotBefore,
        } if job.spec.not_before.is_none_or(|at| at <= now) => ReadyReason::Due,
        JobState::Backoff {
            retry_at: Some(at), ..
        } if *at <= now => ReadyReason::Retry,
        _ => return None,
    };
    Some(ready(&job.id, reason, Some(job.request)))
}

/// Expired; a run that is heard of is told to stop first, and has a while to confirm that, or to succeed after all.
fn past_deadline(job: &Job, deadline: i64, now: i64, policy: &Policy) -> Option<OrderDraft> {
    let runs = matches!(&job.state, JobState::Leased(lease) if lease.started);
    let patience_until = deadline.saturating_add(micros(policy.stop_grace_ms));
    if runs && now < patience_until {
        let asked = JobCancelAsked {
            job: job.id,
            force: false,
            reason: "its deadline passed".to_owned(),
        };
        return (!job.cancel_asked).then(|| about(&job.id, &asked, Some(job.request)));
    }
    let fence = job.lease().map(|lease| lease.fence);
    Some(about(
        &job.id,
        &JobExpired { job: job.id, fence },
        Some(job.request),
    ))
}
