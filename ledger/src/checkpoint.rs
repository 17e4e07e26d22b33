//! The one place where a checkpoint of an own log is signed.
//!
//! Contract: only over durable records, whose bytes the caller has read and whose root is the acknowledged one; the anchor
//! knows the size, synced, before the signature leaves. So no two checkpoints of one log contradict each other, whatever
//! crashes.

use crate::error::LedgerError;
use crate::ledger::Ledger;
use crate::publish::{Content, Files};
use crate::state::State;
use crate::storage::DiskStorage;
use ledger_core::checkpoint::{Checkpoint, origin};
use ledger_core::note::VerifierKey;
use ledger_core::{Chain, LogId, SigningKey, TreeRoot};
use std::sync::Arc;

impl<S: State> Ledger<S> {
    /// The key that signs the checkpoints of a log.
    ///
    /// # Errors
    /// [`LedgerError::NoCheckpointKey`] when another machine has it.
    pub(crate) fn checkpoint_key(&self, chain: &Chain) -> Result<&SigningKey, LedgerError> {
        let key = self.keyring().checkpoint(chain.genesis().stream);
        if key.public() == chain.genesis().checkpoint_key {
            return Ok(key);
        }
        let machine = chain.genesis().machine.to_string();
        let log = chain.log();
        Err(LedgerError::NoCheckpointKey { log, machine })
    }

    /// Signs the head that the caller has just read back from disk: compares it with what was acknowledged, has the anchor
    /// remember it, signs it.
    ///
    /// # Errors
    /// [`LedgerError::RootDiffers`] when it is not what was acknowledged; what the anchor's disk says.
    pub(crate) fn release_checkpoint(
        &self,
        chain: &Chain,
        read: (u64, TreeRoot),
    ) -> Result<String, LedgerError> {
        let (log, tree_size, root) = (chain.log(), chain.tree().size(), chain.tree().root());
        if read != (tree_size, root) {
            let (expected, found) = (root, read.1);
            return Err(LedgerError::RootDiffers { log, expected, found });
        }
        let key = self.checkpoint_key(chain)?;
        self.shared().note_checkpoint(log, tree_size)?;
        let checkpoint = Checkpoint { log, tree_size, root };
        Ok(checkpoint.sign(key))
    }

    /// A signed checkpoint (C2SP `tlog-checkpoint`) over every durable receipt of an own log: hand it to whoever shall notice
    /// if anything below it changes. The records are read back from disk, those of earlier calls from their tiles, and
    /// the anchor knows the size before the text is returned.
    ///
    /// # Errors
    /// [`LedgerError::UnknownLog`]; [`LedgerError::NoCheckpointKey`] for another machine's log; [`LedgerError::RootDiffers`]
    /// when the records on disk are not those that were acknowledged; [`LedgerError::Io`].
    ///
    /// ```
    /// use ledger::core::{Stream, checkpoint::Checkpoint};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// let ledger = ledger::Ledger::lone(dir.path().join("log"), "my-agent")?;
    /// let log = ledger.own_log(Stream::Facts).ok_or("a lone log has facts")?;
    /// let pin = ledger.verifier_key(&log).ok_or("the log is here")?;
    /// let checkpoint = ledger.checkpoint(&log)?;
    /// assert_eq!(Checkpoint::open(&checkpoint, &log, pin.key())?.tree_size, 1); // the genesis
    /// # Ok(()) }
    /// ```
    pub fn checkpoint(&self, log: &LogId) -> Result<String, LedgerError> {
        let chain = self.shared().chain(log).ok_or(LedgerError::UnknownLog(*log))?;
        self.checkpoint_key(&chain)?;
        if self.remaining(&chain)?.is_some() {
            // What stays of a pruned log was just read back, and is what was acknowledged.
            return self.release_checkpoint(&chain, (chain.tree().size(), chain.tree().root()));
        }
        let grow = || {
            let dir = self.paths().tiles().join(log.to_hex());
            let mut files = Files::new(Arc::new(DiskStorage), &dir, false);
            self.grow(log, &mut files, Content::Cache)
        };
        let grown = match grow() {
            Err(LedgerError::Tiles(_)) => {
                self.forget_tiles(log)?;
                grow()
            }
            done => done,
        };
        Ok(grown?.checkpoint)
    }

    /// The key to pin for a log: whoever has it checks the log's checkpoints and proofs without trusting anybody else.
    /// `None` when the store does not have the log.
    pub fn verifier_key(&self, log: &LogId) -> Option<VerifierKey> {
        let chain = self.shared().chain(log)?;
        let key = chain.genesis().checkpoint_key.verifier();
        // A chain with an unusable key does not start.
        Some(VerifierKey::new(origin(log), key.ok()?))
    }
}
