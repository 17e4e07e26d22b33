//! What can go wrong with a journal, each with a stable code and, for appends, its outcome.

use super::format::StoreId;
use std::io;
use std::path::PathBuf;

/// What is known about an append that failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Nothing of it is in the journal, and nothing will appear there.
    NotCommitted,
    /// It may or may not be there after the journal is opened again.
    Unknown,
}

/// A fault of the journal or of the disk below it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// The disk refused an operation.
    #[error(
        "journal: cannot {doing} {path}: {source}; check the disk, then open the store again, which recovers what is \
         durable"
    )]
    Io {
        /// What was tried.
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
        /// What is known about the entries being appended.
        outcome: Outcome,
    },
    /// The disk is full; nothing was appended, and the journal goes on working when there is room.
    #[error(
        "journal: no space left for {path}: nothing was appended; free some space, then try again (no need to reopen)"
    )]
    NoSpace {
        /// The segment.
        path: PathBuf,
    },
    /// An earlier write or sync failed, so nothing is written until the journal is opened again.
    #[error(
        "journal: an earlier write failed ({cause}), so nothing was appended now; open the store again, which recovers \
         what is durable"
    )]
    Poisoned {
        /// The first failure.
        cause: String,
    },
    /// Acknowledged bytes are damaged or gone.
    #[error(
        "journal segment {segment:08}, offset {offset}: {what}; acknowledged receipts are damaged: keep a copy of the \
         folder, then repair from a peer or a backup"
    )]
    Corrupt {
        /// The segment's number.
        segment: u32,
        /// Bytes from its beginning.
        offset: u32,
        /// What is wrong, in words.
        what: String,
    },
    /// A place that holds no entry.
    #[error(
        "journal segment {segment:08}, offset {offset}: no entry begins there; the position is stale or made up"
    )]
    NoEntry {
        /// The segment's number.
        segment: u32,
        /// Bytes from its beginning.
        offset: u32,
    },
    /// A place whose entry was pruned.
    #[error(
        "journal segment {segment:08}, offset {offset}: the entry that stood there was pruned, as a receipt says"
    )]
    Pruned {
        /// The segment's number.
        segment: u32,
        /// Bytes from its beginning.
        offset: u32,
    },
    /// More than one batch may hold.
    #[error(
        "journal: {what} of {found} is over the limit of {limit}; nothing was appended; append in smaller parts"
    )]
    TooLarge {
        /// Which size.
        what: &'static str,
        /// What it is.
        found: u64,
        /// What it may be.
        limit: u64,
    },
    /// The folder holds no segment.
    #[error(
        "journal {dir}: holds no segment; the path is wrong, or the disk was lost: restore it or found the store anew"
    )]
    Missing {
        /// The folder.
        dir: PathBuf,
    },
    /// A journal is there already.
    #[error("journal {dir}: holds something already; open it, or choose an empty folder")]
    Exists {
        /// The folder.
        dir: PathBuf,
    },
    /// Another store's journal.
    #[error(
        "journal {dir}: belongs to store {found}, but store {expected} was expected; data and keys do not fit together"
    )]
    OtherStore {
        /// The folder.
        dir: PathBuf,
        /// What the anchor says.
        expected: StoreId,
        /// What the segments say.
        found: StoreId,
    },
    /// Written by a newer program.
    #[error("journal segment {segment:08}: format version {found}; this program knows version 1; upgrade it")]
    Version {
        /// The segment's number.
        segment: u32,
        /// The version found.
        found: u32,
    },
}

impl JournalError {
    /// The stable code of this error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Io { .. } => "journal.io",
            Self::NoSpace { .. } => "journal.no-space",
            Self::Poisoned { .. } => "journal.poisoned",
            Self::Corrupt { .. } => "journal.corrupt",
            Self::NoEntry { .. } => "journal.no-entry",
            Self::Pruned { .. } => "journal.pruned",
            Self::TooLarge { .. } => "journal.batch-too-large",
            Self::Missing { .. } => "journal.missing",
            Self::Exists { .. } => "journal.exists",
            Self::OtherStore { .. } => "journal.other-store",
            Self::Version { .. } => "journal.version",
        }
    }

    /// What is known about the entries of a failed append. Only a failed write or sync of theirs leaves it open.
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Io { outcome, .. } => *outcome,
            _ => Outcome::NotCommitted,
        }
    }

    pub(crate) fn io(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io {
            doing,
            path,
            source,
            outcome: Outcome::NotCommitted,
        }
    }

    pub(crate) fn corrupt(segment: u32, offset: u32, what: impl Into<String>) -> Self {
        Self::Corrupt {
            segment,
            offset,
            what: what.into(),
        }
    }
}

/// Whether the disk, or our share of it, is full.
pub(crate) fn is_no_space(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}
