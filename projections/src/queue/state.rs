//! The queue's tables and their indexes.
//!
//! Rows (jobs, claims, handlers) are kept; indexes follow from them and are built again when rows are loaded. Every
//! change of a job goes through `Queue::set_job`, which moves the indexes along; what they go by besides (handler,
//! priority, place of acceptance) is the job's for life.

use super::job::{Claim, Handler, Job, JobState, RunVerdict, Standing};
use super::table::Phase;
use crate::order::Place;
use crate::table::Table;
use imbl::{OrdMap, OrdSet};
use ledger::{Changes, Row};
use ledger_core::kinds::{Fence, JobId};
use ledger_core::{MachineId, ReceiptId};

/// Ready jobs in the order in which a handler's are given out: priority from the highest, then age.
type ReadyKey = (String, i32, Place);

/// The queue's tables and indexes.
#[derive(Clone, PartialEq, Debug)]
pub struct Queue {
    pub(crate) jobs: Table<JobId, Job>,
    pub(crate) claims: Table<Fence, Claim>,
    pub(crate) claim_ids: Table<(MachineId, [u8; 16]), Fence>,
    pub(crate) handlers: Table<(MachineId, String), Handler>,
    ready: OrdMap<ReadyKey, JobId>,
    by_age: OrdMap<Place, JobId>,
    by_phase: OrdSet<(Phase, Place, JobId)>,
    by_machine: OrdSet<(MachineId, Place, JobId)>,
    by_unique_key: OrdSet<(String, Place, JobId)>,
    timed: OrdSet<(i64, JobId)>,
    by_handler: OrdSet<(String, MachineId)>,
}

impl Queue {
    pub(crate) fn new(jobs: u16, claims: u16, claim_ids: u16, handlers: u16) -> Self {
        Self {
            jobs: Table::new(jobs),
            claims: Table::new(claims),
            claim_ids: Table::new(claim_ids),
            handlers: Table::new(handlers),
            ready: OrdMap::new(),
            by_age: OrdMap::new(),
            by_phase: OrdSet::new(),
            by_machine: OrdSet::new(),
            by_unique_key: OrdSet::new(),
            timed: OrdSet::new(),
            by_handler: OrdSet::new(),
        }
    }

    /// The job of an id.
    pub fn job(&self, id: &JobId) -> Option<&Job> {
        self.jobs.get(id)
    }

    /// All jobs in the order of their acceptance.
    pub fn jobs(&self) -> impl DoubleEndedIterator<Item = &Job> {
        self.by_age.values().filter_map(|id| self.jobs.get(id))
    }

    /// The jobs in a state, in the order of their acceptance.
    pub fn jobs_in(&self, phase: Phase) -> impl DoubleEndedIterator<Item = &Job> {
        let least = JobId(ReceiptId([0; 16]));
        let most = JobId(ReceiptId([0xff; 16]));
        self.by_phase
            .range((phase, Place::MIN, least)..=(phase, Place::MAX, most))
            .filter_map(|(_, _, id)| self.jobs.get(id))
    }

    /// The jobs that a machine holds a claim for, leased or suspect.
    pub fn jobs_on<'a>(&'a self, machine: &'a MachineId) -> impl Iterator<Item = &'a Job> {
        self.by_machine
            .range((machine.clone(), Place::MIN, JobId(ReceiptId([0; 16])))..)
            .take_while(move |(on, _, _)| on == machine)
            .filter_map(|(_, _, id)| self.jobs.get(id))
    }

