//! Which machines may run a job.
//!
//! Only a machine that declares the handler, and within what the request demands (machine, labels). A light job whose
//! handler the gateway declares runs there. A backup gets a job only after a failover, or when no other machine declares
//! the handler: a primary that is merely not heard keeps its jobs waiting. After a failover the machine that lost the
//! job does not get it again, as long as another that can is heard.

use crate::FleetState;
use crate::members::Machine;
use crate::queue::{Handler, Job};
use ledger_core::MachineId;
use ledger_core::kinds::{Class, JobSpec};

/// Whether a declaration on a machine is what a request demands.
pub(super) fn fits(spec: &JobSpec, machine: &MachineId, labels: &[String]) -> bool {
    spec.machine.as_ref().is_none_or(|wanted| wanted == machine)
        && spec.labels.iter().all(|label| labels.contains(label))
}

/// The declarations that fit a request, of machines that are not retired.
pub(super) fn fitting<'a>(
    state: &'a FleetState,
    spec: &'a JobSpec,
) -> impl Iterator<Item = (&'a MachineId, &'a Handler)> {
    state
        .queue()
        .machines_with(&spec.handler)
        .filter(move |(machine, handler)| {
            fits(spec, machine, &handler.labels) && state.machine(machine).is_some_and(|row| !row.retired)
        })
}

/// The machines that may run a job now, heard or not, by name.
pub fn candidates(state: &FleetState, job: &Job) -> Vec<MachineId> {
    let all: Vec<(&MachineId, &Handler)> = fitting(state, &job.spec).collect();
    let gateway = state.central();
    if let Some((machine, _)) = all
        .iter()
        .find(|(machine, handler)| Some(*machine) == gateway && handler.class == Class::Light)
    {
        return vec![(*machine).clone()];
    }
    let primaries = all.iter().any(|(_, handler)| !handler.is_backup());
    let open_to_backups = job.failovers > 0 || !primaries;
    let others: Vec<&(&MachineId, &Handler)> = all
        .iter()
        .filter(|(machine, _)| !job.excluded.contains(machine))
        .collect();
    let heard = |machine: &MachineId| state.machine(machine).is_some_and(Machine::is_online);
    let left: Vec<&(&MachineId, &Handler)> = if others.iter().any(|(machine, _)| heard(machine)) {
        others
    } else {
        all.iter().collect()
    };
    left.into_iter()
        .filter(|(_, handler)| open_to_backups || !handler.is_backup())
        .map(|(machine, _)| (*machine).clone())
        .collect()
}

/// Whether a machine may run a job now.
pub fn may_run(state: &FleetState, job: &Job, machine: &MachineId) -> bool {
    candidates(state, job).contains(machine)
}
