//! The overlay: what the store will be when the batch being built is durable. A failed batch drops it.
//!
//! A batch may be built while the one before is still on its way to the disk ([`Flight`]). What that one said counts as said
//! then, in every lookup; if it fails, whatever was decided on top of it fails with it.

use crate::error::LedgerError;
use crate::journal::JournalError;
use crate::state::{Changes, State};
use ledger_core::kinds::Evidence;
use ledger_core::record::Payload;
use ledger_core::tree::Hash;
use ledger_core::{Chain, Hlc, LogId, PublicKey, ReceiptId, Record, SealDigest};
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

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

/// One record of the batch.
pub(crate) struct Pending {
    pub(crate) record: Arc<Record>,
    pub(crate) payload: Option<Payload>,
    /// Whether our log signature is still to be made.
    pub(crate) own: bool,
}

/// What a batch says, as lookups need it.
#[derive(Default)]
pub(crate) struct Said {
    /// The logs that it touches.
    pub(crate) tips: BTreeMap<LogId, Tip>,
    pub(crate) pending: Vec<Pending>,
    /// Ids said in it, so that a repetition is recognised.
    pub(crate) ids: HashMap<(PublicKey, ReceiptId), usize>,
    /// Payloads that one of its records destroys, by the record's place in it.
    pub(crate) erasing: Vec<(usize, Evidence)>,
}

impl Said {
    /// The record that an author said under an id.
    pub(crate) fn find(&self, author: &PublicKey, id: &ReceiptId) -> Option<&Arc<Record>> {
        let at = *self.ids.get(&(*author, *id))?;
        Some(&self.pending[at].record)
    }

    /// The record at a place of a log.
    pub(crate) fn at(&self, log: &LogId, seq: u64) -> Option<&Arc<Record>> {
        let mut records = self.pending.iter().map(|p| &p.record);
        records.find(|r| r.seal().log == *log && r.seal().seq == seq)
    }

    /// The `erased` that destroys a record's payload.
    pub(crate) fn erased_by(&self, record: &Evidence) -> Option<&Arc<Record>> {
        let (at, _) = self.erasing.iter().find(|(_, erased)| erased == record)?;
        Some(&self.pending[*at].record)
    }
}

/// A batch on its way to the disk.
pub(crate) struct Flight<S> {
    pub(crate) said: Said,
    /// What the store is when it has landed.
    pub(crate) state: S,
    pub(crate) clock: Hlc,
    /// The leaf hashes of our own records, by their places in the batch.
    pub(crate) leaves: Vec<Hash>,
    /// How it ended.
    pub(crate) outcome: OnceLock<Result<(), Failure>>,
}

impl<S> Flight<S> {
    pub(crate) fn has_landed(&self) -> bool {
        self.outcome.get().is_some()
    }
}

/// Why a batch failed, once for each of its commands.
#[derive(Clone, Debug)]
pub(crate) enum Failure {
    Closed(String),
    /// Nothing was written, since the disk with this file is full.
    NoSpace(PathBuf),
    NotCommitted(String),
    Unknown(String),
}

impl Failure {
    pub(crate) fn again(&self) -> LedgerError {
        match self {
            Self::Closed(why) => LedgerError::Closed(why.clone()),
            Self::NoSpace(path) => LedgerError::Journal(JournalError::NoSpace { path: path.clone() }),
            Self::NotCommitted(why) => LedgerError::NotCommitted(why.clone()),
            Self::Unknown(why) => LedgerError::Unknown(why.clone()),
        }
    }

    /// What it is to a batch that was decided on top of the one that failed, and never written.
    pub(crate) fn for_the_next(&self) -> Self {
        match self {
            Self::Closed(_) | Self::NoSpace(_) => self.clone(),
            Self::NotCommitted(why) | Self::Unknown(why) => {
                Self::NotCommitted(format!("the batch before it failed: {why}"))
            }
        }
    }
}

/// Everything that the batch has decided so far.
pub(crate) struct Overlay<S> {
    /// The batch before, when it was not durable yet as this one began.
    pub(crate) base: Option<Arc<Flight<S>>>,
    pub(crate) said: Said,
    pub(crate) state: S,
    // What the command in work replaced in the tips, oldest first.
    replaced: Vec<(LogId, Option<Tip>)>,
    pub(crate) changes: Changes,
    pub(crate) clock: Hlc,
    pub(crate) bytes: usize,
}

/// Where an overlay stood, to go back to when a command refuses.
pub(crate) struct Mark<S> {
    state: S,
    pending: usize,
    bytes: usize,
    changes: usize,
}

impl<S: State> Overlay<S> {
    /// On top of what is durable.
    pub(crate) fn new(state: S, clock: Hlc) -> Self {
        Self {
            base: None,
            said: Said::default(),
            state,
            replaced: Vec::new(),
            changes: Changes::recording(),
            clock,
            bytes: 0,
        }
    }

    /// On top of a batch that is on its way.
    pub(crate) fn on(flight: Arc<Flight<S>>) -> Self {
        let mut overlay = Self::new(flight.state.clone(), flight.clock);
        overlay.base = Some(flight);
        overlay
    }

    /// What is said and not yet read from the store, newest first.
    pub(crate) fn layers(&self) -> impl Iterator<Item = &Said> {
        std::iter::once(&self.said).chain(self.base.iter().map(|flight| &flight.said))
    }

    /// Where a log stands, if a batch that is not in the store yet touched it.
    pub(crate) fn tip(&self, log: &LogId) -> Option<&Tip> {
        self.layers().find_map(|said| said.tips.get(log))
    }

    /// Where it stands now, to go back to.
    pub(crate) fn mark(&self) -> Mark<S> {
        Mark {
            state: self.state.clone(),
            pending: self.said.pending.len(),
            bytes: self.bytes,
            changes: self.changes.len(),
        }
    }

    /// Begins a command; the one before is kept for good.
    pub(crate) fn save(&mut self) -> Mark<S> {
        self.replaced.clear();
        self.mark()
    }

    /// Says where a log stands now.
    pub(crate) fn set_tip(&mut self, log: LogId, tip: Tip) {
        let before = self.said.tips.insert(log, tip);
        self.replaced.push((log, before));
    }

    /// Forgets what was said since. The clock stays where it is: it only ever rises. Tips stay as well.
    pub(crate) fn go_back(&mut self, mark: Mark<S>) {
        self.state = mark.state;
        self.bytes = mark.bytes;
        self.changes.truncate(mark.changes);
        if self.said.pending.len() > mark.pending {
            self.said.pending.truncate(mark.pending);
            self.said.ids.retain(|_, at| *at < mark.pending);
            self.said.erasing.retain(|(at, _)| *at < mark.pending);
        }
    }

    /// Undoes what the command did.
    pub(crate) fn undo(&mut self, saved: Mark<S>) {
        for (log, before) in self.replaced.drain(..).rev() {
            match before {
                Some(tip) => self.said.tips.insert(log, tip),
                None => self.said.tips.remove(&log),
            };
        }
        self.go_back(saved);
    }
}
