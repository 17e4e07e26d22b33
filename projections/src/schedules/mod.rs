//! Schedules: what is asked for again and again, and the fold of what became of each nominal time.
//!
//! Owns one row for each schedule. Each nominal time after its definition gets one of `schedule.fired`, `schedule.missed` and
//! `schedule.skipped`, in their order: what is not after the last one that was decided is inert, so that nothing fires twice. The fold
//! computes no times; that is the deciders' ([`plan`], [`tick`]), which are given `now`.

mod calendar;
mod decide;
mod refusal;
mod timetable;

pub use calendar::Calendar;
pub(crate) use decide::is_project;
pub use decide::{FiredBefore, Input, Plan, Tick, check, check_removal, fired_before, plan, tick};
pub use refusal::ScheduleRefusal;
pub use timetable::Timetable;

use crate::FleetState;
use crate::queue::{Phase, Queue};
use crate::table::Table;
use ledger::{Changes, Receipt};
use ledger_core::ReceiptId;
use ledger_core::kinds::{
    AnyDetail, Evidence, JobId, ScheduleDefined, ScheduleFired, ScheduleMissed, ScheduleSkipped, TickSkipped,
};
use ledger_core::limits::SCHEDULE_BYTES_MAX;
use serde::{Deserialize, Serialize};

/// Schedules of one fleet at most: the ticker looks at each of them, and a person reads the list.
pub const SCHEDULES_MAX: usize = 1000;
/// Jobs of one schedule that are not over, at most: more is a backlog that only grows, and its ticks are skipped.
pub const OPEN_MAX: usize = 100;
/// The largest number of times that may be caught up with at once.
pub const CATCH_UP_MAX: u16 = 100;
/// Ticks that a schedule keeps at hand; all of them are in its receipts.
pub const RECENT_MAX: usize = 10;
/// How late a nominal time still fires as if on time, in microseconds: longer than a gateway takes to restart and to hear its
/// machines.
pub const ON_TIME_US: i64 = 120_000_000;

/// What became of a nominal time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Fired {
    /// When it should have fired, microseconds since 1970.
    pub nominal: i64,
    /// When it did, microseconds since 1970.
    pub at: i64,
    /// The job.
    pub job: JobId,
    /// Whether its misfire policy fired it, too late.
    pub misfired: bool,
}

/// Nominal times that were missed together.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Missed {
    /// The first, microseconds since 1970.
    pub first: i64,
    /// The last, microseconds since 1970.
    pub last: i64,
    /// How many.
    pub count: u32,
    /// When that was seen, microseconds since 1970.
    pub at: i64,
}

/// A nominal time that was skipped.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Skipped {
    /// When it should have fired, microseconds since 1970.
    pub nominal: i64,
    /// Why it did not.
    pub reason: TickSkipped,
    /// The job that was in the way.
    pub job: Option<JobId>,
}

/// What became of a nominal time, or of several that were missed together.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Told {
    /// It became a job.
    Fired(Fired),
    /// Nobody looked in time.
    Missed(Missed),
    /// It was looked at and fired nothing.
    Skipped(Skipped),
}

/// A schedule as it stands.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Schedule {
    /// Its definition.
    pub definition: ScheduleDefined,
    /// The receipt that defined it so.
    pub defined: ReceiptId,
    /// Where that stands; its payload is the input of each job.
    pub evidence: Evidence,
    /// When, microseconds since 1970.
    pub defined_at: i64,
    /// Up to and with this time everything is decided, microseconds since 1970.
    pub decided_until: i64,
    /// Its last job.
    pub last_fired: Option<Fired>,
    /// What it missed last.
    pub last_missed: Option<Missed>,
    /// What it skipped last.
    pub last_skipped: Option<Skipped>,
    /// How many nominal times fired.
    pub fired: u64,
    /// How many were missed.
    pub missed: u64,
    /// How many were skipped.
    pub skipped: u64,
    /// What became of its newest nominal times, the oldest first; at most [`RECENT_MAX`].
    pub recent: Vec<Told>,
    /// Jobs that were not over when the last one fired, the oldest first.
    jobs: Vec<JobId>,
}

