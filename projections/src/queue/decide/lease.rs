//! What becomes of a claim when its machine falls silent, and when it is heard again.

use super::{DUE_MAX, OrderDraft, about, after_loss, job, parked, routing, stopped, working_machine};
use crate::FleetState;
use crate::members::Machine;
use crate::order::Place;
use crate::queue::{Claim, Job, JobState, Lease, Phase, Policy, Refusal, micros};
use ledger_core::MachineId;
use ledger_core::kinds::{
    Class, Fence, JobFailedOver, JobId, JobLeaseExpired, JobRequeued, JobResumed, ParkedReason, RequeueReason,
};

/// The lease of a claim ran out: the job is suspect. A light one is ready again at once, a heavy one waits for its
/// failover, an exclusive one for its machine or a person. Nothing when the job is not leased under this claim any more.
///
/// # Errors
/// [`Refusal::JobUnknown`].
pub fn expire_lease(
    state: &FleetState,
    id: &JobId,
    fence: &Fence,
    now: i64,
    policy: &Policy,
) -> Result<Vec<OrderDraft>, Refusal> {
    let job = job(state, id)?;
    match &job.state {
        JobState::Leased(lease) if lease.fence == *fence => {
            Ok(suspect(state, job, now, policy, RequeueReason::LeaseExpired))
        }
        _ => Ok(Vec::new()),
    }
}

fn suspect(
    state: &FleetState,
    job: &Job,
    now: i64,
    policy: &Policy,
    reason: RequeueReason,
) -> Vec<OrderDraft> {
    let Some(lease) = job.lease() else {
        return Vec::new();
    };
    let (id, fence) = (job.id, lease.fence);
    let failover_at =
        (lease.class == Class::Heavy).then(|| now.saturating_add(micros(policy.failover_after_ms)));
    let mut drafts = vec![about(
        &id,
        &JobLeaseExpired {
            job: id,
            fence,
            failover_at,
        },
        Some(job.request),
    )];
    if lease.class != Class::Light {
        return drafts;
    }
    if job.cancel_asked {
        drafts.extend(stopped(job, fence, None, None, now));
    } else if reason == RequeueReason::LeaseExpired
        && lease.started
        && job.losses.saturating_add(1) > job.losses_max
    {
        let reason = ParkedReason::LossesUsedUp;
        drafts.extend(parked(state, &id, &job.spec.handler, reason, Some(fence), None));
    } else {
        let requeued = JobRequeued {
            job: id,
            fence,
            reason,
            evidence: None,
        };
        drafts.push(about(&id, &requeued, None));
    }
    drafts
}

/// A machine says that it goes to sleep, drains or shuts down: each of its leases is suspect at once, and
/// none is charged for it.
///
/// # Errors
/// [`Refusal::MachineUnknown`] or [`Refusal::MachineRetired`].
pub fn stand_down(
    state: &FleetState,
    machine: &MachineId,
    now: i64,
    policy: &Policy,
) -> Result<Vec<OrderDraft>, Refusal> {
    working_machine(state, machine)?;
    let leased = state.jobs_on(machine).filter(|job| job.phase() == Phase::Leased);
    Ok(leased
        .flat_map(|job| suspect(state, job, now, policy, RequeueReason::Yielded))
        .collect())
}

/// Whether Central hears any machine but itself and the one in question. If everybody vanished at once, Central is the
/// one that is cut off, and no failover clock runs.
pub fn sees_another(state: &FleetState, machine: &MachineId) -> bool {
    let central = state.central();
    state
        .machines()
        .any(|row| row.id != *machine && Some(&row.id) != central && row.is_online())
}

/// The suspect jobs for which [`failover`] has something to write at `now`: due, and not standing still. `outside` is whether a probe of
/// the world outside answers Central.
pub fn failovers_due(state: &FleetState, now: i64, outside: bool) -> Vec<JobId> {
    let due = state
        .queue()
        .timed_until(now)
        .filter(|job| may_fail_over(state, job, now, outside).is_ok());
    due.map(|job| job.id).take(DUE_MAX).collect()
}

/// The lease that a failover would end, or what it waits for.
fn may_fail_over<'a>(
    state: &FleetState,
    job: &'a Job,
    now: i64,
    outside: bool,
) -> Result<&'a Lease, &'static str> {
    let JobState::Suspect {
        lease, failover_at, ..
    } = &job.state
    else {
        return Err("it is not suspect");
    };
    match failover_at {
        None => return Err("only heavy jobs do by themselves; its machine's return or a person decides"),
        Some(at) if *at > now => return Err("its time has not come"),
        Some(_) => {}
    }
    match hindrance(state, job, lease, outside) {
        Some(why) => Err(why),
        None => Ok(lease),
    }
}

