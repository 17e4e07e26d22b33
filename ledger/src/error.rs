//! What can go wrong in the engine. Each error has a stable code, names the thing and says what to do.

pub use crate::anchor::AnchorError;
pub use crate::journal::{JournalError, Outcome};
pub use crate::lock::LockError;

use crate::Position;
use ledger_core::error::{ChainError, KeyError, RecordError, StatementError};
use ledger_core::{LogId, ReceiptId, TreeRoot};
use std::path::PathBuf;

/// An error of the engine.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// The operating system refused.
    #[error("{what} {path}: {source}", path = path.display())]
    Io {
        /// What was being done.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The journal.
    #[error(transparent)]
    Journal(#[from] crate::journal::JournalError),
    /// The anchor.
    #[error(transparent)]
    Anchor(#[from] crate::anchor::AnchorError),
    /// The lock.
    #[error(transparent)]
    Lock(#[from] crate::lock::LockError),
    /// The derived store.
    #[error(
        "derived store, {what}: {why}; it can be deleted (DIR/data/derived) and is rebuilt at the next open"
    )]
    Derived {
        /// What was being done.
        what: &'static str,
        /// fjall's reason.
        why: String,
    },
    /// There is no store here.
    #[error("{path} holds no ledger; make one with `ledger init`, or name another directory", path = .0.display())]
    NoStore(PathBuf),
    /// There is a store here already.
    #[error("{path} holds a ledger already; open it, or name another directory", path = .0.display())]
    StoreExists(PathBuf),
    /// The keys say that a store was here, and it is gone.
    #[error("{path}: the keys belong to a store that is not there; restore DIR/data from a copy, or enrol this machine anew", path = .0.display())]
    StoreLost(PathBuf),
    /// The keys belong to another store.
    #[error("{path}: the keys in DIR/keys belong to another store; put the matching keys and data together again", path = .0.display())]
    ForeignKeys(PathBuf),
    /// A key file that others may read, or that is no key file.
    #[error("{path}: {why}", path = path.display())]
    KeyFile {
        /// Which.
        path: PathBuf,
        /// What is wrong, and what to do.
        why: String,
    },
    /// The store lacks receipts that it acknowledged.
    #[error(
        "log {log}: the anchor knows seq {anchored}, the journal ends at {found}: acknowledged receipts are gone; a node's daemon takes them back from the gateway; otherwise restore a newer copy of DIR/data"
    )]
    BehindAnchor {
        /// The log.
        log: LogId,
        /// What was acknowledged.
        anchored: u64,
        /// What is there (`none` when the log is absent).
        found: String,
    },
    /// The store is taking its lost tail back, and is not done.
    #[error(
        "{path}: this store lost receipts that it wrote and was taking them back; start its daemon, which finishes it", path = .0.display()
    )]
    Behind(PathBuf),
    /// A log that this store does not have.
    #[error("log {0} is not in this store")]
    UnknownLog(LogId),
    /// A record in the journal that does not continue its log.
    #[error("journal position {position}: {source}; run `ledger verify` and restore the store from a copy")]
    Corrupt {
        /// Where.
        position: Position,
        /// What.
        source: ChainError,
    },
    /// The head is not the one the caller expected.
    #[error(
        "log {log}: the head is at seq {found}, the caller expected {expected}; read what came and decide anew"
    )]
    HeadMoved {
        /// The log.
        log: LogId,
        /// What the caller expected.
        expected: u64,
        /// What is there.
        found: u64,
    },
    /// The id stands for something else already.
    #[error("receipt {id} of this author exists with other content (seq {seq} of log {log}); draw a new id")]
    IdTaken {
        /// The id.
        id: ReceiptId,
        /// The log that has it.
        log: LogId,
        /// Where.
        seq: u64,
    },
    /// A log whose checkpoints another machine signs.
    #[error(
        "log {log}: its checkpoints are signed by machine {machine}, which alone can export it; ask there"
    )]
    NoCheckpointKey {
        /// The log.
        log: LogId,
        /// The machine that writes it.
        machine: String,
    },
    /// The records on disk are not those that were acknowledged.
    #[error(
        "log {log}: the records on disk give the root {found}, acknowledged was {expected}; run `ledger verify`"
    )]
    RootDiffers {
        /// The log.
        log: LogId,
        /// What was acknowledged.
        expected: TreeRoot,
        /// What the disk gives.
        found: TreeRoot,
    },
    /// A receipt that this store does not have.
    #[error("log {log} has no receipt at seq {seq}; its newest is at {newest}")]
    UnknownReceipt {
        /// The log.
        log: LogId,
        /// What was asked for.
        seq: u64,
        /// The newest that is there.
        newest: u64,
    },
    /// A receipt that is gone, as a `log.pruned` says.
    #[error(
        "log {log} seq {seq}: pruned, as receipt {by} says; besides its genesis the log begins at seq {first}"
    )]
    Pruned {
        /// The log.
        log: LogId,
        /// What was asked for.
        seq: u64,
        /// The first seq that is there, besides the genesis.
        first: u64,
        /// The `log.pruned` receipt.
        by: ReceiptId,
    },
    /// A receipt that is gone, by its id.
    #[error("receipt {0}: it was a pulse that is pruned by now; the `log.pruned` receipts say up to where")]
    PrunedId(ReceiptId),
    /// A log that may not be pruned, or not so far.
    #[error("log {log} is not pruned: {why}")]
    NotPrunable {
        /// The log.
        log: LogId,
        /// Why.
        why: &'static str,
    },
    /// A copy of a pruned log that cannot begin where the log goes on.
    #[error("a copy of log {log} is not begun behind what was pruned: {why}")]
    NotBegun {
        /// The log.
        log: LogId,
        /// Why.
        why: &'static str,
    },
    /// A checkpoint that this machine does not cosign.
    #[error("a checkpoint of log {log} is not cosigned: {why}")]
    NotCosigned {
        /// The log.
        log: LogId,
        /// Why.
        why: String,
    },
    /// Records are gone, and the receipt that says so does not stand where it should.
    #[error(
        "log {0}: records were pruned, and the `log.pruned` receipt that is counted on is not in the journal; run `ledger verify`, and restore the store from a copy"
    )]
    PrunedUnsaid(LogId),
    /// A directory that cannot be published into.
    #[error("publishing into {path}: {why}", path = path.display())]
    Publish {
        /// The directory or file.
        path: PathBuf,
        /// What is wrong, and what to do.
        why: String,
    },
    /// A proof that was just made and does not verify.
    #[error(transparent)]
    Proof(#[from] ledger_core::proof::ProofError),
    /// A tile that is not what it should be.
    #[error(transparent)]
    Tiles(#[from] ledger_core::tiles::TilesError),
    /// A log that only its own machine appends to.
    #[error("log {0} belongs to another machine; its records are only taken in as they are")]
    NotOwn(LogId),
    /// A statement of another fleet.
    #[error("statement {0}: belongs to another fleet than this store")]
    OtherFleet(ReceiptId),
    /// Two records for one place.
    #[error(
        "log {log} seq {seq}: another record stands here already: a fork; both are kept as evidence, ask the machine's owner"
    )]
    Fork {
        /// The log.
        log: LogId,
        /// The place.
        seq: u64,
    },
    /// The statement breaks a rule.
    #[error(transparent)]
    Statement(#[from] StatementError),
    /// A record breaks a rule.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A record does not continue its log.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// A key is unusable.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Nobody's word, or not this author's, destroys that payload.
    #[error(
        "receipt {0}: only its author, an operator or the root key may erase its payload; ask one of them"
    )]
    MayNotErase(ReceiptId),
    /// The receipt has no payload.
    #[error(
        "receipt {0} has no payload, so there is nothing to erase; what its statement says stays for ever"
    )]
    NothingToErase(ReceiptId),
    /// A reason that is too long, or none.
    #[error("an erasure needs a reason of 1 to 200 bytes, found {0}; say it shorter")]
    ErasureReason(usize),
    /// The `erased` receipt is durable, but the disk failed before everything was overwritten.
    #[error(
        "the erasure is recorded, but overwriting the payload failed: {0}; reopen the store, which finishes it"
    )]
    NotOverwritten(String),
    /// The queue to the committer is full.
    #[error("the ledger is busy: {0} commands wait already; try again in a moment")]
    Busy(usize),
    /// The engine stopped, or its last write failed.
    #[error("the ledger is closed to appends: {0}; reopen it")]
    Closed(String),
    /// A write failed in a way that leaves open whether it is durable.
    #[error("commit outcome unknown: {0}; reopen the store, then look for the receipt by its id")]
    Unknown(String),
    /// A verification that cannot go on from an earlier one, or that was stopped.
    #[error(transparent)]
    Resume(#[from] crate::verify::ResumeError),
    /// Nothing of it was committed.
    #[error("not committed: {0}")]
    NotCommitted(String),
}

