//! Family `job` as people and dependencies steer it, pauses of handlers, and the limits under which claims are given.

use super::common::JobId;
use crate::kind::MachineId;
use serde::{Deserialize, Serialize};

/// Why a job is held.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HeldReason {
    /// Somebody wants it to wait.
    ByHand,
    /// Jobs that it depends on have not succeeded yet.
    Dependencies,
    /// A job that it depends on ended without success, and it said that it rather waits than is cancelled.
    DependencyFailed,
    /// Its time has not come.
    NotBefore,
}

/// `job.held` 1: it waits until it is released.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct JobHeld {
    /// The job.
    pub job: JobId,
    /// Why.
    pub reason: HeldReason,
    /// In words, at most 200 bytes.
    pub note: String,
}

/// `job.released` 1: it waits no longer because somebody wanted it to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct JobReleased {
    /// The job.
    pub job: JobId,
    /// Why, at most 200 bytes.
    pub note: String,
}

/// Why a job is discarded.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DiscardReason {
    /// Somebody wants it gone.
    ByHand,
    /// A new job tries it again.
    Retried,
    /// The backlog of its handler was given up.
    Drained,
}

/// `job.discarded` 1: final; it never ran to an end, or lay among the dead letters.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct JobDiscarded {
    /// The job.
    pub job: JobId,
    /// Why.
    pub reason: DiscardReason,
    /// The job that tries it again.
    pub retried_as: Option<JobId>,
    /// In words, at most 200 bytes.
    pub note: String,
}

/// `handler.paused` 1: no job of it is given out; what runs goes on.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HandlerPaused {
    /// The handler.
    pub handler: String,
    /// When it goes on by itself, microseconds since 1970; absent when somebody has to resume it.
    pub until: Option<i64>,
    /// Why, at most 200 bytes.
    pub reason: String,
}

/// `handler.resumed` 1: its jobs are given out again.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HandlerResumed {
    /// The handler.
    pub handler: String,
    /// Why, at most 200 bytes.
    pub reason: String,
}

/// What a limit counts.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LimitScope {
    /// Jobs of a handler, on all machines together.
    Handler(String),
    /// Jobs on a machine, of all handlers together.
    Machine(MachineId),
    /// Jobs with a concurrency key.
    Key(String),
}

/// At most so many claims in a period; that many may come at once, then one follows another evenly.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct RateLimit {
    /// How many, at least 1.
    pub claims: u32,
    /// The period in milliseconds, at least 1.
    pub period_ms: u64,
}

/// `queue.limited` 1: from here on claims are given within this limit. With neither bound the limit is lifted.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct QueueLimited {
    /// What it counts; a name of at most 64 bytes.
    pub scope: LimitScope,
    /// At most so many are claimed at once.
    pub running_max: Option<u32>,
    /// At most so many claims are given in a period.
    pub rate: Option<RateLimit>,
    /// Why, at most 200 bytes.
    pub reason: String,
}
