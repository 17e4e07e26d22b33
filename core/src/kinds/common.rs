//! What several details share.

use crate::digest::{Commitment, LogId, SealDigest};
use crate::id::ReceiptId;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Names a job: derived from the author and id of the request that it came from, so that a request sealed twice is one
/// job.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobId(pub ReceiptId);

// By its bytes, compared as the one number that they are: a fold looks a job up for each receipt.
impl Ord for JobId {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let number = |id: &Self| u128::from_be_bytes(id.0.0);
        number(self).cmp(&number(other))
    }
}

impl PartialOrd for JobId {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl JobId {
    /// The job of a request.
    pub fn of_request(author: &crate::PublicKey, request: &ReceiptId) -> Self {
        Self(crate::digest::derived_id(&[b"job", &author.0, &request.0]))
    }

    /// The subject `job/<id>`.
    pub fn subject(&self) -> crate::Subject {
        crate::Subject::new(&format!("job/{self}")).expect("short and printable")
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The token that names one claim for ever: epoch, seq of its `job.claimed`, and the first half of that seal's digest.
/// Ordered by (epoch, seq); identified by the digest, since a log that lost its tail may use a seq again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Fence {
    /// The epoch of the order.
    pub epoch: u64,
    /// The seq of the claim in that epoch's order log.
    pub seq: u64,
    /// The first 16 bytes of the claim's seal digest.
    #[serde(with = "hex16")]
    pub digest: [u8; 16],
}

impl Fence {
    /// The fence of a claim at its place.
    pub fn of_claim(epoch: u64, seq: u64, seal: &SealDigest) -> Self {
        let mut digest = [0; 16];
        digest.copy_from_slice(&seal.0[..16]);
        Self { epoch, seq, digest }
    }

    /// Reads `epoch-seq-hex`; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, '-');
        let (epoch, seq) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let digest = data_encoding::HEXLOWER
            .decode(parts.next()?.as_bytes())
            .ok()?
            .try_into()
            .ok()?;
        Some(Self { epoch, seq, digest })
    }
}

impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}-{}-{}",
            self.epoch,
            self.seq,
            data_encoding::HEXLOWER.encode(&self.digest)
        )
    }
}

impl fmt::Debug for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fence({self})")
    }
}

pub(super) mod hex16 {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(crate) fn serialize<S: Serializer>(bytes: &[u8; 16], s: S) -> Result<S::Ok, S::Error> {
        if s.is_human_readable() {
            s.serialize_str(&data_encoding::HEXLOWER.encode(bytes))
        } else {
            bytes.serialize(s)
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<[u8; 16], D::Error> {
        if !d.is_human_readable() {
            return <[u8; 16]>::deserialize(d);
        }
        let text = <std::borrow::Cow<'de, str>>::deserialize(d)?;
        let bytes = data_encoding::HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok();
        bytes
            .and_then(|b| b.try_into().ok())
            .ok_or_else(|| serde::de::Error::custom("32 hex characters expected"))
    }
}

pub(super) mod hex32 {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(crate) fn serialize<S: Serializer>(bytes: &[u8; 32], s: S) -> Result<S::Ok, S::Error> {
        if s.is_human_readable() {
            s.serialize_str(&data_encoding::HEXLOWER.encode(bytes))
        } else {
            bytes.serialize(s)
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<[u8; 32], D::Error> {
        if !d.is_human_readable() {
            return <[u8; 32]>::deserialize(d);
        }
        let text = <std::borrow::Cow<'de, str>>::deserialize(d)?;
        let bytes = data_encoding::HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok();
        bytes
            .and_then(|b| b.try_into().ok())
            .ok_or_else(|| serde::de::Error::custom("64 hex characters expected"))
    }
}

/// Where a machine said what a decision cites.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Evidence {
    /// The log.
    pub log: LogId,
    /// The place in it.
    pub seq: u64,
    /// The digest of the seal there.
    pub seal: SealDigest,
}

/// How harmful a repetition is; declared by the handler.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// Short and harmless to repeat.
    Light,
    /// Long and pure.
    Heavy,
    /// Effects outside, at most once.
    Exclusive,
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Light => "light",
            Self::Heavy => "heavy",
            Self::Exclusive => "exclusive",
        })
    }
}

/// A job's input: the payload of its request, by commitment (salted, so that it tells nothing once it is erased).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct InputRef {
    /// The commitment in the request's statement.
    pub commitment: Commitment,
    /// Its size in bytes.
    pub bytes: u32,
}

/// The outputs of a run, told apart by their manifest.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Outputs {
    /// See [`crate::digest::outputs_manifest`].
    #[serde(with = "hex32")]
    pub manifest: [u8; 32],
    /// How many `artifact.staged` the run has under its fence.
    pub count: u32,
}

/// What a run cost. Time and memory are measured by us, tokens and money as the handler reports them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Costs {
    /// Wall time in milliseconds.
    pub wall_ms: u64,
    /// CPU time in milliseconds.
    pub cpu_ms: u64,
    /// Peak resident memory in bytes.
    pub peak_memory_bytes: u64,
    /// Tokens.
    pub tokens: u64,
    /// Millionths of a US dollar.
    pub usd_micros: u64,
}

/// What made a run fail.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorClass {
    /// It exited with a status other than 0.
    ExitStatus,
    /// A signal ended it.
    Signal,
    /// It ran longer than the handler's timeout.
    Timeout,
    /// It could not be started.
    Spawn,
    /// The machine does not declare the handler.
    Undeclared,
    /// It was told to stop.
    Cancelled,
    /// Its input was absent or not what the job names.
    Input,
    /// Its outputs could not be kept.
    Outputs,
}

/// What a key may do, as a bundle of patterns.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Writes the order.
    Central,
    /// Executes jobs in pull mode.
    Node,
    /// The person (or the shells on a machine): requests, messages and custom kinds; reads everything.
    Operator,
    /// Only hands in messages and requests.
    Relay,
    /// What its patterns say.
    Agent,
    /// Requests, and what belongs to them.
    Client,
    /// Reads.
    Reader,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Central => "central",
            Self::Node => "node",
            Self::Operator => "operator",
            Self::Relay => "relay",
            Self::Agent => "agent",
            Self::Client => "client",
            Self::Reader => "reader",
        })
    }
}
