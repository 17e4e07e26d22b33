//! A machine's records come in, and what follows from each; a machine says hello, and its claims are settled.

use super::{OrderTx, StepError, settle, write};
use crate::order::pin;
use crate::queue::decide::{self, Holds};
use crate::{Policy, notices, uptime};
use ledger::{LedgerError, Receipt};
use ledger_core::kinds::{
    Detail, Erased, HandlerDeclared, InadmissibleReason, PinnedRange, ReceiptInadmissible, RequestReceived,
};
use ledger_core::limits::DRIFT_MS_MAX;
use ledger_core::{Draft, Hlc, MachineId, Stream, Subject, TreeRoot};

/// Why Central erases what was sealed again.
const SEALED_AGAIN: &str = "it was erased where it was sealed before";

/// Records of a machine's log were just taken in: they are pinned in the order, and each is answered. `forged` are the seqs
/// whose author signature is not valid, `root` the root of the tree that ends with the newest. Pulses are kept and nothing more.
///
/// # Errors
/// [`StepError`].
pub fn admit<T: OrderTx>(
    tx: &mut T,
    new: &[Receipt],
    forged: &[u64],
    stream: Stream,
    root: Option<TreeRoot>,
    node: &MachineId,
    policy: &Policy,
) -> Result<(), StepError> {
    if stream == Stream::Pulse {
        return Ok(());
    }
    // What the order has taken in already comes again when this store lost its copy of it: everything is decided.
    let pinned = new
        .first()
        .and_then(|receipt| tx.state().pin(&receipt.log()).map(|pin| pin.seq));
    let known = new.partition_point(|receipt| pinned.is_some_and(|pinned| receipt.seq() <= pinned));
    let new = &new[known..];
    let (Some(first), Some(last)) = (new.first(), new.last()) else {
        return Ok(());
    };
    let range = PinnedRange {
        log: first.log(),
        first: first.seq(),
        last: last.seq(),
        seal: last.seal_digest(),
        root,
    };
    write(tx, pin(&[range]))?;
    for receipt in new {
        if let Some(reason) = inadmissible(tx, receipt, forged, stream) {
            write(tx, vec![named(receipt, reason)])?;
        } else {
            answer(tx, receipt, stream, node, policy)?;
            erase_again(tx, receipt)?;
        }
    }
    Ok(settle(tx)?)
}

fn answer<T: OrderTx>(
    tx: &mut T,
    receipt: &Receipt,
    stream: Stream,
    node: &MachineId,
    policy: &Policy,
) -> Result<(), StepError> {
    let drafts = notices::told_by(tx.state(), receipt, node, policy);
    if !drafts.is_empty() {
        write(tx, drafts)?;
    } else if stream == Stream::Facts && uptime::tells(receipt) {
        let drafts = uptime::told(tx.state(), receipt, node);
        write(tx, drafts)?;
    } else if let Some(said) = ledger::erase::said(receipt) {
        repeat_erased(tx, receipt, said)?;
    } else if receipt.kind() == RequestReceived::KIND {
        let drafts = decide::accept_request(tx.state(), receipt, tx.now_us(), policy)?;
        write(tx, drafts)?;
    } else if stream == Stream::Work {
        let drafts = decide::report(tx.state(), receipt, node, tx.now_us(), policy)?;
        write(tx, drafts)?;
    }
    Ok(())
}

fn inadmissible<T: OrderTx>(
    tx: &T,
    receipt: &Receipt,
    forged: &[u64],
    stream: Stream,
) -> Option<InadmissibleReason> {
    if forged.contains(&receipt.seq()) {
        return Some(InadmissibleReason::AuthorSignature);
    }
    // A request without authority gets its verdict from its own decider.
    if receipt.kind() == RequestReceived::KIND {
        return None;
    }
    // Requests and what runs came to are decided by Central's time alone, whatever the machine's clock said: a result is a
    // result. An erasure binds. All else is shown in the order of its times, and the past is no fault.
    let shown = stream == Stream::Facts && ledger::erase::said(receipt).is_none();
    if shown && is_beyond(receipt.time(), tx.now_us()) {
        return Some(InadmissibleReason::ClockOutOfBounds);
    }
    let own_log = receipt.record.author_signature().is_none();
    tx.state()
        .authorise(receipt.statement(), stream, own_log, tx.now_us())
        .err()
}

// Whether a seal's time lies further ahead of Central's than any two clocks may differ.
fn is_beyond(time: Hlc, now_us: i64) -> bool {
    let now_ms = u64::try_from(now_us / 1000).unwrap_or(0);
    time.unix_ms() > now_ms.saturating_add(DRIFT_MS_MAX)
}

fn named(receipt: &Receipt, reason: InadmissibleReason) -> Draft {
    let detail = ReceiptInadmissible {
        record: receipt.evidence(),
        id: receipt.id(),
        reason,
    };
    let subject = Subject::new(&format!("receipt/{}", receipt.id())).expect("short and printable");
    Draft::of(&detail, subject).cause(receipt.id())
}

// What was erased where it was sealed before is erased here too: whoever asked for that knew of no other place.
fn erase_again<T: OrderTx>(tx: &mut T, receipt: &Receipt) -> Result<(), LedgerError> {
    // A machine's own word is sealed once.
    let sealed_again = receipt.statement().payload.is_some() && receipt.record.author_signature().is_some();
    if !sealed_again || tx.is_erased(&receipt.evidence())? {
        return Ok(());
    }
    for other in tx.sealings(&receipt.evidence())? {
        if other.evidence() != receipt.evidence() && tx.is_erased(&other.evidence())? {
            let draft = ledger::erase::draft(receipt, SEALED_AGAIN)?;
            write(tx, vec![draft])?;
            break;
        }
    }
    Ok(())
}

/// What a machine's facts say is erased, the order says too, which binds every copy; and of the same statement where it was sealed
/// besides, as far as whoever says so may.
///
/// # Errors
/// [`LedgerError`] as the engine's.
pub fn repeat_erased<T: OrderTx>(tx: &mut T, receipt: &Receipt, said: Erased) -> Result<(), LedgerError> {
    let binds = tx.is_erased(&said.record)?;
    let (record, reason) = (said.record, said.reason.clone());
    let draft = if binds {
        let subject = receipt.statement().subject.clone();
        Draft::of(&said, subject).cause(receipt.id())
    } else {
        named(receipt, InadmissibleReason::NotPermitted)
    };
    write(tx, vec![draft])?;
    let others = if binds { tx.sealings(&record)? } else { Vec::new() };
    for other in others {
        let by = receipt.statement().author;
        if !tx.is_erased(&other.evidence())? && tx.state().may_erase(&by, Some(&other), tx.now_us()) {
            let draft = ledger::erase::draft(&other, &reason)?.cause(receipt.id());
            write(tx, vec![draft])?;
        }
    }
    Ok(())
}

/// A machine is here, and everything that it had to tell is judged: what it runs is declared, and the claims that it holds, or
/// holds no more, are settled.
///
/// # Errors
/// [`StepError`].
pub fn greet<T: OrderTx>(
    tx: &mut T,
    node: &MachineId,
    declared: &[HandlerDeclared],
    holds: &Holds<'_>,
) -> Result<(), StepError> {
    let drafts = decide::handler_declared(tx.state(), node, declared)?;
    write(tx, drafts)?;
    let drafts = decide::resume(tx.state(), node, holds, tx.now_us())?;
    write(tx, drafts)?;
    Ok(settle(tx)?)
}
