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
}

/// What was written.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Exported {
    /// The log.
    pub log: String,
    /// The file.
    pub path: String,
    /// How many receipts: 0 to the newest that was durable.
    pub receipts: u64,
    /// Payloads beside them.
    pub payloads: u64,
    /// Payloads that were erased, as receipts say.
    pub erased: u64,
    /// Payloads that are not in this store.
    pub absent: u64,
    /// Bytes written.
    pub bytes: u64,
    /// The root of the tree over the receipts.
    pub root: String,
    /// The signed checkpoint at the end (C2SP `tlog-checkpoint`).
    pub checkpoint: String,
}
