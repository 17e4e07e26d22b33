//! What orphan branches tell about jobs that are not known here yet: their requests lie in machines' own logs.
//!
//! Places alone, and a bounded number of them. What finds no room is not forgotten: the branches are gone through again, and the
//! claims of a job are looked up before anybody can claim it.

use ledger::core::kinds::JobId;
use ledger_projections::Place;
use std::collections::{BTreeMap, BTreeSet};

/// Places that are remembered at most: 1 MiB.
const PLACES_MAX: usize = 16_384;

/// See the module.
#[derive(Default)]
pub(super) struct Waiting {
    by: BTreeMap<JobId, BTreeSet<Place>>,
    places: usize,
    overflows: bool,
}

impl Waiting {
    /// Something at a place of a branch waits for a job.
    pub(super) fn note(&mut self, on: JobId, at: Place) {
        if self.places >= PLACES_MAX {
            self.overflows = true;
        } else if self.by.entry(on).or_default().insert(at) {
            self.places += 1;
        }
    }

    /// What waits for a job, as far as it is remembered.
    pub(super) fn of(&self, job: &JobId) -> Option<BTreeSet<Place>> {
        self.by.get(job).cloned()
    }

    /// Some of the jobs that are known by now and that something waits for, with at most so many places beside those of one.
    pub(super) fn ripe(&self, is_known: impl Fn(&JobId) -> bool, most: usize) -> Vec<JobId> {
        let (mut jobs, mut places) = (Vec::new(), 0usize);
        for (job, at) in self.by.iter().filter(|(job, _)| is_known(job)) {
            places = places.saturating_add(at.len());
            if !jobs.is_empty() && places > most {
                break;
            }
            jobs.push(*job);
        }
        jobs
    }

    /// What waited for these is decided.
    pub(super) fn forget(&mut self, jobs: &[JobId]) {
        for job in jobs {
            self.places -= self.by.remove(job).map_or(0, |places| places.len());
        }
    }

    /// Whether something found no room since this was asked last.
    pub(super) fn take_overflow(&mut self) -> bool {
        std::mem::take(&mut self.overflows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_bounded_and_says_when_it_is_more_than_has_room() {
        let job = |n: u64| JobId(ledger::core::digest::derived_id(&[&n.to_be_bytes()]));
        let mut waiting = Waiting::default();
        for n in 0..=u64::try_from(PLACES_MAX).unwrap() {
            assert!(!waiting.take_overflow());
            for _ in 0..2 {
                waiting.note(job(n / 2), Place { epoch: 1, seq: n });
            }
        }
        assert!(waiting.take_overflow() && !waiting.take_overflow());
        assert_eq!(waiting.places, PLACES_MAX);
        assert_eq!(waiting.of(&job(3)).unwrap().len(), 2);
        let ripe = waiting.ripe(|_| true, 7);
        assert_eq!(ripe.len(), 3);
        assert_eq!(waiting.ripe(|job| *job == ripe[1], 1), [ripe[1]]);
        waiting.forget(&ripe);
        assert_eq!((waiting.places, waiting.of(&ripe[0])), (PLACES_MAX - 6, None));
    }
}
