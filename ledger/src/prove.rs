//! Proving: one receipt of an own log in a file that verifies offline with a pinned key (`docs/FORMAT.md`, "Proof").
//!
//! The audit path is read from tiles that lie with the data and can be deleted (`DIR/data/tiles/LOG`): the first proof of a
//! log reads the whole log, a further one what is new since then and a few tiles. Nothing of them is trusted: a proof is
//! verified, as its reader will do it, before it is given away. Its checkpoint is the one that most witnesses cosigned of those
//! that are kept and cover the receipt, and otherwise one that is signed now, where all are ([`crate::publish`] says how).

use crate::error::LedgerError;
use crate::ledger::Ledger;
use crate::publish::{Content, Files};
use crate::read::PayloadState;
use crate::state::State;
use crate::storage::DiskStorage;
use crate::witness::Cosigned;
use ledger_core::proof::{self, Extra, Proof};
use ledger_core::tiles::{Tile, TileTree};
use ledger_core::tree::{self, Hash, Tree};
use ledger_core::{Chain, LogId, ReceiptId, StatementError};
use std::sync::Arc;

// What a proof carries, and the cosigned checkpoint under which it stands, if there is one.
type Said = (Option<Vec<u8>>, Option<Cosigned>);

impl<S: State> Ledger<S> {
    /// The proof of a receipt: a C2SP `tlog-proof` that carries the record and, where it is here, the payload with its salt.
    /// [`proof::check`] verifies it with the log's [`Ledger::verifier_key`] and nothing else.
    ///
    /// # Errors
    /// [`LedgerError::UnknownLog`], [`LedgerError::UnknownReceipt`]; [`LedgerError::NoCheckpointKey`] for another
    /// machine's log; [`LedgerError::Statement`] for a payload that does not match its commitment;
    /// [`LedgerError::RootDiffers`] when the records on disk are not those that were acknowledged.
    pub fn prove(&self, log: &LogId, seq: u64) -> Result<String, LedgerError> {
        let chain = self.shared().chain(log).ok_or(LedgerError::UnknownLog(*log))?;
        let unknown = |seq| LedgerError::UnknownReceipt {
            log: *log,
            seq,
            newest: chain.tip().0,
        };
        let receipt = self.get(log, seq)?.ok_or_else(|| unknown(seq))?;
        let genesis = self.get(log, 0)?.ok_or_else(|| unknown(0))?;
        let payload = match self.payload(&receipt)? {
            PayloadState::Present(payload) => Some(payload),
            PayloadState::Damaged => {
                let id = receipt.id().to_string();
                return Err(StatementError::Payload { id }.into());
            }
            _ => None,
        };
        let extra = Extra {
            genesis: genesis.record.bytes().to_vec(),
            record: receipt.record.bytes().to_vec(),
            payload,
        };
        let extra = Some(extra.encode());
        let cosigned = self.cosigned_over(log, seq)?;
        if let Some((before, leaves)) = self.remaining(&chain)? {
            return self.prove_behind(&chain, &before, &leaves, seq, (extra, cosigned));
        }
        match self.prove_from_tiles(log, seq, (extra.clone(), cosigned.clone())) {
            // What lies below the older checkpoint is not read again when tiles grow: they are made anew.
            Err(LedgerError::Tiles(_) | LedgerError::Proof(_)) => {
                self.forget_tiles(log)?;
                self.prove_from_tiles(log, seq, (extra, cosigned))
            }
            done => done,
        }
    }

    /// The proof of a receipt by its id: of the first that a log of this machine has.
    ///
    /// # Errors
    /// [`LedgerError::NotOwn`] when only others' logs have it; `None` when the store has no receipt of this id; as
    /// [`Ledger::prove`].
    pub fn prove_id(&self, id: &ReceiptId) -> Result<Option<String>, LedgerError> {
        let found = self.find(id)?;
        let own = found.iter().find(|receipt| {
            let chain = self.shared().chain(&receipt.log());
            chain.is_some_and(|chain| self.checkpoint_key(&chain).is_ok())
        });
        match (own, found.first()) {
            (Some(receipt), _) | (None, Some(receipt)) => self.prove(&receipt.log(), receipt.seq()).map(Some),
            (None, None) => Ok(None),
        }
    }

    fn prove_from_tiles(&self, log: &LogId, seq: u64, said: Said) -> Result<String, LedgerError> {
        let (extra, cosigned) = said;
        let dir = self.paths().tiles().join(log.to_hex());
        let mut files = Files::new(Arc::new(DiskStorage), &dir, false);
        let grown = self.grow(log, &mut files, Content::Cache)?;
        // A tile of an older tree is the beginning of what lies there now.
        let mut read = |wanted: Tile| {
            let here = Tile::at(wanted.level(), wanted.index(), grown.receipts);
            let mut hashes = files.read_tile(here.unwrap_or(wanted))?;
            hashes.truncate(usize::from(wanted.width()));
            Ok::<_, LedgerError>(hashes)
        };
        let cosigned = match cosigned {
            // One over another history, of a store that was put back, says nothing of this one.
            Some(Cosigned { checkpoint, note }) => {
                let root = TileTree::new(checkpoint.tree_size, &mut read).root()?;
                (root == checkpoint.root).then_some((checkpoint.tree_size, note))
            }
            None => None,
        };
        let (size, checkpoint) = cosigned.unwrap_or((grown.receipts, grown.checkpoint));
        let mut tree = TileTree::new(size, &mut read);
        let proof = Proof {
            extra,
            index: seq,
            path: tree.inclusion_proof(seq)?,
            checkpoint,
        };
        self.checked(log, &proof)
    }

    // Of a log that is pruned: from what stays, in memory.
    fn prove_behind(
        &self,
        chain: &Chain,
        before: &Tree,
        leaves: &[Hash],
        seq: u64,
        said: Said,
    ) -> Result<String, LedgerError> {
        let (extra, cosigned) = said;
        let log = chain.log();
        let kept = |cosigned: &Cosigned| {
            let kept = cosigned.checkpoint.tree_size.checked_sub(before.size())?;
            leaves.get(..usize::try_from(kept).ok()?)
        };
        let (leaves, checkpoint) = match cosigned.as_ref().and_then(|c| Some((kept(c)?, c.note.clone()))) {
            Some(kept) => kept,
            // Just read back from disk, and the same as what was acknowledged.
            None => {
                let read = (chain.tree().size(), chain.tree().root());
                (leaves, self.release_checkpoint(chain, read)?)
            }
        };
        let Some(path) = tree::inclusion_proof_behind(before, leaves, seq) else {
            // Of the genesis: the hashes beside it went.
            self.shared().check_kept(&log, 1)?;
            return Err(LedgerError::UnknownLog(log));
        };
        let proof = Proof {
            extra,
            index: seq,
            path,
            checkpoint,
        };
        self.checked(&log, &proof)
    }

    fn checked(&self, log: &LogId, proof: &Proof) -> Result<String, LedgerError> {
        let text = proof.to_text();
        let pin = self.verifier_key(log).ok_or(LedgerError::UnknownLog(*log))?;
        proof::check(&text, &[pin])?;
        Ok(text)
    }

    pub(crate) fn forget_tiles(&self, log: &LogId) -> Result<(), LedgerError> {
        let path = self.paths().tiles().join(log.to_hex());
        std::fs::remove_dir_all(&path).map_err(|source| LedgerError::Io {
            what: "removing the damaged tiles in",
            path,
            source,
        })
    }
}
