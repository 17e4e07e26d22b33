//! The contract of a fold that may lag behind the committer.
//!
//! It is fed the fleet's order, one receipt after another (a store without an order: its own facts), and reads what the
//! order pins from other logs itself. Folding is deterministic and never reads a payload. What it needs and the store
//! does not have makes it wait, visibly: it is asked again with the very same receipt.

use ledger::{Change, Changes, Receipt, Row};
use ledger_core::{LogId, SealDigest};

/// Receipts of any log of the store.
pub trait ReceiptSource {
    /// The receipts of a log from `first` to `last`, both included, as far as the store has them; callers ask for at most
    /// [`RANGE_MAX`].
    ///
    /// # Errors
    /// [`SourceError`] when the store cannot be read.
    fn range(&self, log: &LogId, first: u64, last: u64) -> Result<Vec<Receipt>, SourceError>;
}

/// Receipts in one answer of a [`ReceiptSource`]: a few hundred kilobytes.
pub const RANGE_MAX: u64 = 512;

/// The store could not be read.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("reading receipts: {0}; run `ledger verify`")]
pub struct SourceError(pub String);

/// Why a fold stands still.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Halt {
    /// Receipts that the order pins are not in this store yet.
    #[error(
        "waits for receipts {first} to {last} of log {log}, which the order pins and this store does not have yet"
    )]
    Missing {
        /// The log.
        log: LogId,
        /// The first that is missing.
        first: u64,
        /// The last that is needed.
        last: u64,
    },
    /// The store has another record than the order pins.
    #[error(
        "log {log} has seal {found} at seq {seq} here, the order pins {pinned}: a fork; run `ledger verify`"
    )]
    Fork {
        /// The log.
        log: LogId,
        /// The seq.
        seq: u64,
        /// What the order pins.
        pinned: SealDigest,
        /// What is here.
        found: SealDigest,
    },
    /// The store could not be read.
    #[error(transparent)]
    Source(#[from] SourceError),
}

impl Halt {
    /// The stable code of this reason.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Missing { .. } => "projection.missing-range",
            Self::Fork { .. } => "projection.fork",
            Self::Source(_) => "projection.source",
        }
    }
}

/// A pure fold with rows that can be kept. Cloning must be cheap: a step works on a clone.
pub trait Projection: Clone {
    /// Names its rows in the derived store.
    const NAME: &'static str;
    /// A changed version makes it fold everything again.
    const VERSION: u32;

    /// Before any receipt.
    fn empty() -> Self;

    /// Takes in one receipt.
    ///
    /// # Errors
    /// [`Halt`]; the clone that was folded into is then dropped.
    fn fold(
        &mut self,
        receipt: &Receipt,
        source: &dyn ReceiptSource,
        changes: &mut Changes,
    ) -> Result<(), Halt>;

    /// Takes back one row that was kept.
    ///
    /// # Errors
    /// A sentence when the row does not decode; everything is then folded again.
    fn load(&mut self, row: &Row) -> Result<(), String>;
}

/// What a projection kept.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Kept {
    /// How far it is, as the runner encoded it.
    pub cursor: Vec<u8>,
    /// The running digest over its changes.
    pub digest: [u8; 32],
    /// Its rows.
    pub rows: Vec<Row>,
}

/// Where projections keep rows, cursor and digest: all of one step at once, or nothing of it.
pub trait RowStore {
    /// What a projection kept under this version; `None` when there is nothing.
    ///
    /// # Errors
    /// [`SourceError`] when the rows cannot be read.
    fn load(&self, name: &str, version: u32) -> Result<Option<Kept>, SourceError>;

    /// Keeps a step.
    ///
    /// # Errors
    /// [`SourceError`] when nothing of it was kept.
    fn commit(
        &self,
        name: &str,
        version: u32,
        changes: &[Change],
        cursor: &[u8],
        digest: &[u8; 32],
    ) -> Result<(), SourceError>;

    /// Forgets everything of a projection.
    ///
    /// # Errors
    /// [`SourceError`] when it could not.
    fn clear(&self, name: &str) -> Result<(), SourceError>;
}
