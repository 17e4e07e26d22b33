//! How the machines are: what the order knows, and the newest gauges beside it.
//!
//! Whether a machine is lost comes from the order. Gauges come from pulses, which no decision depends on; the caller keeps
//! the latest and hands them in.

use crate::FleetState;
use crate::members::{Machine, MachineStatus};
use crate::notices::queued_for;
use ledger_core::MachineId;
use ledger_core::kinds::{JobId, NodePulse, Role};
use serde::Serialize;

/// The latest pulse of a machine.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Gauges {
    /// What it said.
    pub pulse: NodePulse,
    /// When it was heard here, microseconds since 1970.
    pub heard_at: i64,
}

/// One machine as a person wants to see it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct NodeView {
    /// Its name.
    pub machine: MachineId,
    /// What it is.
    pub role: Role,
    /// Whether it writes the order now.
    pub central: bool,
    /// `online`, `offline` or `retired`.
    pub status: &'static str,
    /// Since when, microseconds since 1970; for an offline one when it was last heard.
    pub since: i64,
    /// Microseconds since it was last heard, as of now; `None` when only the order speaks.
    pub silent_us: Option<i64>,
    /// The jobs that it holds a claim for.
    pub jobs: Vec<JobId>,
    /// How many ready jobs wait for it alone.
    pub queued: usize,
    /// The handlers that it declares.
    pub handlers: Vec<String>,
    /// Its latest gauges.
    pub gauges: Option<Gauges>,
}

/// All machines by name. `now` is in microseconds since 1970.
pub fn nodes(state: &FleetState, now: i64, gauges: impl Fn(&MachineId) -> Option<Gauges>) -> Vec<NodeView> {
    state
        .machines()
        .map(|machine| node(state, machine, now, gauges(&machine.id)))
        .collect()
}

fn node(state: &FleetState, machine: &Machine, now: i64, gauges: Option<Gauges>) -> NodeView {
    let (status, since) = match (machine.retired, machine.status) {
        (true, _) => ("retired", machine.joined_at),
        (false, MachineStatus::Online { since }) => ("online", since),
        (false, MachineStatus::Lost { last_heard }) => ("offline", last_heard),
    };
    let silent_us = match (&gauges, machine.status) {
        (Some(gauges), _) => Some(now.saturating_sub(gauges.heard_at).max(0)),
        (None, MachineStatus::Lost { last_heard }) => Some(now.saturating_sub(last_heard).max(0)),
        (None, MachineStatus::Online { .. }) => None,
    };
    let handlers = state
        .handlers()
        .filter(|((of, _), _)| *of == machine.id)
        .map(|((_, name), _)| name.clone());
    NodeView {
        machine: machine.id.clone(),
        role: machine.role,
        central: state.central() == Some(&machine.id),
        status,
        since,
        silent_us,
        jobs: state.jobs_on(&machine.id).map(|job| job.id).collect(),
        queued: queued_for(state, &machine.id),
        handlers: handlers.collect(),
        gauges,
    }
}
