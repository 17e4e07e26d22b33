//! What travels between a replica and a source, byte by byte.
//!
//! ```text
//! message = u8 version (1), 32 digest, body            digest = blake3::derive_key("ledger v1 sync message", body)
//! body    = enum: 0 want | 1 chunk | 2 refusal         canonical postcard, docs/FORMAT.md, "Encoding"
//! want    = 32 log, option mark after
//! mark    = u64 seq, 32 seal digest
//! chunk   = 32 log, option mark after, list (bytes record, option payload) records, bool complete
//! payload = 32 salt, bytes
//! refusal = 32 log, enum: 0 fork (u64 seq, bytes record) | 1 behind (option u64 newest)
//!           | 2 pruned (u64 first)
//! ```
//!
//! Contract: one message, one encoding; what is larger than [`MESSAGE_BYTES_MAX`] is refused unread. Messages carry no
//! length of their own: framing is the transport's.

use super::error::SyncError;
use crate::intake::RawRecord;
use ledger_core::limits::{PAYLOAD_BYTES_MAX, RECORD_BYTES_MAX};
use ledger_core::{Chain, LogId, SealDigest, canonical};
use serde::{Deserialize, Serialize};

/// The version of the messages.
pub const VERSION: u8 = 1;
/// Context of a message's digest.
pub const CONTEXT_MESSAGE: &str = "ledger v1 sync message";
/// Bytes of records and payloads after which a chunk takes no more, so that one message stays a small allocation.
pub const CHUNK_BYTES: usize = 512 * 1024;
/// Records in one chunk: what is verified and committed at a time.
pub const CHUNK_RECORDS_MAX: usize = 2048;
/// Bytes of a whole message.
pub const MESSAGE_BYTES_MAX: usize = 1024 * 1024;

/// Version and digest.
const HEADER_BYTES: usize = 1 + 32;
/// Bytes of a record's lengths, option and salt at most.
pub(super) const RECORD_OVERHEAD_BYTES: usize = 48;

// The record that fills a chunk may be the largest one, and the rest of the message is small.
const _: () = assert!(
    CHUNK_BYTES + RECORD_BYTES_MAX + PAYLOAD_BYTES_MAX + RECORD_OVERHEAD_BYTES + 1024 < MESSAGE_BYTES_MAX
);

/// A place in a log that somebody durably has.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Mark {
    /// The newest seq.
    pub seq: u64,
    /// The digest of its seal.
    pub seal: SealDigest,
}

impl Mark {
    /// The newest place of a chain.
    pub fn of(chain: &Chain) -> Self {
        let (seq, seal) = chain.tip();
        Self { seq, seal }
    }
}

/// What a replica asks for: the records of a log behind a mark.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Want {
    /// The log.
    pub log: LogId,
    /// What the replica durably has; `None` for nothing.
    pub after: Option<Mark>,
}

impl Want {
    /// The bytes to send.
    ///
    /// ```
    /// use ledger::sync::Want;
    /// let want = Want { log: ledger::core::LogId([7; 32]), after: None };
    /// assert_eq!(Want::decode(&want.encode())?, want);
    /// # Ok::<(), ledger::sync::SyncError>(())
    /// ```
    pub fn encode(self) -> Vec<u8> {
        Message::Want(self).encode()
    }

    /// A want from exactly its bytes.
    ///
    /// # Errors
    /// As [`Message::decode`]; [`SyncError::Unexpected`] for another message.
    pub fn decode(bytes: &[u8]) -> Result<Self, SyncError> {
        match Message::decode(bytes)? {
            Message::Want(want) => Ok(want),
            other => Err(other.unexpected("a want")),
        }
    }
}

/// A contiguous run of one log, as the source has it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Chunk {
    /// The log.
    pub log: LogId,
    /// The mark of the [`Want`] that this answers.
    pub after: Option<Mark>,
    /// Exact records, each with its payload when the source has that, at most [`CHUNK_RECORDS_MAX`].
    pub records: Vec<RawRecord>,
    /// Whether the source had nothing behind them.
    pub complete: bool,
}

impl Chunk {
    /// The bytes to send.
    pub fn encode(self) -> Vec<u8> {
        Message::Chunk(self).encode()
    }

