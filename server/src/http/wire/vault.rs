//! The Vault.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A file of the Vault.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Artifact {
    /// Its path.
    pub path: String,
    /// BLAKE3 of its content, as `b3sum` prints it.
    pub blake3: String,
    /// Its size in bytes.
    pub size: u64,
    /// The machine that has it.
    pub machine: String,
    /// When it was recorded.
    pub recorded_at: String,
    /// The job whose output it is.
    pub job: Option<String>,
    /// The log that says so.
    pub log: String,
    /// The place in it.
    pub seq: u64,
}

/// To index a directory, at the local door.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ScanBody {
    /// An absolute path; the configured Vault if not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dir: Option<String>,
}

/// What indexing found.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Scanned {
    /// Files that were looked at.
    pub files: u64,
    /// New or changed ones.
    pub recorded: u64,
    /// Gone ones.
    pub removed: u64,
    /// Unchanged ones.
    pub unchanged: u64,
    /// Left out, each by a receipt.
    pub skipped: u64,
    /// Bytes in all.
    pub bytes: u64,
}