impl Schedule {
    /// Its jobs that are not over now, the oldest first. A dead letter runs no longer and is none of them.
    pub fn open<'a>(&'a self, queue: &'a Queue) -> impl Iterator<Item = JobId> + 'a {
        self.jobs.iter().copied().filter(|job| is_open(queue, job))
    }

    // Whether a time is one of its nominal times, as it is defined now.
    fn has(&self, nominal: i64) -> bool {
        let calendar = Calendar::new(&self.definition.cron, &self.definition.zone);
        calendar.is_ok_and(|calendar| calendar.next(nominal.saturating_sub(1)) == Some(nominal))
    }

    fn tell(&mut self, told: Told) {
        if self.recent.len() >= RECENT_MAX {
            self.recent.remove(0);
        }
        self.recent.push(told);
    }

    // Whether a definition means the same nominal times.
    fn has_calendar_of(&self, d: &ScheduleDefined) -> bool {
        (&self.definition.cron, &self.definition.zone) == (&d.cron, &d.zone)
    }

    /// Its first nominal time after what is decided, microseconds since 1970; none when it can fire no more.
    pub fn next(&self) -> Option<i64> {
        let calendar = Calendar::new(&self.definition.cron, &self.definition.zone).ok()?;
        calendar.next(self.decided_until)
    }
}

fn is_open(queue: &Queue, job: &JobId) -> bool {
    queue
        .job(job)
        .is_some_and(|job| !job.phase().is_final() && job.phase() != Phase::Parked)
}

/// Whether a name is one that a schedule may have.
pub(crate) fn is_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_');
    !name.is_empty() && name.len() <= SCHEDULE_BYTES_MAX && name.bytes().all(plain)
}

/// What a receipt of the family says, in one line; `None` for any other.
pub(crate) fn summary(detail: &AnyDetail) -> Option<String> {
    let clock = |at: i64| crate::notices::clock_text(at);
    Some(match detail {
        AnyDetail::ScheduleDefined(d) => {
            let (handler, cron) = (&d.job.handler, &d.cron);
            format!("schedule {}: {handler} at {cron:?} in {}", d.schedule, d.zone)
        }
        AnyDetail::ScheduleRemoved(d) => {
            let why = if d.reason.is_empty() { "" } else { ": " };
            format!("schedule {} is removed{why}{}", d.schedule, d.reason)
        }
        AnyDetail::ScheduleFired(d) => {
            let late = if d.misfired { ", too late" } else { "" };
            format!("schedule {} fires for {}{late}", d.schedule, clock(d.nominal))
        }
        AnyDetail::ScheduleMissed(d) => {
            let times = crate::queue::counted(u64::from(d.count), "time");
            let (first, last) = (clock(d.first), clock(d.last));
            format!("schedule {} missed {times}, {first} to {last}", d.schedule)
        }
        AnyDetail::ScheduleSkipped(d) => {
            let why = match d.reason {
                TickSkipped::Overlap => "an earlier run is not over",
                TickSkipped::Backlog => "too many of its jobs wait",
                TickSkipped::InputErased => "its input was erased",
            };
            format!("schedule {} skips {}: {why}", d.schedule, clock(d.nominal))
        }
        _ => return None,
    })
}

/// The table of schedules.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Schedules {
    pub(crate) rows: Table<String, Schedule>,
}

impl Schedules {
    /// Applies one receipt of the family; `None` when it is of another, `false` when it is not possible here.
    pub(crate) fn fold(
        &mut self,
        receipt: &Receipt,
        detail: &AnyDetail,
        at: i64,
        queue: &Queue,
        changes: &mut Changes,
    ) -> Option<bool> {
        Some(match detail {
            AnyDetail::ScheduleDefined(d) => self.defined(receipt, d, at, changes),
            AnyDetail::ScheduleRemoved(d) => {
                let there = self.rows.get(&d.schedule).is_some();
                self.rows.remove(&d.schedule, changes);
                there
            }
            AnyDetail::ScheduleFired(d) => self.fired(d, at, queue, changes),
            AnyDetail::ScheduleMissed(d) => self.missed(d, at, changes),
            AnyDetail::ScheduleSkipped(d) => self.skipped(d, changes),
            _ => return None,
        })
    }

