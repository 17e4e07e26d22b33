//! Durable appends with 64 callers at a time, each of whom waits for an answer before it says the next thing.
//!
//! Two shapes of caller: a thread each, and a ticket each on one thread, as a program has them that does not
//! block on every answer.

use crate::measure::{Cost, cost};
use crate::{CALLERS, Failed, PAYLOAD_BYTES};
use ledger::core::statement::Trace;
use ledger::core::{Draft, Kind, ReceiptId, SignedStatement, SigningKey, Stream, Subject, digest};
use ledger::{CommitError, Ledger, LedgerError};
use rayon::prelude::*;
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

/// Appends so many drafts from one thread that keeps a ticket open for each of so many callers.
///
/// # Errors
/// What the ledger says, of whichever ticket it was.
pub fn tickets(ledger: &Ledger, count: usize, callers: usize) -> Result<Cost, Failed> {
    let mut drafts = drafts(count)?.into_iter();
    let submit = |draft: Draft| ledger.submit(move |tx| tx.append(Stream::Facts, draft));
    let run = || -> Result<(), LedgerError> {
        let mut open: VecDeque<_> = drafts.by_ref().take(callers).map(submit).collect();
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

/// Statements that an actor signed elsewhere and hands in: as [`tickets`], with the strict check that must come before
/// each append among what is measured. Signing them is the actor's own expense.
///
/// # Errors
/// What the ledger says, of whichever ticket it was.
pub fn signed_tickets(ledger: &Ledger, said: Vec<SignedStatement>) -> Result<Cost, Failed> {
    let count = said.len();
    let mut said = said.into_iter();
    let submit = |said: SignedStatement| -> Result<_, Failed> {
        let said = said.verify()?;
        Ok(ledger.submit(move |tx| tx.append_signed(Stream::Facts, &said)))
    };
    let run = || -> Result<(), Failed> {
        let mut open: VecDeque<_> = said
            .by_ref()
            .take(CALLERS)
            .map(submit)
            .collect::<Result<_, _>>()?;
        while let Some(ticket) = open.pop_front() {
            ticket.wait().map_err(CommitError::into_ledger)?;
            open.extend(said.next().map(submit).transpose()?);
        }
        Ok(())
    };
    let (cost, result) = cost(count, run);
    result?;
    Ok(cost)
}

/// What an actor says and signs: the bench record, or a job's, which names its cause and its trace, too. `from` tells them
/// from those of other rounds.
///
/// # Errors
/// Never for these values; the bounds of a statement are checked all the same.
pub fn said(
    ledger: &Ledger,
    actor: &SigningKey,
    from: usize,
    count: usize,
    job: bool,
) -> Result<Vec<SignedStatement>, Failed> {
    let fleet = ledger.context().fleet;
    let say = |n: usize| -> Result<SignedStatement, Failed> {
        let bytes = digest::content_digest(&n.to_be_bytes()).0;
        let mut random = [0; 10];
        random.copy_from_slice(&bytes[..10]);
        let now_us = 1_750_000_000_000_000 + i64::try_from(n)?;
        let id = ReceiptId::v7(u64::try_from(now_us / 1000)?, random);
        let mut draft = draft(n)?;
        if job {
            random.reverse();
            let mut trace = [0; 24];
            trace.copy_from_slice(&bytes[8..]);
            draft = draft
                .cause(ReceiptId::v7(u64::try_from(now_us / 1000)?, random))
                .trace(Trace(trace));
        }
        let said = draft.into_statement(fleet, actor.public(), id, now_us, bytes)?;
        Ok(said.sign(actor))
    };
    (from..from + count).into_par_iter().map(say).collect()
}
