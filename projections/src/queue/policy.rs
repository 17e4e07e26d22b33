//! How long Central waits for what. Plain data; every value is configuration.

use serde::{Deserialize, Serialize};

/// The queue's periods and caps.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Policy {
    /// A lease, in milliseconds; a beat renews it.
    pub term_ms: u32,
    /// How long a heavy job stays suspect before a backup may run it, in milliseconds.
    pub failover_after_ms: u64,
    /// How often a job's lease may be lost after the start before it is parked; `None` lifts the cap.
    pub losses_max: Option<u16>,
    /// How often a job may go to a backup before it is parked; `None` lifts the cap.
    pub failovers_max: Option<u16>,
    /// How long a machine is lost before a notice tells it, in milliseconds since it was last heard.
    pub notify_after_ms: u64,
    /// How long a machine is silent before it counts as lost, in milliseconds: four pulses.
    pub lost_after_ms: u64,
    /// How long a machine is back before a notice tells it, in milliseconds.
    pub stable_after_ms: u64,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            term_ms: 60_000,
            failover_after_ms: 300_000,
            losses_max: Some(3),
            failovers_max: Some(1),
            notify_after_ms: 120_000,
            lost_after_ms: 60_000,
            stable_after_ms: 60_000,
        }
    }
}

impl Policy {
    /// The cap on losses as a job carries it; the largest number stands for none.
    pub(crate) fn losses_cap(&self) -> u16 {
        self.losses_max.unwrap_or(u16::MAX)
    }

    /// Whether one more failover is within the cap.
    pub(crate) fn permits_failover(&self, so_far: u16) -> bool {
        self.failovers_max.is_none_or(|most| so_far < most)
    }
}

/// Milliseconds as microseconds, saturating.
pub(crate) fn micros(ms: u64) -> i64 {
    i64::try_from(ms.saturating_mul(1000)).unwrap_or(i64::MAX)
}
