//! Steering the queue: jobs by hand, handlers, limits.

use super::{HandlerView, Job, Receipt, SignedBody};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What became of a wish to hold, release or discard a job.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Steered {
    /// The job as it stands now.
    pub job: Job,
    /// The receipt of the wish; absent when it was so already and nothing was written.
    pub receipt: Option<Receipt>,
    /// `local` or `replicated`.
    pub standing: String,
}

/// To try a job again, at the local door: its request, signed anew by the machine's local actor.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RetryBody {
    /// The caller's own id (UUIDv7), so that asking twice is asking once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

/// What `POST /v1/jobs/{id}/retry` takes.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum RetrySaid {
    /// Signed by the author.
    Signed(SignedBody),
    /// To be signed by the local actor.
    Plain(RetryBody),
}

/// To give nothing of a handler out, at the local door: signed by the machine's local actor.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PauseBody {
    /// Why, at most 200 bytes; demanded.
    pub reason: String,
    /// When it goes on by itself, RFC 3339; until somebody resumes it if not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

/// What `POST /v1/handlers/{handler}/pause` takes.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum PauseSaid {
    /// Signed by the author.
    Signed(SignedBody),
    /// To be signed by the local actor.
    Plain(PauseBody),
}

/// A handler across the fleet.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct HandlerRow {
    /// Its name.
    pub handler: String,
    /// The machines that declare it; none when only jobs or a pause name it.
    pub machines: Vec<HandlerOn>,
    /// Why nothing of it is given out, when that is so.
    pub paused: Option<PauseView>,
    /// Its limit, when one is in force.
    pub limit: Option<LimitView>,
    /// Jobs that may be claimed.
    pub ready: u64,
    /// Jobs that wait for something else: held, for their time, for another attempt.
    pub waiting: u64,
    /// Jobs that are claimed, suspect ones included.
    pub running: u64,
    /// Dead letters.
    pub parked: u64,
}

/// A handler as one machine declares it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct HandlerOn {
    /// The machine.
    pub machine: String,
    /// The declaration.
    #[serde(flatten)]
    pub declared: HandlerView,
    /// Whether the machine is heard and gets work.
    pub working: bool,
}

/// Why nothing of a handler is given out.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct PauseView {
    /// Since when.
    pub since: String,
    /// When it goes on by itself.
    pub until: Option<String>,
    /// Why.
    pub reason: String,
}

/// What became of a wish about a handler.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct HandlerSteered {
    /// The handler as it stands now.
    pub handler: HandlerRow,
    /// The receipt of the wish; absent when it was so already and nothing was written.
    pub receipt: Option<Receipt>,
    /// `local` or `replicated`.
    pub standing: String,
}

/// What was given up of a handler's backlog.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Drained {
    /// The handler as it stands now.
    pub handler: HandlerRow,
    /// How many jobs were discarded, each by a receipt with the reason.
    pub discarded: u64,
    /// `local` or `replicated`.
    pub standing: String,
}

/// A limit as it is in force.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct LimitView {
    /// What it counts: `handler`, `machine` or `key`.
    pub scope: String,
    /// Of which name.
    pub name: String,
    /// At most so many jobs are claimed at once.
    pub running_max: Option<u32>,
    /// At most so many claims are given in a period.
    pub rate: Option<RateView>,
    /// Why.
    pub reason: String,
    /// How many are claimed now.
    pub running: u32,
    /// From when on the rate admits one more claim; absent when it does now.
    pub admits_at: Option<String>,
}

/// At most so many claims in a period; that many may come at once, then one follows another evenly.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RateView {
    /// How many, at least 1.
    pub claims: u32,
    /// The period in milliseconds, at least 1.
    pub period_ms: u64,
}

/// To set a limit, at the local door: signed by the machine's local actor. Without any bound the limit is lifted.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LimitBody {
    /// What it counts: `handler` (on all machines), `machine` (all its handlers) or `key` (jobs with that concurrency key).
    pub scope: String,
    /// Of which name.
    pub name: String,
    /// At most so many jobs are claimed at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running_max: Option<u32>,
    /// At most so many claims are given in a period.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<RateView>,
    /// Why, at most 200 bytes.
    #[serde(default)]
    pub reason: String,
}

/// What `POST /v1/limits` takes.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum LimitSaid {
    /// Signed by the author.
    Signed(SignedBody),
    /// To be signed by the local actor.
    Plain(LimitBody),
}

/// What became of a limit.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Limited {
    /// The limit that is in force now; absent when it is lifted.
    pub limit: Option<LimitView>,
    /// The receipt; absent when it was so already and nothing was written.
    pub receipt: Option<Receipt>,
    /// `local` or `replicated`.
    pub standing: String,
}
