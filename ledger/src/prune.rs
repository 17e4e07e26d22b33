//! Pruning: the oldest records of a pulse log go, their bytes are freed, and everything else still verifies.
//!
//! Contract: `log.pruned` is durable before anything goes. It holds what the records are still needed for: the tree over them,
//! the last seal digest and its time. The genesis stays, so does at least the newest record, and what stays keeps its position.
//! From the receipt on, no path hands out what it covers; the segments are then rewritten one by one, and the newest segment
//! keeps what it has until a later pruning. What a crash leaves: an intention without a receipt, which the next opening
//! drops, or a receipt, whose segments the next opening finishes. `docs/adr/0016-pruning.md` says why it is done in this way.
//! Does not reach: bundles, backups, other machines' copies.

pub(crate) mod book;
mod floors;
mod start;

pub(crate) use floors::Pruned;
pub use start::PrunedStart;

use crate::error::LedgerError;
use crate::journal::JournalError;
use crate::ledger::Ledger;
use crate::shared::Shared;
use crate::state::State;
use crate::{Receipt, clock};
use book::{Book, Floor};
use ledger_core::checkpoint::Checkpoint;
use ledger_core::cosignature;
use ledger_core::kinds::LogPruned;
use ledger_core::note::{self, VerifierKey};
use ledger_core::tree::{self, Hash, Tree};
use ledger_core::{
    Chain, Draft, Hlc, LogId, ReceiptId, SealDigest, Stream, Subject, TreeRoot, canonical, digest,
};
use std::sync::Arc;

/// What shall go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Upto {
    Below(u64),
    OlderThan(u64),
}

/// A wish to prune a log. See [`Ledger::prune`].
#[derive(Clone, Debug)]
pub struct Pruning {
    log: LogId,
    upto: Upto,
    reason: String,
    summary: Option<ReceiptId>,
    cosigned: Option<(String, Vec<VerifierKey>)>,
}

impl Pruning {
    /// Everything below a seq, but for the genesis; the reason, or the policy's name, has 1 to 200 bytes.
    pub fn below(log: LogId, seq: u64, reason: &str) -> Self {
        Self {
            log,
            upto: Upto::Below(seq),
            reason: reason.to_owned(),
            summary: None,
            cosigned: None,
        }
    }

    /// Everything sealed before a time, milliseconds since 1970, but for the genesis and the newest record.
    pub fn older_than(log: LogId, unix_ms: u64, reason: &str) -> Self {
        Self {
            upto: Upto::OlderThan(unix_ms),
            ..Self::below(log, 0, reason)
        }
    }

    /// Cites the receipt that sums up what goes.
    #[must_use]
    pub fn summed_up_by(mut self, summary: ReceiptId) -> Self {
        self.summary = Some(summary);
        self
    }

    /// Brings a checkpoint of the log that others cosigned, and their keys, one of which must have signed it.
    #[must_use]
    pub fn cosigned(mut self, checkpoint: &str, keys: &[VerifierKey]) -> Self {
        self.cosigned = Some((checkpoint.to_owned(), keys.to_vec()));
        self
    }
}

/// What a pruning came to.
#[derive(Clone, Debug)]
pub struct PruneReport {
    /// The `log.pruned` receipt.
    pub said: Receipt,
    /// The log.
    pub log: LogId,
    /// The first seq that went with this receipt.
    pub first: u64,
    /// The last seq that went.
    pub last: u64,
    /// Records whose bytes went now.
    pub records: u64,
    /// Segments that were rewritten now.
    pub segments: u64,
    /// Bytes that their files are shorter now.
    pub bytes_freed: u64,
}

// What reading a log from its floor on gives.
struct Reading {
    // The tree over what is to go, with the genesis.
    tree: Tree,
    seal: SealDigest,
    time: Hlc,
    root_cosigned: Option<TreeRoot>,
    whole: Tree,
}

impl<S: State> Shared<S> {
    /// Fails when the record at a place was pruned.
    pub(crate) fn check_kept(&self, log: &LogId, seq: u64) -> Result<(), LedgerError> {
        self.pruned.at(log, seq).map_or(Ok(()), Err)
    }
}