    /// Ready jobs of a handler, in the order in which they are given out.
    pub fn ready<'a>(&'a self, handler: &str) -> impl Iterator<Item = &'a Job> + use<'a> {
        let first = (handler.to_owned(), i32::MIN, Place::MIN);
        let last = (handler.to_owned(), i32::MAX, Place::MAX);
        self.ready
            .range(first..=last)
            .filter_map(|(_, id)| self.jobs.get(id))
    }

    /// How many jobs are ready.
    pub fn ready_len(&self) -> usize {
        self.ready.len()
    }

    /// Unfinished jobs whose time (not before, retry, deadline, failover) is at or before a time, microseconds since 1970.
    pub fn timed_until(&self, now: i64) -> impl Iterator<Item = &Job> {
        self.timed
            .range(..=(now, JobId(ReceiptId([0xff; 16]))))
            .filter_map(|(_, id)| self.jobs.get(id))
    }

    /// The unfinished job that holds a unique key.
    pub fn holder_of(&self, unique_key: &str) -> Option<JobId> {
        let first = (unique_key.to_owned(), Place::MIN, JobId(ReceiptId([0; 16])));
        let (key, _, job) = self.by_unique_key.range(first..).next()?;
        (key == unique_key).then_some(*job)
    }

    /// The machines that declare a handler.
    pub fn machines_with<'a>(
        &'a self,
        handler: &'a str,
    ) -> impl Iterator<Item = (&'a MachineId, &'a Handler)> {
        let first = MachineId::new("-").expect("the least of all names");
        self.by_handler
            .range((handler.to_owned(), first)..)
            .take_while(move |(name, _)| name == handler)
            .filter_map(|(name, machine)| {
                Some((machine, self.handlers.get(&(machine.clone(), name.clone()))?))
            })
    }

    /// The verdict on a report under a claim, when it has one.
    pub fn verdict(&self, fence: &Fence, report: &ReceiptId) -> Option<RunVerdict> {
        let judged = &self.claims.get(fence)?.judged;
        judged
            .iter()
            .find(|judged| judged.report == *report)
            .map(|judged| judged.verdict)
    }

    /// What a claim is worth now.
    pub fn standing(&self, fence: &Fence) -> Standing {
        let Some(job) = self.claims.get(fence).and_then(|claim| self.jobs.get(&claim.job)) else {
            return Standing::Unknown;
        };
        match job.lease() {
            Some(lease) if lease.fence == *fence && job.cancel_asked => Standing::CancelAsked,
            Some(lease) if lease.fence == *fence => Standing::InForce,
            Some(_) => Standing::Over,
            None if job.phase().is_final() => Standing::Over,
            None => Standing::Released,
        }
    }

    /// Puts a job in the place of what it was before, if it was.
    pub(super) fn set_job(&mut self, before: Option<&Job>, job: Job, changes: &mut Changes) {
        self.reindex(before, &job);
        self.jobs.set(job.id, job, changes);
    }

    pub(super) fn set_handler(
        &mut self,
        key: (MachineId, String),
        handler: Option<Handler>,
        changes: &mut Changes,
    ) {
        let entry = (key.1.clone(), key.0.clone());
        match handler {
            Some(handler) => {
                self.by_handler.insert(entry);
                self.handlers.set(key, handler, changes);
            }
            None => {
                self.by_handler.remove(&entry);
                self.handlers.remove(&key, changes);
            }
        }
    }

    pub(crate) fn load_job(&mut self, row: &Row) -> Result<(), String> {
        let id = self.jobs.load(row)?;
        let job = self.jobs.shared(&id).ok_or("a row that was loaded is there")?;
        self.reindex(None, &job);
        Ok(())
    }

    pub(crate) fn load_handler(&mut self, row: &Row) -> Result<(), String> {
        let (machine, handler) = self.handlers.load(row)?;
        self.by_handler.insert((handler, machine));
        Ok(())
    }

    // Moves a job in the indexes from where it was to where it is. Most events touch few of them.
    fn reindex(&mut self, before: Option<&Job>, job: &Job) {
        if before.is_none() {
            self.by_age.insert(job.accepted, job.id);
        }
        let phase = before.map(Job::phase);
        if phase != Some(job.phase()) {
            if let Some(phase) = phase {
                self.by_phase.remove(&(phase, job.accepted, job.id));
            }
            self.by_phase.insert((job.phase(), job.accepted, job.id));
        }
        match (phase == Some(Phase::Ready), job.phase() == Phase::Ready) {
            (true, false) => drop(self.ready.remove(&ready_key(job))),
            (false, true) => drop(self.ready.insert(ready_key(job), job.id)),
            _ => {}
        }
        let (was, is) = (before.and_then(leased_to), leased_to(job));
        if was != is {
            if let Some(machine) = was {
                self.by_machine.remove(&(machine.clone(), job.accepted, job.id));
            }
            if let Some(machine) = is {
                self.by_machine.insert((machine.clone(), job.accepted, job.id));
            }
        }
        let (was, is) = (before.and_then(held_key), held_key(job));
        if was != is {
            if let Some(key) = was {
                self.by_unique_key.remove(&(key.clone(), job.accepted, job.id));
            }
            if let Some(key) = is {
                self.by_unique_key.insert((key.clone(), job.accepted, job.id));
            }
        }
        let (was, is) = (before.and_then(next_time), next_time(job));
        if was != is {
            if let Some(at) = was {
                self.timed.remove(&(at, job.id));
            }
            if let Some(at) = is {
                self.timed.insert((at, job.id));
            }
        }
    }
}

fn leased_to(job: &Job) -> Option<&MachineId> {
    job.lease().map(|lease| &lease.machine)
}

/// The unique key that a job holds: until it is final.
fn held_key(job: &Job) -> Option<&String> {
    job.spec.unique_key.as_ref().filter(|_| !job.phase().is_final())
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
        JobState::Suspect { failover_at, .. } => *failover_at,
        JobState::Backoff { retry_at, .. } => *retry_at,
        _ => None,
    };
    [own, job.spec.deadline].into_iter().flatten().min()
}
