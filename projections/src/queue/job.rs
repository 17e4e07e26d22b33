//! The queue's rows: a job and its state, a claim, a declaration.

use super::table::Phase;
use crate::order::Place;
use ledger_core::kinds::{
    Class, Costs, ErrorClass, Evidence, Fence, HeldReason, JobId, JobSpec, LateVerdict, Outputs,
    ParkedReason, SuccessVerdict,
};
use ledger_core::{ContentDigest, MachineId, PublicKey, ReceiptId};
use serde::{Deserialize, Serialize};

/// The right to run a job, as it is in force.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Lease {
    /// The claim.
    pub fence: Fence,
    /// Who holds it.
    pub machine: MachineId,
    /// In which incarnation.
    pub incarnation: u32,
    /// The class under which it runs.
    pub class: Class,
    /// Which attempt, from 1.
    pub attempt: u16,
    /// The term in milliseconds.
    pub term_ms: u32,
    /// Whether the machine reported the start.
    pub started: bool,
}

/// The result that stands.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Success {
    /// The claim.
    pub fence: Fence,
    /// Who did it.
    pub machine: MachineId,
    /// On time or adopted.
    pub verdict: SuccessVerdict,
    /// Digest of the result.
    pub result: ContentDigest,
    /// Its outputs.
    pub outputs: Outputs,
    /// What it cost.
    pub costs: Costs,
    /// The `run.succeeded`.
    pub evidence: Evidence,
}

/// Where a job stands. One variant for each state of the table.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobState {
    /// Accepted; what follows is decided in the same commit.
    Accepted,
    /// Waits for a release.
    Held {
        /// Why.
        reason: HeldReason,
    },
    /// Waits for its time.
    Scheduled {
        /// Microseconds since 1970.
        not_before: i64,
    },
    /// May be claimed.
    Ready,
    /// Claimed, within its lease.
    Leased(Lease),
    /// Claimed, and its lease ran out. That does not mean that the work stopped.
    Suspect {
        /// The claim.
        lease: Lease,
        /// Since when, microseconds since 1970.
        since: i64,
        /// When a backup may run it, microseconds since 1970.
        failover_at: Option<i64>,
    },
    /// An attempt failed.
    Backoff {
        /// When it is tried again, microseconds since 1970.
        retry_at: Option<i64>,
        /// What made it fail.
        error: ErrorClass,
    },
    /// Among the dead letters.
    Parked(ParkedReason),
    /// Done.
    Succeeded(Success),
    /// Failed for good.
    Failed(ErrorClass),
    /// Stopped on demand.
    Cancelled,
    /// Its deadline passed.
    Expired,
    /// Taken from the dead letters for good.
    Discarded,
}

impl JobState {
    /// Its name.
    pub fn phase(&self) -> Phase {
        match self {
            Self::Accepted => Phase::Accepted,
            Self::Held { .. } => Phase::Held,
            Self::Scheduled { .. } => Phase::Scheduled,
            Self::Ready => Phase::Ready,
            Self::Leased(_) => Phase::Leased,
            Self::Suspect { .. } => Phase::Suspect,
            Self::Backoff { .. } => Phase::Backoff,
            Self::Parked(_) => Phase::Parked,
            Self::Succeeded(_) => Phase::Succeeded,
            Self::Failed(_) => Phase::Failed,
            Self::Cancelled => Phase::Cancelled,
            Self::Expired => Phase::Expired,
            Self::Discarded => Phase::Discarded,
        }
    }
}

