//! Exporting: one whole log of this store, or a range of it, as a bundle that anybody can verify (`docs/FORMAT.md`,
//! "Bundle").
//!
//! Streams record by record, with flat memory. A bundle ends with a checkpoint by the log's checkpoint key, so only the
//! machine that writes a log exports it. The checkpoint covers durable records alone, the anchor knows its size before it
//! is released, and it is signed only after the records that were written gave the very root: no two checkpoints of one
//! log contradict each other, whatever crashes. The hashes that connect a range with its checkpoint come from the same
//! tiles as a proof's ([`crate::prove`]) and are verified before anything is written.

use crate::Receipt;
use crate::error::LedgerError;
use crate::ledger::Ledger;
use crate::publish::{Content, Files, PublishReport};
use crate::read::PayloadState;
use crate::state::State;
use crate::storage::DiskStorage;
use ledger_core::bundle::{
    Absent, Header, Start, encode_absent, encode_begin, encode_begin_range, encode_end, encode_payload,
    encode_record, encode_rest, encode_start,
};
use ledger_core::tiles::{TileTree, TilesError};
use ledger_core::tree::{self, Hash, Tree};
use ledger_core::{LogId, StatementError, TreeRoot};
use serde::Serialize;
use std::io::Write;
use std::sync::Arc;

/// What was exported.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct ExportReport {
    /// The log.
    pub log: LogId,
    /// The seq of the first receipt: 0 for a whole log.
    pub first: u64,
    /// How many receipts: for a whole log, 0 to the newest that was durable at the call.
    pub receipts: u64,
    /// Payloads beside them.
    pub payloads: u64,
    /// Payloads that were erased, as receipts say.
    pub erased: u64,
    /// Payloads that are not in this store.
    pub absent: u64,
    /// Bytes written.
    pub bytes: u64,
    /// Receipts under the checkpoint.
    pub tree_size: u64,
    /// The root of the tree over them.
    pub root: TreeRoot,
    /// The signed checkpoint at the end (C2SP `tlog-checkpoint`).
    pub checkpoint: String,
}

// Counts what goes out.
struct Out<'a> {
    out: &'a mut dyn Write,
    bytes: u64,
    payloads: u64,
    erased: u64,
    absent: u64,
}

impl<'a> Out<'a> {
    fn new(out: &'a mut dyn Write) -> Self {
        Self {
            out,
            bytes: 0,
            payloads: 0,
            erased: 0,
            absent: 0,
        }
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), LedgerError> {
        self.out.write_all(bytes).map_err(failed)?;
        self.bytes += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        Ok(())
    }

    fn end(
        mut self,
        log: &LogId,
        receipts: (u64, u64),
        tree: (u64, TreeRoot),
        checkpoint: String,
    ) -> Result<ExportReport, LedgerError> {
        self.put(&encode_end(&checkpoint))?;
        self.out.flush().map_err(failed)?;
        Ok(ExportReport {
            log: *log,
            first: receipts.0,
            receipts: receipts.1,
            payloads: self.payloads,
            erased: self.erased,
            absent: self.absent,
            bytes: self.bytes,
            tree_size: tree.0,
            root: tree.1,
            checkpoint,
        })
    }
}

// The hashes that connect a range with a checkpoint.
struct Frame {
    grown: PublishReport,
    /// The tree before the range, and what carries it unless it is empty.
    before: Tree,
    start: Option<Start>,
    /// The root of the tree that ends with the range, and the proof from there to the checkpoint.
    root: TreeRoot,
    rest: Vec<Hash>,
}

fn failed(source: std::io::Error) -> LedgerError {
    LedgerError::Io {
        what: "writing",
        path: "the bundle".into(),
        source,
    }
}

impl<S: State> Ledger<S> {
    /// Writes a whole log as a bundle: every receipt that is durable now, with its payload, and a signed checkpoint at the
    /// end. What was written before an error is no bundle, and does not verify.
    ///
    /// # Errors
    /// [`LedgerError::UnknownLog`]; [`LedgerError::NoCheckpointKey`] for another machine's log;
    /// [`LedgerError::Statement`] for a payload that does not match its commitment, [`LedgerError::RootDiffers`] when the
    /// records on disk are not those that were acknowledged; [`LedgerError::Io`] when `out` fails.
    pub fn export(&self, log: &LogId, out: &mut dyn Write) -> Result<ExportReport, LedgerError> {
        let snapshot = self.snapshot();
        let chain = snapshot.logs.get(log).ok_or(LedgerError::UnknownLog(*log))?;
        self.checkpoint_key(chain)?;
        let mut out = Out::new(out);
        out.put(&encode_begin(&Header::of(chain)))?;
        let mut tree = Tree::new();
        self.put_records(&mut out, &mut tree, log, chain.tip().0)?;
        let read = (tree.size(), tree.root());
        let checkpoint = self.release_checkpoint(chain, read)?;
        out.end(log, (0, read.0), read, checkpoint)
    }