    fn defined(&mut self, receipt: &Receipt, d: &ScheduleDefined, at: i64, changes: &mut Changes) -> bool {
        let before = self.rows.get(&d.schedule).cloned();
        if !is_name(&d.schedule) || (before.is_none() && self.rows.len() >= SCHEDULES_MAX) {
            return false;
        }
        let row = Schedule {
            definition: d.clone(),
            defined: receipt.id(),
            evidence: receipt.evidence(),
            defined_at: at,
            decided_until: match &before {
                // The calendar goes on without a gap, though the time of the definition may be ahead of the clock.
                Some(before) if before.has_calendar_of(d) => before.decided_until,
                Some(before) => before.decided_until.max(at),
                None => at,
            },
            last_fired: before.as_ref().and_then(|before| before.last_fired),
            last_missed: before.as_ref().and_then(|before| before.last_missed),
            last_skipped: before.as_ref().and_then(|before| before.last_skipped),
            fired: before.as_ref().map_or(0, |before| before.fired),
            missed: before.as_ref().map_or(0, |before| before.missed),
            skipped: before.as_ref().map_or(0, |before| before.skipped),
            recent: before
                .as_ref()
                .map_or_else(Vec::new, |before| before.recent.clone()),
            jobs: before.map_or_else(Vec::new, |before| before.jobs),
        };
        self.rows.set(d.schedule.clone(), row, changes);
        true
    }

    // Decides a time that comes after all that are decided; any other was decided before.
    fn decided(
        &mut self,
        schedule: &String,
        (first, last): (i64, i64),
        changes: &mut Changes,
        note: impl FnOnce(&mut Schedule),
    ) -> bool {
        let Some(row) = self.rows.get(schedule) else {
            return false;
        };
        if first <= row.decided_until || last < first {
            return false;
        }
        self.rows.change(schedule, changes, |row| {
            row.decided_until = last;
            note(row);
        })
    }

    fn fired(&mut self, d: &ScheduleFired, at: i64, queue: &Queue, changes: &mut Changes) -> bool {
        self.decided(&d.schedule, (d.nominal, d.nominal), changes, |row| {
            row.fired = row.fired.saturating_add(1);
            let fired = Fired {
                nominal: d.nominal,
                at,
                job: d.job,
                misfired: d.misfired,
            };
            row.last_fired = Some(fired);
            row.tell(Told::Fired(fired));
            row.jobs.retain(|job| is_open(queue, job));
            // The decider fires no more than are kept.
            if row.jobs.len() > OPEN_MAX {
                row.jobs.remove(0);
            }
            row.jobs.push(d.job);
        })
    }

    fn missed(&mut self, d: &ScheduleMissed, at: i64, changes: &mut Changes) -> bool {
        self.decided(&d.schedule, (d.first, d.last), changes, |row| {
            row.missed = row.missed.saturating_add(u64::from(d.count));
            let missed = Missed {
                first: d.first,
                last: d.last,
                count: d.count,
                at,
            };
            row.last_missed = Some(missed);
            row.tell(Told::Missed(missed));
        })
    }

    fn skipped(&mut self, d: &ScheduleSkipped, changes: &mut Changes) -> bool {
        self.decided(&d.schedule, (d.nominal, d.nominal), changes, |row| {
            row.skipped = row.skipped.saturating_add(1);
            let skipped = Skipped {
                nominal: d.nominal,
                reason: d.reason,
                job: d.job,
            };
            row.last_skipped = Some(skipped);
            row.tell(Told::Skipped(skipped));
        })
    }
}

impl FleetState {
    /// The schedules, by name.
    pub fn schedules(&self) -> impl Iterator<Item = &Schedule> {
        self.schedules.rows.iter().map(|(_, row)| row)
    }

    /// A schedule.
    pub fn schedule(&self, name: &str) -> Option<&Schedule> {
        self.schedules.rows.get(&name.to_owned())
    }
}
