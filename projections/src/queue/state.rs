//! The queue's tables and their indexes.
//!
//! Rows (jobs, claims, handlers) are kept; indexes follow from them ([`Indexes`]) and are built again when rows are loaded.

use super::dependencies::{Stood, Waiting};
use super::index::Indexes;
use super::job::{Claim, Handler, Job, RunVerdict, Standing};
use super::limits::{Limit, Pause};
use super::table::Phase;
use crate::hashed::Hashed;
use crate::order::Place;
use crate::parted::Parted;
use crate::table::Table;
use imbl::OrdSet;
use ledger::{Changes, Row};
use ledger_core::kinds::{Fence, JobId, LimitScope};
use ledger_core::{MachineId, ReceiptId};
use serde::{Deserialize, Serialize};

/// The id that a machine gave a claim.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub(crate) struct ClaimKey {
    /// The machine.
    pub(crate) machine: MachineId,
    /// Its id for the claim.
    pub(crate) claim: [u8; 16],
}

/// The queue's tables and indexes.
#[derive(Clone, PartialEq, Debug)]
pub struct Queue {
    pub(crate) jobs: Parted<JobId, Job>,
    pub(crate) claims: Table<Fence, Claim>,
    pub(crate) claim_ids: Hashed<ClaimKey, Fence>,
    pub(crate) handlers: Table<(MachineId, String), Handler>,
    pub(crate) pauses: Table<String, Pause>,
    pub(crate) limits: Table<LimitScope, Limit>,
    pub(super) indexes: Indexes,
    pub(super) waiting: Waiting,
    by_handler: OrdSet<(String, MachineId)>,
}

impl Queue {
    pub(crate) fn new(jobs: u16, claims: u16, claim_ids: u16, handlers: u16, steering: [u16; 2]) -> Self {
        Self {
            jobs: Parted::new(jobs),
            claims: Table::new(claims),
            claim_ids: Hashed::new(claim_ids),
            handlers: Table::new(handlers),
            pauses: Table::new(steering[0]),
            limits: Table::new(steering[1]),
            indexes: Indexes::default(),
            waiting: Waiting::default(),
            by_handler: OrdSet::new(),
        }
    }

    /// The job of an id.
    pub fn job(&self, id: &JobId) -> Option<&Job> {
        self.jobs.get(id)
    }

    /// All jobs in the order of their acceptance.
    pub fn jobs(&self) -> impl DoubleEndedIterator<Item = &Job> {
        self.indexes.by_age.values().filter_map(|id| self.jobs.get(id))
    }

    /// The jobs that were accepted before a place of the order, the newest first; all of them without one.
    pub fn jobs_before(&self, before: Option<Place>) -> impl Iterator<Item = &Job> {
        use std::ops::Bound;
        let end = before.map_or(Bound::Unbounded, Bound::Excluded);
        self.indexes
            .by_age
            .range((Bound::Unbounded, end))
            .rev()
            .filter_map(|(_, id)| self.jobs.get(id))
    }

    /// The jobs in a state, in the order of their acceptance.
    pub fn jobs_in(&self, phase: Phase) -> impl DoubleEndedIterator<Item = &Job> {
        let all = (phase, Place::MIN)..=(phase, Place::MAX);
        self.indexes
            .phases(phase)
            .range(all)
            .filter_map(|(_, id)| self.jobs.get(id))
    }

    /// The jobs that a machine holds a claim for, leased or suspect.
    pub fn jobs_on<'a>(&'a self, machine: &'a MachineId) -> impl Iterator<Item = &'a Job> {
        self.indexes
            .by_machine
            .range((machine.clone(), Place::MIN, JobId(ReceiptId([0; 16])))..)
            .take_while(move |(on, _, _)| on == machine)
            .filter_map(|(_, _, id)| self.jobs.get(id))
    }

    /// Ready jobs of a handler, in the order in which they are given out.
    pub fn ready<'a>(&'a self, handler: &str) -> impl Iterator<Item = &'a Job> + use<'a> {
        let first = (handler.to_owned(), i32::MIN, Place::MIN);
        let last = (handler.to_owned(), i32::MAX, Place::MAX);
        self.indexes
            .ready
            .range(first..=last)
            .filter_map(|(_, id)| self.jobs.get(id))
    }

    /// How many jobs are ready.
    pub fn ready_len(&self) -> usize {
        self.indexes.ready.len()
    }

    /// Unfinished jobs whose time (not before, retry, deadline, failover) is at or before a time, microseconds since 1970.
    pub fn timed_until(&self, now: i64) -> impl Iterator<Item = &Job> {
        self.indexes
            .timed
            .range(..=(now, JobId(ReceiptId([0xff; 16]))))
            .filter_map(|(_, id)| self.jobs.get(id))
    }

    /// The unfinished job that holds a unique key.
    pub fn holder_of(&self, unique_key: &str) -> Option<JobId> {
        let first = (unique_key.to_owned(), Place::MIN, JobId(ReceiptId([0; 16])));
        let (key, _, job) = self.indexes.by_unique_key.range(first..).next()?;
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

    /// The claim that a machine made under an id of its own.
    pub(crate) fn claim_of(&self, machine: &MachineId, claim: &[u8; 16]) -> Option<Fence> {
        let key = ClaimKey {
            machine: machine.clone(),
            claim: *claim,
        };
        self.claim_ids.get(&key).copied()
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
        let job = self.jobs.get(&id).ok_or("a row that was loaded is there")?;
        self.indexes.added(job);
        if job.phase().is_final() {
            self.jobs.rest(&id);
        }
        self.note_waiting(Stood::default(), &id);
        Ok(())
    }

    pub(crate) fn load_handler(&mut self, row: &Row) -> Result<(), String> {
        let (machine, handler) = self.handlers.load(row)?;
        self.by_handler.insert((handler, machine));
        Ok(())
    }
}
