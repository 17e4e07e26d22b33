//! What a person does to the queue by hand: holding, releasing, discarding, draining, trying again, pausing, limiting. Each is a
//! receipt with a reason, and asking again for what is so already writes nothing.
//!
//! The drafts are Central's own words. An operator may say the same in a receipt of his own (`job.held`, `job.released`,
//! `job.discarded`, `handler.paused`, `handler.resumed`, `queue.limited`); what follows from that is [`steered`].

use super::dependencies::{failed, held};
use super::{DUE_MAX, OrderDraft, about, job, subject_of};
use crate::FleetState;
use crate::queue::{Dependency, Job, JobState, Phase, Refusal};
use ledger::Receipt;
use ledger_core::kinds::{
    AnyDetail, DiscardReason, HandlerPaused, HandlerResumed, HeldReason, JobDiscarded, JobId, JobReleased,
    JobSpec, LimitScope, QueueLimited, RateLimit,
};
use ledger_core::limits::{NAME_BYTES_MAX, NOTE_BYTES_MAX};
use ledger_core::{Draft, Statement};

/// The states of a handler's backlog: what waits for a claim one way or another.
pub const BACKLOG: [Phase; 4] = [Phase::Held, Phase::Scheduled, Phase::Ready, Phase::Backoff];

fn check_note(note: &str) -> Result<(), Refusal> {
    if note.len() > NOTE_BYTES_MAX {
        return Err(Refusal::Spec {
            field: "reason",
            why: format!(
                "at most {NOTE_BYTES_MAX} bytes are expected, {} found",
                note.len()
            ),
        });
    }
    Ok(())
}

fn check_given(what: &str, reason: &str) -> Result<(), Refusal> {
    if reason.is_empty() {
        return Err(Refusal::Spec {
            field: "reason",
            why: format!("{what} for a reason; say which"),
        });
    }
    Ok(())
}

fn check_name(what: &'static str, name: &str) -> Result<(), Refusal> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
        return Err(Refusal::Steering {
            what,
            name: name.to_owned(),
            why: format!("a name of 1 to {NAME_BYTES_MAX} bytes without control characters is expected"),
        });
    }
    Ok(())
}

fn not_now<T>(job: &Job, what: &'static str, instead: &'static str) -> Result<T, Refusal> {
    let phase = job.phase().as_str();
    Err(if job.phase().is_final() {
        Refusal::JobFinal { job: job.id, phase }
    } else {
        Refusal::NotNow {
            job: job.id,
            phase,
            what,
            instead,
        }
    })
}

/// Keeps a job that is not claimed from being claimed, until it is released.
///
/// # Errors
/// [`Refusal::JobUnknown`], [`Refusal::JobFinal`], [`Refusal::NotNow`] for one that runs or is parked, [`Refusal::Spec`] for a
/// note of more than 200 bytes.
pub fn hold(state: &FleetState, id: &JobId, note: &str) -> Result<Vec<OrderDraft>, Refusal> {
    check_note(note)?;
    let job = job(state, id)?;
    match &job.state {
        JobState::Held {
            reason: HeldReason::ByHand,
        } => Ok(Vec::new()),
        JobState::Held { .. } | JobState::Scheduled { .. } | JobState::Ready | JobState::Backoff { .. } => {
            Ok(vec![held(id, HeldReason::ByHand, note)])
        }
        _ => not_now(job, "held", "cancel it, or wait for its end"),
    }
}

/// Lets a job go on that was held by hand, or because a dependency failed: ready, or held until what it depends on
/// succeeded or its time came.
///
/// # Errors
/// [`Refusal::JobUnknown`], [`Refusal::JobFinal`], [`Refusal::NotNow`] for one that is not held so, [`Refusal::Spec`] for a note
/// of more than 200 bytes.
pub fn release(state: &FleetState, id: &JobId, now: i64, note: &str) -> Result<Vec<OrderDraft>, Refusal> {
    check_note(note)?;
    let job = job(state, id)?;
    match job.state {
        JobState::Held {
            reason: HeldReason::ByHand | HeldReason::DependencyFailed,
        } => {
            let released = JobReleased {
                job: *id,
                note: note.to_owned(),
            };
            let then = after_release(state, job, now);
            Ok(std::iter::once(about(id, &released, None)).chain(then).collect())
        }
        JobState::Held { .. } => not_now(
            job,
            "released",
            "it waits for other jobs or its time; submit it anew",
        ),
        _ => not_now(job, "released", "only what is held is"),
    }
}

// Somebody released it: what still keeps it from being claimed. A failed dependency does not, if it waited for that person.
fn after_release(state: &FleetState, job: &Job, now: i64) -> Option<OrderDraft> {
    let spec = &job.spec;
    match state.queue().dependencies(spec) {
        Dependency::Failed if !spec.hold_on_failed_dependency => return Some(failed(state, &job.id, spec)),
        Dependency::Open => return Some(held(&job.id, HeldReason::Dependencies, "")),
        Dependency::Failed | Dependency::Met => {}
    }
    let early = spec.not_before.is_some_and(|not_before| not_before > now);
    early.then(|| held(&job.id, HeldReason::NotBefore, ""))
}

