//! Which jobs wait for which, and for whom the waiting is over.
//!
//! A dependency that is tried again by a new job is followed to the newest try. The index follows from the rows alone:
//! loaded in any order, it ends as folding left it.

use super::job::{Job, JobState};
use super::state::Queue;
use super::table::Phase;
use imbl::OrdSet;
use ledger::Changes;
use ledger_core::ReceiptId;
use ledger_core::kinds::{HeldReason, JobId, JobSpec};
use std::sync::Arc;

/// What became of what a job depends on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Dependency {
    /// Succeeded.
    Met,
    /// Not at its end, or among the dead letters, where it can still be tried again.
    Open,
    /// Final without success, and not tried again.
    Failed,
}

/// The waiting jobs by what they wait for, and those whose waiting is over.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Waiting {
    by_dependency: OrdSet<(JobId, JobId)>,
    settled: OrdSet<JobId>,
}

const LEAST: JobId = JobId(ReceiptId([0; 16]));
const MOST: JobId = JobId(ReceiptId([0xff; 16]));

impl Queue {
    /// The newest try of a job: itself, unless a new job tries it again.
    pub fn newest_try(&self, id: &JobId) -> Option<&Job> {
        let mut job = self.jobs.get(id)?;
        // A try is accepted after what it tries, so this ends.
        while let Some(next) = job.retried_as.as_ref() {
            job = self.jobs.get(next)?;
        }
        Some(job)
    }

    /// What became of a job that others depend on.
    pub fn dependency(&self, id: &JobId) -> Dependency {
        match self.newest_try(id).map(Job::phase) {
            Some(Phase::Succeeded) => Dependency::Met,
            Some(phase) if phase.is_final() => Dependency::Failed,
            _ => Dependency::Open,
        }
    }

    /// What became of all that a request depends on: the worst of them.
    pub fn dependencies(&self, spec: &JobSpec) -> Dependency {
        let each = spec.depends_on.iter().map(|id| self.dependency(id));
        each.max().unwrap_or(Dependency::Met)
    }

    /// Jobs that wait for others, and whose waiting is over one way or the other.
    pub fn settled(&self) -> impl Iterator<Item = &Job> {
        self.waiting.settled.iter().filter_map(|id| self.jobs.get(id))
    }

    /// The jobs that wait for a job or for one that it tries again.
    pub fn dependants<'a>(&'a self, id: &JobId) -> impl Iterator<Item = &'a Job> {
        self.waiting
            .by_dependency
            .range((*id, LEAST)..=(*id, MOST))
            .filter_map(|(_, waiting)| self.jobs.get(waiting))
    }

    /// A job was accepted that tries an earlier one again. The first one counts.
    pub(super) fn note_retry(&mut self, earlier: &JobId, new: JobId, changes: &mut Changes) {
        let stood = self.jobs.change(earlier, changes, |row, _| {
            let may = row.retried_as.is_none() && row.is_retriable();
            may.then(|| {
                let stood = Stood::of(row);
                Arc::make_mut(row).retried_as = Some(new);
                stood
            })
        });
        if let Some(Some(stood)) = stood {
            self.note_waiting(stood, earlier);
        }
    }

    /// Called after a row of a job was set or loaded; `before` is how it stood.
    pub(super) fn note_waiting(&mut self, before: Stood, id: &JobId) {
        let Some(job) = self.jobs.get(id) else { return };
        let now = Stood::of(job);
        let waits = before.waits.is_some() || now.waits.is_some();
        if now == before || !(waits || now.matters(&before, self)) {
            return;
        }
        let job = job.clone();
        if before.waits.is_some() != now.waits.is_some() {
            for dependency in &job.spec.depends_on {
                if now.waits.is_some() {
                    self.waiting.by_dependency.insert((*dependency, *id));
                } else {
                    self.waiting.by_dependency.remove(&(*dependency, *id));
                }
            }
        }
        if waits {
            self.settle(id);
        }
        if !now.matters(&before, self) {
            return;
        }
        let mut tried = Some(*id);
        while let Some(one) = tried {
            let waiting: Vec<JobId> = self.dependants(&one).map(|waiting| waiting.id).collect();
            for waiting in waiting {
                self.settle(&waiting);
            }
            let earlier = self.jobs.get(&one).and_then(|job| job.spec.retry_of);
            tried = earlier.filter(|earlier| {
                let tried_by = self.jobs.get(earlier).and_then(|job| job.retried_as);
                tried_by == Some(one)
            });
        }
    }

    fn settle(&mut self, id: &JobId) {
        let over = self.jobs.get(id).is_some_and(|job| match job.state {
            JobState::Held {
                reason: HeldReason::Dependencies,
            } => self.dependencies(&job.spec) != Dependency::Open,
            JobState::Held {
                reason: HeldReason::DependencyFailed,
            } => self.dependencies(&job.spec) == Dependency::Met,
            _ => false,
        });
        if over {
            self.waiting.settled.insert(*id);
        } else {
            self.waiting.settled.remove(id);
        }
    }
}

/// How a job stood, as far as waiting goes.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Stood {
    waits: Option<HeldReason>,
    ended: bool,
    retried_as: Option<JobId>,
}

impl Stood {
    pub(super) fn of(job: &Job) -> Self {
        Self {
            waits: waiting(job),
            ended: job.phase().is_final(),
            retried_as: job.retried_as,
        }
    }

    // Whether somebody who waits has to look again.
    fn matters(&self, before: &Self, queue: &Queue) -> bool {
        (self.ended, self.retried_as) != (before.ended, before.retried_as)
            && !queue.waiting.by_dependency.is_empty()
    }
}

/// Why a job waits for others, when it does.
fn waiting(job: &Job) -> Option<HeldReason> {
    match job.state {
        JobState::Held {
            reason: reason @ (HeldReason::Dependencies | HeldReason::DependencyFailed),
        } => Some(reason),
        _ => None,
    }
}
