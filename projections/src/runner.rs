//! Runs a projection behind the committer: where it is in the order, its digest, what it waits for.
//!
//! Each step folds a few receipts into a clone and keeps rows, cursor and digest in one batch; a crash before that batch
//! repeats the step, with the same result. Rows of another version, rows that do not decode, and rows of an order that was
//! followed past the cut of its epoch are forgotten, and everything is folded again.

use crate::FleetState;
use crate::projection::{Halt, Projection, RANGE_MAX, ReceiptSource, RowStore, SourceError};
use crate::table::RunningDigest;
use ledger::Changes;
use ledger_core::{LogId, Stream, canonical};
use serde::{Deserialize, Serialize};

/// How far a projection is: the next receipt of which log.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Cursor {
    /// An order log, or the own facts log of a store without an order.
    pub log: LogId,
    /// The next seq.
    pub next: u64,
}

/// A projection and where it stands.
#[derive(Clone, Debug)]
pub struct Runner<P> {
    projection: P,
    cursor: Option<Cursor>,
    digest: RunningDigest,
    halted: Option<Halt>,
}

/// What a step came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Progress {
    /// Receipts that were folded.
    pub folded: u64,
    /// Whether everything that the state knows is folded.
    pub caught_up: bool,
}

impl<P: Projection> Runner<P> {
    /// Takes up what was kept, or begins anew.
    ///
    /// # Errors
    /// [`SourceError`] when the rows cannot be read.
    pub fn open(store: &dyn RowStore) -> Result<Self, SourceError> {
        let mut runner = Self {
            projection: P::empty(),
            cursor: None,
            digest: RunningDigest::default(),
            halted: None,
        };
        let Some(kept) = store.load(P::NAME, P::VERSION)? else {
            return Ok(runner);
        };
        let cursor = canonical::decode::<Option<Cursor>>("a projection's cursor", &kept.cursor);
        let rows = kept.rows.iter().try_for_each(|row| runner.projection.load(row));
        match (cursor, rows) {
            (Ok(cursor), Ok(())) => {
                runner.cursor = cursor;
                runner.digest = RunningDigest(kept.digest);
            }
            _ => {
                store.clear(P::NAME)?;
                runner.projection = P::empty();
            }
        }
        Ok(runner)
    }

    /// Folds at most `limit` receipts of what the state knows, and keeps the outcome.
    ///
    /// # Errors
    /// [`SourceError`] when receipts cannot be read or the outcome cannot be kept; the projection is then as before. A
    /// range that is missing is no error: see [`Runner::halted`].
    pub fn advance(
        &mut self,
        state: &FleetState,
        source: &dyn ReceiptSource,
        store: &dyn RowStore,
        limit: u64,
    ) -> Result<Progress, SourceError> {
        if self.cursor.is_some_and(|cursor| is_past_its_cut(state, cursor)) {
            store.clear(P::NAME)?;
            *self = Self {
                projection: P::empty(),
                cursor: None,
                digest: RunningDigest::default(),
                halted: None,
            };
        }
        let mut changes = Changes::recording();
        let mut projection = self.projection.clone();
        let mut cursor = self.cursor;
        let (mut folded, mut halted) = (0, None);
        let caught_up = 'feed: loop {
            let Some((log, next, last)) = feed(state, cursor) else {
                break true;
            };
            if folded >= limit {
                break false;
            }
            let last = last.min(next.saturating_add(RANGE_MAX.min(limit - folded) - 1));
            let receipts = source.range(&log, next, last)?;
            // Nobody tells how long the own facts of a store without an order are: their end is where nothing follows.
            if receipts.is_empty() && state.order().is_none() {
                break true;
            }
            if receipts.is_empty() {
                halted = Some(Halt::Missing {
                    log,
                    first: next,
                    last,
                });
                break false;
            }
            for receipt in receipts {
                let mut step = projection.clone();
                let mut noted = Changes::recording();
                match step.fold(&receipt, source, &mut noted) {
                    Ok(()) => projection = step,
                    Err(Halt::Source(error)) => return Err(error),
                    Err(halt) => {
                        halted = Some(halt);
                        break 'feed false;
                    }
                }
                for change in noted.take() {
                    changes.note(|| change);
                }
                cursor = Some(Cursor {
                    log,
                    next: receipt.seq().saturating_add(1),
                });
                folded += 1;
            }
        };
        if folded > 0 {
            let changes = changes.take();
            let mut digest = self.digest;
            digest.absorb(&changes);
            store.commit(
                P::NAME,
                P::VERSION,
                &changes,
                &canonical::encode(&cursor),
                &digest.0,
            )?;
            self.projection = projection;
            self.cursor = cursor;
            self.digest = digest;
        }
        self.halted = halted;
        Ok(Progress { folded, caught_up })
    }

    /// The projection as folded so far.
    pub fn projection(&self) -> &P {
        &self.projection
    }

    /// The next receipt that it has not seen; `None` before the first.
    pub fn cursor(&self) -> Option<Cursor> {
        self.cursor
    }

    /// The digest over all its changes.
    pub fn digest(&self) -> RunningDigest {
        self.digest
    }

    /// What it waits for, if it does.
    pub fn halted(&self) -> Option<&Halt> {
        self.halted.as_ref()
    }
}

// Whether what was folded went on behind the end of an epoch, which was not known then.
fn is_past_its_cut(state: &FleetState, cursor: Cursor) -> bool {
    let mut epochs = state.epochs().filter(|(_, row)| row.log == cursor.log);
    epochs.any(|(_, row)| {
        row.cut
            .is_some_and(|(cut, _)| cursor.next > cut.saturating_add(1))
    })
}

/// The log to read next, from which seq, up to which; `None` when all is folded.
fn feed(state: &FleetState, cursor: Option<Cursor>) -> Option<(LogId, u64, u64)> {
    let Some(order) = state.order() else {
        let facts = state.own_log(Stream::Facts)?;
        let next = cursor
            .filter(|cursor| cursor.log == facts)
            .map_or(0, |cursor| cursor.next);
        return Some((facts, next, u64::MAX));
    };
    let mut epochs = state.epochs().peekable();
    // A cursor in no order log is that of a store that had no order yet: what it folded is known by the projection.
    let in_order = cursor.filter(|cursor| state.epochs().any(|(_, row)| row.log == cursor.log));
    if let Some(cursor) = in_order {
        while epochs.peek().is_some_and(|(_, row)| row.log != cursor.log) {
            epochs.next();
        }
    }
    for (_, row) in epochs {
        let next = in_order
            .filter(|cursor| cursor.log == row.log)
            .map_or(0, |cursor| cursor.next);
        let last = row.cut.map_or(order.head_seq, |(seq, _)| seq);
        if next <= last {
            return Some((row.log, next, last));
        }
    }
    None
}