/// Gives a job up that is not claimed: one of the backlog, or a dead letter. Final.
///
/// # Errors
/// [`Refusal::JobUnknown`], [`Refusal::JobFinal`], [`Refusal::NotNow`] for one that runs, [`Refusal::Spec`] for a note of more
/// than 200 bytes.
pub fn discard(state: &FleetState, id: &JobId, note: &str) -> Result<Vec<OrderDraft>, Refusal> {
    check_note(note)?;
    let job = job(state, id)?;
    if job.phase() == Phase::Parked || BACKLOG.contains(&job.phase()) {
        return Ok(vec![discarded(id, DiscardReason::ByHand, None, note)]);
    }
    not_now(job, "discarded", "cancel it instead")
}

pub(super) fn discarded(
    id: &JobId,
    reason: DiscardReason,
    retried_as: Option<JobId>,
    note: &str,
) -> OrderDraft {
    let discarded = JobDiscarded {
        job: *id,
        reason,
        retried_as,
        note: note.to_owned(),
    };
    about(id, &discarded, None)
}

/// Gives up the backlog of a handler: whatever of it waits for a claim, each by a receipt with the reason. What runs goes on
/// and dead letters stay. At most [`DUE_MAX`] at once: call it until it gives nothing.
///
/// # Errors
/// [`Refusal::Spec`] for a reason that is empty or of more than 200 bytes: a backlog is never dropped without one.
pub fn drain(state: &FleetState, handler: &str, reason: &str) -> Result<Vec<OrderDraft>, Refusal> {
    check_note(reason)?;
    check_given("a backlog is given up", reason)?;
    Ok(backlog(state, handler)
        .take(DUE_MAX)
        .map(|job| discarded(&job.id, DiscardReason::Drained, None, reason))
        .collect())
}

/// What of a handler waits for a claim one way or another, state by state.
pub fn backlog<'a>(state: &'a FleetState, handler: &'a str) -> impl Iterator<Item = &'a Job> {
    let waiting = BACKLOG.into_iter().flat_map(|phase| state.jobs_in(phase));
    waiting.filter(move |job| job.spec.handler == handler)
}

/// The request that tries a job again: the same work, from now on. The input is the caller's to put in anew, since it is the
/// payload of the request that brings it. The new job is linked by `retry_of`; whoever depends on the old one follows it, and
/// a dead letter leaves the dead letters when the new one is accepted.
///
/// # Errors
/// [`Refusal::JobUnknown`], or [`Refusal::NoRetry`] for one that succeeded, goes on, or is tried again already.
pub fn retry_spec(state: &FleetState, id: &JobId) -> Result<JobSpec, Refusal> {
    may_retry(state, id).map(spec_again)
}

/// The same without asking whether the job may be tried again: what was said once is said in the same words.
pub fn spec_again(job: &Job) -> JobSpec {
    JobSpec {
        retry_of: Some(job.id),
        not_before: None,
        deadline: None,
        input: None,
        ..job.spec.clone()
    }
}

pub(super) fn may_retry<'a>(state: &'a FleetState, id: &JobId) -> Result<&'a Job, Refusal> {
    let job = job(state, id)?;
    let why = match (job.retried_as, job.phase()) {
        (Some(next), _) => format!("job {next} does so already; retry that one"),
        (None, Phase::Succeeded) => "it succeeded; submit a new request instead".to_owned(),
        (None, phase) if !job.is_retriable() => format!("it is {phase}; cancel it or wait for its end"),
        _ => return Ok(job),
    };
    Err(Refusal::NoRetry { job: *id, why })
}

/// From here on nothing of a handler is given out; what runs goes on. With an end (microseconds since 1970), Central resumes it
/// then.
///
/// # Errors
/// [`Refusal::Steering`] for a name out of bounds or an end that has passed, [`Refusal::Spec`] for a reason that is empty or of
/// more than 200 bytes.
pub fn pause(
    state: &FleetState,
    handler: &str,
    until: Option<i64>,
    now: i64,
    reason: &str,
) -> Result<Vec<OrderDraft>, Refusal> {
    check_name("pause of handler", handler)?;
    check_note(reason)?;
    check_given("a handler is paused", reason)?;
    if until.is_some_and(|until| until <= now) {
        return Err(Refusal::Steering {
            what: "pause of handler",
            name: handler.to_owned(),
            why: "an end in the future is expected".to_owned(),
        });
    }
    let same = |pause: &crate::queue::Pause| pause.until == until && pause.reason == reason;
    if state.queue().pause(handler).is_some_and(same) {
        return Ok(Vec::new());
    }
    let paused = HandlerPaused {
        handler: handler.to_owned(),
        until,
        reason: reason.to_owned(),
    };
    Ok(vec![Draft::of(&paused, subject_of("handler", handler))])
}

