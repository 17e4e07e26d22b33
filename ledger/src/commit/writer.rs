//! The journal's end of the commit path: one write and one sync for a batch, then readers see it and callers are answered.
//!
//! Contract: [`Writer::land`] answers every command of a batch exactly once, and after its sync. A batch that was decided on
//! top of one that failed is not written. What an erasure destroys is overwritten before anything else is appended, so
//! that what a crash interrupts is among the newest batch's.

use super::batch::{Failure, Flight, Tip};
use super::committer::{Command, Decided};
use super::inbox::Inbox;
use crate::erase::{self, Erasure};
use crate::error::LedgerError;
use crate::housekeeper::Step;
use crate::journal::{EntryDraft, Journal, JournalError, Outcome};
use crate::shared::{Published, Shared};
use crate::state::{Change, State};
use crate::{Position, Receipt};
use ledger_core::{Chain, LogId};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Idleness after which an empty batch makes the last one provable.
const CONFIRM_AFTER: Duration = Duration::from_secs(1);

/// The queue of a store's commands.
pub(crate) type Commands<S> = Inbox<Box<dyn Command<S>>>;

/// A batch with everything that is needed to end it.
pub(crate) struct Job<S: State> {
    pub(crate) flight: Arc<Flight<S>>,
    /// What it does to the state's rows.
    pub(crate) changes: Vec<Change>,
    pub(crate) decided: Vec<Decided<S>>,
    pub(crate) end: End<S>,
}

/// Tells how a batch ended. Whoever waits for it learns of its end even if the thread that has it panics; its callers learn it
/// from their tickets.
pub(crate) struct End<S: State> {
    pub(crate) flight: Arc<Flight<S>>,
    pub(crate) inbox: Arc<Commands<S>>,
}

impl<S: State> Drop for End<S> {
    fn drop(&mut self) {
        let lost = || Err(Failure::Unknown("the thread that writes panicked".into()));
        self.flight.outcome.get_or_init(lost);
        self.inbox.nudge();
    }
}

/// Owns the journal's writing end.
pub(crate) struct Writer<S: State> {
    shared: Arc<Shared<S>>,
    inbox: Arc<Commands<S>>,
    // None once it is closed.
    journal: Option<Journal>,
}

// What a batch that is durable came to: its receipts, and for each payload that it destroys why that is not overwritten.
type Landed = (Vec<Receipt>, Vec<Option<String>>);

impl<S: State> Writer<S> {
    pub(crate) fn new(shared: Arc<Shared<S>>, inbox: Arc<Commands<S>>, journal: Journal) -> Self {
        Self {
            shared,
            inbox,
            journal: Some(journal),
        }
    }

    /// Ends a batch.
    pub(crate) fn land(&mut self, job: Job<S>) {
        let Job {
            flight,
            changes,
            decided,
            end,
        } = job;
        let result = self.commit(&flight, changes);
        let outcome = result.as_ref().map(drop).map_err(Failure::clone);
        flight.outcome.get_or_init(|| outcome);
        drop(end);
        answer(decided, &flight, result);
        self.inbox.confirm_at(Instant::now() + CONFIRM_AFTER);
    }

    /// Writes nothing any more, since a thread panicked in the middle of it.
    pub(crate) fn give_up(&mut self) {
        let why = "a thread of the commit path panicked";
        self.shared.close_to_appends(why);
        if let Some(journal) = &mut self.journal {
            journal.refuse(why);
        }
    }

    /// Makes the last batch provable. A failure loses nothing; the poisoned journal says so to the next append.
    pub(crate) fn confirm(&mut self) {
        if let Some(journal) = &mut self.journal
            && let Err(e) = journal.confirm()
        {
            self.shared.close_to_appends(&e.to_string());
        }
    }

    /// Ends cleanly.
    pub(crate) fn close(&mut self) -> Result<(), JournalError> {
        self.journal.take().map_or(Ok(()), Journal::close)
    }

