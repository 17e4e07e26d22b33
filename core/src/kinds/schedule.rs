//! Family `schedule`: what is asked for again and again, and what became of each of its nominal times.

use super::common::JobId;
use super::job::JobSpec;
use serde::{Deserialize, Serialize};

/// What a tick does while an earlier run of the schedule is not over.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Overlap {
    /// Both run.
    Allow,
    /// The tick is skipped.
    Forbid,
    /// The new run waits until the earlier one is over.
    Queue,
    /// The earlier run is cancelled, and the new one waits until that is confirmed.
    Replace,
}

/// What becomes of nominal times that nobody looked at in time.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Misfire {
    /// They are missed.
    Skip,
    /// The last of them fires once for all.
    RunOnce,
    /// The last so many of them fire, at least 1.
    CatchUp(u16),
}

/// `schedule.defined` 1: from here on jobs come of it. The input of each is the payload. The same name again replaces what it was.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ScheduleDefined {
    /// Its name, at most 48 bytes.
    pub schedule: String,
    /// A cron expression of 5 fields, or of 6 with seconds in front, or of 7 with years at the end; at most 128 bytes.
    pub cron: String,
    /// The IANA name of the time zone in which the expression is meant, at most 64 bytes.
    pub zone: String,
    /// What a tick does while an earlier run is not over.
    pub overlap: Overlap,
    /// What becomes of times that nobody looked at.
    pub misfire: Misfire,
    /// What each job is. Its times, dependencies and the job that it tries again are absent.
    pub job: JobSpec,
    /// Each job's deadline, in milliseconds after it fired, at least 1000.
    pub deadline_ms: Option<u64>,
    /// Whose costs they are: the project of each job, at most 64 bytes.
    pub project: Option<String>,
}

/// `schedule.removed` 1: nothing comes of it any more; the jobs that came of it go on.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ScheduleRemoved {
    /// Its name.
    pub schedule: String,
    /// Why, at most 200 bytes.
    pub reason: String,
}

/// `schedule.fired` 1: a nominal time became a job. Its id derives from schedule and nominal time.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ScheduleFired {
    /// The schedule.
    pub schedule: String,
    /// When it should fire, microseconds since 1970.
    pub nominal: i64,
    /// The job.
    pub job: JobId,
    /// Whether it fired too late and does so because its misfire policy says so.
    pub misfired: bool,
}

/// `schedule.missed` 1: nobody looked in time, and its misfire policy does not fire these. They follow one another.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ScheduleMissed {
    /// The schedule.
    pub schedule: String,
    /// The first nominal time, microseconds since 1970.
    pub first: i64,
    /// The last one, microseconds since 1970.
    pub last: i64,
    /// How many they are, at least 1.
    pub count: u32,
    /// The policy.
    pub misfire: Misfire,
}

/// Why a tick is skipped.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TickSkipped {
    /// An earlier run is not over.
    Overlap,
    /// Too many of its jobs wait already.
    Backlog,
    /// The input of the schedule was erased.
    InputErased,
}

/// `schedule.skipped` 1: a nominal time that was looked at and fires nothing.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ScheduleSkipped {
    /// The schedule.
    pub schedule: String,
    /// When it should have fired, microseconds since 1970.
    pub nominal: i64,
    /// Why.
    pub reason: TickSkipped,
    /// The job that is in the way.
    pub job: Option<JobId>,
}