/// Gives jobs of a paused handler out again. Nothing when it is not paused.
///
/// # Errors
/// [`Refusal::Spec`] for a reason of more than 200 bytes.
pub fn unpause(state: &FleetState, handler: &str, reason: &str) -> Result<Vec<OrderDraft>, Refusal> {
    check_note(reason)?;
    if state.queue().pause(handler).is_none() {
        return Ok(Vec::new());
    }
    Ok(vec![unpaused(handler, reason)])
}

pub(super) fn unpaused(handler: &str, reason: &str) -> OrderDraft {
    let resumed = HandlerResumed {
        handler: handler.to_owned(),
        reason: reason.to_owned(),
    };
    Draft::of(&resumed, subject_of("handler", handler))
}

/// Sets the limit under which claims are given from here on; without any bound it is lifted.
///
/// # Errors
/// [`Refusal::Steering`] for a name or number out of bounds, [`Refusal::Spec`] for a reason of more than 200 bytes.
pub fn limit(
    state: &FleetState,
    scope: &LimitScope,
    running_max: Option<u32>,
    rate: Option<RateLimit>,
    reason: &str,
) -> Result<Vec<OrderDraft>, Refusal> {
    let (what, name) = match scope {
        LimitScope::Handler(name) => ("limit of handler", name.as_str()),
        LimitScope::Machine(machine) => ("limit of machine", machine.as_str()),
        LimitScope::Key(name) => ("limit of key", name.as_str()),
    };
    check_name(what, name)?;
    check_note(reason)?;
    let wrong = |why: &str| {
        Err(Refusal::Steering {
            what,
            name: name.to_owned(),
            why: why.to_owned(),
        })
    };
    if running_max == Some(0) {
        return wrong("at least 1 at once is expected; pause the handler to give nothing out");
    }
    if rate.is_some_and(|rate| rate.claims == 0 || rate.period_ms == 0) {
        return wrong("at least one claim in a period of at least a millisecond is expected");
    }
    let now = state.queue().limit(scope);
    let same = now.map_or((None, None), |limit| (limit.running_max, limit.rate)) == (running_max, rate);
    if same {
        return Ok(Vec::new());
    }
    let limited = QueueLimited {
        scope: scope.clone(),
        running_max,
        rate,
        reason: reason.to_owned(),
    };
    Ok(vec![Draft::of(&limited, subject_of("limit", name))])
}

/// Whether what an operator says in a receipt of his own would change something: `false` when it is so already, and for kinds
/// that steer nothing `true`.
///
/// # Errors
/// What [`hold`], [`release`], [`discard`], [`drain`], [`pause`], [`unpause`] and [`limit`] refuse, and [`Refusal::Spec`] for a reason that
/// is not a person's to give.
pub fn steers(state: &FleetState, said: &Statement, now: i64) -> Result<bool, Refusal> {
    let not_by_hand = |expected: &str| {
        Err(Refusal::Spec {
            field: "reason",
            why: format!("a person's word says {expected}; the others are Central's to say"),
        })
    };
    let drafts = match said.any_detail() {
        Ok(AnyDetail::JobHeld(d)) if d.reason != HeldReason::ByHand => return not_by_hand("by-hand"),
        Ok(AnyDetail::JobDiscarded(d)) if d.reason == DiscardReason::Retried || d.retried_as.is_some() => {
            return not_by_hand("by-hand or drained");
        }
        Ok(AnyDetail::JobHeld(d)) => hold(state, &d.job, &d.note)?,
        Ok(AnyDetail::JobReleased(d)) => release(state, &d.job, now, &d.note)?,
        Ok(AnyDetail::JobDiscarded(d)) => {
            let drained = d.reason == DiscardReason::Drained;
            if drained {
                check_given("a backlog is given up", &d.note)?;
                // Dead letters are no backlog.
                let job = job(state, &d.job)?;
                if job.phase() == Phase::Parked {
                    return not_now(job, "drained", "discard it");
                }
            }
            discard(state, &d.job, &d.note)?
        }
        Ok(AnyDetail::HandlerPaused(d)) => pause(state, &d.handler, d.until, now, &d.reason)?,
        Ok(AnyDetail::HandlerResumed(d)) => unpause(state, &d.handler, &d.reason)?,
        Ok(AnyDetail::QueueLimited(d)) => limit(state, &d.scope, d.running_max, d.rate, &d.reason)?,
        _ => return Ok(true),
    };
    Ok(!drafts.is_empty())
}

/// What follows from an operator's own `job.released`, sealed in the order and folded. Other receipts give nothing.
pub fn steered(state: &FleetState, said: &Receipt, now: i64) -> Vec<OrderDraft> {
    let Ok(AnyDetail::JobReleased(released)) = said.statement().any_detail() else {
        return Vec::new();
    };
    // Without authority the fold left the job alone, and so does this.
    let job = state.job(&released.job).filter(|job| job.phase() == Phase::Ready);
    job.and_then(|job| after_release(state, job, now))
        .into_iter()
        .collect()
}
