//! The overlay: what the store will be when the batch being built is durable. A failed batch drops it.

use crate::state::{Changes, State};
use ledger_core::kinds::Evidence;
use ledger_core::record::Payload;
use ledger_core::{Chain, Hlc, LogId, PublicKey, ReceiptId, Record, SealDigest};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Where a log stands in the overlay.
#[derive(Clone)]
pub(crate) enum Tip {
    /// One of our own: the records of this batch are not signed yet, so the tree waits.
    Own {
        /// The next record's place.
        seq: u64,
        /// The seal before it.
        prev: SealDigest,
    },
    /// Another machine's, followed record by record; boxed since it is much larger.
    Foreign(Box<Chain>),
}

/// The logs that this batch touches.
pub(crate) type LogTips = BTreeMap<LogId, Tip>;

/// One record of the batch.
pub(crate) struct Pending {
    pub(crate) record: Arc<Record>,
    pub(crate) payload: Option<Payload>,
    /// Whether our log signature is still to be made.
    pub(crate) own: bool,
}

/// Everything that the batch has decided so far.
pub(crate) struct Overlay<S> {
    pub(crate) state: S,
    pub(crate) tips: LogTips,
    // What the command in work replaced in `tips`, oldest first.
    replaced: Vec<(LogId, Option<Tip>)>,
    pub(crate) pending: Vec<Pending>,
    /// Ids said in this batch, so that a repetition within it is recognised.
    pub(crate) ids: HashMap<(PublicKey, ReceiptId), usize>,
    /// Payloads that a record of this batch destroys, by the record's place in it.
    pub(crate) erasing: Vec<(usize, Evidence)>,
    pub(crate) changes: Changes,
    pub(crate) clock: Hlc,
    pub(crate) bytes: usize,
}

/// Where an overlay stood before a command, to go back to when the command refuses.
pub(crate) struct Savepoint<S> {
    state: S,
    pending: usize,
    bytes: usize,
    changes: usize,
}

impl<S: State> Overlay<S> {
    pub(crate) fn new(state: S, clock: Hlc) -> Self {
        Self {
            state,
            tips: LogTips::new(),
            replaced: Vec::new(),
            pending: Vec::new(),
            ids: HashMap::new(),
            erasing: Vec::new(),
            changes: Changes::recording(),
            clock,
            bytes: 0,
        }
    }

    /// Begins a command; the one before is kept for good.
    pub(crate) fn save(&mut self) -> Savepoint<S> {
        self.replaced.clear();
        Savepoint {
            state: self.state.clone(),
            pending: self.pending.len(),
            bytes: self.bytes,
            changes: self.changes.len(),
        }
    }

    /// Says where a log stands now.
    pub(crate) fn set_tip(&mut self, log: LogId, tip: Tip) {
        let before = self.tips.insert(log, tip);
        self.replaced.push((log, before));
    }

    /// Undoes what the command did. The clock stays where it is: it only ever rises.
    pub(crate) fn undo(&mut self, savepoint: Savepoint<S>) {
        self.state = savepoint.state;
        for (log, before) in self.replaced.drain(..).rev() {
            match before {
                Some(tip) => self.tips.insert(log, tip),
                None => self.tips.remove(&log),
            };
        }
        self.bytes = savepoint.bytes;
        self.pending.truncate(savepoint.pending);
        self.ids.retain(|_, at| *at < savepoint.pending);
        self.erasing.retain(|(at, _)| *at < savepoint.pending);
        self.changes.truncate(savepoint.changes);
    }
}