impl<S: State> Ledger<S> {
    /// Prunes a pulse log: the records that the wish names go from this store, and their disk space is freed. `None` when there
    /// is nothing to do. Blocks until the receipt is durable and the segments, all but the newest, are rewritten.
    ///
    /// An own log goes only under a checkpoint that was released ([`Ledger::checkpoint`]): in a store that has no gateway above
    /// it, one of its own that covers all that goes; in a node's store, one that somebody else cosigned as well. A copy
    /// of another machine's log may be pruned at any time: this store's receipt then tells what it had.
    ///
    /// # Errors
    /// [`LedgerError::NotPrunable`] for another stream, without such a checkpoint, for the newest record, and for a reason of
    /// another length; [`LedgerError::UnknownLog`];
    /// [`LedgerError::RootDiffers`] when the records on disk are not those that were acknowledged; [`LedgerError::Journal`]
    /// when the disk refuses, after the receipt: what is left is freed by the next opening or call.
    ///
    /// ```
    /// use ledger::{NewStore, OpenOptions, Paths, Pruning};
    /// use ledger::core::{Draft, Kind, Stream, Subject};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let paths = Paths::new(dir.path().join("log"));
    /// let new = NewStore::lone("my-agent")?.streams([Stream::Facts, Stream::Pulse]);
    /// let ledger: ledger::Ledger = ledger::Ledger::create(&paths, &new, OpenOptions::default())?;
    /// for _ in 0..20 {
    ///     ledger.append_to(Stream::Pulse, Draft::custom(Kind::new("x.beat")?, Subject::new("me")?))?;
    /// }
    /// let log = ledger.own_log(Stream::Pulse).ok_or("it writes pulses")?;
    /// ledger.checkpoint(&log)?;
    /// let pruned = ledger.prune(&Pruning::below(log, 15, "an example"))?.ok_or("there is something to prune")?;
    /// assert_eq!((pruned.first, pruned.last), (1, 14));
    /// assert_eq!(ledger.get(&log, 3).unwrap_err().code(), "ledger.pruned");
    /// assert_eq!(ledger.first_kept(&log), 15);
    /// # Ok(()) }
    /// ```
    pub fn prune(&self, wish: &Pruning) -> Result<Option<PruneReport>, LedgerError> {
        let (shared, log) = (self.shared(), wish.log);
        if wish.reason.is_empty() || wish.reason.len() > LogPruned::REASON_BYTES_MAX {
            let why = "a reason of 1 to 200 bytes is needed";
            return Err(LedgerError::NotPrunable { log, why });
        }
        let mut book = shared.pruned.book();
        let chain = shared.chain(&log).ok_or(LedgerError::UnknownLog(log))?;
        let refuse = |why| LedgerError::NotPrunable { log, why };
        if chain.genesis().stream != Stream::Pulse {
            return Err(refuse("only logs of the stream pulse are pruned"));
        }
        let tip = chain.tip().0;
        let before = shared.pruned.floor(&log);
        let first = before.as_ref().map_or(1, |floor| floor.first_kept());
        let below = match wish.upto {
            Upto::Below(seq) => seq,
            Upto::OlderThan(unix_ms) => self.seq_at(&log, Hlc::from_unix_ms(unix_ms))?.min(tip),
        };
        if below > tip {
            return Err(refuse("its newest record stays"));
        }
        let is_new = below > first;
        let (said, first, new) = if is_new {
            let cosigned = self.witness(wish, &chain, below)?;
            self.compare_before_pruning(&chain)?;
            let reading = self.read_through(&chain, before.as_deref(), below, cosigned.as_ref())?;
            let checkpoint = cosigned.map_or_else(|| self.own_checkpoint(&log), |c| c.tree_size);
            let said = LogPruned {
                log,
                first,
                last: below - 1,
                seal: reading.seal,
                time: reading.time,
                peaks: reading.tree.peaks().iter().map(|peak| TreeRoot(*peak)).collect(),
                head: chain.head(),
                checkpoint,
                reason: wish.reason.clone(),
                summary: wish.summary,
            };
            let done = book.entries.get(&log).map_or(0, |entry| entry.done);
            (self.say_pruned(&mut book, said)?, first, Some((first, done)))
        } else {
            // Nothing new goes; what the newest segment had then may be free to go by now.
            let Some(floor) = &before else { return Ok(None) };
            let stands = floor.evidence();
            let said = shared.get(&stands.log, stands.seq)?;
            let done = book.entries.get(&log).map_or(0, |entry| entry.done);
            let said = said.ok_or(LedgerError::PrunedUnsaid(log))?;
            (said, floor.said.first, Some((u64::MAX, done)))
        };
        let floor = shared.pruned.floor(&log).ok_or(LedgerError::PrunedUnsaid(log))?;
        let freed = shared
            .pruned
            .free(&mut book, &shared.reader, &log, &floor, new)
            .inspect_err(|error| {
                // Which of two files a name stands for is not known to last then, and a payload could be erased in one of them.
                if let LedgerError::Journal(JournalError::Io { .. }) = error {
                    shared.close_to_appends(&error.to_string());
                }
            })?;
        if !is_new && freed.segments == 0 {
            return Ok(None);
        }
        Ok(Some(PruneReport {
            said,
            log,
            first,
            last: floor.said.last,
            records: freed.records,
            segments: freed.segments,
            bytes_freed: freed.bytes,
        }))
    }

