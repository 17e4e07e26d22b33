//! What Central does inside a commit, step by step: take in a machine's run, settle its claims at a hello, give jobs out, write
//! what time brought.
//!
//! The deciders say what follows from one thing; here is which of them are asked, in which order, and what is written before
//! the next is asked. The server calls these steps within the engine's transactions and the simulation within its own, both
//! by [`OrderTx`]. No clock, no I/O; leases and signs of life ([`Leases`], [`Heard`]) are memory, and told what time it is.

mod claims;
mod intake;
mod leases;
mod schedules;
mod time;

pub use claims::{Asked, give};
pub use intake::{admit, greet, repeat_erased};
pub use leases::{BeatReply, Leases, beat};
pub use schedules::{Fired, fire};
pub use time::{Due, Heard, overdue, silences, tick};

use crate::queue::decide;
use crate::{FleetState, Refusal};
use ledger::{LedgerError, Receipt, Tx};
use ledger_core::kinds::Evidence;
use ledger_core::{Draft, Record, Stream};

/// How often one call follows jobs that waited for jobs that waited; the ticker goes on where it stops.
const SETTLE_ROUNDS_MAX: usize = 8;

/// A commit in which Central decides.
pub trait OrderTx {
    /// The state with everything that this commit decided so far.
    fn state(&self) -> &FleetState;

    /// The time of the commit, microseconds since 1970.
    fn now_us(&self) -> i64;

    /// Appends a decision to the order and folds it; what was said before under the draft's id is given again.
    ///
    /// # Errors
    /// [`LedgerError`] as the engine's; nothing of the commit is then kept.
    fn decide(&mut self, draft: Draft) -> Result<Receipt, LedgerError>;

    /// Whether an erasure of the record was taken in here.
    ///
    /// # Errors
    /// [`LedgerError`] when the store cannot be read.
    fn is_erased(&self, record: &Evidence) -> Result<bool, LedgerError>;

    /// Every receipt here of the statement that stands at a record, itself included: it may have been sealed in several logs.
    /// Nothing when the record is not here.
    ///
    /// # Errors
    /// [`LedgerError`] when the store cannot be read.
    fn sealings(&self, record: &Evidence) -> Result<Vec<Receipt>, LedgerError>;
}

impl OrderTx for Tx<'_, FleetState> {
    fn state(&self) -> &FleetState {
        Tx::state(self)
    }

    fn now_us(&self) -> i64 {
        Tx::now_us(self)
    }

    fn decide(&mut self, draft: Draft) -> Result<Receipt, LedgerError> {
        Ok(self.append(Stream::Order, draft)?.receipt().clone())
    }

    fn is_erased(&self, record: &Evidence) -> Result<bool, LedgerError> {
        Ok(self.erased_by(record)?.is_some())
    }

    fn sealings(&self, record: &Evidence) -> Result<Vec<Receipt>, LedgerError> {
        let found = self.get(&record.log, record.seq)?;
        match found.filter(|found| found.seal_digest() == record.seal) {
            Some(found) => Tx::sealings(self, &found.statement().author, &found.id()),
            None => Ok(Vec::new()),
        }
    }
}

/// Why a step was not carried through; nothing of its commit is kept.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// The engine.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// A decider refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl StepError {
    /// The stable code of this error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Ledger(e) => e.code(),
            Self::Refused(e) => e.code(),
        }
    }
}

/// Appends decisions to the order, each folded before the next. Jobs that waited for what thereby ended go on in the same
/// commit; what is returned are the decisions given.
///
/// # Errors
/// [`LedgerError`] as the engine's.
pub fn put<T: OrderTx>(tx: &mut T, drafts: Vec<Draft>) -> Result<Vec<Receipt>, LedgerError> {
    let given = write(tx, drafts)?;
    if !given.is_empty() {
        settle(tx)?;
    }
    Ok(given)
}

// One decision of a step of many. What waits for ended jobs goes on once, at the step's end, so that the size of a commit is
// bounded whatever the number of its decisions.
fn write<T: OrderTx>(tx: &mut T, drafts: Vec<Draft>) -> Result<Vec<Receipt>, LedgerError> {
    drafts.into_iter().map(|draft| tx.decide(draft)).collect()
}

/// Makes a claim known that Central gave in the lost tail of an earlier epoch, by the record that proves it; whether it was new.
/// To be called before what came under the claim is judged.
///
/// # Errors
/// [`StepError::Refused`] for a record that proves nothing, or whose job was not accepted anew yet.
pub fn prove_claim<T: OrderTx>(tx: &mut T, record: &Record) -> Result<bool, StepError> {
    let drafts = decide::prove_claim(tx.state(), record)?;
    Ok(!put(tx, drafts)?.is_empty())
}

/// Lets go on, or gives up, what waited for jobs that ended in this commit.
///
/// # Errors
/// [`LedgerError`] as the engine's.
pub fn settle<T: OrderTx>(tx: &mut T) -> Result<(), LedgerError> {
    for _ in 0..SETTLE_ROUNDS_MAX {
        let settled = decide::settle(tx.state(), tx.now_us());
        if settled.is_empty() {
            break;
        }
        for draft in settled {
            tx.decide(draft)?;
        }
    }
    Ok(())
}
