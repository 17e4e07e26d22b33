//! What runs cost: sums for each day, handler, machine, project and outcome, folded from the order alone.
//!
//! Every run that reported its end counts once, whatever became of it: failed, late and doubled ones cost as well. Their outcome keeps
//! them apart. A run that was lost, or that its machine gave back, reports no costs; one under a claim that was never given is
//! not believed. A day is that of UTC on which Central took the report in. Money is kept by currency and never added across;
//! sums that would pass 64 bits stay at the largest number and say so.

use crate::FleetState;
use crate::queue::{Queue, RunVerdict};
use crate::table::Table;
use ledger::Changes;
use ledger_core::MachineId;
use ledger_core::kinds::{AnyDetail, Costs, JobCharged, JobId, Money, SuccessVerdict};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Microseconds of a day.
const DAY_US: i64 = 86_400_000_000;
/// What `Costs::usd_micros` is in.
const US_DOLLAR: &str = "USD";

/// What became of a run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Its result stands, and came on time.
    Succeeded,
    /// Its result stands, and came late.
    Adopted,
    /// Its handler reported a failure.
    Failed,
    /// It was told to stop.
    Stopped,
    /// It ended late and changed nothing: a duplicate, or superseded, or its job was over.
    Late,
}

impl Outcome {
    fn of(verdict: RunVerdict) -> Self {
        match verdict {
            RunVerdict::Success(SuccessVerdict::OnTime) => Self::Succeeded,
            RunVerdict::Success(SuccessVerdict::Adopted) => Self::Adopted,
            RunVerdict::Failure => Self::Failed,
            RunVerdict::Cancelled | RunVerdict::Loss => Self::Stopped,
            RunVerdict::Late(_) => Self::Late,
        }
    }
}

/// Which runs a sum is of.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct CostKey {
    /// Days since 1970-01-01, UTC.
    pub day: i32,
    /// The handler.
    pub handler: String,
    /// The machine that ran them.
    pub machine: MachineId,
    /// The project; empty when nobody said one.
    pub project: String,
    /// What became of them.
    pub outcome: Outcome,
}

/// Sums over runs.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Sums {
    /// How many runs.
    pub runs: u64,
    /// Wall time in milliseconds.
    pub wall_ms: u64,
    /// CPU time in milliseconds.
    pub cpu_ms: u64,
    /// The largest peak of memory of one of them, in bytes.
    pub peak_memory_bytes: u64,
    /// Tokens.
    pub tokens: u64,
    /// Millionths of each currency, by its three letters.
    pub money: BTreeMap<String, u64>,
    /// Whether a sum passed 64 bits and stays at the largest number.
    pub saturated: bool,
}

impl Sums {
    /// Adds other sums.
    pub fn add(&mut self, other: &Self) {
        let mut saturated = self.saturated || other.saturated;
        let mut plus = |sum: &mut u64, more: u64| {
            *sum = sum.checked_add(more).unwrap_or_else(|| {
                saturated = true;
                u64::MAX
            });
        };
        plus(&mut self.runs, other.runs);
        plus(&mut self.wall_ms, other.wall_ms);
        plus(&mut self.cpu_ms, other.cpu_ms);
        plus(&mut self.tokens, other.tokens);
        for (currency, micros) in &other.money {
            plus(self.money.entry(currency.clone()).or_default(), *micros);
        }
        self.peak_memory_bytes = self.peak_memory_bytes.max(other.peak_memory_bytes);
        self.saturated = saturated;
    }

    fn of(runs: u64, costs: &Costs, money: &[Money]) -> Self {
        let mut sums = Self {
            runs,
            wall_ms: costs.wall_ms,
            cpu_ms: costs.cpu_ms,
            peak_memory_bytes: costs.peak_memory_bytes,
            tokens: costs.tokens,
            ..Self::default()
        };
        let dollars = (costs.usd_micros > 0).then(|| (US_DOLLAR.to_owned(), costs.usd_micros));
        for (currency, micros) in money
            .iter()
            .map(|m| (m.currency.clone(), m.micros))
            .chain(dollars)
        {
            let one = Self {
                money: BTreeMap::from([(currency, micros)]),
                ..Self::default()
            };
            sums.add(&one);
        }
        sums
    }
}

/// By what sums are grouped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum By {
    /// The handler.
    Handler,
    /// The machine.
    Machine,
    /// The project.
    Project,
    /// The day, as days since 1970-01-01.
    Day,
}

/// One group: what its runs cost in all, and how that divides.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Group {
    /// All runs.
    pub all: Sums,
    /// Of these, by what became of them.
    pub by_outcome: BTreeMap<Outcome, Sums>,
}

/// The tables of costs.
#[derive(Clone, PartialEq, Debug)]
pub struct CostTables {
    pub(crate) sums: Table<CostKey, Sums>,
    pub(crate) projects: Table<JobId, String>,
}

/// What a decision says that a run cost.
pub(crate) struct Charge {
    job: JobId,
    machine: MachineId,
    outcome: Outcome,
    sums: Sums,
}

impl Charge {
    /// Of a decision that the queue takes; `None` for one that names no costs.
    pub(crate) fn of(detail: &AnyDetail, queue: &Queue) -> Option<Self> {
        match detail {
            AnyDetail::JobSucceeded(d) => Some(Self {
                job: d.job,
                machine: d.machine.clone(),
                outcome: Outcome::of(RunVerdict::Success(d.verdict)),
                sums: Sums::of(1, &d.costs, &[]),
            }),
            AnyDetail::JobAttemptFailed(d) => Some(Self {
                job: d.job,
                machine: queue.claims.get(&d.fence)?.machine.clone(),
                outcome: Outcome::Failed,
                sums: Sums::of(1, &d.costs, &[]),
            }),
            _ => None,
        }
    }
}

