//! A machine that cannot be one machine, or whose records do not hold: what proves it is kept as a file that anybody can check
//! ([`crate::evidence`]), and the machine gets no work until somebody has looked.
//!
//! A crash before the receipt is made up for by the next push, or the next checkpoint, which proves the same.

use super::central;
use crate::error::ServerError;
use crate::evidence::keep;
use crate::machine::Machine;
use ledger::core::error::ChainError;
use ledger::core::kinds::{NodeQuarantined, NoticeTopic};
use ledger::core::limits::NOTE_BYTES_MAX;
use ledger::core::{Draft, LogId, MachineId, Subject};
use ledger::evidence::{ForkEvidence, ForkKind, ProvenFork};
use ledger::intake::VerifiedRun;
use ledger::{LedgerError, Receipt};
use ledger_projections::{FleetState, notices};
use std::sync::Arc;

fn is_broken(error: &LedgerError) -> bool {
    match error {
        LedgerError::Record(_) | LedgerError::Statement(_) => true,
        LedgerError::Chain(e) => !matches!(e, ChainError::Seq { .. }),
        _ => false,
    }
}

/// A machine pushed what cannot be taken in: keeps the proof, if it is one, and quarantines the machine. Failures are told in
/// the log; the push is refused in any case.
pub(super) async fn judge(machine: &Arc<Machine>, node: &MachineId, run: &VerifiedRun, error: &ServerError) {
    let found = match error {
        ServerError::Ledger(LedgerError::Fork { log, seq }) => contradicting(machine, run, log, *seq),
        ServerError::Fork(_) => beyond(machine, run),
        ServerError::Ledger(e) => return broken(machine, node, e).await,
        _ => return,
    };
    let proven = found.and_then(|evidence| match evidence {
        Some(evidence) => keep(machine, &evidence),
        None => Ok(None),
    });
    match proven {
        Ok(Some(proven)) => forked(machine, node, &proven).await,
        Ok(None) => {}
        Err(e) => tracing::error!(%node, code = e.code(), error = %e, "fork evidence could not be kept"),
    }
}

/// A machine pushed a run that does not verify: it is quarantined when that tells something about it, and not only about
/// what the two know of each other.
pub(super) async fn broken(machine: &Arc<Machine>, node: &MachineId, error: &LedgerError) {
    if !is_broken(error) {
        return;
    }
    let cause = format!("it pushed what does not hold [{}]: {error}", error.code());
    quarantine(machine, node, &cause).await;
}

fn bytes_of(receipt: Option<Receipt>) -> Option<Vec<u8>> {
    receipt.map(|receipt| receipt.record.bytes().to_vec())
}

// What stands here at a seq, and what was pushed for it.
fn contradicting(
    machine: &Machine,
    run: &VerifiedRun,
    log: &LogId,
    seq: u64,
) -> Result<Option<ForkEvidence>, ServerError> {
    let pushed = run.records().iter().find(|(record, _)| record.seal().seq == seq);
    let pushed = pushed.map(|(record, _)| record.bytes().to_vec());
    let (genesis, stands) = (machine.ledger.get(log, 0)?, machine.ledger.get(log, seq)?);
    Ok(evidence(bytes_of(genesis), bytes_of(stands), pushed))
}

// The genesis of the log that succeeded this one, and what was pushed behind the head that it names.
fn beyond(machine: &Machine, run: &VerifiedRun) -> Result<Option<ForkEvidence>, ServerError> {
    let log = run.log();
    let genesis = machine.ledger.get(&log, 0)?;
    let snapshot = machine.ledger.snapshot();
    let successor = snapshot.logs.values().find_map(|chain| {
        let named = chain.genesis().predecessor.filter(|before| before.log == log)?;
        Some((chain.log(), named.head.seq))
    });
    let Some((successor, end)) = successor else {
        return Ok(None);
    };
    let pushed = run.records().iter().find(|(record, _)| record.seal().seq > end);
    let pushed = pushed.map(|(record, _)| record.bytes().to_vec());
    let successor = machine.ledger.get(&successor, 0)?;
    Ok(evidence(bytes_of(genesis), pushed, bytes_of(successor)))
}

