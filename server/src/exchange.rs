//! What machines say to each other: the bodies of hello, push, pull, claim, beat, cosign and join, in canonical postcard.
//!
//! Every exchange is begun by the node. Bodies are signed as HTTP messages; nothing here is trusted before that.

use crate::error::ServerError;
use ledger::core::kinds::{Class, Fence, Founding, KeyJoined};
use ledger::core::{FleetId, LogId, MachineId, Payload, PublicKey, SealDigest, canonical};
use ledger_projections::queue::Standing;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// The media type of every body.
pub const MEDIA: &str = "application/vnd.ledger.exchange";
/// Bytes of records and payloads in one push or one answer to a pull, at most; one record more may stand above it.
pub const RUN_BYTES_MAX: usize = 512 * 1024;
/// Records in one push or one answer to a pull, at most.
pub const RUN_RECORDS_MAX: usize = 2048;
/// Logs in one request for marks, at most.
pub const MARKS_MAX: usize = 1024;
/// Bytes of pushes that a gateway lets one node have on their way: the run that it verifies, and the next.
pub const WINDOW_BYTES: u32 = 2 * 640 * 1024;
/// Fences in one hello or beat, at most: far above the slots of any machine.
pub const FENCES_MAX: usize = 1024;
/// Signed notes in one list of an exchange of checkpoints: three logs, and those of an earlier incarnation.
pub const NOTES_MAX: usize = 8;
/// The longest that a long poll waits, milliseconds.
pub const WAIT_MS_MAX: u32 = 30_000;

/// A place in a log that somebody durably has.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Mark {
    /// The newest seq.
    pub seq: u64,
    /// The digest of its seal.
    pub seal: SealDigest,
}

/// A record as it is, with its payload where the sender has it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Raw {
    /// The record's exact bytes.
    #[serde(with = "whole")]
    pub record: Vec<u8>,
    /// Its payload.
    pub payload: Option<Payload>,
}

impl Raw {
    /// Bytes that it takes on its way, about.
    pub(crate) fn travels_as(&self) -> usize {
        self.record.len()
            + self
                .payload
                .as_ref()
                .map_or(0, |payload| payload.bytes.len() + 32)
            + 16
    }
}

// Bytes at once and not one after the other; on the wire it is the same.
mod whole {
    use serde::de::{Deserializer, Error, Visitor};
    use serde::ser::Serializer;
    use std::fmt;

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Vec<u8>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
                Ok(bytes.to_vec())
            }

            fn visit_byte_buf<E: Error>(self, bytes: Vec<u8>) -> Result<Vec<u8>, E> {
                Ok(bytes)
            }
        }
        deserializer.deserialize_byte_buf(Bytes)
    }
}

/// A handler as a machine declares it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Declared {
    /// Its name.
    pub handler: String,
    /// Its class.
    pub class: Class,
    /// Its labels.
    pub labels: Vec<String>,
    /// How many run at once.
    pub slots: u16,
}

/// "Here I am": the first exchange, and again whenever everything was pushed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Hello {
    /// The process that says it: a random number that it drew when it began.
    pub process: [u8; 16],
    /// Which set of logs.
    pub incarnation: u32,
    /// Heads of the own logs.
    pub logs: Vec<(LogId, Option<Mark>)>,
    /// The highest epoch that the node knows, its order log, how much of it the node has, and the record that stands there,
    /// as the proof of it.
    pub order: Option<(u64, LogId, Mark, Vec<u8>)>,
    /// Every claim that the node holds and has not written the end of; as of before the heads.
    pub fences: Vec<Fence>,
    /// What it runs.
    pub handlers: Vec<Declared>,
    /// Whether it has offered all that it has of the gateway's own logs since the gateway asked for it.
    pub offered: bool,
    /// Its clock, microseconds since 1970.
    pub now: i64,
}

/// The answer to hello.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HelloAnswer {
    /// The epoch.
    pub epoch: u64,
    /// Its order log.
    pub order: LogId,
    /// The gateway's own work and facts, to be mirrored.
    pub mirror: Vec<LogId>,
    /// What of the node's logs is durable at the gateway.
    pub marks: Vec<(LogId, Option<Mark>)>,
    /// Whether everything that the node has was here, so that its fences were judged and it may claim.
    pub synced: bool,
    /// Whether Central waits for marks and decides nothing yet.
    pub healing: bool,
    /// Whether the gateway lost the end of its own logs, and asks for the copies that the node has of them.
    pub collecting: bool,
    /// Whether the node has of the order what came after the cut of an epoch that is over.
    pub orphan: bool,
    /// A lease's term in milliseconds.
    pub term_ms: u32,
    /// Bytes of pushes that may be on their way at once, one run apart.
    pub window_bytes: u32,
    /// The gateway's clock, microseconds since 1970.
    pub now: i64,
}

/// Asks what the gateway has of the caller's own logs, of all incarnations, and of others. Changes nothing.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Marks {
    /// The process that asks, when it takes its machine's own tail back: what earlier ones pushed is not taken in any more.
    pub taking_back: Option<[u8; 16]>,
    /// The others, at most [`MARKS_MAX`].
    pub logs: Vec<LogId>,
}