/// A job.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Job {
    /// Its id.
    pub id: JobId,
    /// What it is.
    pub spec: JobSpec,
    /// Who asked.
    pub requester: PublicKey,
    /// The request.
    pub request: ReceiptId,
    /// Where the request stands; absent when it stands in the order log that accepted it.
    pub evidence: Option<Evidence>,
    /// Where the order accepted it.
    pub accepted: Place,
    /// When, microseconds since 1970.
    pub accepted_at: i64,
    /// When the order last changed it, microseconds since 1970.
    pub changed_at: i64,
    /// Where it stands.
    pub state: JobState,
    /// The last claim.
    pub last_fence: Option<Fence>,
    /// Failures that the handler reported.
    pub attempts: u16,
    /// Leases lost after the start.
    pub losses: u16,
    /// How often it went to a backup.
    pub failovers: u16,
    /// More losses than these park it; the largest number is no cap.
    pub losses_max: u16,
    /// Machines that do not get it again, as long as another can.
    pub excluded: Vec<MachineId>,
    /// Its last progress checkpoint.
    pub progress: Option<Evidence>,
    /// Somebody wants it stopped.
    pub cancel_asked: bool,
    /// Later successes that differ from the one that stands.
    pub conflicts: u16,
    /// The job that tries it again.
    pub retried_as: Option<JobId>,
}

impl Job {
    /// The name of its state.
    pub fn phase(&self) -> Phase {
        self.state.phase()
    }

    /// The claim in force, when it is leased or suspect.
    pub fn lease(&self) -> Option<&Lease> {
        match &self.state {
            JobState::Leased(lease) | JobState::Suspect { lease, .. } => Some(lease),
            _ => None,
        }
    }

    /// Whether a new job may try it again: it ended without success, or is a dead letter.
    pub fn is_retriable(&self) -> bool {
        matches!(
            self.phase(),
            Phase::Parked | Phase::Failed | Phase::Cancelled | Phase::Expired | Phase::Discarded
        )
    }

    /// The result that stands.
    pub fn success(&self) -> Option<&Success> {
        match &self.state {
            JobState::Succeeded(success) => Some(success),
            _ => None,
        }
    }
}

/// The final verdict on a report.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunVerdict {
    /// The success stands.
    Success(SuccessVerdict),
    /// The failure was charged, and the attempt ended by it.
    Failure,
    /// The loss ended the claim.
    Loss,
    /// The cancellation is final.
    Cancelled,
    /// It came late.
    Late(LateVerdict),
}

/// A report and its verdict.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Judged {
    /// The report's id.
    pub report: ReceiptId,
    /// The verdict.
    pub verdict: RunVerdict,
}

/// A claim that was once given. Kept for ever, so that whatever comes late finds it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Claim {
    /// The job.
    pub job: JobId,
    /// Who got it.
    pub machine: MachineId,
    /// In which incarnation.
    pub incarnation: u32,
    /// The class under which it ran.
    pub class: Class,
    /// Which attempt, from 1.
    pub attempt: u16,
    /// The term in milliseconds.
    pub term_ms: u32,
    /// The id that the machine gave it.
    pub claim: [u8; 16],
    /// Whether the machine reported the start.
    pub started: bool,
    /// The reports under it that have their verdict; the newest few.
    pub judged: Vec<Judged>,
}

/// How many verdicts one claim keeps. A sound machine ends a claim once; more come only from broken ones.
pub(super) const JUDGED_MAX: usize = 4;

impl Claim {
    pub(super) fn lease(&self, fence: Fence) -> Lease {
        Lease {
            fence,
            machine: self.machine.clone(),
            incarnation: self.incarnation,
            class: self.class,
            attempt: self.attempt,
            term_ms: self.term_ms,
            started: self.started,
        }
    }
}

/// What a claim is worth now.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// Leased or suspect: go on.
    InForce,
    /// In force, and somebody wants it stopped: stop and confirm.
    CancelAsked,
    /// In force no longer, but nobody else has the job: what runs may go on, nothing new is to be started.
    Released,
    /// Somebody else has the job, or it is final: stop.
    Over,
    /// This order never gave it.
    Unknown,
}

/// A machine's declaration of a handler.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Handler {
    /// Its class there.
    pub class: Class,
    /// Its labels there.
    pub labels: Vec<String>,
    /// How many run at once there.
    pub slots: u16,
}

/// The label that makes a machine a backup for a handler.
pub const LABEL_BACKUP: &str = "backup";

impl Handler {
    /// Whether it is a backup only.
    pub fn is_backup(&self) -> bool {
        self.labels.iter().any(|label| label == LABEL_BACKUP)
    }
}
