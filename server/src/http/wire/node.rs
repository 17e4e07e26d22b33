//! Machines.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A machine of the fleet.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Node {
    /// Its id.
    pub machine: String,
    /// Its role.
    pub role: String,
    /// `online`, `offline` or `retired`.
    pub status: String,
    /// Since when; for an offline one when it was last heard.
    pub since: String,
    /// Milliseconds since it was last heard; absent when only the order speaks.
    pub silent_ms: Option<u64>,
    /// When it joined.
    pub joined_at: String,
    /// Its machine key.
    pub machine_key: String,
    /// Whether it writes the order now.
    pub is_central: bool,
    /// How many ready jobs wait for it alone.
    pub queued: u64,
    /// The latest gauges, where this store has heard them. A cache, not evidence.
    pub gauges: Option<Gauges>,
    /// What it runs.
    pub handlers: Vec<HandlerView>,
    /// The jobs that it holds claims for.
    pub jobs: Vec<String>,
}

/// What a machine looked like in its last pulse.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Gauges {
    /// When it was heard.
    pub heard_at: String,
    /// How long ago, in milliseconds.
    pub age_ms: u64,
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
    /// Seconds since it booted.
    pub uptime_s: u64,
    /// Runs in progress.
    pub slots_used: u16,
    /// Runs at most.
    pub slots_total: u16,
    /// Receipts that the gateway has not acknowledged.
    pub outbox_receipts: u64,
    /// Its clock minus the gateway's, milliseconds.
    pub clock_offset_ms: Option<i64>,
}

/// A handler on a machine.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct HandlerView {
    /// Its name.
    pub name: String,
    /// `light`, `heavy` or `exclusive`.
    pub class: String,
    /// Its labels there.
    pub labels: Vec<String>,
    /// How many run at once there.
    pub slots: u16,
}