fn evidence(genesis: Option<Vec<u8>>, one: Option<Vec<u8>>, other: Option<Vec<u8>>) -> Option<ForkEvidence> {
    Some(ForkEvidence {
        kind: ForkKind::Records,
        genesis: genesis?,
        one: one?,
        other: other?,
    })
}

/// A machine has another record of a log of this gateway's than is here, and the log's key sealed both: the proof is kept, and a
/// notice tells of it once. The machine is to blame for nothing: what it says and does is its own, and is taken in as ever.
pub(super) async fn of_central(
    machine: &Arc<Machine>,
    node: &MachineId,
    log: &LogId,
    seq: u64,
    theirs: &[u8],
) {
    let key: [&[u8]; 3] = [b"fork of central", &log.0, node.as_str().as_bytes()];
    let is_order = machine
        .ledger
        .snapshot()
        .state
        .epochs()
        .any(|(_, row)| row.log == *log);
    let follows = if is_order {
        "; its work is taken in, but it cannot follow this order: join it anew"
    } else {
        ""
    };
    let text = format!(
        "{node} has another record than is here at seq {seq} of Central's log {}, sealed by the same key (DIR/evidence){follows}",
        log.short()
    );
    let raise =
        |state: &FleetState| notices::raise(state, NoticeTopic::ForkEvidence, Some(node), &text, &key);
    if raise(&machine.ledger.snapshot().state).is_empty() {
        return;
    }
    let kept = || -> Result<bool, ServerError> {
        let (genesis, stands) = (machine.ledger.get(log, 0)?, machine.ledger.get(log, seq)?);
        let found = evidence(bytes_of(genesis), bytes_of(stands), Some(theirs.to_vec()));
        Ok(match found {
            Some(found) => keep(machine, &found)?.is_some(),
            None => false,
        })
    };
    match kept() {
        Ok(true) => {}
        Ok(false) => return,
        Err(e) => {
            tracing::error!(%node, code = e.code(), error = %e, "fork evidence could not be kept");
            return;
        }
    }
    // Until Central decides every hello shows it again.
    if !machine.central.is_serving() {
        return;
    }
    let drafts = raise(&machine.ledger.snapshot().state);
    let telling = machine.ledger.submit(move |tx| -> Result<(), LedgerError> {
        central::put(tx, drafts)?;
        Ok(())
    });
    if let Err(e) = telling.await {
        tracing::error!(error = %e, "a notice of a fork could not be written");
    }
}

/// Quarantines a machine for a fork that was proven and whose proof is kept.
pub(crate) async fn forked(machine: &Arc<Machine>, node: &MachineId, proven: &ProvenFork) {
    let cause = format!(
        "it {} (log {}, seq {}); the proof lies in DIR/evidence",
        proven.what(),
        proven.log.short(),
        proven.seq
    );
    quarantine(machine, node, &cause).await;
}

async fn quarantine(machine: &Arc<Machine>, node: &MachineId, cause: &str) {
    let mut reason = cause.to_owned();
    reason.truncate(reason.floor_char_boundary(NOTE_BYTES_MAX));
    tracing::error!(%node, reason, "the machine is quarantined");
    let node = node.clone();
    let said = machine.ledger.submit(move |tx| -> Result<(), LedgerError> {
        let stands = tx
            .state()
            .watched(&node)
            .is_some_and(|row| row.quarantined.is_some());
        if stands {
            return Ok(());
        }
        let text = format!("{node} is quarantined: {reason}");
        let detail = NodeQuarantined {
            machine: node.clone(),
            reason,
        };
        let subject = Subject::new(&format!("node/{node}")).expect("short and printable");
        let said = central::put(tx, vec![Draft::of(&detail, subject)])?;
        let key: Vec<&[u8]> = said.iter().map(|receipt| &receipt.statement().id.0[..]).collect();
        let drafts = notices::raise(tx.state(), NoticeTopic::ForkEvidence, Some(&node), &text, &key);
        central::put(tx, drafts)?;
        Ok(())
    });
    if let Err(e) = said.await {
        tracing::error!(error = %e, "the quarantine could not be written");
    }
}
