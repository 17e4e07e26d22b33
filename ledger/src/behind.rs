//! A store that lost the end of what it wrote: it takes its own logs back from whoever has them, and goes on in new ones.
//!
//! A store *behind* writes no stream. Its own logs are there like other machines', so that their lost tail can be taken in
//! verbatim ([`Tx::intake`]); then each is succeeded by a log of the next incarnation, whose genesis names the head
//! ([`Tx::succeed`]), since nobody knows which records more were signed. The anchor is not touched before that is done.
//!
//! What a crash leaves: the mark in `DIR/keys/behind`, durable before anything is taken in. As long as it is there, an ordinary
//! opening is refused and this one is repeated; a log that was succeeded already is not succeeded again.

use crate::anchor::Anchor;
use crate::clock;
use crate::commit::Tx;
use crate::error::LedgerError;
use crate::ledger::Ledger;
use crate::open::{Opening, open, own_logs};
use crate::options::{OpenOptions, Paths};
use crate::shared::Shared;
use crate::state::State;
use crate::storage::Storage;
use ledger_core::kinds::{LogGenesis, Predecessor};
use ledger_core::record::Seal;
use ledger_core::{Chain, Draft, LogId, ReceiptId, Record, Stream, Subject, digest, signature};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What a store that is behind knows besides.
pub(crate) struct Behind {
    /// What was promised.
    pub(crate) anchor: Anchor,
    /// Whether all of it is settled, so that the anchor may say what is here now.
    pub(crate) settled: AtomicBool,
    /// Where the mark lies.
    pub(crate) storage: Arc<dyn Storage>,
}

/// Leaves the mark; durable when it returns.
pub(crate) fn put_mark(storage: &dyn Storage, paths: &Paths) -> Result<(), LedgerError> {
    let path = paths.behind();
    let io = |source| LedgerError::Io {
        what: "marking the store as behind with",
        path: path.clone(),
        source,
    };
    if !storage.exists(&path).map_err(io)? {
        storage.create_new(&path).map_err(io)?.sync_data().map_err(io)?;
    }
    // A process that was killed here before may have left a name that is not on the disk yet.
    storage.sync_dir(&paths.keys()).map_err(io)
}

/// Removes the mark; durable when it returns.
pub(crate) fn take_mark(storage: &dyn Storage, paths: &Paths) -> Result<(), LedgerError> {
    let path = paths.behind();
    let io = |source| LedgerError::Io {
        what: "removing",
        path: path.clone(),
        source,
    };
    storage.remove(&path).map_err(io)?;
    storage.sync_dir(&paths.keys()).map_err(io)
}

/// Whether the mark is there.
pub(crate) fn is_marked(storage: &dyn Storage, paths: &Paths) -> Result<bool, LedgerError> {
    let path = paths.behind();
    storage.exists(&path).map_err(|source| LedgerError::Io {
        what: "looking for",
        path,
        source,
    })
}

impl<S: State> Ledger<S> {
    /// Opens a store that lost the end of what it wrote, to take it back: it writes no stream until it is closed by
    /// [`Ledger::close_restored`] and opened again.
    ///
    /// # Errors
    /// As [`Ledger::open`], apart from [`LedgerError::BehindAnchor`] and a journal that ends before what the anchor knows.
    pub fn open_behind(paths: &Paths, options: OpenOptions<S>) -> Result<Self, LedgerError> {
        open(paths, options, Opening::Behind)
    }

    /// Whether the store was opened as one that is behind.
    pub fn is_behind(&self) -> bool {
        self.shared().behind.is_some()
    }

    /// The newest logs that this machine's key writes, whether or not this store goes on with them now.
    pub fn written_logs(&self) -> BTreeMap<Stream, LogId> {
        let key = self.context().machine_key;
        own_logs(&self.snapshot().logs, &key)
    }

    /// Whether the anchor proves that nothing was ever signed behind the head of a log that is here: it was written at a clean
    /// close, and the log ends here where it says.
    pub fn is_exact(&self, log: &LogId) -> bool {
        let Some(behind) = &self.shared().behind else {
            return false;
        };
        let head = self.head(log);
        let mut anchored = behind.anchor.logs.iter();
        behind.anchor.clean && anchored.any(|anchored| anchored.log == *log && Some(anchored.head) == head)
    }

