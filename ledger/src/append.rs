//! The common ways to say something: one draft with a ticket, several together, only if nothing came in between.
//!
//! Each is a command for the committer ([`Ledger::submit`]) and nothing more; what decides by a state of its own writes
//! its command itself. Nothing here is kept: a crash before the answer leaves what a crash inside a commit leaves.

use crate::Receipt;
use crate::commit::{Appended, CommitError, Committed, Ticket, Tx};
use crate::error::LedgerError;
use crate::ledger::Ledger;
use crate::state::State;
use ledger_core::{Draft, Stream};

impl<S: State> Ledger<S> {
    /// Says something as this machine and gives a ticket at once: block on it ([`Ticket::wait`]), await it under any
    /// executor, or hold many of them, which then share one sync of the disk.
    ///
    /// Waits only while the committer's queue is full; see [`Ledger::try_submit`] for an answer at once in that case.
    ///
    /// ```
    /// use ledger::core::{Draft, Kind, Stream, Subject};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// let ledger = ledger::Ledger::lone(dir.path().join("log"), "my-agent")?;
    /// let note = || -> Result<Draft, Box<dyn std::error::Error>> {
    ///     Ok(Draft::custom(Kind::new("x.note")?, Subject::new("chat/1")?))
    /// };
    /// let tickets = [ledger.append_ticket(Stream::Facts, note()?), ledger.append_ticket(Stream::Facts, note()?)];
    /// for ticket in tickets {
    ///     let committed = ticket.wait()?;
    ///     assert!(ledger.settled(&committed)?.seq() > 0);
    /// }
    ///
    /// // All or nothing, in this order, in one batch.
    /// let both = ledger.append_batch(Stream::Facts, vec![note()?, note()?])?;
    /// assert_eq!(both[1].seq(), both[0].seq() + 1);
    ///
    /// // Only if nothing was said since.
    /// let newest = both[1].seq();
    /// ledger.append_expecting(Stream::Facts, newest, note()?)?;
    /// let refused = ledger.append_expecting(Stream::Facts, newest, note()?).unwrap_err();
    /// assert_eq!(refused.code(), "ledger.head-moved");
    /// # Ok(()) }
    /// ```
    pub fn append_ticket(&self, stream: Stream, draft: Draft) -> Ticket<Appended, LedgerError> {
        self.submit(move |tx| tx.append(stream, draft))
    }

    /// The receipt of a ticket's answer, as it is durable. What was said before gives the first receipt.
    ///
    /// # Errors
    /// [`LedgerError::Unknown`] when it repeats something that was lost together with its batch; [`LedgerError`] when the
    /// store cannot be read.
    pub fn settled(&self, committed: &Committed<Appended>) -> Result<Receipt, LedgerError> {
        match committed.receipts.first() {
            Some(receipt) => Ok(receipt.clone()),
            None => self.durable(committed.value.receipt()),
        }
    }

    /// Says several things as this machine in the log of a stream, in this order: all of them or, by an error, none.
    /// Blocks until they are durable; the receipts come in the order of the drafts.
    ///
    /// A draft whose id was said before gives its first receipt and is not said again; the others are.
    ///
    /// # Errors
    /// As [`Ledger::append`]; nothing of the batch is then said.
    pub fn append_batch(&self, stream: Stream, drafts: Vec<Draft>) -> Result<Vec<Receipt>, LedgerError> {
        self.say(move |tx| drafts.into_iter().map(|draft| tx.append(stream, draft)).collect())
    }

    /// Says something as this machine, but only if the newest receipt of the stream's log is the one at `newest_seq`, so
    /// that whoever decides by what they read cannot be overtaken.
    ///
    /// # Errors
    /// [`LedgerError::HeadMoved`] when it is another one: read what came and decide anew. Otherwise as [`Ledger::append`].
    pub fn append_expecting(
        &self,
        stream: Stream,
        newest_seq: u64,
        draft: Draft,
    ) -> Result<Receipt, LedgerError> {
        let said = self.say(move |tx| {
            tx.expect_head(stream, newest_seq)?;
            Ok(vec![tx.append(stream, draft)?])
        })?;
        said.into_iter()
            .next()
            .ok_or_else(|| LedgerError::NotCommitted("nothing was said".into()))
    }

    fn say<F>(&self, call: F) -> Result<Vec<Receipt>, LedgerError>
    where
        F: FnOnce(&mut Tx<'_, S>) -> Result<Vec<Appended>, LedgerError> + Send + 'static,
    {
        let committed = self.commit(call).map_err(CommitError::into_ledger)?;
        let mut new = committed.receipts.into_iter();
        committed
            .value
            .iter()
            .map(|appended| match appended {
                Appended::New(provisional) => new.next().map_or_else(|| self.durable(provisional), Ok),
                Appended::Before(before) => self.durable(before),
            })
            .collect()
    }

    /// A receipt that a command of [`Ledger::submit`] saw or made, as it is durable. Inside the command, what its own batch
    /// appends has neither a place in the journal nor the log's signature yet.
    ///
    /// # Errors
    /// [`LedgerError::Unknown`] when it was never committed; [`LedgerError`] when the store cannot be read.
    pub fn durable(&self, seen: &Receipt) -> Result<Receipt, LedgerError> {
        if seen.position != crate::Position::START {
            return Ok(seen.clone());
        }
        self.get(&seen.log(), seen.seq())?
            .filter(|receipt| receipt.seal_digest() == seen.seal_digest())
            .ok_or_else(|| LedgerError::Unknown("what this repeats was not committed".into()))
    }
}
