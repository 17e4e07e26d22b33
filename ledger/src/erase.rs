//! Erasing: a payload and its salt are destroyed, and everything still verifies.
//!
//! Contract: `erased` is durable first; then salt and payload are overwritten in every file of the store that has them, and
//! only then the caller gets its answer. Nothing else is appended in between, so that what a crash interrupts is among
//! the newest batch's and is finished when the store is opened. From `erased` on, no path hands the payload out or takes
//! it in again. Does not reach: bundles, backups, and what the file system or the disk copied underneath.

use crate::commit::{Appended, CommitError, Tx};
use crate::error::LedgerError;
use crate::journal::{Journal, JournalError};
use crate::ledger::Ledger;
use crate::prune::kept;
use crate::read::receipt_of;
use crate::shared::Shared;
use crate::state::{Erasing, State};
use crate::{Position, Receipt};
use ledger_core::kinds::{Detail, Erased, Evidence};
use ledger_core::{Draft, LogId, Stream, Subject};

/// A receipt whose payload an `erased` destroys.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Erasure {
    /// Which.
    pub(crate) record: Evidence,
    /// Where the `erased` stands.
    pub(crate) by: Position,
}

/// What an erasure came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ErasureReport {
    /// The `erased` receipt.
    pub erased: Receipt,
    /// The receipt whose payload is gone.
    pub record: Evidence,
    /// Whether it was erased before, by that receipt.
    pub before: bool,
}

/// What says that a receipt's payload is destroyed.
///
/// # Errors
/// [`LedgerError::ErasureReason`] for a reason over its bound; [`LedgerError::NothingToErase`] for a receipt that never had
/// a payload.
pub fn draft(target: &Receipt, reason: &str) -> Result<Draft, LedgerError> {
    let id = target.id();
    if target.statement().payload.is_none() {
        return Err(LedgerError::NothingToErase(id));
    }
    if reason.is_empty() || reason.len() > Erased::REASON_BYTES_MAX {
        return Err(LedgerError::ErasureReason(reason.len()));
    }
    let said = Erased {
        record: target.evidence(),
        id,
        reason: reason.to_owned(),
    };
    Ok(Draft::of(&said, Subject::new(&format!("receipt/{id}"))?).cause(id))
}

/// What an `erased` says; `None` for every other receipt.
pub fn said(receipt: &Receipt) -> Option<Erased> {
    let statement = receipt.statement();
    let is_one = statement.kind.as_str() == Erased::KIND && statement.schema == Erased::SCHEMA;
    is_one.then(|| Erased::decode(&statement.detail).ok()).flatten()
}

/// An `erased` receipt with the receipt that it names, when the store has that.
pub(crate) struct Named {
    said: Erased,
    target: Option<Receipt>,
}

/// What an `erased` receipt names; `None` for every other receipt.
///
/// # Errors
/// What `find` says.
pub(crate) fn named(
    receipt: &Receipt,
    find: impl FnOnce(&LogId, u64) -> Result<Option<Receipt>, LedgerError>,
) -> Result<Option<Named>, LedgerError> {
    let Some(said) = said(receipt) else {
        return Ok(None);
    };
    let target = kept(find(&said.record.log, said.record.seq))?
        .filter(|target| target.seal_digest() == said.record.seal);
    Ok(Some(Named { said, target }))
}

impl Named {
    /// Which payload it destroys in this store; `None` when it does not bind here. Asked right after it was folded.
    pub(crate) fn destroys<S: State>(&self, state: &S, receipt: &Receipt, own: bool) -> Option<Evidence> {
        let erasing = Erasing {
            receipt,
            own,
            record: self.said.record,
            target: self.target.as_ref(),
        };
        state.erases(&erasing).then_some(self.said.record)
    }
}

/// Overwrites the payloads of the receipts that the store has, and says of each erasure how that went. `find` looks them up.
/// One that cannot be read keeps none of the others from being overwritten.
pub(crate) fn overwrite(
    journal: &mut Journal,
    erasures: &[Erasure],
    find: impl Fn(&LogId, u64) -> Result<Option<Receipt>, LedgerError>,
) -> Vec<Result<(), LedgerError>> {
    let place = |Erasure { record, .. }: &Erasure| {
        // What was pruned took its payload with it.
        let found = kept(find(&record.log, record.seq))?.filter(|found| found.seal_digest() == record.seal);
        Ok(found.map(|found| found.position))
    };
    let places: Vec<Result<Option<Position>, LedgerError>> = erasures.iter().map(place).collect();
    let known: Vec<Position> = places.iter().flatten().flatten().copied().collect();
    let together = if known.is_empty() {
        Ok(())
    } else {
        journal.erase_entries(&known)
    };
    // Whom an error concerns shows when each is tried alone; what is overwritten already is left as it is.
    let each = |place: Result<Option<Position>, LedgerError>| match place? {
        Some(at) if together.is_err() => Ok(journal.erase_entries(&[at])?),
        _ => Ok(()),
    };
    places.into_iter().map(each).collect()
}

