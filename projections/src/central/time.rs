//! What time brings: machines that fell silent or are back, leases that ran out, failovers, and all that the queue finds due.

use super::leases::Leases;
use super::{OrderTx, StepError, settle, write};
use crate::members::{Machine, MachineStatus};
use crate::notices::{Standing, Watch};
use crate::queue::decide::{self, Holds};
use crate::queue::{Phase, Policy};
use crate::{FleetState, notices, uptime};
use ledger_core::kinds::Fence;
use ledger_core::{Draft, MachineId};

/// When a machine was heard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Heard {
    /// First after the last time that it counted as lost, microseconds since 1970.
    pub first_us: i64,
    /// Last, microseconds since 1970.
    pub last_us: i64,
    /// Last, by the clock that counts sleep.
    pub last_ms: u64,
}

/// What a look found, to be decided again within the commit.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Due {
    /// Machines that fell silent, and when they were last heard, microseconds since 1970.
    pub lost: Vec<(MachineId, i64)>,
    /// Machines that are heard again, and since when.
    pub back: Vec<(MachineId, i64)>,
    /// Claims whose lease ran out.
    pub over: Vec<Fence>,
    /// Spans in which nobody watched, to be told.
    pub absences: Vec<(i64, i64)>,
    /// Since when Central watches without a pause, microseconds since 1970: silence before that is not told to anybody.
    pub watched_since: i64,
    /// Whether a probe of the world outside answers: then Central is not the one that is cut off, though it hears no other machine.
    pub outside: bool,
    /// What heartbeats and hellos show, and a person should know.
    pub standing: Vec<Standing>,
}

impl Due {
    /// Whether there is nothing to write, neither of this nor of what the state itself has due.
    pub fn is_quiet(&self, state: &FleetState, now: i64, policy: &Policy) -> bool {
        let found = [&self.lost, &self.back]
            .iter()
            .any(|machines| !machines.is_empty())
            || !self.over.is_empty()
            || !self.absences.is_empty();
        !found
            && decide::failovers_due(state, now, self.outside).is_empty()
            && decide::due(state, now, policy).is_empty()
            && self.notices(state, now, policy).is_empty()
    }

    fn notices(&self, state: &FleetState, now: i64, policy: &Policy) -> Vec<Draft> {
        let since = self.watched_since;
        let mut drafts = notices::notices_due(state, &Watch { now, since }, policy);
        drafts.extend(notices::conditions_due(state, &self.standing, now, policy));
        drafts
    }
}

/// The machines that fell silent and those that are back. `heard` tells when a machine was heard, `spoke` when it last spoke as
/// its logs have it, for one that was not heard since Central began at `started_ms`.
pub fn silences(
    state: &FleetState,
    heard: impl Fn(&MachineId) -> Option<Heard>,
    spoke: impl Fn(&Machine) -> Option<i64>,
    started_ms: u64,
    now_ms: u64,
    policy: &Policy,
) -> Due {
    let mut due = Due::default();
    let own = &state.context().machine;
    for row in state.machines().filter(|m| !m.retired && m.id != *own) {
        match (row.status, heard(&row.id)) {
            (MachineStatus::Online { .. }, Some(heard)) if now_ms >= heard.last_ms + policy.lost_after_ms => {
                due.lost.push((row.id.clone(), heard.last_us));
            }
            // Not heard since Central began: the silence counts from there.
            (MachineStatus::Online { since }, None) if now_ms >= started_ms + policy.lost_after_ms => {
                let last = spoke(row).unwrap_or(since).max(since);
                due.lost.push((row.id.clone(), last));
            }
            (MachineStatus::Lost { .. }, Some(heard)) if now_ms < heard.last_ms + policy.lost_after_ms => {
                due.back.push((row.id.clone(), heard.first_us));
            }
            _ => {}
        }
    }
    due
}

/// The claims whose lease ran out. What Central's own machine holds (`held`) needs no beat; what it does not hold, for whatever
/// reason, is as lost as any.
pub fn overdue(state: &FleetState, held: &[Fence], leases: &mut Leases, now_ms: u64) -> Vec<Fence> {
    let own = &state.context().machine;
    let mut over = Vec::new();
    for job in state.jobs_in(Phase::Leased) {
        let Some(lease) = job.lease() else { continue };
        if lease.machine == *own && held.contains(&lease.fence) {
            leases.renew(&lease.fence, now_ms);
        } else if leases.is_over(&lease.fence, now_ms) {
            over.push(lease.fence);
        }
    }
    leases.keep(state);
    over
}

/// Writes what time brought. `own` is what Central's own machine runs, `is_over` asks the lease table once more: a beat may
/// have come since the look.
///
/// # Errors
/// [`StepError`].
pub fn tick<T: OrderTx>(
    tx: &mut T,
    due: &Due,
    own: &Holds<'_>,
    mut is_over: impl FnMut(&Fence) -> bool,
    policy: &Policy,
) -> Result<(), StepError> {
    let now = tx.now_us();
    let machine = tx.state().context().machine.clone();
    for (from, until) in &due.absences {
        write(tx, vec![uptime::absent(*from, *until)])?;
    }
    for (lost, last_heard) in &due.lost {
        let drafts = notices::node_lost(tx.state(), lost, *last_heard);
        write(tx, drafts)?;
    }
    for (back, first_heard) in &due.back {
        let drafts = notices::node_back(tx.state(), back, *first_heard);
        write(tx, drafts)?;
    }
    for fence in &due.over {
        let claim = tx
            .state()
            .fence(fence)
            .map(|claim| (claim.job, claim.machine == machine));
        let Some((job, here)) = claim else { continue };
        if here && !own.held.contains(fence) {
            let drafts = decide::resume(tx.state(), &machine, own, now)?;
            write(tx, drafts)?;
        } else if is_over(fence) {
            let drafts = decide::expire_lease(tx.state(), &job, fence, now, policy)?;
            write(tx, drafts)?;
        }
    }
    for job in decide::failovers_due(tx.state(), now, due.outside) {
        let drafts = decide::failover(tx.state(), &job, now, policy, due.outside)?;
        write(tx, drafts)?;
    }
    let drafts = decide::due(tx.state(), now, policy);
    write(tx, drafts)?;
    let drafts = due.notices(tx.state(), now, policy);
    write(tx, drafts)?;
    Ok(settle(tx)?)
}
