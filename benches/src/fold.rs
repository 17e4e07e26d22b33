//! Folding the fleet's state again from receipts that are decoded, on one thread.

use crate::Failed;
use crate::lives::{Lives, Requests, make};
use crate::measure::{Cost, cost};
use ledger::{Changes, State};
use ledger_projections::FleetState;

/// Folds all receipts of some lives into an empty state.
///
/// # Errors
/// When the outcome is not what it was when the lives were lived.
pub fn replay(lives: &Lives) -> Result<Cost, Failed> {
    let fold = || {
        let mut state = FleetState::empty(&lives.context);
        let mut changes = Changes::discarding();
        for receipt in &lives.receipts {
            state.fold(receipt, &mut changes);
        }
        state
    };
    let (cost, state) = cost(lives.receipts.len(), fold);
    (state == lives.state)
        .then_some(cost)
        .ok_or_else(|| "the replay came to another state".into())
}

/// Both kinds of order with so many jobs.
///
/// # Errors
/// As [`make`].
pub fn orders(jobs: usize) -> Result<[Lives; 2], Failed> {
    Ok([make(jobs, Requests::Relayed)?, make(jobs / 8, Requests::InOrder)?])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_replay_comes_to_the_state_that_was_lived() {
        for lives in orders(400).unwrap() {
            assert!(lives.receipts.len() > 5 * lives.jobs);
            let mut jobs = lives.state.queue().jobs();
            assert!(jobs.all(|job| job.success().is_some()));
            replay(&lives).unwrap();
        }
    }
}
