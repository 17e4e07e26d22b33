//! What is here of Central's own work and facts, in logs that are over, and what the order does not know of: its old data was put back,
//! and its machines had more of these logs than of the order. It is pinned and judged as if it came in now.

use crate::error::ServerError;
use crate::machine::Machine;
use ledger::core::{LogId, Stream};
use ledger::{LedgerError, Receipt};
use ledger_projections::central::admit;
use std::sync::Arc;

/// Records that are judged in one commit at most.
const AT_ONCE: usize = 256;

/// Judges all of it, before Central decides anything else: nobody runs again what is done. Does nothing when it was done.
///
/// # Errors
/// [`ServerError`] when the store cannot take it; to be tried again.
pub(super) async fn judge_collected(machine: &Arc<Machine>) -> Result<(), ServerError> {
    for (log, stream) in logs_that_are_over(machine) {
        loop {
            let snapshot = machine.ledger.snapshot();
            let head = snapshot.logs.get(&log).map(|chain| chain.head());
            let first = snapshot
                .state
                .pin(&log)
                .map_or(0, |pin| pin.seq.saturating_add(1));
            let unpinned = machine.ledger.range(&log, first, u64::MAX).take(AT_ONCE);
            let receipts: Vec<Receipt> = unpinned.collect::<Result<_, LedgerError>>()?;
            let Some(last) = receipts.last().map(Receipt::seq) else {
                break;
            };
            let root = head.filter(|head| head.seq == last).map(|head| head.root);
            let (own, policy) = (machine.id().clone(), machine.config.policy());
            let healing = Arc::clone(machine);
            let judging = machine.ledger.submit(move |tx| -> Result<(), ServerError> {
                // It decides already, though nobody else asks it to: somebody may show meanwhile that it must not.
                if let Some(why) = healing.central.frozen() {
                    return Err(ServerError::NotServing(why));
                }
                Ok(admit(tx, &receipts, &[], stream, root, &own, &policy)?)
            });
            judging.await?;
        }
    }
    Ok(())
}

// This machine's own work and facts of earlier incarnations, older ones first.
fn logs_that_are_over(machine: &Machine) -> Vec<(LogId, Stream)> {
    let (snapshot, key) = (machine.ledger.snapshot(), machine.ledger.context().machine_key);
    let own = snapshot.logs.values().filter(|chain| {
        let stream = chain.genesis().stream;
        chain.machine_key() == key
            && matches!(stream, Stream::Work | Stream::Facts)
            && machine.ledger.own_log(stream) != Some(chain.log())
    });
    let mut own: Vec<_> = own
        .map(|chain| (chain.genesis().incarnation, chain.log(), chain.genesis().stream))
        .collect();
    own.sort_unstable_by_key(|(incarnation, log, _)| (*incarnation, *log));
    own.into_iter().map(|(_, log, stream)| (log, stream)).collect()
}
