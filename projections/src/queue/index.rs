//! The queue's indexes over jobs: by age, state, readiness, machine, unique key and time.
//!
//! They follow from the jobs' rows and are never kept. Whoever changes a job takes its [`Marks`] before and hands them in after:
//! only what moved is touched. What the indexes go by besides (handler, priority, place of acceptance, unique key, deadline) is
//! the job's for life. Final jobs have an index by state of their own, so that the one in use stays small.

use super::job::{Job, JobState};
use super::table::Phase;
use crate::order::Place;
use imbl::{OrdMap, OrdSet};
use ledger_core::MachineId;
use ledger_core::kinds::{Fence, HeldReason, JobId};

/// Ready jobs in the order in which a handler's are given out: priority from the highest, then age.
type ReadyKey = (String, i32, Place);

/// See the module.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Indexes {
    pub(super) ready: OrdMap<ReadyKey, JobId>,
    pub(super) by_age: OrdMap<Place, JobId>,
    open_phases: OrdMap<(Phase, Place), JobId>,
    final_phases: OrdMap<(Phase, Place), JobId>,
    pub(super) by_machine: OrdSet<(MachineId, Place, JobId)>,
    pub(super) by_unique_key: OrdSet<(String, Place, JobId)>,
    pub(super) timed: OrdSet<(i64, JobId)>,
    /// How many jobs with a concurrency key are claimed; none is not there.
    pub(super) keys: OrdMap<String, u32>,
}

/// What the indexes knew of a job before it changed.
pub(super) struct Marks {
    pub(super) phase: Phase,
    /// The claim in force, and whether its machine reported the start.
    pub(super) lease: Option<(Fence, bool)>,
    machine: Option<MachineId>,
    time: Option<i64>,
}

impl Marks {
    /// `leaves`: the event may lead to another state, and so end the claim.
    pub(super) fn of(job: &Job, leaves: bool) -> Self {
        let lease = job.lease();
        Self {
            phase: job.phase(),
            lease: lease.map(|lease| (lease.fence, lease.started)),
            machine: lease.filter(|_| leaves).map(|lease| lease.machine.clone()),
            time: next_time(job),
        }
    }
}

impl Indexes {
    /// The index in which the jobs in a state are.
    pub(super) fn phases(&self, phase: Phase) -> &OrdMap<(Phase, Place), JobId> {
        if phase.is_final() {
            &self.final_phases
        } else {
            &self.open_phases
        }
    }

    fn phases_mut(&mut self, phase: Phase) -> &mut OrdMap<(Phase, Place), JobId> {
        if phase.is_final() {
            &mut self.final_phases
        } else {
            &mut self.open_phases
        }
    }

    /// Takes in a job that was not here.
    pub(super) fn added(&mut self, job: &Job) {
        let phase = job.phase();
        self.by_age.insert(job.accepted, job.id);
        self.phases_mut(phase).insert((phase, job.accepted), job.id);
        if phase == Phase::Ready {
            self.ready.insert(ready_key(job), job.id);
        }
        if let Some(lease) = job.lease() {
            self.count_key(job, true);
            self.by_machine
                .insert((lease.machine.clone(), job.accepted, job.id));
        }
        if let Some(key) = job.spec.unique_key.as_ref().filter(|_| !phase.is_final()) {
            self.by_unique_key.insert((key.clone(), job.accepted, job.id));
        }
        if let Some(at) = next_time(job) {
            self.timed.insert((at, job.id));
        }
    }

    /// Moves a job from where it was to where it is.
    pub(super) fn moved(&mut self, was: Marks, job: &Job) {
        let phase = job.phase();
        if was.phase != phase {
            self.phases_mut(was.phase).remove(&(was.phase, job.accepted));
            self.phases_mut(phase).insert((phase, job.accepted), job.id);
            if was.phase == Phase::Ready {
                self.ready.remove(&ready_key(job));
            }
            if phase == Phase::Ready {
                self.ready.insert(ready_key(job), job.id);
            }
            if let Some(key) = &job.spec.unique_key
                && was.phase.is_final() != phase.is_final()
            {
                // The key is held until the job is final, and nothing leads out of that.
                self.by_unique_key.remove(&(key.clone(), job.accepted, job.id));
            }
        }
        if was.phase.is_claimed() != phase.is_claimed() {
            self.count_key(job, phase.is_claimed());
        }
        let lease = job.lease();
        if was.lease.map(|(fence, _)| fence) != lease.map(|lease| lease.fence) {
            if let Some(machine) = was.machine {
                self.by_machine.remove(&(machine, job.accepted, job.id));
            }
            if let Some(lease) = lease {
                self.by_machine
                    .insert((lease.machine.clone(), job.accepted, job.id));
            }
        }
        let time = next_time(job);
        if was.time != time {
            if let Some(at) = was.time {
                self.timed.remove(&(at, job.id));
            }
            if let Some(at) = time {
                self.timed.insert((at, job.id));
            }
        }
    }

    fn count_key(&mut self, job: &Job, claimed: bool) {
        let Some(key) = &job.spec.concurrency_key else {
            return;
        };
        let count = self.keys.get(key).copied().unwrap_or(0);
        match if claimed {
            count + 1
        } else {
            count.saturating_sub(1)
        } {
            0 => drop(self.keys.remove(key)),
            count => drop(self.keys.insert(key.clone(), count)),
        }
    }
}

fn ready_key(job: &Job) -> ReadyKey {
    (
        job.spec.handler.clone(),
        -i32::from(job.spec.priority),
        job.accepted,
    )
}

/// The next time at which the ticker has to look at a job; never at one that is final.
fn next_time(job: &Job) -> Option<i64> {
    if job.phase().is_final() {
        return None;
    }
    let own = match &job.state {
        JobState::Scheduled { not_before } => Some(*not_before),
        JobState::Held {
            reason: HeldReason::NotBefore,
        } => Some(job.spec.not_before.unwrap_or(i64::MIN)),
        JobState::Suspect { failover_at, .. } => *failover_at,
        JobState::Backoff { retry_at, .. } => *retry_at,
        _ => None,
    };
    [own, job.spec.deadline].into_iter().flatten().min()
}
