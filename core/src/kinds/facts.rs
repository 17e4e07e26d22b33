//! Families `artifact` (of the Vault), `node` and `verify` in facts and pulse; `erased` in facts and order.

use super::common::{Evidence, hex16, hex32};
use crate::digest::ContentDigest;
use crate::id::ReceiptId;
use serde::{Deserialize, Serialize};

/// `artifact.recorded` 1: a file of the Vault is new or changed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ArtifactRecorded {
    /// The path in the Vault, `/` between its parts, at most 1024 bytes.
    pub path: String,
    /// BLAKE3 of the content.
    pub blake3: ContentDigest,
    /// Size in bytes.
    pub size: u64,
    /// What stood there before.
    pub before: Option<ContentDigest>,
}

/// `artifact.removed` 1: a file of the Vault is gone.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ArtifactRemoved {
    /// The path in the Vault, at most 1024 bytes.
    pub path: String,
    /// What stood there.
    pub before: ContentDigest,
}

/// Why a file is not in the index.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SkipReason {
    /// Its path is longer than 1024 bytes.
    PathTooLong,
    /// Its path is not UTF-8.
    PathNotUtf8,
    /// It could not be read.
    Unreadable,
}

/// `artifact.skipped` 1: a file of the Vault that the index leaves out.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ArtifactSkipped {
    /// Digest of the path's bytes.
    #[serde(with = "hex32")]
    pub path_digest: [u8; 32],
    /// Why.
    pub reason: SkipReason,
}

/// `node.booted` 1: a daemon started.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NodeBooted {
    /// Names this run of the daemon.
    #[serde(with = "hex16")]
    pub nonce: [u8; 16],
    /// The operating system's boot id, at most 64 bytes.
    pub os_boot_id: String,
    /// The program's version, at most 64 bytes.
    pub version: String,
}

/// How one part of a verification ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Nothing was found.
    Clean,
    /// Something was found.
    Found,
    /// Not looked at in this run.
    NotChecked,
}

/// `verify.completed` 1: a verification ended.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct VerifyCompleted {
    /// Whether receipt signatures were verified, beside chain, tree and payloads.
    pub full: bool,
    /// Logs that were read.
    pub logs: u32,
    /// Receipts that were read.
    pub receipts: u64,
    /// Payloads that were checked against their commitments.
    pub payloads: u64,
    /// Payloads that are absent because they were erased.
    pub erased: u64,
    /// Findings in all.
    pub findings: u64,
    /// Chain, tree, payloads.
    pub integrity: Verdict,
    /// Log and author signatures.
    pub signatures: Verdict,
    /// What each key was permitted.
    pub authority: Verdict,
    /// No gap, nothing behind what others have seen.
    pub completeness: Verdict,
    /// Age of the newest receipt.
    pub freshness: Verdict,
    /// How long it took, in milliseconds.
    pub elapsed_ms: u64,
}

/// `node.pulse` 1: the machine is alive; what it looks like.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct NodePulse {
    /// CPU in use, per mille of all cores.
    pub cpu_per_mille: u16,
    /// Load average over one minute, in hundredths.
    pub load1_centi: u32,
    /// Memory in use, bytes.
    pub memory_used_bytes: u64,
    /// Memory in all, bytes.
    pub memory_total_bytes: u64,
    /// Free space where the store lies, bytes.
    pub disk_free_bytes: u64,
    /// Space in all there, bytes.
    pub disk_total_bytes: u64,
    /// Seconds since the machine booted.
    pub uptime_s: u64,
    /// Temperature in thousandths of a degree Celsius, where it can be read.
    pub temperature_milli_c: Option<i32>,
    /// Runs in progress.
    pub slots_used: u16,
    /// Runs at most.
    pub slots_total: u16,
    /// Receipts that the gateway has not acknowledged yet.
    pub outbox_receipts: u64,
    /// Our clock minus the gateway's, milliseconds, as last estimated.
    pub clock_offset_ms: Option<i64>,
}

/// `erased` 1: the payload of a record is to be destroyed, with its salt, in every copy that heeds this.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Erased {
    /// The record.
    pub record: Evidence,
    /// Its id.
    pub id: ReceiptId,
    /// Why, at most 200 bytes.
    pub reason: String,
}

impl Erased {
    /// Bytes of a reason at most.
    pub const REASON_BYTES_MAX: usize = 200;
}