impl LedgerError {
    /// The stable code of this error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Io { .. } => "ledger.io",
            Self::Journal(e) => e.code(),
            Self::Anchor(e) => e.code(),
            Self::Lock(e) => e.code(),
            Self::Derived { .. } => "ledger.derived",
            Self::NoStore(_) => "ledger.no-store",
            Self::StoreExists(_) => "ledger.store-exists",
            Self::StoreLost(_) => "ledger.store-lost",
            Self::ForeignKeys(_) => "ledger.foreign-keys",
            Self::KeyFile { .. } => "ledger.key-file",
            Self::BehindAnchor { .. } => "ledger.behind-anchor",
            Self::Behind(_) => "ledger.behind",
            Self::UnknownLog(_) => "ledger.unknown-log",
            Self::Corrupt { .. } => "ledger.corrupt",
            Self::HeadMoved { .. } => "ledger.head-moved",
            Self::IdTaken { .. } => "ledger.id-taken",
            Self::NoCheckpointKey { .. } => "ledger.no-checkpoint-key",
            Self::RootDiffers { .. } => "ledger.root-differs",
            Self::UnknownReceipt { .. } => "receipt.unknown",
            Self::Pruned { .. } | Self::PrunedId(_) => "ledger.pruned",
            Self::NotPrunable { .. } => "ledger.not-prunable",
            Self::NotCosigned { .. } => "ledger.not-cosigned",
            Self::NotBegun { .. } => "ledger.not-begun",
            Self::PrunedUnsaid(_) => "ledger.pruned-unsaid",
            Self::Publish { .. } => "ledger.publish",
            Self::Proof(e) => e.code(),
            Self::Tiles(e) => e.code(),
            Self::NotOwn(_) => "ledger.not-own",
            Self::OtherFleet(_) => "ledger.other-fleet",
            Self::Fork { .. } => "ledger.fork",
            Self::Statement(e) => e.code(),
            Self::Record(e) => e.code(),
            Self::Chain(e) => e.code(),
            Self::Key(e) => e.code(),
            Self::MayNotErase(_) => "ledger.may-not-erase",
            Self::NothingToErase(_) => "ledger.nothing-to-erase",
            Self::ErasureReason(_) => "ledger.erasure-reason",
            Self::NotOverwritten(_) => "ledger.not-overwritten",
            Self::Busy(_) => "ledger.busy",
            Self::Closed(_) => "ledger.closed",
            Self::Unknown(_) => "ledger.unknown",
            Self::NotCommitted(_) => "ledger.not-committed",
            Self::Resume(e) => e.code(),
        }
    }
}
