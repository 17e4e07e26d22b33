//! Erasing at the local door: who speaks, and in which log.
//!
//! Where Central decides, `erased` stands in the order, which binds every copy. On a node, and beside a resting gateway, it
//! stands in facts: it erases here at once, and Central repeats it in the order when it takes them in or wakes. The local actor speaks where it may; for what the machine itself said or sealed, the machine does.

use crate::error::ServerError;
use crate::machine::Machine;
use ledger::core::kinds::Erased;
use ledger::core::statement::VerifiedStatement;
use ledger::core::{ReceiptId, Stream};
use ledger::{Appended, LedgerError, Receipt, Tx};
use ledger_projections::FleetState;
use ledger_projections::central::OrderTx;

/// What an erasure came to.
#[derive(Clone, Debug)]
pub struct Erasure {
    /// The `erased` receipt of each place where the statement was sealed.
    pub erased: Vec<Receipt>,
    /// Whether all of it was erased before.
    pub repeated: bool,
}

impl Machine {
    /// Destroys the payload of a receipt, wherever this store has it sealed; durable when it returns.
    ///
    /// # Errors
    /// [`ServerError::NotFound`]; [`LedgerError::MayNotErase`], [`LedgerError::NothingToErase`],
    /// [`LedgerError::ErasureReason`]; [`ServerError::Malformed`] when several authors used the id.
    pub async fn erase(&self, id: ReceiptId, reason: &str) -> Result<Erasure, ServerError> {
        let targets = self.ledger.find(&id)?;
        let Some(first) = targets.first() else {
            return Err(ServerError::NotFound(format!(
                "expected a receipt with id {id}, found none in this store"
            )));
        };
        let author = first.statement().author;
        if targets.iter().any(|target| target.statement().author != author) {
            let why = format!("several authors used the id {id}; erase it where each of them said it");
            return Err(ServerError::Malformed(why));
        }
        let stream = if self.decides().await? {
            Stream::Order
        } else {
            Stream::Facts
        };
        let mut erasure = Erasure {
            erased: Vec::new(),
            repeated: true,
        };
        let mut targets = targets.into_iter().peekable();
        while let Some(target) = targets.next() {
            // With the last, in the same commit, what was sealed since.
            let is_last = targets.peek().is_none();
            let (receipt, repeated) = self.erase_one(stream, target, reason, is_last).await?;
            erasure.erased.push(receipt);
            erasure.repeated &= repeated;
        }
        Ok(erasure)
    }

    async fn erase_one(
        &self,
        stream: Stream,
        target: Receipt,
        reason: &str,
        is_last: bool,
    ) -> Result<(Receipt, bool), ServerError> {
        // Checks reason and target before anything is signed.
        let said = self.sign_as_actor(ledger::erase::draft(&target, reason)?)?;
        let reason = reason.to_owned();
        let committed = self
            .ledger
            .submit(move |tx| -> Result<Appended, ServerError> {
                let appended = say(tx, stream, &target, &reason, &said)?;
                if let Some(erased) = ledger::erase::said(appended.receipt())
                    && is_last
                    && stream == Stream::Order
                {
                    everywhere(tx, &erased)?;
                }
                Ok(appended)
            })
            .await?;
        let repeated = committed.value.is_repetition();
        let receipt = self.settled(&committed.value, committed.receipts)?;
        Ok((receipt, repeated))
    }
}

fn say(
    tx: &mut Tx<'_, FleetState>,
    stream: Stream,
    target: &Receipt,
    reason: &str,
    said: &VerifiedStatement,
) -> Result<Appended, ServerError> {
    if let Some(before) = tx.erased_by(&target.evidence())? {
        return Ok(Appended::Before(before));
    }
    let (now, machine) = (tx.now_us(), tx.state().context().machine_key);
    let statement = said.statement();
    let actor_may = tx.state().may_erase(&statement.author, Some(target), now)
        && tx.state().authorise(statement, stream, false, now).is_ok();
    if actor_may {
        let appended = tx.append_signed(stream, said)?;
        tx.demand_erased(target)?;
        return Ok(appended);
    }
    let sealed_here = tx.own_log(Stream::Facts).is_ok_and(|log| log == target.log())
        || tx.own_log(Stream::Work).is_ok_and(|log| log == target.log());
    if sealed_here || target.statement().author == machine {
        return Ok(tx.erase(stream, target, reason)?);
    }
    Err(LedgerError::MayNotErase(target.id()).into())
}

/// Central erases a statement wherever else it was sealed, in the commit in which it was erased in one place: whoever asked for that
/// knows of no other.
///
/// # Errors
/// [`LedgerError`] as the engine's.
pub(crate) fn everywhere(tx: &mut Tx<'_, FleetState>, erased: &Erased) -> Result<(), LedgerError> {
    for copy in OrderTx::sealings(tx, &erased.record)? {
        if copy.statement().payload.is_some() && tx.erased_by(&copy.evidence())?.is_none() {
            tx.append(Stream::Order, ledger::erase::draft(&copy, &erased.reason)?)?;
        }
    }
    Ok(())
}
