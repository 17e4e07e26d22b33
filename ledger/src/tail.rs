//! Following a store: every receipt from a position on, waiting for those to come.

use crate::error::LedgerError;
use crate::journal::Scan;
use crate::ledger::Ledger;
use crate::read::receipt_of;
use crate::state::State;
use crate::{Position, Receipt};
use std::time::Duration;

/// Follows a store from a position on. The position of the last receipt seen is all that is needed to resume.
pub struct Tail<S: State> {
    ledger: Ledger<S>,
    after: Position,
    scan: Option<Scan>,
    // Where the store ended when the last scan began: what waiting waits past.
    read_to: Position,
}

impl<S: State> Ledger<S> {
    /// Follows the store behind a position; [`Position::START`] begins with the first receipt.
    pub fn tail(&self, after: Position) -> Tail<S> {
        Tail {
            ledger: self.clone(),
            after,
            scan: None,
            read_to: after,
        }
    }
}

impl<S: State> Tail<S> {
    /// The next receipt, if it comes in time.
    ///
    /// # Errors
    /// [`LedgerError`] when the store cannot be read.
    pub fn next_within(&mut self, timeout: Duration) -> Result<Option<Receipt>, LedgerError> {
        if let Some(receipt) = self.ready()? {
            return Ok(Some(receipt));
        }
        self.ledger.wait_past(self.read_to, timeout);
        self.ready()
    }

    /// The store that it follows.
    pub fn ledger(&self) -> &Ledger<S> {
        &self.ledger
    }

    /// The position to resume behind.
    pub fn position(&self) -> Position {
        self.after
    }

    fn ready(&mut self) -> Result<Option<Receipt>, LedgerError> {
        for _ in 0..2 {
            let scan = self.scan.get_or_insert_with(|| {
                self.read_to = self.ledger.snapshot().end;
                self.ledger.shared().reader.scan(self.after)
            });
            match scan.next() {
                Some(entry) => {
                    let receipt = receipt_of(&entry?)?;
                    self.after = receipt.position;
                    return Ok(Some(receipt));
                }
                // The scan ended where the store ended when it began; look once more.
                None => self.scan = None,
            }
        }
        Ok(None)
    }
}
