//! The overlay: what the store will be when the batch being built is durable. A failed batch drops it.

use crate::state::{Change, Changes, State};
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
    tips: LogTips,
    pending: usize,
    bytes: usize,
    changes: Vec<Change>,
}

impl<S: State> Overlay<S> {
    pub(crate) fn new(state: S, clock: Hlc) -> Self {
        Self {
            state,
            tips: LogTips::new(),
            pending: Vec::new(),
            ids: HashMap::new(),
            erasing: Vec::new(),
            changes: Changes::recording(),
            clock,
            bytes: 0,
        }
    }

    /// Begins a command. Its changes are collected apart until [`Overlay::keep`].
    pub(crate) fn save(&mut self) -> Savepoint<S> {
        Savepoint {
            state: self.state.clone(),
            tips: self.tips.clone(),
            pending: self.pending.len(),
            bytes: self.bytes,
            changes: self.changes.take(),
        }
    }

    /// Keeps what the command did.
    pub(crate) fn keep(&mut self, savepoint: Savepoint<S>) {
        let done = self.changes.take();
        self.put_back(savepoint.changes);
        self.put_back(done);
    }

    /// Undoes what the command did. The clock stays where it is: it only ever rises.
    pub(crate) fn undo(&mut self, savepoint: Savepoint<S>) {
        self.state = savepoint.state;
        self.tips = savepoint.tips;
        self.bytes = savepoint.bytes;
        self.pending.truncate(savepoint.pending);
        self.ids.retain(|_, at| *at < savepoint.pending);
        self.erasing.retain(|(at, _)| *at < savepoint.pending);
        self.changes.take();
        self.put_back(savepoint.changes);
    }

    fn put_back(&mut self, changes: Vec<Change>) {
        for change in changes {
            self.changes.note(|| change);
        }
    }
}