    /// The first seq of a log that was not pruned, besides its genesis: 1 when nothing was.
    pub fn first_kept(&self, log: &LogId) -> u64 {
        let floor = self.shared().pruned.floor(log);
        floor.map_or(1, |floor| floor.first_kept())
    }

    fn own_checkpoint(&self, log: &LogId) -> u64 {
        let checkpoints = self.shared().checkpoints.lock().expect("checkpoints lock");
        checkpoints.get(log).copied().unwrap_or(0)
    }

    // The cosigned checkpoint under which the records go; `None` when none is needed.
    fn witness(&self, wish: &Pruning, chain: &Chain, below: u64) -> Result<Option<Checkpoint>, LedgerError> {
        let shared = self.shared();
        let log = wish.log;
        let refuse = |why| LedgerError::NotPrunable { log, why };
        if let Some((text, keys)) = &wish.cosigned {
            let key = chain.genesis().checkpoint_key;
            let own = key.verifier()?;
            let checkpoint = Checkpoint::open(text, &log, &own)
                .map_err(|_| refuse("the checkpoint that was brought is not signed by this log's own key"))?;
            let others = keys.iter().filter(|pin| pin.key().public() != key);
            let signed = |pin: &VerifierKey| match pin.is_witness() {
                true => cosignature::verify(text, pin).is_ok(),
                false => note::open(text, pin.name(), pin.key()).is_ok(),
            };
            if !others.into_iter().any(signed) {
                return Err(refuse("no other key that is trusted cosigned the checkpoint"));
            }
            if checkpoint.tree_size < below || checkpoint.tree_size > chain.tree().size() {
                return Err(refuse("the cosigned checkpoint does not cover all that is to go"));
            }
            return Ok(Some(checkpoint));
        }
        if !shared.is_own(&log) {
            return Ok(None);
        }
        let lone = chain
            .genesis()
            .founding
            .as_ref()
            .is_some_and(|founding| founding.root_key == chain.machine_key());
        if !lone && !shared.own.contains_key(&Stream::Order) {
            return Err(refuse(
                "this machine has a gateway, which must have cosigned a checkpoint over all that is to go",
            ));
        }
        if self.own_checkpoint(&log) < below {
            return Err(refuse(
                "no checkpoint over all that is to go was released; ask for one first",
            ));
        }
        Ok(None)
    }

