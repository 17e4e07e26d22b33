//! Machines.

use super::{Receipt, SignedBody};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A machine of the fleet.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Node {
    /// Its id.
    pub machine: String,
    /// Its role.
    pub role: String,
    /// `online`, `late`, `offline`, `asleep`, `draining`, `quarantined` or `retired`.
    pub status: String,
    /// Since when; for one that is offline or late when it was last heard.
    pub since: String,
    /// Why it drains, is quarantined or sleeps.
    pub reason: Option<String>,
    /// Whether it gets no further work, whatever its state.
    pub held_back: bool,
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
    /// How much of it is to stay free, bytes; 0 for no bound.
    pub disk_reserve_bytes: u64,
    /// Seconds since it booted.
    pub uptime_s: u64,
    /// Runs in progress.
    pub slots_used: u16,
    /// Runs at most.
    pub slots_total: u16,
    /// Receipts that the gateway has not acknowledged.
    pub outbox_receipts: u64,
    /// Bytes of their records.
    pub outbox_bytes: u64,
    /// How old the oldest of them is, in milliseconds.
    pub outbox_oldest_age_ms: Option<u64>,
    /// Its clock minus the gateway's, milliseconds.
    pub clock_offset_ms: Option<i64>,
    /// Thousandths of a degree Celsius, where it can be read.
    pub temperature_milli_c: Option<i32>,
    /// Names the boot of its operating system, 32 hex characters.
    pub os_boot: Option<String>,
    /// Its program's version; empty from one that does not tell.
    pub version: String,
    /// The things beside it.
    pub services: Vec<ServiceView>,
}

/// A thing beside a machine, as its last heartbeat had it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct ServiceView {
    /// Its name in the machine's configuration.
    pub service: String,
    /// `up`, `down` or `unknown`.
    pub state: String,
}

/// How much of a window a machine was there. Lengths are in milliseconds.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Uptime {
    /// The machine.
    pub machine: String,
    /// Begin of what is told: the window's, or when the machine came in.
    pub from: String,
    /// End of the window.
    pub until: String,
    /// How far this store knows the order; what lies behind is unknown.
    pub known_until: String,
    /// Of the time in which it should have been there and somebody watched, in hundredths exactly; absent when there is none.
    pub per_cent: Option<f64>,
    /// How long it was there.
    pub up_ms: u64,
    /// How long it was not and should have been.
    pub outage_ms: u64,
    /// How long it was away by its own word.
    pub asleep_ms: u64,
    /// How long nobody watched.
    pub unknown_ms: u64,
    /// How long it was retired.
    pub retired_ms: u64,
    /// Each outage and announced sleep that touches the window, oldest first.
    pub away: Vec<Away>,
    /// When nobody watched.
    pub unknown: Vec<Unwatched>,
}

/// A time in which a machine was not there.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Away {
    /// `outage` or `asleep`.
    pub kind: String,
    /// Its begin; may lie before the window.
    pub from: String,
    /// Its end; absent while it goes on.
    pub until: Option<String>,
    /// Its whole length so far, milliseconds.
    pub length_ms: u64,
    /// How much of it counts in the window, milliseconds.
    pub counted_ms: u64,
    /// `reboot`, `restart`, `slept`, `unreachable`, `central-down`, `sleep-announced`, `stop-announced` or `unknown`.
    pub cause: String,
}

/// A span in which nobody watched.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Unwatched {
    /// Its begin.
    pub from: String,
    /// Its end.
    pub until: String,
}

/// A wish about a machine, job or handler, at the gateway's local door: signed by the local actor.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WishBody {
    /// Why, at most 200 bytes.
    #[serde(default)]
    pub reason: String,
}

/// What `POST /v1/nodes/{machine}/drain` and its like take.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum WishSaid {
    /// Signed by the author.
    Signed(SignedBody),
    /// To be signed by the local actor.
    Plain(WishBody),
}

/// What became of a wish about a machine.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Wished {
    /// The machine as it stands now.
    pub node: Node,
    /// The receipt of the wish.
    pub receipt: Receipt,
    /// `local` or `replicated`.
    pub standing: String,
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

/// What a sleep hook says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RestBody {
    /// That the machine goes to sleep, or that it woke.
    pub what: RestWhat,
}

/// Whether a machine goes to sleep or woke.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RestWhat {
    /// It goes to sleep.
    Sleeping,
    /// It woke.
    Waking,
}

/// What became of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Rested {
    /// Whether a receipt says it.
    pub said: bool,
    /// Whether the gateway is known to have heard it.
    pub heard: bool,
    /// How long it slept, when that is known, milliseconds.
    pub slept_ms: Option<u64>,
}
