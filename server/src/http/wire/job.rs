//! Jobs.

use super::Receipt;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// A job, in a list.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Job {
    /// Its id.
    pub id: String,
    /// `held`, `scheduled`, `ready`, `leased`, `suspect`, `backoff`, `parked`, `succeeded`, `failed`, `cancelled`,
    /// `expired` or `discarded`; `accepted` in between.
    pub state: String,
    /// Whether nothing leads out of that state.
    pub is_final: bool,
    /// The handler.
    pub handler: String,
    /// Where it stands, as a sentence: `queued, when studio reconnects`.
    pub answer: String,
    /// The stable word for that sentence.
    pub answer_code: String,
    /// Higher is sooner.
    pub priority: i16,
    /// Where it runs, ran, or alone may run.
    pub machine: Option<String>,
    /// Who asked: the key's name.
    pub actor: String,
    /// Who asked: the key.
    pub requester: String,
    /// The request's receipt.
    pub request: String,
    /// When the order accepted it.
    pub accepted_at: String,
    /// When the order last changed it.
    pub changed_at: String,
    /// Failures that the handler reported.
    pub attempts: u16,
    /// Leases that were lost after the start.
    pub losses: u16,
    /// How often it went to a backup.
    pub failovers: u16,
    /// Whether somebody asked for it to be stopped.
    pub cancel_asked: bool,
}

/// A job with all there is to say.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct JobFull {
    /// What a list says of it.
    #[serde(flatten)]
    pub job: Job,
    /// `replicated` when another machine is known to have every receipt of it that is here; `local` else.
    pub standing: String,
    /// What it is, as the order copied it.
    #[schema(value_type = Object)]
    pub spec: Value,
    /// Its claims that are told of in receipts here, oldest first.
    pub runs: Vec<Attempt>,
    /// The input, when there is one and this store has it.
    pub input: Option<super::Content>,
    /// The result that stands, when this store has it.
    pub result: Option<super::Content>,
    /// BLAKE3 of that result, also where its bytes are elsewhere.
    pub result_digest: Option<String>,
    /// Its outputs, as far as this store knows them.
    pub outputs: Vec<Output>,
    /// How many outputs the result names.
    pub outputs_count: u32,
    /// What the result cost.
    pub costs: Option<Costs>,
    /// What made it fail.
    pub error: Option<String>,
    /// The tail of what the last failed attempt printed, when this store has it.
    pub tail: Option<super::Content>,
    /// The job that tries it again.
    pub retried_as: Option<String>,
    /// Its receipts in order, at most 1,000.
    pub receipts: Vec<Receipt>,
    /// How many of these the gateway brought for this answer.
    pub fetched: u32,
    /// Whether the gateway, asked for what this store lacks, answered; absent when it was not asked.
    pub gateway_answered: Option<bool>,
    /// What the order cites and neither this store nor its gateway has given.
    pub absent: Vec<AbsentEvidence>,
}

/// A receipt that the order cites and that is not to be had.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct AbsentEvidence {
    /// What it is cited as.
    pub what: String,
    /// Its log.
    pub log: String,
    /// Its place there.
    pub seq: u64,
    /// Its seal digest.
    pub seal: String,
}

/// A record as its log sealed it, for a machine that lacks it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct RawRecord {
    /// The record's bytes, in base64.
    pub record: String,
    /// The payload, when there is one and this store has it.
    pub payload: Option<super::SaidPayload>,
}

/// One claim of a job.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Attempt {
    /// The claim.
    pub fence: String,
    /// Who got it.
    pub machine: String,
    /// Which attempt, from 1.
    pub attempt: u16,
    /// `light`, `heavy` or `exclusive`.
    pub class: String,
    /// Whether the machine told of the start.
    pub started: bool,
    /// When it was given.
    pub claimed_at: String,
    /// When the order learned of the start.
    pub started_at: Option<String>,
    /// Checkpoints that the order took in.
    pub checkpoints: u32,
    /// When the order learned of its end, or gave it up.
    pub ended_at: Option<String>,
    /// How it ended: `succeeded`, `failed`, `requeued`, `failed-over`, `late`, `conflict`, `cancelled`, `expired` or `parked`.
    pub ended: Option<String>,
    /// What it cost, where that was told.
    pub costs: Option<Costs>,
    /// Verdicts on what was reported under it.
    pub verdicts: Vec<String>,
}

/// A file that a job made.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Output {
    /// Its path.
    pub path: String,
    /// BLAKE3 of its content.
    pub blake3: String,
    /// Its size in bytes.
    pub size: u64,
}

/// What a run cost.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Costs {
    /// Wall time in milliseconds.
    pub wall_ms: u64,
    /// CPU time in milliseconds.
    pub cpu_ms: u64,
    /// Peak resident memory in bytes.
    pub peak_memory_bytes: u64,
    /// Tokens, as the handler reports them.
    pub tokens: u64,
    /// Millionths of a US dollar, as the handler reports them.
    pub usd_micros: u64,
}
