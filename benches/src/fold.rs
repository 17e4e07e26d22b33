//! Folding the fleet's state again from receipts that are decoded, on one thread.
//!
//! A receipt's record and statement are decoded before. Its detail is bytes in there: reading that is the fold's own work, and
//! measured.

use crate::Failed;
use crate::lives::{Lives, Requests, make};
use crate::measure::{Cost, cost, number};
use ledger::core::Record;
use ledger::{Changes, Receipt, State};
use ledger_projections::FleetState;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Receipts that are decoded at a time before they are folded, as a reader of the journal does it.
const PORTION: usize = 256;

/// Folds all receipts of some lives into an empty state; decoding them is not measured.
///
/// # Errors
/// When a record does not decode, or the outcome is not what it was when the lives were lived.
pub fn replay(lives: &Lives) -> Result<Cost, Failed> {
    let mut state = FleetState::empty(&lives.context);
    let mut changes = Changes::discarding();
    let (mut cpu_us, mut wall_us) = (0.0, 0.0);
    for portion in lives.receipts.chunks(PORTION) {
        let decoded = portion
            .iter()
            .map(|receipt| {
                Ok(Receipt {
                    position: receipt.position,
                    record: Arc::new(Record::parse(receipt.record.bytes())?),
                })
            })
            .collect::<Result<Vec<_>, Failed>>()?;
        let (all, ()) = cost(1, || {
            for receipt in &decoded {
                state.fold(receipt, &mut changes);
            }
        });
        cpu_us += all.cpu_us;
        wall_us += 1e6 / all.per_second;
    }
    if state != lives.state {
        return Err("the replay came to another state".into());
    }
    let count = number(lives.receipts.len());
    Ok(Cost {
        cpu_us: cpu_us / count,
        per_second: count * 1e6 / wall_us,
    })
}

/// How many receipts of each kind some lives have, the most first.
pub fn mix(lives: &Lives) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for receipt in &lives.receipts {
        *counts.entry(receipt.kind()).or_default() += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let told: Vec<String> = counts
        .iter()
        .map(|(kind, count)| format!("{count} {kind}"))
        .collect();
    told.join(", ")
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
            let all_succeeded = format!("{} job.succeeded", lives.jobs);
            assert!(mix(&lives).contains(&all_succeeded));
            let mut jobs = lives.state.queue().jobs();
            assert!(jobs.all(|job| job.success().is_some()));
            replay(&lives).unwrap();
        }
    }
}