impl CostTables {
    pub(crate) fn new(sums: u16, projects: u16) -> Self {
        Self {
            sums: Table::new(sums),
            projects: Table::new(projects),
        }
    }

    /// Adds what a run cost.
    pub(crate) fn add(&mut self, charge: Charge, queue: &Queue, at: i64, changes: &mut Changes) {
        let handler = queue.job(&charge.job).map(|job| job.spec.handler.clone());
        let key = CostKey {
            day: day_of(at),
            handler: handler.unwrap_or_default(),
            machine: charge.machine,
            project: self.project(&charge.job).unwrap_or_default().to_owned(),
            outcome: charge.outcome,
        };
        let mut sums = self.sums.get(&key).cloned().unwrap_or_default();
        sums.add(&charge.sums);
        self.sums.set(key, sums, changes);
    }

    /// Applies `job.charged`; `false` when it names a claim that was never given.
    pub(crate) fn charged(&mut self, d: JobCharged, queue: &Queue, at: i64, changes: &mut Changes) -> bool {
        let claim = queue.claims.get(&d.fence).filter(|claim| claim.job == d.job);
        let Some(verdict) = claim.and_then(|claim| claim.judged.last()) else {
            return false;
        };
        // Money alone is that of a run which another decision counted.
        let runs = u64::from(d.costs != Costs::default());
        let charge = Charge {
            job: d.job,
            machine: d.machine,
            outcome: Outcome::of(verdict.verdict),
            sums: Sums::of(runs, &d.costs, &d.money),
        };
        self.add(charge, queue, at, changes);
        true
    }

    /// Applies `job.assigned`; `false` for a job that is not there or has a project already.
    pub(crate) fn assigned(
        &mut self,
        job: JobId,
        project: String,
        queue: &Queue,
        changes: &mut Changes,
    ) -> bool {
        if queue.job(&job).is_none() || self.projects.get(&job).is_some() {
            return false;
        }
        self.projects.set(job, project, changes);
        true
    }

    /// Whose costs a job's are.
    pub fn project(&self, job: &JobId) -> Option<&str> {
        self.projects.get(job).map(String::as_str)
    }

    /// The sums of the days from one to another, both included, in groups.
    pub fn groups(&self, by: By, days: std::ops::RangeInclusive<i32>) -> BTreeMap<String, Group> {
        let mut groups: BTreeMap<String, Group> = BTreeMap::new();
        let within = self.sums.iter().skip_while(|(key, _)| key.day < *days.start());
        for (key, sums) in within.take_while(|(key, _)| key.day <= *days.end()) {
            let name = match by {
                By::Handler => key.handler.clone(),
                By::Machine => key.machine.to_string(),
                By::Project => key.project.clone(),
                By::Day => day_text(key.day),
            };
            let group = groups.entry(name).or_default();
            group.all.add(sums);
            group.by_outcome.entry(key.outcome).or_default().add(sums);
        }
        groups
    }
}

/// The day of a time in microseconds since 1970, as days since 1970-01-01, UTC.
pub fn day_of(at: i64) -> i32 {
    i32::try_from(at.div_euclid(DAY_US)).unwrap_or(i32::MAX)
}

/// A day as `2026-01-31`.
pub fn day_text(day: i32) -> String {
    let second = i64::from(day).saturating_mul(DAY_US / 1_000_000);
    let time = jiff::Timestamp::from_second(second);
    time.map_or_else(|_| day.to_string(), |time| time.strftime("%Y-%m-%d").to_string())
}

/// What a receipt about costs says, in one line; `None` for any other.
pub(crate) fn summary(detail: &AnyDetail) -> Option<String> {
    let money = |money: &[Money]| {
        let parts = money
            .iter()
            .map(|m| format!("{} millionths of {}", m.micros, m.currency));
        parts.collect::<Vec<_>>().join(", ")
    };
    Some(match detail {
        AnyDetail::RunCharged(d) => format!("cost {}", money(&d.money)),
        AnyDetail::JobCharged(d) if d.money.is_empty() => {
            format!("a run on {} cost {} ms of CPU", d.machine, d.costs.cpu_ms)
        }
        AnyDetail::JobCharged(d) => format!("a run on {} cost {}", d.machine, money(&d.money)),
        AnyDetail::JobAssigned(d) => format!("its costs are those of project {}", d.project),
        _ => return None,
    })
}

impl FleetState {
    /// What runs cost.
    pub fn costs(&self) -> &CostTables {
        &self.costs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_stay_at_the_largest_number_and_say_so_and_currencies_stay_apart() {
        let costs = Costs {
            tokens: u64::MAX,
            usd_micros: 5,
            ..Costs::default()
        };
        let euros = Money {
            currency: "EUR".into(),
            micros: 7,
        };
        let mut sums = Sums::of(1, &costs, &[euros]);
        assert!(!sums.saturated);
        sums.add(&Sums::of(1, &costs, &[]));
        assert!(sums.saturated && sums.tokens == u64::MAX && sums.runs == 2);
        let kept = BTreeMap::from([("EUR".to_owned(), 7), ("USD".to_owned(), 10)]);
        assert_eq!(sums.money, kept);
    }

    #[test]
    fn a_day_is_that_of_utc() {
        assert_eq!((day_of(-1), day_of(0), day_of(DAY_US)), (-1, 0, 1));
        assert_eq!(day_text(20_484), "2026-01-31");
    }
}