    /// A chunk from exactly its bytes. Its records are verified only when a [`super::Replica`] takes it.
    ///
    /// # Errors
    /// As [`Message::decode`]; [`SyncError::Unexpected`] for another message.
    ///
    /// ```
    /// use ledger::sync::Chunk;
    /// let log = ledger::core::LogId([7; 32]);
    /// let chunk = Chunk { log, after: None, records: Vec::new(), complete: true };
    /// assert_eq!(Chunk::decode(&chunk.clone().encode())?, chunk);
    /// # Ok::<(), ledger::sync::SyncError>(())
    /// ```
    pub fn decode(bytes: &[u8]) -> Result<Self, SyncError> {
        match Message::decode(bytes)? {
            Message::Chunk(chunk) => Ok(chunk),
            other => Err(other.unexpected("a chunk")),
        }
    }

    pub(super) fn check_bounds(&self) -> Result<(), SyncError> {
        let found = self.records.len();
        if found > CHUNK_RECORDS_MAX {
            return Err(SyncError::TooLarge {
                unit: "records",
                found,
                max: CHUNK_RECORDS_MAX,
            });
        }
        Ok(())
    }
}

/// Why a source has no chunk for a replica.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Refusal {
    /// The log.
    pub log: LogId,
    /// The reason.
    pub reason: Reason,
}

/// The reason of a [`Refusal`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Reason {
    /// Another record stands at the replica's mark.
    Fork {
        /// The mark's seq.
        seq: u64,
        /// The exact bytes of the source's record there, which prove it.
        record: Vec<u8>,
    },
    /// The source has less than the replica.
    Behind {
        /// Its newest seq; `None` when it has nothing of the log.
        newest: Option<u64>,
    },
    /// The source pruned records that the replica lacks.
    Pruned {
        /// The first seq that it has, besides the genesis.
        first: u64,
    },
}

/// Everything that travels.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Message {
    /// From the replica: what it lacks.
    Want(Want),
    /// From the source: the next records.
    Chunk(Chunk),
    /// From the source: why there are none.
    Refusal(Refusal),
}

impl Message {
    /// The bytes to send.
    pub fn encode(&self) -> Vec<u8> {
        let body = canonical::encode(self);
        let mut bytes = Vec::with_capacity(HEADER_BYTES + body.len());
        bytes.push(VERSION);
        bytes.extend_from_slice(&blake3::derive_key(CONTEXT_MESSAGE, &body));
        bytes.extend_from_slice(&body);
        bytes
    }

    /// A message from exactly its bytes.
    ///
    /// # Errors
    /// [`SyncError::TooLarge`] for more than [`MESSAGE_BYTES_MAX`] bytes or [`CHUNK_RECORDS_MAX`] records;
    /// [`SyncError::Damaged`] when bytes are missing, added or changed; [`SyncError::Version`] for a version that is not
    /// [`VERSION`]; [`SyncError::Malformed`] when the body is whole and is not canonical.
    ///
    /// ```
    /// use ledger::core::LogId;
    /// use ledger::sync::{Message, Want};
    /// let mut bytes = Want { log: LogId([7; 32]), after: None }.encode();
    /// *bytes.last_mut().unwrap() ^= 1;
    /// assert_eq!(Message::decode(&bytes).unwrap_err().code(), "sync.damaged");
    /// ```
    pub fn decode(bytes: &[u8]) -> Result<Self, SyncError> {
        let found = bytes.len();
        if found > MESSAGE_BYTES_MAX {
            return Err(SyncError::TooLarge {
                unit: "bytes",
                found,
                max: MESSAGE_BYTES_MAX,
            });
        }
        let damaged = SyncError::Damaged { found };
        let Some((header, body)) = bytes.split_at_checked(HEADER_BYTES) else {
            return Err(damaged);
        };
        if blake3::derive_key(CONTEXT_MESSAGE, body)[..] != header[1..] {
            return Err(damaged);
        }
        if header[0] != VERSION {
            return Err(SyncError::Version { found: header[0] });
        }
        let message: Self = canonical::decode("sync message", body)?;
        if let Self::Chunk(chunk) = &message {
            chunk.check_bounds()?;
        }
        Ok(message)
    }

    pub(super) fn unexpected(&self, expected: &'static str) -> SyncError {
        let found = match self {
            Self::Want(_) => "want",
            Self::Chunk(_) => "chunk",
            Self::Refusal(_) => "refusal",
        };
        SyncError::Unexpected { expected, found }
    }
}
