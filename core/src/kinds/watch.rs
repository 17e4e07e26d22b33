//! What came later in the family `node`: draining, quarantine, sleep, starts, things beside a machine, and a heartbeat that
//! holds them; and the spans in which nobody watched.

use super::common::{Evidence, hex16};
use super::facts::NodePulse;
use crate::kind::MachineId;
use serde::{Deserialize, Serialize};

/// `central.absent` 1: Central itself did not run, so nobody's silence was heard.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CentralAbsent {
    /// Its last sign of life, microseconds since 1970.
    pub from: i64,
    /// When it watched again, microseconds since 1970.
    pub until: i64,
}

/// `node.draining` 1: the machine gets no further work; what runs there goes on.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NodeDraining {
    /// The machine.
    pub machine: MachineId,
    /// Why, at most 200 bytes.
    pub reason: String,
}

/// `node.quarantined` 1: the machine is not trusted with work until somebody has looked.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NodeQuarantined {
    /// The machine.
    pub machine: MachineId,
    /// Why, at most 200 bytes.
    pub reason: String,
}

/// `node.resumed` 1: it gets work again; ends draining and quarantine.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NodeResumed {
    /// The machine.
    pub machine: MachineId,
    /// Why, at most 200 bytes.
    pub reason: String,
}

/// Why a machine goes away by its own word.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestReason {
    /// The system goes to sleep.
    Sleep,
    /// The daemon was told to stop.
    Stop,
}

/// `node.asleep` 1: the machine said that it goes away.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NodeAsleep {
    /// The machine.
    pub machine: MachineId,
    /// From when, microseconds since 1970.
    pub since: i64,
    /// Why.
    pub reason: RestReason,
    /// Its `node.sleeping`.
    pub evidence: Evidence,
}

/// `node.awake` 1: the machine said that its daemon started, or that it woke.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NodeAwake {
    /// The machine.
    pub machine: MachineId,
    /// When, microseconds since 1970.
    pub at: i64,
    /// Names the boot of its operating system, when its daemon started.
    pub boot: Option<Boot>,
    /// How long it slept, in milliseconds; 0 when its daemon started.
    pub slept_ms: u64,
    /// Its `node.booted` or `node.waking`.
    pub evidence: Evidence,
}

/// Names a boot of an operating system: the first 16 bytes of a digest of what the system calls it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Boot(#[serde(with = "hex16")] pub [u8; 16]);

impl Boot {
    /// Of the text in `node.booted`.
    pub fn of(os_boot_id: &str) -> Self {
        let digest = blake3::derive_key("ledger v1 os boot", os_boot_id.as_bytes());
        let mut first = [0; 16];
        first.copy_from_slice(&digest[..16]);
        Self(first)
    }
}

/// `node.sleeping` 1: this machine goes away by its own will.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NodeSleeping {
    /// Why.
    pub reason: RestReason,
}

/// `node.waking` 1: the daemon did not run for a while, and runs again.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NodeWaking {
    /// For how long, in milliseconds.
    pub slept_ms: u64,
}

/// How a thing beside a machine is looked at.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CheckKind {
    /// A TCP port takes a connection.
    Tcp,
    /// A URL answers with a status below 400.
    Http,
    /// A command ends with status 0.
    Command,
}

/// How a thing beside a machine is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ServiceState {
    /// Not looked at yet.
    Unknown,
    /// The check succeeds.
    Up,
    /// It does not.
    Down,
}

/// `node.service-state` 1: the state of a thing beside this machine changed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NodeServiceState {
    /// Its name in the machine's configuration, at most 64 bytes.
    pub service: String,
    /// How it is looked at.
    pub check: CheckKind,
    /// How it was.
    pub before: ServiceState,
    /// How it is.
    pub state: ServiceState,
    /// What the check found, at most 200 bytes.
    pub note: String,
}

/// A thing beside a machine, in its heartbeat.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ServiceGauge {
    /// Its name, at most 64 bytes.
    pub service: String,
    /// How it is.
    pub state: ServiceState,
}

/// `node.pulse` 2: the machine is alive; what it looks like, with its outbox's bytes and age and the things beside it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct NodePulse2 {
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
    /// When the oldest of them was sealed, microseconds since 1970.
    pub outbox_oldest: Option<i64>,
    /// Our clock minus the gateway's, milliseconds, as last estimated.
    pub clock_offset_ms: Option<i64>,
    /// Names the boot of the operating system; absent where it is not known.
    pub boot: Option<Boot>,
    /// The program's version, at most 64 bytes.
    pub version: String,
    /// The things beside the machine, at most 32.
    pub services: Vec<ServiceGauge>,
}

impl NodePulse2 {
    /// Things beside a machine at most, so that all their names fit a detail.
    pub const SERVICES_MAX: usize = 32;
}

impl From<NodePulse> for NodePulse2 {
    fn from(older: NodePulse) -> Self {
        Self {
            cpu_per_mille: older.cpu_per_mille,
            load1_centi: older.load1_centi,
            memory_used_bytes: older.memory_used_bytes,
            memory_total_bytes: older.memory_total_bytes,
            disk_free_bytes: older.disk_free_bytes,
            disk_total_bytes: older.disk_total_bytes,
            uptime_s: older.uptime_s,
            temperature_milli_c: older.temperature_milli_c,
            slots_used: older.slots_used,
            slots_total: older.slots_total,
            outbox_receipts: older.outbox_receipts,
            clock_offset_ms: older.clock_offset_ms,
            ..Self::default()
        }
    }
}

/// `node.pulse` 3: as 2, with the bytes of the outbox and the disk's reserve.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct NodePulse3 {
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
    /// How much of it is to stay free, bytes; 0 for no bound.
    pub disk_reserve_bytes: u64,
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
    /// Bytes of their records, as far as they are counted.
    pub outbox_bytes: u64,
    /// When the oldest of them was sealed, microseconds since 1970.
    pub outbox_oldest: Option<i64>,
    /// Our clock minus the gateway's, milliseconds, as last estimated.
    pub clock_offset_ms: Option<i64>,
    /// Names the boot of the operating system; absent where it is not known.
    pub boot: Option<Boot>,
    /// The program's version, at most 64 bytes.
    pub version: String,
    /// The things beside the machine, at most 32.
    pub services: Vec<ServiceGauge>,
}

impl From<NodePulse2> for NodePulse3 {
    fn from(older: NodePulse2) -> Self {
        Self {
            cpu_per_mille: older.cpu_per_mille,
            load1_centi: older.load1_centi,
            memory_used_bytes: older.memory_used_bytes,
            memory_total_bytes: older.memory_total_bytes,
            disk_free_bytes: older.disk_free_bytes,
            disk_total_bytes: older.disk_total_bytes,
            uptime_s: older.uptime_s,
            temperature_milli_c: older.temperature_milli_c,
            slots_used: older.slots_used,
            slots_total: older.slots_total,
            outbox_receipts: older.outbox_receipts,
            outbox_oldest: older.outbox_oldest,
            clock_offset_ms: older.clock_offset_ms,
            boot: older.boot,
            version: older.version,
            services: older.services,
            outbox_bytes: 0,
            disk_reserve_bytes: 0,
        }
    }
}

impl From<NodePulse> for NodePulse3 {
    fn from(older: NodePulse) -> Self {
        NodePulse2::from(older).into()
    }
}