    fn commit(&mut self, flight: &Flight<S>, changes: Vec<Change>) -> Result<Landed, Failure> {
        if let Some(closed) = self.shared.closed() {
            return Err(Failure::Closed(closed));
        }
        let Some(journal) = &mut self.journal else {
            return Err(Failure::Closed("the ledger was closed".into()));
        };
        let said = &flight.said;
        let drafts: Vec<EntryDraft<'_>> = said
            .pending
            .iter()
            .map(|p| EntryDraft {
                record: p.record.bytes(),
                payload: p.payload.as_ref(),
            })
            .collect();
        let positions = journal.append(&drafts).map_err(|e| {
            if journal.is_poisoned() {
                self.shared.close_to_appends(&e.to_string());
            }
            let outcome = e.outcome();
            if let JournalError::NoSpace { path } = e {
                return Failure::NoSpace(path);
            }
            match outcome {
                Outcome::NotCommitted => Failure::NotCommitted(e.to_string()),
                Outcome::Unknown => Failure::Unknown(e.to_string()),
            }
        })?;
        let receipt = |(position, pending): (_, &super::batch::Pending)| Receipt {
            position,
            record: Arc::clone(&pending.record),
        };
        let receipts: Vec<Receipt> = positions.into_iter().zip(&said.pending).map(receipt).collect();
        let erasure = |(at, record): &(usize, _)| Erasure {
            record: *record,
            by: receipts[*at].position,
        };
        let erasures: Vec<Erasure> = said.erasing.iter().map(erasure).collect();
        let end = journal.durable_end();
        publish(&self.shared, flight, changes, end, &receipts, &erasures);
        let shared = &self.shared;
        let overwritten = erase::overwrite(journal, &erasures, |log, seq| shared.get(log, seq));
        let mut unfinished = overwritten.iter().filter_map(|outcome| outcome.as_ref().err());
        if let Some(e) = unfinished.find(|e| !erase::is_in_vain(e)) {
            // Only the newest batch may have an erasure that is not finished: that is where the next opening looks.
            journal.refuse(&e.to_string());
            self.shared.close_to_appends(&e.to_string());
        }
        let why = |outcome: Result<(), LedgerError>| outcome.err().map(|e| e.to_string());
        Ok((receipts, overwritten.into_iter().map(why).collect()))
    }
}

// From here on the batch is durable: the durable state takes the overlay, readers see it.
fn publish<S: State>(
    shared: &Shared<S>,
    flight: &Flight<S>,
    changes: Vec<Change>,
    end: Position,
    receipts: &[Receipt],
    erasures: &[Erasure],
) {
    let before = shared.published();
    let mut logs = before.logs.clone();
    let mut own: BTreeMap<LogId, Chain> = BTreeMap::new();
    let mut count = before.receipts + u64::try_from(receipts.len()).unwrap_or(u64::MAX);
    for (pending, leaf) in flight.said.pending.iter().zip(&flight.leaves) {
        if pending.own {
            let log = pending.record.seal().log;
            let chain = own.entry(log).or_insert_with(|| {
                let chain = before.logs.get(&log).expect("an own log has a chain");
                (**chain).clone()
            });
            chain.extend_prepared(&pending.record, *leaf);
        }
    }
    logs.extend(own.into_iter().map(|(log, chain)| (log, Arc::new(chain))));
    for (log, tip) in &flight.said.tips {
        if let Tip::Foreign(chain) = tip {
            // What a copy that begins behind a gap skips is counted, as what is pruned is.
            if let Some(floor) = shared.pruned.floor(log)
                && let Some(before) = before.logs.get(log).map(|chain| chain.tip().0)
                && before < floor.said.last
                && chain.tip().0 > floor.said.last
            {
                count += floor.said.last - before;
            }
            logs.insert(*log, Arc::new((**chain).clone()));
        }
    }
    let step = Step {
        end,
        changes,
        logs: logs.clone(),
        receipts: receipts.len(),
        total: count,
        clock: flight.clock,
    };
    let published = Published {
        state: flight.state.clone(),
        logs,
        end,
        clock: flight.clock,
        receipts: count,
        newest: receipts.last().cloned().or_else(|| before.newest.clone()),
    };
    shared.publish(Arc::new(published), step, receipts, erasures);
}

// The last one first: whoever waits for several answers in turn then sleeps once and not for each.
fn answer<S: State>(decided: Vec<Decided<S>>, flight: &Flight<S>, result: Result<Landed, Failure>) {
    let unfinished = |records: &std::ops::Range<usize>, overwritten: &[Option<String>]| {
        let mut erasing = flight.said.erasing.iter().zip(overwritten);
        erasing.find_map(|((at, _), why)| why.clone().filter(|_| records.contains(at)))
    };
    for Decided { command, records } in decided.into_iter().rev() {
        command.answer(match &result {
            Err(failure) => Err(failure.again()),
            Ok((receipts, overwritten)) => match unfinished(&records, overwritten) {
                Some(why) => Err(LedgerError::NotOverwritten(why)),
                None => Ok(receipts.get(records).unwrap_or_default().to_vec()),
            },
        });
    }
}
