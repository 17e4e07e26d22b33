//! Proofs, published logs, and the keys to pin.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Which receipt to prove: by its id, or by log and seq.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProveBody {
    /// The receipt's id; of several, the first in a log of the answering machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The log, without an id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
    /// The seq, without an id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
}

/// A proof.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Proved {
    /// The log.
    pub log: String,
    /// The receipt's place in it.
    pub seq: u64,
    /// The receipt's id.
    pub id: String,
    /// Records under the checkpoint.
    pub tree_size: u64,
    /// Whether the payload is in it.
    pub payload: bool,
    /// The key that whoever checks it has pinned (C2SP `vkey`).
    pub key: String,
    /// The file (C2SP `tlog-proof`).
    pub proof: String,
}

/// To publish a log of the answering machine into a directory.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PublishBody {
    /// The log.
    pub log: String,
    /// The directory: an absolute path; one that holds this log already is added to.
    pub path: String,
}

/// What was published.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct PublishedLog {
    /// The log.
    pub log: String,
    /// The directory.
    pub path: String,
    /// Receipts under the checkpoint.
    pub receipts: u64,
    /// Receipts under the checkpoint that was there before.
    pub receipts_before: u64,
    /// Tiles that were written.
    pub tiles: u64,
    /// Entry bundles that were written.
    pub bundles: u64,
    /// Files among them that were there with other bytes.
    pub mended: u64,
    /// Bytes written.
    pub bytes: u64,
    /// The root of the tree.
    pub root: String,
    /// The key that whoever checks it has pinned (C2SP `vkey`).
    pub key: String,
    /// The signed checkpoint (C2SP `tlog-checkpoint`).
    pub checkpoint: String,
}

/// The key that signs a log's checkpoints, or with which a machine cosigns those of others.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct LogKey {
    /// The log; empty for a witness's key.
    pub log: String,
    /// The machine that writes it, or cosigns.
    pub machine: String,
    /// Which of its logs; `witness` for a witness's key.
    pub stream: String,
    /// Which set of logs of that machine.
    pub incarnation: u32,
    /// Whether the answering machine writes it.
    pub own: bool,
    /// Name, id and key as one line (C2SP `vkey`).
    pub key: String,
}
