//! Family `log`: where a log begins and ends, and what the order has taken in.

use super::common::hex16;
use crate::chain::Head;
use crate::digest::{LogId, SealDigest, TreeRoot};
use crate::key::PublicKey;
use crate::kind::{MachineId, Stream};
use serde::{Deserialize, Serialize};

/// `log.genesis` 1: seq 0 of every log.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LogGenesis {
    /// The machine that writes it.
    pub machine: MachineId,
    /// Which of its logs.
    pub stream: Stream,
    /// Which set of logs of this machine.
    pub incarnation: u32,
    /// The key that signs its seals.
    pub machine_key: PublicKey,
    /// The key that signs its checkpoints; distinct from the machine key.
    pub checkpoint_key: PublicKey,
    /// The log that this one continues, and the head at which it does.
    pub predecessor: Option<Predecessor>,
    /// In the first order log, and in a lone log: what the FleetId was made of.
    pub founding: Option<Founding>,
    /// 16 random bytes, so that two logs are never the same log.
    #[serde(with = "hex16")]
    pub nonce: [u8; 16],
}

/// The log before, and where it ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Predecessor {
    /// The log.
    pub log: LogId,
    /// Its last head.
    pub head: Head,
}

/// What a FleetId is the digest of.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Founding {
    /// The root key.
    pub root_key: PublicKey,
    /// The recovery key.
    pub recovery_key: PublicKey,
    /// 16 random bytes.
    #[serde(with = "hex16")]
    pub nonce: [u8; 16],
}

/// `log.closed` 1: the last record of a log whose machine goes on in another.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LogClosed {
    /// Why, in a few words.
    pub reason: String,
}

/// `log.pinned` 1: ranges of machines' logs that the order takes in here.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LogPinned {
    /// At most 32.
    pub ranges: Vec<PinnedRange>,
}

/// A run of one log.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PinnedRange {
    /// The log.
    pub log: LogId,
    /// The first seq.
    pub first: u64,
    /// The last seq.
    pub last: u64,
    /// The digest of the seal at `last`.
    pub seal: SealDigest,
    /// The tree root over 0 to `last`; left out for the order's own machine, where it is not yet known.
    pub root: Option<TreeRoot>,
}
