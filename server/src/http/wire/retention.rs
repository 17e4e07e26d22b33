//! How long pulses are kept, and what is kept of them.

use super::{Receipt, SignedBody};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The policy, and what the answering machine has of pulses.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Retention {
    /// For how many days pulses are kept; absent: for ever.
    pub pulse_days: Option<u32>,
    /// Who said so, and when; absent as long as nobody did.
    pub policy: Option<Policy>,
    /// The pulse logs of this store, own ones first.
    pub logs: Vec<PulseLog>,
}

/// The `retention.set` that stands.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Policy {
    /// Its id.
    pub receipt: String,
    /// Who said it.
    pub author: String,
    /// When it was sealed.
    pub time: String,
    /// Why.
    pub reason: String,
}

/// What this store has of one pulse log.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct PulseLog {
    /// The log.
    pub log: String,
    /// The machine that writes it.
    pub machine: String,
    /// Whether this store writes it.
    pub own: bool,
    /// Records that are kept, besides the genesis.
    pub kept: u64,
    /// When the oldest of them was sealed.
    pub oldest: Option<String>,
    /// Bytes of their records, about: the average of some of them.
    pub bytes_about: u64,
    /// How many of them a run would let go now.
    pub due: u64,
    /// What stands in the way of some or all of these.
    pub waits: Option<String>,
}

/// A policy to be set.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RetentionBody {
    /// For how many days pulses are kept, 1 to 36,525; absent: for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pulse_days: Option<u32>,
    /// Why, at most 200 bytes.
    #[serde(default)]
    pub reason: String,
}

/// What `POST /v1/retention` takes.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum RetentionSaid {
    /// Signed by the author.
    Signed(SignedBody),
    /// To be signed by the local actor.
    Plain(RetentionBody),
}

/// A policy that was set.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct RetentionSet {
    /// For how many days pulses are kept from here on; absent: for ever.
    pub pulse_days: Option<u32>,
    /// The receipt.
    pub receipt: Receipt,
    /// `local` or `replicated`.
    pub standing: String,
}

/// What a run did with one log.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct RetentionRun {
    /// The log.
    pub log: String,
    /// The machine that writes it.
    pub machine: String,
    /// Days that this run summed up.
    pub days: u64,
    /// The `log.pruned`, when something went.
    pub receipt: Option<String>,
    /// Records whose bytes are gone.
    pub records: u64,
    /// Bytes that files are shorter.
    pub bytes_freed: u64,
    /// Why nothing, or not everything, went.
    pub waits: Option<String>,
}
