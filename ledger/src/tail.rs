//! Following a store: every receipt from a position on, waiting for those to come.

use crate::error::LedgerError;
use crate::journal::Scan;
use crate::ledger::Ledger;
use crate::read::receipt_of;
use crate::state::State;
use crate::{Position, Receipt};
use std::future::{Future, poll_fn};
use std::sync::Mutex;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Tasks that wait for the next batch. Each is woken once and comes again if it still waits.
#[derive(Default)]
pub(crate) struct Wakers {
    list: Mutex<Vec<Waker>>,
}

impl Wakers {
    fn add(&self, waker: &Waker) {
        let mut list = self.list.lock().expect("wakers lock");
        if !list.iter().any(|known| known.will_wake(waker)) {
            list.push(waker.clone());
        }
    }

    pub(crate) fn wake_all(&self) {
        let waiting = std::mem::take(&mut *self.list.lock().expect("wakers lock"));
        waiting.into_iter().for_each(Waker::wake);
    }
}

/// Follows a store from a position on. The position of the last receipt seen is all that is needed to resume.
///
/// ```
/// use ledger::core::{Draft, Kind, Subject};
/// use ledger::{Ledger, Position};
/// use std::time::Duration;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// let ledger = Ledger::lone(dir.path().join("log"), "my-agent")?;
/// let note = Draft::custom(Kind::new("x.note")?, Subject::new("chat/1")?);
/// ledger.append(note.clone())?;
///
/// let mut tail = ledger.tail(Position::START);
/// while let Some(receipt) = tail.next_within(Duration::ZERO)? {
///     println!("{} {}", receipt.seq(), receipt.kind()); // 0 log.genesis, 1 x.note
/// }
/// let kept: [u8; 8] = tail.position().to_be_bytes(); // with whatever was made of the receipts
///
/// let said = ledger.append(note)?;
/// let mut resumed = ledger.tail(Position::from_be_bytes(kept));
/// assert_eq!(resumed.next_within(Duration::from_secs(1))?, Some(said));
/// # Ok(()) }
/// ```
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
    /// [`LedgerError::Closed`] when none is left and none will come, since the store takes no appends any more;
    /// [`LedgerError`] when it cannot be read.
    pub fn next_within(&mut self, timeout: Duration) -> Result<Option<Receipt>, LedgerError> {
        if let Some(receipt) = self.ready()? {
            return Ok(Some(receipt));
        }
        self.ledger.wait_past(self.read_to, timeout);
        self.ready_or_closed()
    }

    /// The next receipt, however long it takes: a future for any executor, woken by the commit that brings it. Dropping the
    /// future loses nothing. It reads from the disk when it is polled, some microseconds a receipt.
    ///
    /// # Errors
    /// As [`Tail::next_within`]; whoever waits when the store is closed is woken to be told.
    ///
    /// ```
    /// # use ledger::{Ledger, LedgerError, Position, Receipt, core::Kind};
    /// async fn first_of(ledger: &Ledger, kind: &Kind) -> Result<Receipt, LedgerError> {
    ///     let mut tail = ledger.tail(Position::START);
    ///     loop {
    ///         let receipt = tail.next_receipt().await?;
    ///         if receipt.kind() == kind.as_str() {
    ///             return Ok(receipt);
    ///         }
    ///     }
    /// }
    /// ```
    pub fn next_receipt(&mut self) -> impl Future<Output = Result<Receipt, LedgerError>> + Send + '_ {
        poll_fn(|context| self.poll_next(context))
    }

    /// What [`Tail::next_receipt`] does when it is polled, for streams of one's own.
    ///
    /// # Errors
    /// As [`Tail::next_within`].
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<Receipt, LedgerError>> {
        if let Some(receipt) = self.ready()? {
            return Poll::Ready(Ok(receipt));
        }
        self.ledger.shared().wakers.add(context.waker());
        // What became durable, or was closed, before the waker was known woke nobody.
        match self.ready_or_closed()? {
            Some(receipt) => Poll::Ready(Ok(receipt)),
            None => Poll::Pending,
        }
    }

    /// The store that it follows.
    pub fn ledger(&self) -> &Ledger<S> {
        &self.ledger
    }

    /// The position to resume behind.
    pub fn position(&self) -> Position {
        self.after
    }

    // Nothing comes behind what is here once the store takes no appends: asked in this order, so that what came last is seen.
    fn ready_or_closed(&mut self) -> Result<Option<Receipt>, LedgerError> {
        let closed = self.ledger.closed();
        match (self.ready()?, closed) {
            (None, Some(why)) => Err(LedgerError::Closed(why)),
            (next, _) => Ok(next),
        }
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
