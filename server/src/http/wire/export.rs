//! Bundles.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// To write one log of the answering machine as a bundle, at the local door.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExportBody {
    /// The log.
    pub log: String,
    /// The file to write: an absolute path where nothing is yet.
    pub path: String,
    /// The first seq of a range; the whole log without any of these three.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<u64>,
    /// The last seq of a range; the newest when only a beginning is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<u64>,
    /// Instead of `from`: the time of the log from which on receipts are wanted (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
}

/// What was written.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Exported {
    /// The log.
    pub log: String,
    /// The file.
    pub path: String,
    /// The seq of the first receipt: 0 for a whole log.
    pub first: u64,
    /// How many receipts: for a whole log, 0 to the newest that was durable.
    pub receipts: u64,
    /// Payloads beside them.
    pub payloads: u64,
    /// Payloads that were erased, as receipts say.
    pub erased: u64,
    /// Payloads that are not in this store.
    pub absent: u64,
    /// Bytes written.
    pub bytes: u64,
    /// Receipts under the checkpoint: those of the whole log.
    pub tree_size: u64,
    /// The root of the tree over them.
    pub root: String,
    /// The signed checkpoint at the end (C2SP `tlog-checkpoint`).
    pub checkpoint: String,
}

/// To take a bundle into the answering machine's store, at the local door.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ImportBody {
    /// The bundle: an absolute path.
    pub path: String,
}

/// What was taken in.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Imported {
    /// The log.
    pub log: String,
    /// The machine that writes it.
    pub machine: Option<String>,
    /// Which of its logs.
    pub stream: Option<String>,
    /// The seq of the bundle's first receipt.
    pub first: u64,
    /// Receipts in the bundle.
    pub receipts: u64,
    /// Receipts that were taken in.
    pub new: u64,
    /// Receipts that were here already.
    pub known: u64,
    /// New receipts whose author signature is not valid: kept and inert.
    pub inadmissible: u64,
    /// Payloads in the bundle.
    pub payloads: u64,
    /// Payloads that it says to be erased.
    pub erased: u64,
    /// Payloads that were not at the exporter's.
    pub absent: u64,
    /// Receipts of the log that are here now.
    pub size: u64,
}
