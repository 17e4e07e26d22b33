//! Why a command is refused. Each reason has a stable code and says what to do.

use ledger_core::MachineId;
use ledger_core::kinds::JobId;

/// A command that nothing is written for.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// This store is not Central's, or has no order yet.
    #[error("this store does not write the fleet's order; send the command to the gateway")]
    NotCentral,
    /// A machine that is not in the fleet.
    #[error("machine {0} is not in this fleet; invite it and let it join")]
    MachineUnknown(MachineId),
    /// A machine that was retired.
    #[error("machine {0} is retired; invite it again under another name")]
    MachineRetired(MachineId),
    /// A job that the order does not know.
    #[error("job {0} is not known; list the jobs to find its id")]
    JobUnknown(JobId),
    /// A job that has its final state.
    #[error("job {job} is {phase} already, which is final; submit a new request instead")]
    JobFinal {
        /// The job.
        job: JobId,
        /// Its state's name.
        phase: &'static str,
    },
    /// A failover whose time has not come, or of a job that never fails over.
    #[error("job {job} is not to fail over: {why}")]
    NoFailover {
        /// The job.
        job: JobId,
        /// Why not.
        why: &'static str,
    },
    /// A request that breaks a bound.
    #[error("the request's {field} is not acceptable: {why}")]
    Spec {
        /// The field.
        field: &'static str,
        /// What was expected and found.
        why: String,
    },
    /// A unique key that another unfinished job holds.
    #[error("unique key {key:?} is held by unfinished job {job}; wait for it or cancel it")]
    UniqueKey {
        /// The key.
        key: String,
        /// Who holds it.
        job: JobId,
    },
    /// Something that is not done to a job in its state.
    #[error("job {job} is {phase} and cannot be {what}; {instead}")]
    NotNow {
        /// The job.
        job: JobId,
        /// Its state's name.
        phase: &'static str,
        /// What was asked.
        what: &'static str,
        /// What to do instead.
        instead: &'static str,
    },
    /// A dependency that cannot be.
    #[error("the request cannot depend on job {job}: {why}")]
    Dependency {
        /// The job that it would depend on.
        job: JobId,
        /// Why not.
        why: &'static str,
    },
    /// A job that no new job may try again.
    #[error("job {job} cannot be tried again: {why}")]
    NoRetry {
        /// The job.
        job: JobId,
        /// Why not, and what to do instead.
        why: String,
    },
    /// A pause or limit that breaks a bound.
    #[error("{what} {name:?} is not acceptable: {why}")]
    Steering {
        /// A pause or a limit.
        what: &'static str,
        /// Of what.
        name: String,
        /// What was expected and found.
        why: String,
    },
    /// A schedule that is none, or that is not there.
    #[error(transparent)]
    Schedule(#[from] crate::schedules::ScheduleRefusal),
    /// A receipt of another kind than the command is about.
    #[error("a receipt of kind {expected} is expected, {found} was given")]
    Kind {
        /// What was expected.
        expected: &'static str,
        /// What was given.
        found: String,
    },
    /// A claim that a record was to prove, and does not.
    #[error("the claim is not proven: {why}")]
    NotProven {
        /// Why not.
        why: &'static str,
    },
    /// A declaration that breaks a bound.
    #[error("handler {handler:?} cannot be declared: {why}")]
    Declaration {
        /// The handler.
        handler: String,
        /// What was expected and found.
        why: String,
    },
    /// A code that no invitation has.
    #[error("the invitation is not known here; ask for a new one (`ledger invite`)")]
    InvitationUnknown,
    /// A code that was used.
    #[error("the invitation was used already; ask for a new one (`ledger invite`)")]
    InvitationUsed,
    /// A code that died.
    #[error("the invitation ended (at {until} microseconds since 1970); ask for a new one (`ledger invite`)")]
    InvitationExpired {
        /// When.
        until: i64,
    },
    /// A join that is not what the invitation grants.
    #[error("the join asks for another role or machine than its invitation grants; ask for one that fits")]
    InvitationOther,
    /// A name that another machine has.
    #[error(
        "machine {0} is in the fleet already; choose another name, or have the root invite it by this name"
    )]
    MachineTaken(MachineId),
    /// Keys that are not fresh or not distinct.
    #[error("a join needs three distinct keys that the fleet has not seen; make new ones")]
    JoinKeys,
    /// Keys that are not proven.
    #[error("the join's keys are not proven: a countersignature does not verify")]
    JoinProof,
}

impl Refusal {
    /// The stable code of this refusal.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotCentral => "queue.not-central",
            Self::MachineUnknown(_) => "machine.unknown",
            Self::MachineRetired(_) => "machine.retired",
            Self::JobUnknown(_) => "job.unknown",
            Self::JobFinal { .. } => "job.final",
            Self::NoFailover { .. } => "job.no-failover",
            Self::Spec { .. } => "request.spec",
            Self::UniqueKey { .. } => "request.unique-key",
            Self::NotNow { .. } => "job.state",
            Self::NotProven { .. } => "claim.not-proven",
            Self::Dependency { .. } => "request.depends-on",
            Self::NoRetry { .. } => "job.no-retry",
            Self::Steering { .. } => "queue.steering",
            Self::Schedule(e) => e.code(),
            Self::Kind { .. } => "receipt.kind",
            Self::Declaration { .. } => "handler.declaration",
            Self::InvitationUnknown => "invitation.unknown",
            Self::InvitationUsed => "invitation.used",
            Self::InvitationExpired { .. } => "invitation.expired",
            Self::InvitationOther => "invitation.other",
            Self::MachineTaken(_) => "machine.taken",
            Self::JoinKeys => "join.keys",
            Self::JoinProof => "join.proof",
        }
    }
}
