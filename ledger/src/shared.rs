//! What all parts of an open store share, and what readers see of it.
//!
//! Contract: [`Shared::publish`] is called by one thread at a time, for durable batches in their order. Nothing here
//! outlives a crash.

use crate::behind::Behind;
use crate::clock::Clock;
use crate::derived::Derived;
use crate::erase::Erasure;
use crate::error::LedgerError;
use crate::housekeeper::{Backlog, Step};
use crate::index::Index;
use crate::journal::JournalReader;
use crate::keyring::Keyring;
use crate::options::Paths;
use crate::prune::Pruned;
use crate::state::{State, StateContext};
use crate::tail::Wakers;
use crate::{Position, Receipt};
use ledger_core::{Chain, Hlc, LogId, Stream};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, RwLock};
use std::time::{Duration, Instant};

/// What readers see: the store as of its last durable batch.
pub struct Published<S> {
    /// The state folded by the committer.
    pub state: S,
    /// Every log of the store, own and taken in.
    pub logs: BTreeMap<LogId, Arc<Chain>>,
    /// Behind the last durable entry.
    pub end: Position,
    /// The hybrid clock.
    pub clock: Hlc,
    /// How many receipts the store holds.
    pub receipts: u64,
    /// The receipt that came last, if any did since the store was opened or rebuilt.
    pub newest: Option<Receipt>,
}

pub(crate) type Watcher = Box<dyn Fn(Position) + Send + Sync>;

/// What all parts of an open store share.
pub(crate) struct Shared<S: State> {
    pub(crate) paths: Paths,
    pub(crate) context: StateContext,
    pub(crate) keyring: Keyring,
    pub(crate) own: BTreeMap<Stream, LogId>,
    /// What a store that lost its tail knows besides; it writes no stream.
    pub(crate) behind: Option<Behind>,
    // Records under the last released checkpoint of each own log; the anchor keeps it.
    pub(crate) checkpoints: Mutex<BTreeMap<LogId, u64>>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) index: Index,
    pub(crate) reader: JournalReader,
    pub(crate) pruned: Pruned,
    pub(crate) derived: Derived,
    pub(crate) backlog: Backlog,
    /// Held while a batch settles in index and backlog, and while the housekeeper takes what has settled in both.
    pub(crate) settling: Mutex<()>,
    /// Why the housekeeper's last round failed, if it did.
    pub(crate) failing: Mutex<Option<String>>,
    published: RwLock<Arc<Published<S>>>,
    progress: (Mutex<Position>, Condvar),
    watchers: RwLock<Vec<Watcher>>,
    pub(crate) wakers: Wakers,
    closed: Mutex<Option<String>>,
}

impl<S: State> Shared<S> {
    pub(crate) fn new(parts: Parts<S>, clock: Arc<dyn Clock>) -> Self {
        let end = parts.published.end;
        Self {
            backlog: Backlog::new(parts.step),
            settling: Mutex::default(),
            failing: Mutex::default(),
            paths: parts.paths,
            context: parts.context,
            keyring: parts.keyring,
            own: parts.own,
            behind: parts.behind,
            checkpoints: Mutex::new(parts.checkpoints),
            clock,
            index: parts.index,
            reader: parts.reader,
            pruned: parts.pruned,
            derived: parts.derived,
            published: RwLock::new(Arc::new(parts.published)),
            progress: (Mutex::new(end), Condvar::new()),
            watchers: RwLock::default(),
            wakers: Wakers::default(),
            closed: Mutex::default(),
        }
    }

    pub(crate) fn published(&self) -> Arc<Published<S>> {
        Arc::clone(&self.published.read().expect("published lock"))
    }

    pub(crate) fn publish(
        &self,
        published: Arc<Published<S>>,
        step: Step,
        receipts: &[Receipt],
        erased: &[Erasure],
    ) {
        let end = published.end;
        {
            // Index and rows settle together, so that the housekeeper never writes one without the other.
            let _settling = self.settling.lock().expect("settling lock");
            self.index.add(receipts, erased);
            self.backlog.add(step);
        }
        *self.published.write().expect("published lock") = published;
        *self.progress.0.lock().expect("progress lock") = end;
        self.progress.1.notify_all();
        self.wakers.wake_all();
        for watcher in self.watchers.read().expect("watchers lock").iter() {
            // What somebody else does with the news must not stop the store.
            if catch_unwind(AssertUnwindSafe(|| watcher(end))).is_err() {
                tracing::error!("a watcher of commits panicked");
            }
        }
        self.backlog.wait_for_room();
    }

    /// Blocks until something is durable behind a position, the time is up, or the store takes nothing more; the end as of
    /// then.
    pub(crate) fn wait_past(&self, position: Position, timeout: Duration) -> Position {
        let (progress, changed) = &self.progress;
        // A time past all clocks is no end.
        let deadline = Instant::now().checked_add(timeout);
        let mut end = progress.lock().expect("progress lock");
        while *end <= position && self.closed().is_none() {
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            end = match left {
                None => changed.wait(end).expect("progress lock"),
                Some(Duration::ZERO) => break,
                Some(left) => changed.wait_timeout(end, left).expect("progress lock").0,
            };
        }
        *end
    }

    pub(crate) fn watch(&self, watcher: Watcher) {
        self.watchers.write().expect("watchers lock").push(watcher);
    }

    pub(crate) fn chain(&self, log: &LogId) -> Option<Arc<Chain>> {
        self.published
            .read()
            .expect("published lock")
            .logs
            .get(log)
            .cloned()
    }

    pub(crate) fn own_log(&self, stream: Stream) -> Result<LogId, LedgerError> {
        let missing = || LedgerError::NotCommitted(format!("this store does not write the stream {stream}"));
        self.own.get(&stream).copied().ok_or_else(missing)
    }

    pub(crate) fn is_own(&self, log: &LogId) -> bool {
        self.own.values().any(|own| own == log)
    }

    /// Has the anchor remember a checkpoint before it is released.
    pub(crate) fn note_checkpoint(&self, log: LogId, tree_size: u64) -> Result<(), LedgerError> {
        {
            let mut checkpoints = self.checkpoints.lock().expect("checkpoints lock");
            let known = checkpoints.entry(log).or_default();
            *known = tree_size.max(*known);
        }
        self.backlog.anchor()
    }

    pub(crate) fn closed(&self) -> Option<String> {
        self.closed.lock().expect("closed lock").clone()
    }

    pub(crate) fn close_to_appends(&self, why: &str) {
        self.closed
            .lock()
            .expect("closed lock")
            .get_or_insert_with(|| why.to_owned());
        // Whoever waits for what comes next waits in vain. Under the lock, so that nobody is just about to wait.
        drop(self.progress.0.lock().expect("progress lock"));
        self.progress.1.notify_all();
        self.wakers.wake_all();
    }
}

/// Everything that an open store is made of, before its threads start.
pub(crate) struct Parts<S: State> {
    pub(crate) paths: Paths,
    pub(crate) context: StateContext,
    pub(crate) keyring: Keyring,
    pub(crate) own: BTreeMap<Stream, LogId>,
    pub(crate) behind: Option<Behind>,
    /// What the anchor says of released checkpoints.
    pub(crate) checkpoints: BTreeMap<LogId, u64>,
    pub(crate) index: Index,
    pub(crate) reader: JournalReader,
    pub(crate) pruned: Pruned,
    pub(crate) derived: Derived,
    pub(crate) published: Published<S>,
    /// What the derived store does not have yet.
    pub(crate) step: Step,
}