    /// Writes the receipts of a log from one seq to another, both included, as a bundle that stands alone: with the log's
    /// genesis, the signed checkpoint over every receipt that is durable now, and the hashes that show both to be of one
    /// tree with them. Whoever has pinned the log's key verifies it without the rest of the log.
    ///
    /// # Errors
    /// As [`Ledger::export`]; [`LedgerError::UnknownReceipt`] when the store does not have the whole range, or when it is
    /// empty.
    ///
    /// ```
    /// use ledger::core::{Draft, Kind, Stream, Subject, bundle::BundleCheck};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// let ledger = ledger::Ledger::lone(dir.path().join("log"), "my-agent")?;
    /// for _ in 0..9 {
    ///     ledger.append(Draft::custom(Kind::new("x.note")?, Subject::new("chat/1")?))?;
    /// }
    /// let log = ledger.own_log(Stream::Facts).ok_or("a lone log has facts")?;
    /// let mut bytes = Vec::new();
    /// let exported = ledger.export_range(&log, 4, 6, &mut bytes)?;
    /// assert_eq!((exported.receipts, exported.tree_size), (3, 10));
    /// assert!(BundleCheck::of_bytes(&bytes).is_clean());
    /// # Ok(()) }
    /// ```
    pub fn export_range(
        &self,
        log: &LogId,
        first: u64,
        last: u64,
        out: &mut dyn Write,
    ) -> Result<ExportReport, LedgerError> {
        let chain = self.shared().chain(log).ok_or(LedgerError::UnknownLog(*log))?;
        self.checkpoint_key(&chain)?;
        let unknown = |seq| LedgerError::UnknownReceipt {
            log: *log,
            seq,
            newest: chain.tip().0,
        };
        if first > last || last > chain.tip().0 {
            return Err(unknown(first.max(last)));
        }
        let genesis = self.get(log, 0)?.ok_or_else(|| unknown(0))?;
        let genesis = genesis.record.bytes();
        let frame = match self.frame(genesis, log, first, last) {
            // What lies below the older checkpoint is not read again when tiles grow: they are made anew.
            Err(LedgerError::Tiles(_)) => {
                self.forget_tiles(log)?;
                self.frame(genesis, log, first, last)?
            }
            done => done?,
        };
        let mut out = Out::new(out);
        out.put(&encode_begin_range(&Header {
            first,
            ..Header::of(&chain)
        }))?;
        if let Some(start) = &frame.start {
            out.put(&encode_start(start))?;
        }
        let mut tree = frame.before;
        self.put_records(&mut out, &mut tree, log, last)?;
        if tree.size() <= last {
            return Err(unknown(tree.size()));
        }
        let (log, expected, found) = (*log, frame.root, tree.root());
        if found != expected {
            return Err(LedgerError::RootDiffers { log, expected, found });
        }
        out.put(&encode_rest(&frame.rest))?;
        let covered = (frame.grown.receipts, frame.grown.root);
        out.end(&log, (first, last - first + 1), covered, frame.grown.checkpoint)
    }

    // The records behind a tree up to a seq, with their payloads.
    fn put_records(
        &self,
        out: &mut Out<'_>,
        tree: &mut Tree,
        log: &LogId,
        last: u64,
    ) -> Result<(), LedgerError> {
        for receipt in self.range(log, tree.size(), last) {
            let receipt = receipt?;
            tree.push(tree::leaf_hash(receipt.record.bytes()));
            out.put(&encode_record(receipt.record.bytes()))?;
            match self.payload(&receipt)? {
                PayloadState::None => {}
                PayloadState::Present(payload) => {
                    out.payloads += 1;
                    out.put(&encode_payload(&payload))?;
                }
                PayloadState::Erased => {
                    out.erased += 1;
                    out.put(&encode_absent(Absent::Erased))?;
                }
                PayloadState::Absent => {
                    out.absent += 1;
                    out.put(&encode_absent(Absent::NotPresent))?;
                }
                PayloadState::Damaged => return Err(damaged_payload(&receipt)),
            }
        }
        Ok(())
    }

    // Verified here as the bundle's reader will do it, so that a damaged tile never gets into one.
    fn frame(&self, genesis: &[u8], log: &LogId, first: u64, last: u64) -> Result<Frame, LedgerError> {
        let dir = self.paths().tiles().join(log.to_hex());
        let mut files = Files::new(Arc::new(DiskStorage), &dir, false);
        let grown = self.grow(log, &mut files, Content::Cache)?;
        let (size, end) = (grown.receipts, last + 1);
        let mut tiles = TileTree::new(size, |tile| files.read_tile(tile));
        let damaged = || LedgerError::from(TilesError::Root { size });
        let mut tree_of = |count| -> Result<(Tree, Vec<Hash>), LedgerError> {
            let tree = Tree::from_peaks(count, tiles.peaks(count)?).ok_or_else(damaged)?;
            let proof = tiles.consistency_proof(count)?;
            if tree::verify_consistency(count, tree.root(), size, grown.root, &proof) {
                Ok((tree, proof))
            } else {
                Err(damaged())
            }
        };
        let (before, _) = tree_of(first)?;
        let (until, rest) = tree_of(end)?;
        let start = match first.checked_ilog2() {
            None => None,
            Some(height) => Some(Start {
                genesis: genesis.to_vec(),
                path: tiles.path_of_first(height)?,
                peaks: before.peaks().to_vec(),
            }),
        };
        if start.as_ref().is_some_and(|start| !start.proves_genesis(first)) {
            return Err(damaged());
        }
        let root = until.root();
        Ok(Frame {
            grown,
            before,
            start,
            root,
            rest,
        })
    }
}

fn damaged_payload(receipt: &Receipt) -> LedgerError {
    let id = receipt.id().to_string();
    StatementError::Payload { id }.into()
}
