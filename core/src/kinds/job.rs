//! Families `request` and `job`: what was asked, and what Central decided.

use super::common::{Class, Costs, ErrorClass, Evidence, Fence, InputRef, JobId, Outputs, hex16};
use crate::digest::ContentDigest;
use crate::id::ReceiptId;
use crate::key::PublicKey;
use crate::kind::MachineId;
use serde::{Deserialize, Serialize};

/// `request.received` 1: somebody asks for work. The input is the payload.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RequestReceived {
    /// What is asked for, and how.
    pub spec: JobSpec,
}

/// What a job is, copied into the order when it is accepted.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct JobSpec {
    /// The handler, at most 64 bytes.
    pub handler: String,
    /// Only a machine of this id may run it.
    pub machine: Option<MachineId>,
    /// Only machines whose handler has all these labels may run it; at most 16.
    pub labels: Vec<String>,
    /// Higher is sooner.
    pub priority: i16,
    /// How many attempts that the handler reports as failed it may have, at least 1.
    pub attempts_max: u16,
    /// Not before this time, microseconds since 1970.
    pub not_before: Option<i64>,
    /// Expired after this time, microseconds since 1970.
    pub deadline: Option<i64>,
    /// At most one unfinished job has this key; at most 64 bytes.
    pub unique_key: Option<String>,
    /// At most so many run at once as the handler's limit for this key says; at most 64 bytes.
    pub concurrency_key: Option<String>,
    /// Jobs that must succeed before; at most 16.
    pub depends_on: Vec<JobId>,
    /// Hold instead of cancel when one of them fails.
    pub hold_on_failed_dependency: bool,
    /// The job that this one tries again.
    pub retry_of: Option<JobId>,
    /// The input, when there is one.
    pub input: Option<InputRef>,
}

/// `job.accepted` 1: a request became a job.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct JobAccepted {
    /// The job.
    pub job: JobId,
    /// The request.
    pub request: ReceiptId,
    /// Who asked.
    pub requester: PublicKey,
    /// Where the request stands; absent when it stands in this very order log.
    pub evidence: Option<Evidence>,
    /// What the job is.
    pub spec: JobSpec,
    /// How often its lease may be lost after the start, before it is parked.
    pub losses_max: u16,
}

/// Why a job is ready.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReadyReason {
    /// It was just accepted.
    Accepted,
    /// Its time came.
    Due,
    /// It is tried again.
    Retry,
    /// It was released.
    Released,
    /// A machine declared its handler.
    HandlerDeclared,
    /// The jobs that it depends on have succeeded.
    DependenciesMet,
}

/// `job.ready` 1: it may be claimed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct JobReady {
    /// The job.
    pub job: JobId,
    /// Why.
    pub reason: ReadyReason,
}

/// `job.claimed` 1: the right to run it until the term ends. Its place is the fence.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct JobClaimed {
    /// The job.
    pub job: JobId,
    /// The claim's id, chosen by the machine, so that a lost answer never claims twice.
    #[serde(with = "hex16")]
    pub claim: [u8; 16],
    /// The machine.
    pub machine: MachineId,
    /// Its incarnation.
    pub incarnation: u32,
    /// The class under which it runs.
    pub class: Class,
    /// Which attempt, from 1.
    pub attempt: u16,
    /// The lease in milliseconds; a beat renews it.
    pub term_ms: u32,
    /// Where the last progress checkpoint stands.
    pub progress: Option<Evidence>,
}

/// `job.started` 1.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct JobStarted {
    /// The job.
    pub job: JobId,
    /// The claim.
    pub fence: Fence,
    /// The `run.started`.
    pub evidence: Evidence,
}

/// `job.checkpointed` 1.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct JobCheckpointed {
    /// The job.
    pub job: JobId,
    /// The claim.
    pub fence: Fence,
    /// The `run.checkpointed`, whose payload is the checkpoint.
    pub evidence: Evidence,
}

/// `job.lease-expired` 1: the job is suspect; that does not mean that the work stopped.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct JobLeaseExpired {
    /// The job.
    pub job: JobId,
    /// The claim.
    pub fence: Fence,
    /// When the job may go to a backup, microseconds since 1970.
    pub failover_at: Option<i64>,
}

/// `job.resumed` 1: the machine is back and still runs it; the same fence goes on.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct JobResumed {
    /// The job.
    pub job: JobId,
    /// The claim.
    pub fence: Fence,
}

/// Why a job is ready once more without an attempt being charged.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RequeueReason {
    /// The claim never started.
    NeverStarted,
    /// The run was lost after its start; this counts as a loss.
    Lost,
    /// The machine gave it back.
    Yielded,
    /// Its class allows running it again at once.
    LeaseExpired,
}

/// `job.requeued` 1.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct JobRequeued {
    /// The job.
    pub job: JobId,
    /// The claim that ended.
    pub fence: Fence,
    /// Why.
    pub reason: RequeueReason,
    /// What the machine said, when it said something.
    pub evidence: Option<Evidence>,
}

