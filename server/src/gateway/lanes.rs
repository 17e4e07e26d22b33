//! Whose turn it is: pushes of one log reach the committer in the order of their seqs, in whatever order they arrive and are
//! verified; and large runs are verified a few at a time, so that a report of live work never waits behind backlogs.
//!
//! Decides nothing: a run whose predecessor never came is refused by the committer as a gap. Memory alone; a crash loses nothing.

use crate::error::ServerError;
use ledger::core::LogId;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// Records of a run above which it counts as a backlog's: live work reports a few at a time.
const LIVE_RECORDS_MAX: usize = 64;
/// How long a run waits for the one before it.
const TURN_WITHIN: Duration = Duration::from_secs(5);

/// See the module.
pub(crate) struct Lanes {
    // The first seq of each log that was not handed to the committer.
    next: Mutex<BTreeMap<LogId, watch::Sender<u64>>>,
    bulk: Arc<Semaphore>,
}

impl Lanes {
    pub(crate) fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            next: Mutex::default(),
            bulk: Arc::new(Semaphore::new(cores.saturating_add(1))),
        }
    }

    /// Room for a run of so many records to be verified; none is needed for a few.
    ///
    /// # Errors
    /// [`ServerError::NotServing`] when the process ends.
    pub(crate) async fn room(&self, records: usize) -> Result<Option<OwnedSemaphorePermit>, ServerError> {
        if records <= LIVE_RECORDS_MAX {
            return Ok(None);
        }
        let permit = Arc::clone(&self.bulk).acquire_owned().await;
        permit
            .map(Some)
            .map_err(|_| ServerError::NotServing("the gateway stops".into()))
    }

    /// Waits until everything before `first` was handed to the committer; `durable` is the first seq that is not durable.
    pub(crate) async fn turn(&self, log: &LogId, first: u64, durable: u64) {
        if first <= durable {
            return;
        }
        let mut next = self.lane(log).subscribe();
        let turn = next.wait_for(|next| *next >= first);
        if !matches!(tokio::time::timeout(TURN_WITHIN, turn).await, Ok(Ok(_))) {
            tracing::debug!(%log, first, "the run before it did not come");
        }
    }

    /// Everything before `end` was handed to the committer.
    pub(crate) fn admitted(&self, log: &LogId, end: u64) {
        self.lane(log).send_if_modified(|next| {
            let rises = *next < end;
            *next = end.max(*next);
            rises
        });
    }

    /// A run was refused: whoever waited behind it is refused by the committer, and later ones wait again.
    pub(crate) fn refused(&self, log: &LogId, durable: u64) {
        self.lane(log).send_replace(durable);
    }

    fn lane(&self, log: &LogId) -> watch::Sender<u64> {
        let mut lanes = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        lanes.entry(*log).or_insert_with(|| watch::channel(0).0).clone()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn a_run_waits_for_the_one_before_it_and_a_few_records_wait_for_no_backlog() {
        let (lanes, log) = (Arc::new(Lanes::new()), LogId([1; 32]));
        lanes.turn(&log, 7, 7).await;
        let later = tokio::spawn({
            let lanes = Arc::clone(&lanes);
            async move { lanes.turn(&log, 9, 7).await }
        });
        lanes.admitted(&log, 8);
        tokio::task::yield_now().await;
        assert!(!later.is_finished());
        lanes.admitted(&log, 9);
        later.await.unwrap();

        let mut held = Vec::new();
        while lanes.bulk.available_permits() > 0 {
            held.push(lanes.room(LIVE_RECORDS_MAX + 1).await.unwrap());
        }
        assert!(lanes.room(LIVE_RECORDS_MAX).await.unwrap().is_none());
        drop(held);
        assert!(lanes.room(LIVE_RECORDS_MAX + 1).await.unwrap().is_some());
    }
}
