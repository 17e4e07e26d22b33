//! What can be wrong with bytes, keys, statements, records and chains. Each has a stable code.

use crate::{LogId, SealDigest};

/// Bytes that are not the canonical encoding of what they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes end early or hold a value that the type does not know.
    #[error("{what}: the bytes do not decode ({why}); they are damaged or of a newer version")]
    Malformed {
        /// The thing being decoded.
        what: &'static str,
        /// postcard's reason.
        why: String,
    },
    /// Bytes remain after the value.
    #[error("{what}: {count} bytes remain after the value; a canonical encoding has none")]
    Trailing {
        /// The thing being decoded.
        what: &'static str,
        /// How many bytes are left over.
        count: usize,
    },
    /// Encoding the value again gives other bytes (an overlong varint, for instance).
    #[error("{what}: not the canonical encoding of its value (an overlong varint?)")]
    NotCanonical {
        /// The thing being decoded.
        what: &'static str,
    },
}

impl DecodeError {
    /// The stable code of this error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Malformed { .. } => "decode.malformed",
            Self::Trailing { .. } => "decode.trailing",
            Self::NotCanonical { .. } => "decode.not-canonical",
        }
    }
}

/// A key that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Not a canonical encoding of a curve point.
    #[error("key {0}: not a canonical Ed25519 public key")]
    NotAPoint(String),
    /// A key of small order: anybody can sign for it.
    #[error("key {0}: of small order, anybody could sign for it; make a new key")]
    Weak(String),
}

impl KeyError {
    /// The stable code of this error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotAPoint(_) => "key.not-a-point",
            Self::Weak(_) => "key.weak",
        }
    }
}

/// A statement that breaks a rule of the format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StatementError {
    /// The bytes are not canonical.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The author key is unusable.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A version that this program does not know.
    #[error("statement version {0}: this program knows version 1; upgrade it")]
    Version(u8),
    /// A kind outside `[a-z0-9.-]{1,64}`.
    #[error(
        "kind {0:?}: a kind is 1 to 64 characters of a-z, 0-9, '.' and '-', and custom ones begin with \"x.\""
    )]
    Kind(String),
    /// A subject that is too long or holds control characters.
    #[error("subject of {bytes} bytes: at most 256 bytes without control characters are allowed")]
    Subject {
        /// Its length.
        bytes: usize,
    },
    /// A machine id that is empty, too long or holds other characters than `[a-z0-9-]`.
    #[error("machine id {0:?}: 1 to 64 characters of a-z, 0-9 and '-' are allowed")]
    MachineId(String),
    /// The id is neither UUIDv7 nor UUIDv8.
    #[error("id {0}: a receipt id is a UUID of version 7, or 8 when derived")]
    Id(String),
    /// An unknown grade.
    #[error("grade {0}: only 0 (first-hand), 1 (imported) and 2 (telemetry) exist")]
    Grade(u8),
    /// Too many bytes in a field.
    #[error(
        "{field} of {bytes} bytes: the limit is {limit}; put what grows into a payload or several receipts"
    )]
    TooLong {
        /// Which field.
        field: &'static str,
        /// How many bytes it has.
        bytes: usize,
        /// How many it may have.
        limit: usize,
    },
    /// The author's signature does not verify strictly.
    #[error("statement {id}: the author's signature is not valid under key {author}")]
    Signature {
        /// The receipt's id.
        id: String,
        /// The author key, hex.
        author: String,
    },
    /// The payload does not fit its commitment.
    #[error("statement {id}: the payload does not match the commitment")]
    Payload {
        /// The receipt's id.
        id: String,
    },
}

impl StatementError {
    /// The stable code of this error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Decode(e) => e.code(),
            Self::Key(e) => e.code(),
            Self::Version(_) => "statement.version",
            Self::Kind(_) => "statement.kind",
            Self::Subject { .. } => "statement.subject",
            Self::MachineId(_) => "statement.machine-id",
            Self::Id(_) => "statement.id",
            Self::Grade(_) => "statement.grade",
            Self::TooLong { .. } => "statement.too-long",
            Self::Signature { .. } => "statement.signature",
            Self::Payload { .. } => "statement.payload",
        }
    }
}

/// A record whose bytes are not a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// The framing of the four parts is broken.
    #[error("record: {0}; the bytes are damaged or are not a record")]
    Framing(&'static str),
    /// The statement in it is not acceptable.
    #[error(transparent)]
    Statement(#[from] StatementError),
    /// The seal in it is not canonical.
    #[error(transparent)]
    Seal(#[from] DecodeError),
    /// A seal version that this program does not know.
    #[error("seal version {0}: this program knows version 1; upgrade it")]
    SealVersion(u8),
    /// The seal names another statement.
    #[error("seal: names another statement than the one beside it")]
    StatementMismatch,
}

impl RecordError {
    /// The stable code of this error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Framing(_) => "record.framing",
            Self::Statement(e) => e.code(),
            Self::Seal(e) => e.code(),
            Self::SealVersion(_) => "record.seal-version",
            Self::StatementMismatch => "record.statement-mismatch",
        }
    }
}