/// What the gateway has of these logs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MarksAnswer {
    /// The caller's own, each with what is durable of it, older incarnations first.
    pub own: Vec<(LogId, Mark)>,
    /// The others, as they were asked for.
    pub others: Vec<(LogId, Option<Mark>)>,
}

/// A contiguous run of one log.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Push {
    /// The process that pushes, as its hello named it.
    pub process: [u8; 16],
    /// The log.
    pub log: LogId,
    /// Its records.
    pub records: Vec<Raw>,
}

/// Durable at the gateway.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PushAnswer {
    /// How far.
    pub mark: Mark,
}

/// Any log after a cursor.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Pull {
    /// The log.
    pub log: LogId,
    /// What the caller has.
    pub after: Option<Mark>,
    /// How long to wait for something new, milliseconds.
    pub wait_ms: u32,
}

/// What came after the cursor.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PullAnswer {
    /// The records.
    pub records: Vec<Raw>,
    /// Whether the caller has everything now.
    pub complete: bool,
}

/// "I have room."
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Claim {
    /// Chosen by the node; a lost answer never claims twice.
    pub claim: [u8; 16],
    /// Which set of logs.
    pub incarnation: u32,
    /// Free slots of each handler.
    pub free: Vec<(String, u16)>,
    /// How long to wait for work, milliseconds.
    pub wait_ms: u32,
}

/// A claimed job with all that its run needs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Claimed {
    /// The `job.claimed`, signed by Central's log; its place is the fence.
    pub claimed: Raw,
    /// The `job.accepted`.
    pub accepted: Raw,
    /// The `request.received` with the input.
    pub request: Option<Raw>,
    /// The last progress checkpoint's `run.checkpointed`.
    pub progress: Option<Raw>,
}

/// The answer to a claim.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ClaimAnswer {
    /// At most as many as there are free slots.
    pub jobs: Vec<Claimed>,
}

/// Renews leases by being signed; is no receipt.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Beat {
    /// The claims that go on.
    pub fences: Vec<Fence>,
}

/// The answer to a beat.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct BeatAnswer {
    /// Whether the node should say hello: a claim of it is suspect although it beats.
    pub hello: bool,
    /// What each claim has come to.
    pub standing: Vec<(Fence, Standing)>,
    /// The epoch.
    pub epoch: u64,
    /// The gateway's clock, microseconds since 1970.
    pub now: i64,
}

/// Asks for what a copy of a log needs to begin behind what the gateway pruned; answered with a [`ledger::PrunedStart`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Start {
    /// The log.
    pub log: LogId,
}

/// Checkpoints on their way to witnesses and back: signed notes (C2SP `tlog-checkpoint`), at most [`NOTES_MAX`] in each list.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Cosign {
    /// Of the node's own logs, to be cosigned.
    pub checkpoints: Vec<String>,
    /// Of the gateway's logs, with the node's cosignature.
    pub cosigned: Vec<String>,
}

/// The answer to [`Cosign`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CosignAnswer {
    /// The node's checkpoints with the gateway's cosignature.
    pub cosigned: Vec<String>,
    /// Those that were not cosigned, and why.
    pub refused: Vec<(LogId, String)>,
    /// Of the gateway's own logs, to be cosigned by the node.
    pub checkpoints: Vec<String>,
}

/// Asks to join: what the invitation's line cannot tell, first without, then with the proofs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Join {
    /// "What would I be?" The code proves that one was invited.
    Look {
        /// The single-use code.
        code: [u8; 16],
    },
    /// "Take me in." Everything is proven inside.
    Enter {
        /// The single-use code.
        code: [u8; 16],
        /// The detail of the `key.joined` that Central will write, with both proofs.
        joined: Box<KeyJoined>,
        /// The genesis records of work, facts and pulse.
        genesis: Vec<Vec<u8>>,
    },
}

/// The answer to a join.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct JoinAnswer {
    /// The fleet.
    pub fleet: FleetId,
    /// What its id is the digest of; the joiner checks it against the root key's fingerprint in the line.
    pub founding: Founding,
    /// The invitation.
    pub invitation: ledger::core::ReceiptId,
    /// The role that it grants.
    pub role: ledger::core::kinds::Role,
    /// The name that it fixes.
    pub machine: Option<MachineId>,
    /// The gateway's machine.
    pub gateway: MachineId,
    /// The key that signs the gateway's answers.
    pub gateway_key: PublicKey,
    /// The order log.
    pub order: LogId,
    /// The order from its genesis on as far as is needed to prove all that: the founding records.
    pub proof: Vec<Raw>,
}

/// Decodes a body.
///
/// # Errors
/// [`ServerError::Malformed`].
pub fn decode<T: Serialize + DeserializeOwned>(what: &'static str, body: &[u8]) -> Result<T, ServerError> {
    canonical::decode(what, body).map_err(|e| ServerError::Malformed(e.to_string()))
}

/// Encodes a body.
pub fn encode<T: Serialize>(body: &T) -> Vec<u8> {
    canonical::encode(body)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_record_travels_as_a_list_of_its_bytes() {
        let raw = Raw {
            record: (0..=255).collect(),
            payload: None,
        };
        let plain: (Vec<u8>, Option<Payload>) = (raw.record.clone(), None);
        assert_eq!(encode(&raw), encode(&plain));
        assert_eq!(decode::<Raw>("raw", &encode(&raw)).unwrap(), raw);
    }
}
