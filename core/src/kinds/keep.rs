//! What keeping and letting go need: Central's witness key, heads that the order cites, the sums of a day, and the policy.

use crate::chain::Head;
use crate::digest::LogId;
use crate::key::PublicKey;
use crate::kind::MachineId;
use serde::{Deserialize, Serialize};

/// `key.announced` 1: with which key Central's machine cosigns checkpoints; a machine that joined told its own then.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct KeyAnnounced {
    /// The machine.
    pub machine: MachineId,
    /// Its key for witnessing others' checkpoints.
    pub witness_key: PublicKey,
}

/// `log.cited` 1: heads of logs that the order does not pin, as Central durably has them.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LogCited {
    /// At most 32.
    pub heads: Vec<CitedHead>,
}

impl LogCited {
    /// Heads in one receipt at most.
    pub const HEADS_MAX: usize = 32;
}

/// A head of one log.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CitedHead {
    /// The log.
    pub log: LogId,
    /// Its newest record then, and the root of the tree over all of them.
    pub head: Head,
}

/// `retention.set` 1: for how long the fleet keeps its pulses, from here on.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RetentionSet {
    /// In days, at least one; absent: for ever.
    pub pulse_days: Option<u32>,
    /// Why, at most 200 bytes.
    pub reason: String,
}

/// `node.day-summary` 1: what the pulses of one machine and one day told, for when they are gone. Sums are over `pulses`, so
/// that means are exact.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NodeDaySummary {
    /// The pulse log that is summed up.
    pub log: LogId,
    /// The day in UTC: whole days since 1970-01-01.
    pub day: u32,
    /// The first seq that was sealed on that day.
    pub first: u64,
    /// The last one.
    pub last: u64,
    /// Heartbeats among them.
    pub pulses: u64,
    /// CPU in use, the sum of per mille of all cores.
    pub cpu_per_mille_sum: u64,
    /// The most of one heartbeat.
    pub cpu_per_mille_max: u16,
    /// Memory in use, the sum of bytes.
    pub memory_used_bytes_sum: u64,
    /// The most of one heartbeat, bytes.
    pub memory_used_bytes_max: u64,
    /// Memory in all as last told, bytes.
    pub memory_total_bytes: u64,
    /// The least free space where the store lies, bytes; absent where no heartbeat could tell.
    pub disk_free_bytes_min: Option<u64>,
    /// Space in all there as last told, bytes.
    pub disk_total_bytes: u64,
    /// The highest load average over one minute, in hundredths.
    pub load1_centi_max: u32,
    /// The highest temperature, in thousandths of a degree Celsius, where it could be read.
    pub temperature_milli_c_max: Option<i32>,
    /// The most receipts that the gateway had not acknowledged.
    pub outbox_receipts_max: u64,
    /// The most runs in progress.
    pub slots_used_max: u16,
}
