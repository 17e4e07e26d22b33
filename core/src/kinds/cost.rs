//! What runs cost beside what their results carry, and whose costs they are.

use super::common::{Costs, Evidence, Fence, JobId};
use crate::kind::MachineId;
use serde::{Deserialize, Serialize};

/// An amount of money.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Money {
    /// Three capital letters, as in ISO 4217.
    pub currency: String,
    /// Millionths of one unit of it.
    pub micros: u64,
}

/// `run.charged` 1: money of a run in other currencies than US dollars, as its handler reports it; sealed right after the end.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RunCharged {
    /// The job.
    pub job: JobId,
    /// The claim.
    pub fence: Fence,
    /// One for each currency, at most 16.
    pub money: Vec<Money>,
}

/// `job.charged` 1: what a run cost, where no other decision says so: it came late or was stopped, or the money is not in US
/// dollars.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct JobCharged {
    /// The job.
    pub job: JobId,
    /// The claim.
    pub fence: Fence,
    /// The machine that ran it.
    pub machine: MachineId,
    /// What it cost.
    pub costs: Costs,
    /// Money in other currencies than US dollars, at most 16.
    pub money: Vec<Money>,
    /// The machine's report.
    pub evidence: Evidence,
}

/// `job.assigned` 1: whose costs a job's are.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct JobAssigned {
    /// The job.
    pub job: JobId,
    /// The project, at most 64 bytes.
    pub project: String,
}
