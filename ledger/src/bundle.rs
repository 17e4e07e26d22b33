//! Exporting: one whole log of this store as a bundle that anybody can verify (`docs/FORMAT.md`, "Bundle").
//!
//! Streams record by record, with flat memory. A bundle ends with a checkpoint by the log's checkpoint key, so only the
//! machine that writes a log exports it. The checkpoint covers durable records alone, the anchor knows its size before it
//! is released, and it is signed only after the records that were written gave the very root: no two checkpoints of one
//! log contradict each other, whatever crashes.

use crate::Receipt;
use crate::error::LedgerError;
use crate::ledger::Ledger;
use crate::read::PayloadState;
use crate::state::State;
use ledger_core::bundle::{
    Absent, Header, encode_absent, encode_begin, encode_end, encode_payload, encode_record,
};
use ledger_core::tree::{self, Tree};
use ledger_core::{LogId, StatementError, TreeRoot};
use serde::Serialize;
use std::io::Write;

/// What was exported.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct ExportReport {
    /// The log.
    pub log: LogId,
    /// How many receipts: 0 to the newest that was durable at the call.
    pub receipts: u64,
    /// Payloads beside them.
    pub payloads: u64,
    /// Payloads that were erased, as receipts say.
    pub erased: u64,
    /// Payloads that are not in this store.
    pub absent: u64,
    /// Bytes written.
    pub bytes: u64,
    /// The root of the tree over the receipts.
    pub root: TreeRoot,
    /// The signed checkpoint at the end (C2SP `tlog-checkpoint`).
    pub checkpoint: String,
}

// Counts what goes out.
struct Out<'a> {
    out: &'a mut dyn Write,
    bytes: u64,
}

impl Out<'_> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), LedgerError> {
        self.out.write_all(bytes).map_err(failed)?;
        self.bytes += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        Ok(())
    }
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
        let (head, tree_size) = (chain.head(), chain.tree().size());
        let mut out = Out { out, bytes: 0 };
        out.put(&encode_begin(&Header::of(chain)))?;
        let mut tree = Tree::new();
        let (mut payloads, mut erased, mut absent) = (0, 0, 0);
        for receipt in self.range(log, 0, head.seq) {
            let receipt = receipt?;
            tree.push(tree::leaf_hash(receipt.record.bytes()));
            out.put(&encode_record(receipt.record.bytes()))?;
            match self.payload(&receipt)? {
                PayloadState::None => {}
                PayloadState::Present(payload) => {
                    payloads += 1;
                    out.put(&encode_payload(&payload))?;
                }
                PayloadState::Erased => {
                    erased += 1;
                    out.put(&encode_absent(Absent::Erased))?;
                }
                PayloadState::Absent => {
                    absent += 1;
                    out.put(&encode_absent(Absent::NotPresent))?;
                }
                PayloadState::Damaged => return Err(damaged(&receipt)),
            }
        }
        let checkpoint = self.release_checkpoint(chain, (tree.size(), tree.root()))?;
        out.put(&encode_end(&checkpoint))?;
        out.out.flush().map_err(failed)?;
        Ok(ExportReport {
            log: *log,
            receipts: tree_size,
            payloads,
            erased,
            absent,
            bytes: out.bytes,
            root: head.root,
            checkpoint,
        })
    }
}

fn damaged(receipt: &Receipt) -> LedgerError {
    let id = receipt.id().to_string();
    StatementError::Payload { id }.into()
}
