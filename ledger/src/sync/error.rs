//! What can go wrong between a source and a replica. Each error has a stable code and says what to do.

use crate::error::LedgerError;
use ledger_core::error::DecodeError;
use ledger_core::{LogId, SealDigest};

/// Two different records for one place of a log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fork {
    /// The log.
    pub log: LogId,
    /// The first place where both sides are known to differ.
    pub seq: u64,
    /// The seal that stands here.
    pub ours: SealDigest,
    /// The seal that stands there.
    pub theirs: SealDigest,
    /// The exact bytes of a record from there that the log's own key sealed and that has no place here: it stands at
    /// `seq`, or behind it and names `theirs` as the seal before. Together with our record it proves that the
    /// key sealed both, so keep it. Absent at a source, which is told no more than a digest.
    pub evidence: Option<Vec<u8>>,
}

/// An error of replication.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SyncError {
    /// More than a message may hold.
    #[error("a sync message of {found} {unit}, at most {max} are taken; ask for smaller chunks")]
    TooLarge {
        /// Bytes or records.
        unit: &'static str,
        /// How many.
        found: usize,
        /// The bound.
        max: usize,
    },
    /// Not what was sent.
    #[error(
        "a sync message of {found} bytes was cut short or changed on the way: its digest differs; ask again"
    )]
    Damaged {
        /// How many bytes came.
        found: usize,
    },
    /// A version that this code does not know.
    #[error("a sync message of version {found}, this side speaks {expected}; update the older side", expected = super::VERSION)]
    Version {
        /// What came.
        found: u8,
    },
    /// Whole, but not a message: the other side is broken.
    #[error("a sync message that arrived whole does not decode: {0}; the other side is at fault")]
    Malformed(#[from] DecodeError),
    /// A message that this side does not take.
    #[error("expected {expected}, got a {found}; connect a source with a replica")]
    Unexpected {
        /// What this side takes.
        expected: &'static str,
        /// What came.
        found: &'static str,
    },
    /// About another log than was asked for.
    #[error("asked for log {expected}, the answer is about log {found}; check the connection")]
    OtherLog {
        /// What was asked for.
        expected: LogId,
        /// What came.
        found: LogId,
    },
    /// This store writes the log itself.
    #[error("log {0} is this store's own; it is appended to here and never replicated in")]
    OwnLog(LogId),
    /// Records between what is here and what came are missing. Nothing was taken; asking again closes the gap.
    #[error("log {log}: expected seq {expected}, the chunk begins at {found}; ask again")]
    Gap {
        /// The log.
        log: LogId,
        /// The next seq that is wanted.
        expected: u64,
        /// Where the chunk begins.
        found: u64,
    },
    /// A chunk without records that is not the end.
    #[error("log {0}: a chunk without records says that there is more; the source is at fault")]
    Empty(LogId),
    /// Both sides have another record at one place.
    #[error(
        "log {log} seq {seq}: ours has the seal {ours}, theirs {theirs}: a fork; both sides keep what they have, ask the machine's owner",
        log = .0.log, seq = .0.seq, ours = .0.ours.short(), theirs = .0.theirs.short()
    )]
    Fork(Box<Fork>),
    /// A source that says there is a fork and shows no record for it.
    #[error(
        "log {log} seq {seq}: the source says that we are on a fork, and the record that it shows does not prove it; ask another source"
    )]
    Unproven {
        /// The log.
        log: LogId,
        /// Where it says that.
        seq: u64,
    },
    /// The source has less than the replica.
    #[error(
        "log {log}: the source ends {source_end}, the replica has seq {replica}; \
         a mirror that lags catches up, the log's own machine lost what it had acknowledged",
        source_end = source_newest.map_or("before its genesis".to_owned(), |seq| format!("at seq {seq}"))
    )]
    Behind {
        /// The log.
        log: LogId,
        /// The newest seq at the source; `None` when it has nothing of the log.
        source_newest: Option<u64>,
        /// What the replica has.
        replica: u64,
    },
    /// The source pruned records that the replica lacks.
    #[error(
        "log {log}: the source pruned what is missing here; besides the genesis it begins at seq {first}; ask another source, or begin behind it (`Ledger::begin_behind`)"
    )]
    Pruned {
        /// The log.
        log: LogId,
        /// The first seq that the source has, besides the genesis.
        first: u64,
    },
    /// The source has nothing of the log.
    #[error("log {0} is not at the source; ask another one")]
    Unknown(LogId),
    /// The engine, or the verification of what came.
    #[error(transparent)]
    Ledger(Box<LedgerError>),
}

impl From<LedgerError> for SyncError {
    fn from(error: LedgerError) -> Self {
        Self::Ledger(Box::new(error))
    }
}

impl SyncError {
    /// The stable code of this error.
    ///
    /// ```
    /// use ledger::sync::{SyncError, Want};
    /// assert_eq!(Want::decode(&[1, 2, 3]).unwrap_err().code(), "sync.damaged");
    /// ```
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "sync.too-large",
            Self::Damaged { .. } => "sync.damaged",
            Self::Version { .. } => "sync.version",
            Self::Malformed(_) => "sync.malformed",
            Self::Unexpected { .. } => "sync.unexpected",
            Self::OtherLog { .. } => "sync.other-log",
            Self::OwnLog(_) => "sync.own-log",
            Self::Gap { .. } => "sync.gap",
            Self::Empty(_) => "sync.empty",
            Self::Fork(_) => "sync.fork",
            Self::Unproven { .. } => "sync.unproven",
            Self::Behind { .. } => "sync.behind",
            Self::Pruned { .. } => "sync.pruned",
            Self::Unknown(_) => "sync.unknown-log",
            Self::Ledger(e) => e.code(),
        }
    }

    /// Whether the delivery alone may be to blame, so that asking the same source again is worth while.
    ///
    /// ```
    /// use ledger::sync::Want;
    /// assert!(Want::decode(b"cut short").unwrap_err().is_delivery());
    /// ```
    pub fn is_delivery(&self) -> bool {
        matches!(
            self,
            Self::Damaged { .. } | Self::Version { .. } | Self::Gap { .. }
        )
    }
}