/// Whether an overwriting failed since the receipt is damaged: trying again does not help, and `verify` names it. Nobody is
/// helped by a store that stops then.
pub(crate) fn is_in_vain(error: &LedgerError) -> bool {
    use JournalError::{Corrupt, NoEntry};
    matches!(
        error,
        LedgerError::Corrupt { .. } | LedgerError::Journal(Corrupt { .. } | NoEntry { .. })
    )
}

impl<S: State> Shared<S> {
    /// Whether a receipt's payload is destroyed here.
    pub(crate) fn is_erased(&self, record: &Evidence) -> Result<bool, LedgerError> {
        Ok(self.index.erased_by(record)?.is_some())
    }
}

impl<S: State> Tx<'_, S> {
    /// Says as this machine that a receipt's payload is destroyed; it is when the batch is durable. What was erased before
    /// gives that `erased` again.
    ///
    /// # Errors
    /// [`LedgerError::MayNotErase`] when the state does not heed this machine's word on that receipt;
    /// [`LedgerError::NothingToErase`] and [`LedgerError::ErasureReason`].
    pub fn erase(&mut self, stream: Stream, target: &Receipt, reason: &str) -> Result<Appended, LedgerError> {
        if let Some(before) = self.erased_by(&target.evidence())? {
            return Ok(Appended::Before(before));
        }
        let appended = self.append(stream, draft(target, reason)?)?;
        self.demand_erased(target)?;
        Ok(appended)
    }

    /// Fails unless a receipt's payload is destroyed, in this batch or before. For whoever appends what an actor signed.
    ///
    /// # Errors
    /// [`LedgerError::MayNotErase`].
    pub fn demand_erased(&self, target: &Receipt) -> Result<(), LedgerError> {
        match self.erased_by(&target.evidence())? {
            Some(_) => Ok(()),
            None => Err(LedgerError::MayNotErase(target.id())),
        }
    }
}

impl<S: State> Ledger<S> {
    /// Destroys the payload of a receipt, as this machine and with this reason (1 to 200 bytes). When it returns, payload and
    /// salt are in no file of the store. The receipt stays, everything verifies, and no state changes.
    ///
    /// # Errors
    /// [`LedgerError::MayNotErase`], [`LedgerError::NothingToErase`], [`LedgerError::ErasureReason`];
    /// [`LedgerError::NotOverwritten`] when `erased` is durable and the disk then failed: reopening finishes it.
    ///
    /// ```
    /// use ledger::core::{Draft, Kind, Subject};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// let ledger = ledger::Ledger::lone(dir.path().join("log"), "my-agent")?;
    /// let draft = Draft::custom(Kind::new("x.note")?, Subject::new("chat/1")?);
    /// let note = ledger.append(draft.payload("text/plain", b"a name".to_vec())?)?;
    /// ledger.erase(&note, "they asked for it")?;
    /// assert_eq!(ledger.payload(&note)?, ledger::PayloadState::Erased);
    /// # Ok(()) }
    /// ```
    pub fn erase(&self, target: &Receipt, reason: &str) -> Result<ErasureReport, LedgerError> {
        let (record, target, reason) = (target.evidence(), target.clone(), reason.to_owned());
        let stream = if self.own_log(Stream::Order).is_some() {
            Stream::Order
        } else {
            Stream::Facts
        };
        let committed = self
            .commit(move |tx| tx.erase(stream, &target, &reason))
            .map_err(CommitError::into_ledger)?;
        let before = committed.value.is_repetition();
        let erased = self.settled(&committed)?;
        Ok(ErasureReport {
            erased,
            record,
            before,
        })
    }

    /// The `erased` receipt that destroyed a receipt's payload here.
    ///
    /// # Errors
    /// [`LedgerError`] when the store cannot be read.
    pub fn erased_by(&self, record: &Evidence) -> Result<Option<Receipt>, LedgerError> {
        let shared = self.shared();
        let Some(by) = shared.index.erased_by(record)? else {
            return Ok(None);
        };
        receipt_of(&shared.reader.read_record(by)?).map(Some)
    }
}
