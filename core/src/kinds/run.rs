//! Family `run`, and `artifact.staged`: what a machine did with a job, told in its own logs.

use super::common::{Costs, ErrorClass, Fence, JobId, Outputs, hex32};
use crate::digest::ContentDigest;
use serde::{Deserialize, Serialize};

/// `run.started` 1: durable before the process is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RunStarted {
    /// The job.
    pub job: JobId,
    /// The claim.
    pub fence: Fence,
    /// The handler, at most 64 bytes.
    pub handler: String,
    /// Which attempt, from 1.
    pub attempt: u16,
}

/// `run.checkpointed` 1: the payload is the checkpoint.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RunCheckpointed {
    /// The job.
    pub job: JobId,
    /// The claim.
    pub fence: Fence,
}

/// `run.succeeded` 1: the payload is the result, a JSON text.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RunSucceeded {
    /// The job.
    pub job: JobId,
    /// The claim.
    pub fence: Fence,
    /// Digest of the result, by content, so that two results can be compared.
    pub result: ContentDigest,
    /// Its outputs.
    pub outputs: Outputs,
    /// What it cost.
    pub costs: Costs,
}

/// `run.failed` 1: the payload is the tail of what it printed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RunFailed {
    /// The job.
    pub job: JobId,
    /// The claim.
    pub fence: Fence,
    /// What made it fail.
    pub error: ErrorClass,
    /// Exit status or signal number, when there is one.
    pub status: Option<i32>,
    /// Whether trying again is pointless.
    pub permanent: bool,
    /// What it cost.
    pub costs: Costs,
}

/// `run.lost` 1: the process group is proven dead and left no result.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RunLost {
    /// The job.
    pub job: JobId,
    /// The claim.
    pub fence: Fence,
}

/// `run.yielded` 1: the machine stopped the run of its own accord (it shuts down, drains or sleeps) and gives it back.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RunYielded {
    /// The job.
    pub job: JobId,
    /// The claim.
    pub fence: Fence,
}

/// `run.progressed` 1 (pulse).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RunProgressed {
    /// The job.
    pub job: JobId,
    /// The claim.
    pub fence: Fence,
    /// 0 to 100.
    pub per_cent: u8,
    /// At most 200 bytes.
    pub note: String,
}

/// `artifact.staged` 1: an output of a run; it joins the Vault when the job succeeds under this fence.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ArtifactStaged {
    /// The job.
    pub job: JobId,
    /// The claim.
    pub fence: Fence,
    /// Digest of the path.
    #[serde(with = "hex32")]
    pub path_digest: [u8; 32],
    /// The path in the run's output folder, at most 1024 bytes.
    pub path: String,
    /// BLAKE3 of the content.
    pub blake3: ContentDigest,
    /// Size in bytes.
    pub size: u64,
}