    // Reads the log back from disk, all of it, and compares it with what was acknowledged, and with what was cosigned.
    fn read_through(
        &self,
        chain: &Chain,
        before: Option<&Floor>,
        below: u64,
        cosigned: Option<&Checkpoint>,
    ) -> Result<Reading, LedgerError> {
        let log = chain.log();
        let mut tree = before.map_or_else(Tree::new, Floor::tree);
        let mut reading = Reading {
            tree: tree.clone(),
            seal: SealDigest::ZERO,
            time: Hlc::default(),
            root_cosigned: None,
            whole: Tree::new(),
        };
        for receipt in self.range(&log, tree.size(), chain.tip().0) {
            let receipt = receipt?;
            tree.push(tree::leaf_hash(receipt.record.bytes()));
            if tree.size() == below {
                reading.tree = tree.clone();
                reading.seal = receipt.seal_digest();
                reading.time = receipt.time();
            }
            if cosigned.is_some_and(|cosigned| cosigned.tree_size == tree.size()) {
                reading.root_cosigned = Some(tree.root());
            }
        }
        reading.whole = tree;
        let differs = |expected, found| Err(LedgerError::RootDiffers { log, expected, found });
        if reading.whole != *chain.tree() {
            return differs(chain.tree().root(), reading.whole.root());
        }
        match (cosigned, reading.root_cosigned) {
            (Some(cosigned), Some(found)) if cosigned.root != found => differs(cosigned.root, found),
            _ => Ok(reading),
        }
    }

    // Says it: the intention first, so that a crash behind the receipt is noticed; then the receipt; then what it changes.
    fn say_pruned(&self, book: &mut Book, said: LogPruned) -> Result<Receipt, LedgerError> {
        let shared = self.shared();
        let log = said.log;
        let stream = if shared.own.contains_key(&Stream::Facts) {
            Stream::Facts
        } else {
            Stream::Order
        };
        shared.own_log(stream)?;
        // No two prunings say the same, so that no two ids are the same.
        let drawn = digest::content_digest(&canonical::encode(&said)).0;
        let drawn = *drawn.first_chunk().expect("a digest has 32 bytes");
        let id = ReceiptId::v7(clock::unix_ms(shared.clock.now_us()), drawn);
        let mut entries = book.clone();
        entries.entries.entry(log).or_default().intended = Some(id);
        shared.pruned.save(&entries)?;
        *book = entries;
        let draft = Draft::of(&said, Subject::new(&format!("log/{}", log.to_hex()))?).id(id);
        let receipt = self.append_to(stream, draft)?;
        // It may have been committed with others, and is read back as it stands.
        let stands = shared.get(&receipt.log(), receipt.seq())?.unwrap_or(receipt);
        let floor = Floor::of((*stands.record).clone()).ok_or(LedgerError::PrunedUnsaid(log))?;
        let entry = book.entries.entry(log).or_default();
        (entry.intended, entry.done) = (None, 0);
        entry.floor = Some(Arc::new(floor));
        shared.pruned.save(book)?;
        shared.pruned.publish(book);
        // A segment is rewritten only when the anchor knows that those behind it are durable.
        shared.backlog.anchor()?;
        Ok(stands)
    }

    /// What is left of a pruned log: the tree over what went, and the leaf hashes of all that stays, held to what was
    /// acknowledged. `None` when the log is not pruned.
    pub(crate) fn remaining(&self, chain: &Chain) -> Result<Option<(Tree, Vec<Hash>)>, LedgerError> {
        let Some(floor) = self.shared().pruned.floor(&chain.log()) else {
            return Ok(None);
        };
        let before = floor.tree();
        let (mut tree, mut leaves) = (before.clone(), Vec::new());
        for receipt in self.range(&chain.log(), floor.first_kept(), chain.tip().0) {
            let leaf = tree::leaf_hash(receipt?.record.bytes());
            tree.push(leaf);
            leaves.push(leaf);
        }
        if tree != *chain.tree() {
            let (expected, found) = (chain.tree().root(), tree.root());
            let log = chain.log();
            return Err(LedgerError::RootDiffers { log, expected, found });
        }
        Ok(Some((before, leaves)))
    }
}

/// Whether a receipt cannot be read because it was pruned.
pub(crate) fn is_pruned(error: &LedgerError) -> bool {
    matches!(
        error,
        LedgerError::Pruned { .. } | LedgerError::Journal(JournalError::Pruned { .. })
    )
}

/// Takes what was pruned for what is not here.
pub(crate) fn kept<T>(found: Result<Option<T>, LedgerError>) -> Result<Option<T>, LedgerError> {
    match found {
        Err(error) if is_pruned(&error) => Ok(None),
        found => found,
    }
}