/// A record that does not continue its log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChainError {
    /// The bytes are not a record.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The first record is not a genesis of this log.
    #[error("log {log}: {why}")]
    Genesis {
        /// The log that was expected.
        log: LogId,
        /// What is wrong with its genesis.
        why: &'static str,
    },
    /// The record belongs to another log.
    #[error("log {expected}: the record is sealed in log {found}")]
    OtherLog {
        /// The log being checked.
        expected: LogId,
        /// The log that the seal names.
        found: LogId,
    },
    /// The record belongs to another fleet.
    #[error("log {log} seq {seq}: the statement belongs to another fleet")]
    OtherFleet {
        /// The log being checked.
        log: LogId,
        /// The record's seq.
        seq: u64,
    },
    /// A gap or a repetition.
    #[error("log {log}: seq {expected} was expected, {found} found")]
    Seq {
        /// The log being checked.
        log: LogId,
        /// What should come.
        expected: u64,
        /// What came.
        found: u64,
    },
    /// The link to the previous seal is broken.
    #[error("log {log} seq {seq}: names the previous seal {found}, but that is {expected}")]
    Prev {
        /// The log being checked.
        log: LogId,
        /// The record's seq.
        seq: u64,
        /// The digest of the seal before.
        expected: SealDigest,
        /// What the record says.
        found: SealDigest,
    },
    /// The log's clock did not rise.
    #[error("log {log} seq {seq}: its time is not after the record before it")]
    Time {
        /// The log being checked.
        log: LogId,
        /// The record's seq.
        seq: u64,
    },
    /// An author other than the log's machine without an author signature.
    #[error(
        "log {log} seq {seq}: the author is not the log's machine, so an author signature is needed, and it is missing"
    )]
    AuthorSignatureMissing {
        /// The log being checked.
        log: LogId,
        /// The record's seq.
        seq: u64,
    },
    /// The machine itself as author, with a needless author signature.
    #[error(
        "log {log} seq {seq}: the author is the log's machine, so an author signature must be absent, and one is there"
    )]
    AuthorSignatureSuperfluous {
        /// The log being checked.
        log: LogId,
        /// The record's seq.
        seq: u64,
    },
    /// The author signature is not valid.
    #[error("log {log} seq {seq}: the author's signature is not valid")]
    AuthorSignature {
        /// The log being checked.
        log: LogId,
        /// The record's seq.
        seq: u64,
    },
    /// The log signature is not valid.
    #[error("log {log} seq {seq}: the log's signature is not valid")]
    LogSignature {
        /// The log being checked.
        log: LogId,
        /// The record's seq.
        seq: u64,
    },
}

impl ChainError {
    /// The stable code of this error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Record(e) => e.code(),
            Self::Genesis { .. } => "chain.genesis",
            Self::OtherLog { .. } => "chain.other-log",
            Self::OtherFleet { .. } => "chain.other-fleet",
            Self::Seq { .. } => "chain.seq",
            Self::Prev { .. } => "chain.prev",
            Self::Time { .. } => "chain.time",
            Self::AuthorSignatureMissing { .. } => "chain.author-signature-missing",
            Self::AuthorSignatureSuperfluous { .. } => "chain.author-signature-superfluous",
            Self::AuthorSignature { .. } => "chain.author-signature",
            Self::LogSignature { .. } => "chain.log-signature",
        }
    }

    /// Whether only a signature is wrong while structure and links hold.
    pub fn is_signature(&self) -> bool {
        matches!(
            self,
            Self::AuthorSignatureMissing { .. }
                | Self::AuthorSignatureSuperfluous { .. }
                | Self::AuthorSignature { .. }
                | Self::LogSignature { .. }
        )
    }
}

/// A signed note or checkpoint that does not read or verify.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoteError {
    /// Not the form of C2SP `signed-note` or `tlog-checkpoint`.
    #[error("signed note: {0}")]
    Malformed(&'static str),
    /// No signature by the pinned key.
    #[error("signed note: no signature by the key {0}")]
    Unsigned(String),
    /// A signature by the pinned key that is not valid.
    #[error("signed note: the signature by {0} is not valid")]
    Signature(String),
}

impl NoteError {
    /// The stable code of this error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "note.malformed",
            Self::Unsigned(_) => "note.unsigned",
            Self::Signature(_) => "note.signature",
        }
    }
}
