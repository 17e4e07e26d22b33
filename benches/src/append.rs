//! Durable appends with 64 callers at a time, each of whom waits for an answer before it says the next thing.
//!
//! Two shapes of caller: a thread each, and a ticket each on one thread, as a program has them that does not
//! block on every answer.

use crate::measure::{Cost, cost};
use crate::{CALLERS, Failed, PAYLOAD_BYTES};
use ledger::clock::SystemEntropy;
use ledger::core::statement::VerifiedStatement;
use ledger::core::{Draft, Kind, Stream, Subject};
use ledger::{CommitError, Ledger, LedgerError};
use std::collections::VecDeque;

/// The bench record: machine-authored, no cause, no trace, a subject of its own, 300 bytes of payload.
///
/// # Errors
/// Never for these values; the bounds of a statement are checked all the same.
pub fn draft(n: usize) -> Result<Draft, Failed> {
    let byte = u8::try_from(n % 251)?;
    let subject = Subject::new(&format!("bench/{n}"))?;
    let draft = Draft::custom(Kind::new("x.bench.record")?, subject);
    Ok(draft.payload("application/json", vec![byte; PAYLOAD_BYTES])?)
}

fn drafts(count: usize) -> Result<Vec<Draft>, Failed> {
    (0..count).map(draft).collect()
}

/// Appends so many drafts from 64 threads.
///
/// # Errors
/// What the ledger says, of whichever caller it was.
pub fn threads(ledger: &Ledger, count: usize) -> Result<Cost, Failed> {
    let mut shares: Vec<Vec<Draft>> = (0..CALLERS).map(|_| Vec::new()).collect();
    for (n, draft) in drafts(count)?.into_iter().enumerate() {
        shares[n % CALLERS].push(draft);
    }
    let caller = |share: Vec<Draft>| -> Result<(), LedgerError> {
        share
            .into_iter()
            .try_for_each(|draft| ledger.append(draft).map(drop))
    };
    let run = || {
        std::thread::scope(|scope| {
            let callers: Vec<_> = shares
                .into_iter()
                .map(|share| scope.spawn(move || caller(share)))
                .collect();
            callers
                .into_iter()
                .try_for_each(|caller| caller.join().expect("a caller does not panic"))
        })
    };
    let (cost, result) = cost(count, run);
    result?;
    Ok(cost)
}

/// Appends so many drafts from one thread that keeps 64 tickets open.
///
/// # Errors
/// What the ledger says, of whichever ticket it was.
pub fn tickets(ledger: &Ledger, count: usize) -> Result<Cost, Failed> {
    let mut drafts = drafts(count)?.into_iter();
    let submit = |draft: Draft| ledger.submit(move |tx| tx.append(Stream::Facts, draft));
    let run = || -> Result<(), LedgerError> {
        let mut open: VecDeque<_> = drafts.by_ref().take(CALLERS).map(submit).collect();
        while let Some(ticket) = open.pop_front() {
            ticket.wait().map_err(CommitError::into_ledger)?;
            open.extend(drafts.next().map(submit));
        }
        Ok(())
    };
    let (cost, result) = cost(count, run);
    result?;
    Ok(cost)
}

/// As [`tickets`], each draft signed by an actor's own key. Its signature and the strict check of it are part of what is
/// measured, since both happen before a statement may be appended.
///
/// # Errors
/// What the ledger says, of whichever ticket it was.
pub fn signed_tickets(ledger: &Ledger, count: usize) -> Result<Cost, Failed> {
    let mut drafts = drafts(count)?.into_iter();
    let submit = |draft: Draft| -> Result<_, LedgerError> {
        let said: VerifiedStatement = ledger.sign_as_actor(draft, &SystemEntropy)?;
        Ok(ledger.submit(move |tx| tx.append_signed(Stream::Facts, &said)))
    };
    let run = || -> Result<(), LedgerError> {
        let mut open: VecDeque<_> = drafts
            .by_ref()
            .take(CALLERS)
            .map(submit)
            .collect::<Result<_, _>>()?;
        while let Some(ticket) = open.pop_front() {
            ticket.wait().map_err(CommitError::into_ledger)?;
            open.extend(drafts.next().map(submit).transpose()?);
        }
        Ok(())
    };
    let (cost, result) = cost(count, run);
    result?;
    Ok(cost)
}
