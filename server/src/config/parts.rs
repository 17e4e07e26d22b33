//! The sections of a configuration that are plain values.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Times, all in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Timing {
    /// Between two heartbeats (receipts in the pulse log).
    pub pulse_ms: u64,
    /// Between two beats, which renew leases.
    pub beat_ms: u64,
    /// A lease's term.
    pub term_ms: u64,
    /// Longest wait of a long poll, and between two tries to reach the gateway.
    pub poll_ms: u64,
    /// Silence after which a machine counts as offline.
    pub lost_after_ms: u64,
    /// Silence after which a person is told.
    pub notify_after_ms: u64,
    /// How long a machine must be back before a person is told.
    pub stable_after_ms: u64,
    /// How long a machine that is heard may bring in less than it adds before a person is told.
    pub outbox_after_ms: u64,
    /// How long a heavy job waits for its machine before it goes to a backup.
    pub failover_after_ms: u64,
    /// Between two exchanges of checkpoints with the gateway, each of which the other side cosigns.
    pub cosign_ms: u64,
    /// How long Central waits after a start for the marks of the machines; by what recovery found when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heal_wait_ms: Option<u64>,
}

/// Bounds on jobs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Leases that a job may lose after its start before it is parked; 0 lifts the bound.
    pub losses_max: u16,
}

/// What a node copies of other machines' logs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mirror {
    /// Which.
    pub logs: MirrorLogs,
}

/// Which logs a node copies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MirrorLogs {
    /// The order alone, without which it could not work.
    Order,
    /// The order, and the gateway's own work and facts, so that the gateway's disk may die.
    #[default]
    Gateway,
    /// Every log that the gateway has.
    All,
}

/// The Vault.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VaultConfig {
    /// Its directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dir: Option<PathBuf>,
}

/// Sinks of notices.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Notices {
    /// Program and arguments; gets the notice as JSON on its standard input and its id in `LEDGER_NOTICE`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// A URL that gets the notice as JSON by POST, its id in the header `ledger-notice`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook: Option<String>,
    /// A file of mode 0600 with a token that the webhook gets as `Authorization: Bearer`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook_token_file: Option<PathBuf>,
}

/// The nightly verification.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Verify {
    /// Whether the daemon runs it.
    pub enabled: bool,
    /// When, by the machine's local time, as `HH:MM`.
    pub at: String,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            pulse_ms: 15_000,
            beat_ms: 15_000,
            term_ms: 60_000,
            poll_ms: 10_000,
            lost_after_ms: 60_000,
            notify_after_ms: 120_000,
            stable_after_ms: 30_000,
            outbox_after_ms: 600_000,
            failover_after_ms: 300_000,
            cosign_ms: 300_000,
            heal_wait_ms: None,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { losses_max: 3 }
    }
}

impl Default for Verify {
    fn default() -> Self {
        Self {
            enabled: true,
            at: "03:30".into(),
        }
    }
}