/// What keeps a suspect job from failing over whatever the time is.
pub(crate) fn hindrance(state: &FleetState, job: &Job, lease: &Lease, outside: bool) -> Option<&'static str> {
    if !outside && !sees_another(state, &lease.machine) {
        return Some(
            "no other machine is heard; unless a probe answers, Central itself may be the one that is cut off",
        );
    }
    let elsewhere = routing::fitting(state, &job.spec).any(|(machine, _)| {
        *machine != lease.machine && state.machine(machine).is_some_and(Machine::is_online)
    });
    let none = "no other machine that is heard declares the handler";
    (!job.cancel_asked && !elsewhere).then_some(none)
}

/// A heavy job whose machine stays silent goes to the backups, with its last progress checkpoint; beyond the cap it is
/// parked. It stays where it is while Central sees nobody else and nothing `outside` answers it, and while no other machine could run it.
///
/// # Errors
/// [`Refusal::JobUnknown`], or [`Refusal::NoFailover`] saying what it waits for.
pub fn failover(
    state: &FleetState,
    id: &JobId,
    now: i64,
    policy: &Policy,
    outside: bool,
) -> Result<Vec<OrderDraft>, Refusal> {
    let job = job(state, id)?;
    let lease =
        may_fail_over(state, job, now, outside).map_err(|why| Refusal::NoFailover { job: *id, why })?;
    if job.cancel_asked {
        return Ok(stopped(job, lease.fence, None, None, now));
    }
    if !policy.permits_failover(job.failovers) {
        let reason = ParkedReason::LossesUsedUp;
        return Ok(parked(
            state,
            id,
            &job.spec.handler,
            reason,
            Some(lease.fence),
            None,
        ));
    }
    let failed_over = JobFailedOver {
        job: *id,
        fence: lease.fence,
        excluded: lease.machine.clone(),
    };
    Ok(vec![about(id, &failed_over, Some(job.request))])
}

/// What a machine says of the claims that it holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Holds<'a> {
    /// Those that are running, and those whose end it has not been judged for.
    pub held: &'a [Fence],
    /// How far it had the order when it said so.
    pub seen: Place,
    /// In which incarnation it says so.
    pub incarnation: u32,
}

/// A machine is heard again and says which claims it holds: those that are running, and those whose end it has not been
/// judged for. Call it after what it pushed before was judged.
///
/// A claim that it holds goes on under the same fence, if nobody else got the job. One that Central waits for and it
/// does not hold never started, or is lost; but only if the order had reached the machine as far as that claim when it
/// said so: a word that was held up on its way says nothing about what was claimed since. A later incarnation does not know
/// whether a claim of an earlier one started, since its data was put back: it counts as started.
///
/// # Errors
/// [`Refusal::MachineUnknown`] or [`Refusal::MachineRetired`].
pub fn resume(
    state: &FleetState,
    machine: &MachineId,
    holds: &Holds<'_>,
    now: i64,
) -> Result<Vec<OrderDraft>, Refusal> {
    let Holds {
        held,
        seen,
        incarnation,
    } = *holds;
    working_machine(state, machine)?;
    let mut drafts = Vec::new();
    for job in state.jobs_on(machine) {
        let lease = job.lease().expect("jobs on a machine are claimed");
        let Fence { epoch, seq, .. } = lease.fence;
        if !held.contains(&lease.fence) {
            if (Place { epoch, seq }) > seen {
                continue;
            }
            let started = lease.started || lease.incarnation < incarnation;
            drafts.extend(after_loss(state, job, lease.fence, started, None, None, now));
        } else if job.phase() == Phase::Suspect {
            drafts.push(resumed(job, lease.fence));
        }
    }
    for fence in held {
        // A machine holds a claim until it knows the verdict on its end; what was judged does not go on.
        let goes_on = |claim: &&Claim| claim.machine == *machine && claim.judged.is_empty();
        let released = state.fence(fence).filter(goes_on);
        let job = released.and_then(|claim| state.job(&claim.job));
        if let Some(job) = job
            && job.phase() == Phase::Ready
            && job.last_fence == Some(*fence)
        {
            drafts.push(resumed(job, *fence));
        }
    }
    Ok(drafts)
}

/// What a machine held when it was retired is waited for no longer: ready again, or parked. Call it before the retirement is
/// folded, or after.
pub fn give_up_on(state: &FleetState, machine: &MachineId, now: i64) -> Vec<OrderDraft> {
    let mut drafts = Vec::new();
    for job in state.jobs_on(machine).take(DUE_MAX) {
        let lease = job.lease().expect("jobs on a machine are claimed");
        drafts.extend(after_loss(
            state,
            job,
            lease.fence,
            lease.started,
            None,
            None,
            now,
        ));
    }
    drafts
}

fn resumed(job: &Job, fence: Fence) -> OrderDraft {
    about(&job.id, &JobResumed { job: job.id, fence }, Some(job.request))
}