    /// Closes a store that was behind, when each of its logs is either exact or succeeded: the anchor says what is here now,
    /// and an ordinary opening goes on with the newest logs.
    ///
    /// # Errors
    /// [`LedgerError::NotCommitted`] when a log is neither; what the last writes say.
    pub fn close_restored(self) -> Result<(), LedgerError> {
        if let Some(behind) = &self.shared().behind {
            let published = self.snapshot();
            let newest = self.written_logs();
            let succeeded = |log: &LogId| {
                let chain = published.logs.get(log);
                chain.is_some_and(|chain| newest.get(&chain.genesis().stream) != Some(log))
            };
            let mut anchored = behind.anchor.logs.iter().map(|anchored| anchored.log);
            if let Some(log) = anchored.find(|log| !self.is_exact(log) && !succeeded(log)) {
                return Err(LedgerError::NotCommitted(format!(
                    "log {log} is neither exact nor succeeded; take its tail in and succeed it"
                )));
            }
            behind.settled.store(true, Ordering::Release);
        }
        self.close()
    }
}

impl<S: State> Shared<S> {
    /// Whether the anchor must stay as it is.
    pub(crate) fn keeps_anchor(&self) -> bool {
        let settled = |behind: &Behind| behind.settled.load(Ordering::Acquire);
        self.behind.as_ref().is_some_and(|behind| !settled(behind))
    }

    /// Whether a place lies in an order behind the head at which a later order says that it ended: kept, and without effect. What was
    /// said there may be said again under the same id. Of other streams everything counts that is kept.
    pub(crate) fn is_beyond_end(&self, log: &LogId, seq: u64) -> bool {
        let published = self.published();
        let Some(chain) = published.logs.get(log) else {
            return false;
        };
        let ends_it = |later: &Arc<Chain>| {
            let before = later.genesis().predecessor.as_ref();
            later.machine_key() == chain.machine_key()
                && before.is_some_and(|before| before.log == *log && before.head.seq < seq)
        };
        chain.genesis().stream == Stream::Order && published.logs.values().any(ends_it)
    }
}

impl<S: State> Tx<'_, S> {
    /// Begins this machine's next log of a stream behind the head of the one before, whose tail was lost. Only in a store
    /// that was opened behind ([`Ledger::open_behind`]).
    ///
    /// # Errors
    /// [`LedgerError::NotOwn`] when this store goes on with the log, or another machine writes it;
    /// [`LedgerError::UnknownLog`].
    pub fn succeed(&mut self, before: &LogId) -> Result<LogId, LedgerError> {
        let chain = self.foreign(before).ok_or(LedgerError::UnknownLog(*before))?;
        let keyring = &self.shared.keyring;
        let machine_key = keyring.machine.public();
        if self.shared.behind.is_none() || chain.machine_key() != machine_key {
            return Err(LedgerError::NotOwn(*before));
        }
        let genesis = chain.genesis();
        let stream = genesis.stream;
        let detail = LogGenesis {
            machine: genesis.machine.clone(),
            stream,
            incarnation: genesis.incarnation.saturating_add(1),
            machine_key,
            checkpoint_key: keyring.checkpoint(stream).public(),
            predecessor: Some(Predecessor {
                log: *before,
                head: chain.head(),
            }),
            founding: None,
            nonce: self.pool.take(),
        };
        let unix_ms = clock::unix_ms(self.now_us);
        let subject = Subject::new(&format!("node/{}", genesis.machine))?;
        let id = ReceiptId::v7(unix_ms, self.pool.take());
        let fleet = self.shared.context.fleet;
        let said =
            Draft::of(&detail, subject).into_statement(fleet, machine_key, id, self.now_us, [0; 32])?;
        let time = self.overlay.clock.tick(unix_ms);
        self.overlay.clock = time;
        let log = digest::log_id(&said.bytes);
        let seal = Seal {
            version: 1,
            log,
            seq: 0,
            prev: ledger_core::SealDigest::ZERO,
            time,
            statement: said.digest,
        };
        let signed = signature::sign_seal(&keyring.machine, &seal.digest());
        let record = Record::assemble(said.statement, &said.bytes, None, seal, signed);
        self.take_begun(Arc::new(record))?;
        Ok(log)
    }

    fn take_begun(&mut self, record: Arc<Record>) -> Result<(), LedgerError> {
        let chain = Chain::start(&record)?;
        self.take(record, None, false, true)?;
        self.overlay
            .set_tip(chain.log(), crate::commit::Tip::Foreign(Box::new(chain)));
        Ok(())
    }
}
