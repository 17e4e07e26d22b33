//! A receipt as readers and folds see it: a record and its place in this store.

use crate::Position;
use ledger_core::kinds::Evidence;
use ledger_core::{Hlc, LogId, ReceiptId, Record, SealDigest, Statement};
use std::sync::Arc;

/// One record and where this store keeps it. Cheap to clone.
///
/// ```
/// use ledger::core::{Draft, Kind, Subject};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// let ledger = ledger::Ledger::lone(dir.path().join("log"), "my-agent")?;
/// let receipt = ledger.append(Draft::custom(Kind::new("x.note")?, Subject::new("chat/1")?))?;
/// assert_eq!((receipt.seq(), receipt.kind()), (1, "x.note"));
/// assert_eq!(receipt.statement().author, ledger.context().machine_key); // who said it
/// assert_eq!(Some(receipt.log()), ledger.own_log(ledger::core::Stream::Facts)); // who sealed it
/// assert!(receipt.time().unix_ms() > 1_600_000_000_000); // when
/// # Ok(()) }
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Receipt {
    /// Its place in this store's journal.
    pub position: Position,
    /// The record.
    pub record: Arc<Record>,
}

impl Receipt {
    /// The log that sealed it.
    pub fn log(&self) -> LogId {
        self.record.seal().log
    }

    /// Its place in that log.
    pub fn seq(&self) -> u64 {
        self.record.seal().seq
    }

    /// The author's id for it.
    pub fn id(&self) -> ReceiptId {
        self.record.statement().id
    }

    /// When the log sealed it.
    pub fn time(&self) -> Hlc {
        self.record.seal().time
    }

    /// The digest of its seal.
    pub fn seal_digest(&self) -> SealDigest {
        self.record.seal_digest()
    }

    /// What was said.
    pub fn statement(&self) -> &Statement {
        self.record.statement()
    }

    /// The kind's name.
    pub fn kind(&self) -> &str {
        self.record.statement().kind.as_str()
    }

    /// How a decision cites it.
    pub fn evidence(&self) -> Evidence {
        Evidence {
            log: self.log(),
            seq: self.seq(),
            seal: self.seal_digest(),
        }
    }
}
