//! The machine's own standing.

use super::notice::Notice;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// Who answers here, and how it is doing.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// The machine.
    pub machine: String,
    /// `gateway` or `node`.
    pub role: String,
    /// The fleet.
    pub fleet: String,
    /// Its machine key.
    pub machine_key: String,
    /// The key of the local actor.
    pub actor_key: String,
    /// The program's version.
    pub version: String,
    /// Names this run of the daemon.
    pub boot: String,
    /// Who writes the order.
    pub central: Option<String>,
    /// The order's epoch.
    pub epoch: Option<u64>,
    /// The link to the gateway; absent on the gateway itself.
    pub link: Option<Link>,
    /// Every log of this store and its head.
    pub logs: Vec<LogHead>,
    /// What the gateway has not acknowledged.
    pub outbox: Outbox,
    /// The jobs here.
    #[serde(default)]
    pub jobs_here: JobsHere,
    /// How far each projection has folded what this store has.
    #[serde(default)]
    pub projections: Vec<ProjectionView>,
    /// The disk that holds the store; absent where it cannot be read.
    #[serde(default)]
    pub disk: Option<Disk>,
    /// Receipts of its own that no other machine is known to have: what is lost with this disk. A gateway's heartbeats apart.
    #[serde(default)]
    pub alone: u64,
    /// Counts.
    pub counts: Counts,
    /// The newest notices that a sink did not take and nobody has seen, at most five.
    #[serde(default)]
    pub undelivered: Vec<Notice>,
    /// How far witnesses have come with this machine's own logs.
    #[serde(default)]
    pub witnessed: Vec<Witnessed>,
    /// The last verification here.
    pub verification: Option<Verification>,
    /// What a person should look at.
    pub warnings: Vec<Warning>,
    /// Whether new work is taken.
    pub ready: bool,
}

/// The link to the gateway.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Link {
    /// Its address.
    pub gateway: Option<String>,
    /// Whether the last exchange succeeded.
    pub connected: bool,
    /// When it last did.
    pub last_contact: Option<String>,
    /// How long ago, in milliseconds.
    #[serde(default)]
    pub last_contact_age_ms: Option<u64>,
    /// This machine's clock minus the gateway's, milliseconds.
    #[serde(default)]
    pub clock_offset_ms: Option<i64>,
    /// Why this store decides nothing, when that is so.
    pub frozen: Option<String>,
    /// Whether it is learning what others have seen of it.
    pub healing: bool,
}

/// One log and its newest record.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct LogHead {
    /// The log.
    pub log: String,
    /// Whose it is.
    pub machine: String,
    /// `work`, `facts`, `pulse` or `order`.
    pub stream: String,
    /// Which set of logs of that machine.
    pub incarnation: u32,
    /// Whether this store writes it.
    pub own: bool,
    /// Seq of the newest record.
    pub seq: u64,
    /// Digest of its seal.
    pub seal: String,
    /// RFC 6962 root of the log's tree.
    pub root: String,
    /// When it was sealed.
    pub time: String,
    /// How far the order has taken it in.
    pub pinned_seq: Option<u64>,
    /// The newest record of this own log that the gateway is known to have; absent on the gateway.
    #[serde(default)]
    pub acknowledged_seq: Option<u64>,
    /// How far another machine is known to have it too; told of own logs.
    #[serde(default)]
    pub replicated_seq: Option<u64>,
    /// Records under the last checkpoint of this own log that was given to anybody; 0 when none was.
    #[serde(default)]
    pub checkpoint_size: Option<u64>,
}

/// The jobs on this machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct JobsHere {
    /// Claims that this machine holds, as the order tells them.
    pub held: u64,
    /// Jobs that wait for this machine.
    pub waiting: u64,
    /// Runs at once at most, over all its handlers.
    pub slots: u64,
}

/// How far a projection has folded.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct ProjectionView {
    /// Its name.
    pub name: String,
    /// Receipts that it has not folded yet.
    pub behind: u64,
    /// Why it waits, when it does.
    pub halted: Option<String>,
}

/// The disk that holds the store.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Disk {
    /// Free for this user, bytes.
    pub free_bytes: u64,
    /// In all, bytes.
    pub total_bytes: u64,
    /// How much is to stay free, bytes; 0 for no bound.
    pub reserve_bytes: u64,
    /// Whether less than that is free: no new work is taken.
    pub below_reserve: bool,
}

/// The newest checkpoint of an own log that others cosigned.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Witnessed {
    /// The log.
    pub log: String,
    /// `work`, `facts`, `pulse` or `order`.
    pub stream: String,
    /// Records under it; 0 as long as nobody cosigned any.
    pub tree_size: u64,
    /// Records that came after it.
    pub behind: u64,
    /// Age of the oldest of these, in milliseconds.
    pub behind_ms: Option<u64>,
    /// Who cosigned it.
    pub by: Vec<Cosignature>,
}

/// Who cosigned a checkpoint, and when.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Cosignature {
    /// The witness's name, as its key line has it.
    pub witness: String,
    /// When, to the second.
    pub time: String,
}

/// What the gateway has not acknowledged.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Outbox {
    /// How many receipts.
    pub receipts: u64,
    /// Their bytes, payloads included.
    #[serde(default)]
    pub bytes: u64,
    /// Age of the oldest, in milliseconds.
    pub oldest_age_ms: Option<u64>,
}

/// Counts.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Counts {
    /// Receipts in this store.
    pub receipts: u64,
    /// Machines of the fleet.
    pub machines: u64,
    /// Jobs by state.
    pub jobs: BTreeMap<String, u64>,
    /// Notices that nobody has received yet.
    pub notices_open: u64,
}

/// The last verification.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Verification {
    /// Its receipt.
    pub receipt: String,
    /// When.
    pub time: String,
    /// How long ago, in milliseconds.
    pub age_ms: u64,
    /// Whether nothing was found.
    pub clean: bool,
    /// Findings in all.
    pub findings: u64,
    /// Receipts that were read.
    pub receipts: u64,
}

/// Something a person should look at.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Warning {
    /// The stable code.
    pub code: String,
    /// What is the matter.
    pub text: String,
    /// What to do about it.
    pub what_to_do: String,
}

/// The process is alive.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// `alive`.
    pub status: String,
}

/// Whether appends are possible.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Ready {
    /// Whether they are.
    pub ready: bool,
    /// Why not.
    pub reasons: Vec<String>,
}

/// The server's boot id, to be signed with every request.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Boot {
    /// Random, for each run of the daemon.
    pub boot: String,
}
