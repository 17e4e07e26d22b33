//! Schedules as JSON.

use super::{Job, Receipt, SignedBody};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// To define a schedule, at the local door: signed by the machine's local actor. A name that there is gets a new definition.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ScheduleBody {
    /// Its name: at most 48 characters of a-z, 0-9, `.`, `-` and `_`.
    pub name: String,
    /// `minute hour day month weekday`, with seconds in front or years at the end if wanted.
    pub cron: String,
    /// The IANA name of the zone in which that is meant; `UTC` if not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// While an earlier run is not over: `allow`, `forbid`, `queue` or `replace`; `forbid` if not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlap: Option<String>,
    /// What becomes of times that nobody looked at: `skip`, `run-once` or `catch-up:N`; `run-once` if not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub misfire: Option<String>,
    /// The handler of each job.
    pub handler: String,
    /// The input of each job: any JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub input: Option<Value>,
    /// Higher is sooner; 0 if not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i16>,
    /// Only this machine may run them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
    /// Only machines whose handler has all these labels may run them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// How many attempts each may have; 1 if not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts_max: Option<u16>,
    /// At most one unfinished job has this key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unique_key: Option<String>,
    /// Jobs with one key run one at a time; not with `queue` and `replace`, which need it themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency_key: Option<String>,
    /// Each job expires so many milliseconds after it fired.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
    /// Whose costs they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// The caller's own id (UUIDv7), so that saying it twice is saying it once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

/// What `POST /v1/schedules` takes.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum ScheduleSaid {
    /// Signed by the author.
    Signed(SignedBody),
    /// To be signed by the local actor.
    Plain(Box<ScheduleBody>),
}

/// What became of a nominal time, or of several that were missed together.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct TickView {
    /// `fired`, `missed` or `skipped`.
    pub what: String,
    /// When it should have fired; of several the first.
    pub nominal: String,
    /// Of several the last.
    pub until: Option<String>,
    /// How many.
    pub count: u32,
    /// Why, in words.
    pub why: String,
    /// The job that came of it, or that was in its way.
    pub job: Option<String>,
}

/// A schedule.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Schedule {
    /// Its name.
    pub name: String,
    /// Its expression.
    pub cron: String,
    /// The zone in which that is meant.
    pub zone: String,
    /// `allow`, `forbid`, `queue` or `replace`.
    pub overlap: String,
    /// `skip`, `run-once` or `catch-up:N`.
    pub misfire: String,
    /// The handler of its jobs.
    pub handler: String,
    /// Their priority.
    pub priority: i16,
    /// The machine that alone may run them.
    pub machine: Option<String>,
    /// The labels that they demand.
    pub labels: Vec<String>,
    /// How many attempts each may have.
    pub attempts_max: u16,
    /// Each expires so many milliseconds after it fired.
    pub deadline_ms: Option<u64>,
    /// Whose costs they are.
    pub project: Option<String>,
    /// The receipt that defined it so.
    pub defined: String,
    /// When that was.
    pub defined_at: String,
    /// Its next nominal time; absent when it fires no more.
    pub next: Option<String>,
    /// What became of its last nominal time.
    pub last: Option<TickView>,
    /// How many nominal times fired.
    pub fired: u64,
    /// How many were missed because nobody looked in time.
    pub missed: u64,
    /// How many were skipped because something was in the way.
    pub skipped: u64,
    /// How many of its jobs are not over.
    pub open: u32,
    /// What its owner should know, in words; empty when all is well.
    pub warning: String,
}

/// A schedule with its newest and next nominal times.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct ScheduleFull {
    /// The schedule.
    #[serde(flatten)]
    pub schedule: Schedule,
    /// What became of the newest nominal times, the newest first; at most 10.
    pub ticks: Vec<TickView>,
    /// Its next five nominal times.
    pub upcoming: Vec<String>,
    /// What it missed last.
    pub last_missed: Option<TickView>,
    /// What it skipped last.
    pub last_skipped: Option<TickView>,
    /// Its jobs that are not over.
    pub jobs: Vec<Job>,
}

/// What became of a definition or a removal. The receipt is durable.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct ScheduleSet {
    /// The schedule as it stands; absent when it was removed.
    pub schedule: Option<Schedule>,
    /// The receipt.
    pub receipt: Receipt,
    /// `local`: on this disk. `replicated`: also elsewhere.
    pub standing: String,
}