/// `job.failed-over` 1: the job goes to the backups.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct JobFailedOver {
    /// The job.
    pub job: JobId,
    /// The claim that is waited for no longer.
    pub fence: Fence,
    /// The machine that does not get it again.
    pub excluded: MachineId,
}

/// `job.attempt-failed` 1: the handler reported a failure.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct JobAttemptFailed {
    /// The job.
    pub job: JobId,
    /// The claim.
    pub fence: Fence,
    /// Which attempt, from 1.
    pub attempt: u16,
    /// What made it fail.
    pub error: ErrorClass,
    /// Whether trying again is pointless.
    pub permanent: bool,
    /// When it is tried again, microseconds since 1970; absent when at once or not at all.
    pub retry_at: Option<i64>,
    /// What it cost.
    pub costs: Costs,
    /// The `run.failed`.
    pub evidence: Evidence,
}

/// How a success came in.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SuccessVerdict {
    /// Under the fence that was leased or suspect.
    OnTime,
    /// Late, from an older claim, and taken all the same.
    Adopted,
}

/// `job.succeeded` 1: final.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct JobSucceeded {
    /// The job.
    pub job: JobId,
    /// The claim whose result stands.
    pub fence: Fence,
    /// The machine that did it.
    pub machine: MachineId,
    /// On time or adopted.
    pub verdict: SuccessVerdict,
    /// Digest of the result (the payload of the `run.succeeded`), by content, so that two results can be compared.
    pub result: ContentDigest,
    /// Its outputs.
    pub outputs: Outputs,
    /// What it cost.
    pub costs: Costs,
    /// The `run.succeeded`.
    pub evidence: Evidence,
}

/// `job.failed` 1: final.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct JobFailed {
    /// The job.
    pub job: JobId,
    /// The last claim.
    pub fence: Option<Fence>,
    /// What made the last attempt fail.
    pub error: ErrorClass,
    /// The last `run.failed`.
    pub evidence: Option<Evidence>,
}

/// `job.cancel-asked` 1: somebody wants it stopped.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct JobCancelAsked {
    /// The job.
    pub job: JobId,
    /// Do not wait for the machine.
    pub force: bool,
    /// Why, at most 200 bytes.
    pub reason: String,
}

/// `job.cancelled` 1: final.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct JobCancelled {
    /// The job.
    pub job: JobId,
    /// The claim that was running, when one was.
    pub fence: Option<Fence>,
    /// The machine's confirmation, when there is one.
    pub evidence: Option<Evidence>,
}

/// `job.expired` 1: its deadline passed. Final.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct JobExpired {
    /// The job.
    pub job: JobId,
    /// The claim that was running, when one was.
    pub fence: Option<Fence>,
}

/// Why a job lies among the dead letters.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ParkedReason {
    /// No machine declares the handler.
    UnknownHandler,
    /// Its lease was lost too often.
    LossesUsedUp,
    /// An exclusive run is lost after its start; only a person can say whether it took effect.
    ExclusiveLost,
    /// Its handler failed as often as it may.
    AttemptsUsedUp,
}

/// `job.parked` 1.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct JobParked {
    /// The job.
    pub job: JobId,
    /// Why.
    pub reason: ParkedReason,
    /// The last claim, when there was one.
    pub fence: Option<Fence>,
}

/// `job.result-conflict` 1: two successes that differ; the first stands.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct JobResultConflict {
    /// The job.
    pub job: JobId,
    /// The claim of the later result.
    pub fence: Fence,
    /// The outputs of the later result.
    pub outputs: Outputs,
    /// The later result.
    pub evidence: Evidence,
}

/// The final verdict on a result that changes nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LateVerdict {
    /// The job succeeded before, with an equal digest.
    DuplicateAgrees,
    /// The job succeeded before, with another digest.
    DuplicateDiffers,
    /// The job is final without success.
    Discarded,
    /// A newer exclusive run goes on.
    Superseded,
    /// A failure, yield or loss under a fence that is no longer in force.
    Stale,
    /// A fence that this order never gave.
    Rejected,
}

/// `job.claim-proven` 1: a claim that Central gave in the lost tail of an earlier epoch, and that its signed record proves. It is known
/// from here on, so that what comes under it is judged; it gives no right to run.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct JobClaimProven {
    /// The job.
    pub job: JobId,
    /// The claim.
    pub fence: Fence,
    /// Who got it.
    pub machine: MachineId,
    /// In which incarnation.
    pub incarnation: u32,
    /// The id that the machine gave it.
    #[serde(with = "hex16")]
    pub claim: [u8; 16],
    /// The class under which it ran.
    pub class: Class,
    /// Which attempt it was, from 1.
    pub attempt: u16,
    /// The lease in milliseconds.
    pub term_ms: u32,
    /// The `job.claimed`, behind the cut of its epoch.
    pub claimed: Evidence,
}

/// `job.late-result` 1: a result that came late got its verdict.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct JobLateResult {
    /// The job.
    pub job: JobId,
    /// The claim that it came under.
    pub fence: Fence,
    /// The verdict.
    pub verdict: LateVerdict,
    /// The late report.
    pub evidence: Evidence,
}
