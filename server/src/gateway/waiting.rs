//! What orphan branches tell about jobs that are not known here yet: their requests lie in machines' own logs.
//!
//! Places alone, and a bounded number of them. What finds no room is not forgotten: the branches are gone through again, and the
//! claims of a job are looked up before anybody can claim it.

use ledger::core::kinds::JobId;
use ledger_projections::Place;
use std::collections::{BTreeMap, BTreeSet};

/// Places that are remembered at most: 1 MiB. Tests have fewer, to come to the bound.
const PLACES_MAX: usize = if cfg!(test) { 1024 } else { 16_384 };

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
        let is_known = self.by.get(&on).is_some_and(|places| places.contains(&at));
        if !is_known && self.places >= PLACES_MAX {
            self.overflows = true;
        } else {
            self.pass_on(on, at);
        }
    }

    /// What waited for another job waits for this one; the other gives up its room.
    pub(super) fn pass_on(&mut self, on: JobId, at: Place) {
        if self.by.entry(on).or_default().insert(at) {
            self.places += 1;
        }
    }

    /// What waits for a job, as far as it is remembered.
    pub(super) fn of(&self, job: &JobId) -> Option<BTreeSet<Place>> {
        self.by.get(job).cloned()
    }

    /// So much at most of what waits for jobs that are known by now.
    pub(super) fn ripe(&self, is_known: impl Fn(&JobId) -> bool, most: usize) -> Vec<(JobId, Place)> {
        let known = self.by.iter().filter(|(job, _)| is_known(job));
        let places = known.flat_map(|(job, places)| places.iter().map(|at| (*job, *at)));
        places.take(most).collect()
    }

    /// These are decided; whether others found no room that may have some now.
    pub(super) fn forget(&mut self, decided: &[(JobId, Place)]) -> bool {
        for (job, at) in decided {
            let Some(places) = self.by.get_mut(job) else {
                continue;
            };
            self.places -= usize::from(places.remove(at));
            if places.is_empty() {
                self.by.remove(job);
            }
        }
        self.overflows
    }

    /// Everything is noted anew from here on.
    pub(super) fn begin(&mut self) {
        self.overflows = false;
    }

    /// Whether something found no room since.
    pub(super) fn overflows(&self) -> bool {
        self.overflows
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
            assert!(!waiting.overflows());
            for _ in 0..2 {
                waiting.note(job(n / 2), Place { epoch: 1, seq: n });
            }
        }
        assert!(waiting.overflows());
        waiting.begin();
        waiting.note(job(0), Place { epoch: 1, seq: 0 });
        assert!(!waiting.overflows(), "it has its place");
        assert_eq!(waiting.places, PLACES_MAX);
        assert_eq!(waiting.of(&job(3)).unwrap().len(), 2);
        let ripe = waiting.ripe(|_| true, 3);
        assert_eq!(ripe.len(), 3);
        assert_eq!(waiting.ripe(|job| *job == ripe[0].0, 1), [ripe[0]]);
        // What waits for the next job takes over the room of what it waited for.
        waiting.pass_on(job(u64::MAX), ripe[0].1);
        assert!(!waiting.forget(&ripe));
        assert_eq!((waiting.places, waiting.of(&ripe[0].0)), (PLACES_MAX - 2, None));
    }
}
