//! Family `log`: where a log begins and ends, and what the order has taken in.

use super::common::hex16;
use crate::chain::Head;
use crate::digest::{LogId, SealDigest, TreeRoot};
use crate::hlc::Hlc;
use crate::id::ReceiptId;
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

/// `log.pruned` 1: the oldest records of a pulse log are gone from this machine's store, all but its genesis (seq 0). With
/// the genesis it is all that is needed to go on behind them: to check the chain, and to prove what remains.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LogPruned {
    /// The log.
    pub log: LogId,
    /// The first seq that goes with this receipt, at least 1; what lies before it went before.
    pub first: u64,
    /// The last seq that goes.
    pub last: u64,
    /// The digest of the seal at `last`.
    pub seal: SealDigest,
    /// That seal's time.
    pub time: Hlc,
    /// Roots of the perfect subtrees over the records 0 to `last` (RFC 6962), largest first: one for each set bit of their
    /// number.
    pub peaks: Vec<TreeRoot>,
    /// The log's head when this was said; its root covers `peaks` and all that remained.
    pub head: Head,
    /// How many records the checkpoint covers under which they went; 0 for a copy of another machine's log.
    pub checkpoint: u64,
    /// Why, or by which policy, at most 200 bytes.
    pub reason: String,
    /// The receipt that sums up what went, if there is one.
    pub summary: Option<ReceiptId>,
}

impl LogPruned {
    /// Bytes of a reason at most.
    pub const REASON_BYTES_MAX: usize = 200;
}
