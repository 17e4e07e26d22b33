//! How long Central waits for what. Plain data; every value is configuration.

use super::table::Phase;
use serde::{Deserialize, Serialize};

/// A set of states.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Phases(u16);

impl Phases {
    /// Every state that is not final.
    pub const UNFINISHED: Phases = Phases::of(&[
        Phase::Accepted,
        Phase::Held,
        Phase::Scheduled,
        Phase::Ready,
        Phase::Leased,
        Phase::Suspect,
        Phase::Backoff,
        Phase::Parked,
    ]);

    /// These states.
    ///
    /// ```
    /// use ledger_projections::queue::{Phase, Phases};
    /// let waiting = Phases::of(&[Phase::Held, Phase::Ready]);
    /// assert!(waiting.contains(Phase::Ready) && !waiting.contains(Phase::Leased));
    /// ```
    pub const fn of(phases: &[Phase]) -> Self {
        let mut bits = 0;
        let mut next = 0;
        while next < phases.len() {
            bits |= 1 << phases[next] as u16;
            next += 1;
        }
        Self(bits)
    }

    /// Whether a state is among them.
    pub const fn contains(self, phase: Phase) -> bool {
        self.0 & (1 << phase as u16) != 0
    }
}

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
    /// How many outages within [`Policy::flap_window_ms`] make a machine one that flaps.
    pub flaps: u16,
    /// Within how long so many outages are flapping, and how often that is told at most, in milliseconds.
    pub flap_window_ms: u64,
    /// How often it is told of a condition that goes on, in milliseconds.
    pub repeat_after_ms: u64,
    /// How long a job waits after its first failed attempt, in milliseconds; doubled with each further one. 0 tries again at
    /// once.
    pub backoff_first_ms: u64,
    /// The longest wait between two attempts, in milliseconds.
    pub backoff_max_ms: u64,
    /// How long a ready job waits for one point of priority, in milliseconds; 0 lets nothing age.
    pub ageing_every_ms: u64,
    /// How many points waiting gives at most.
    pub ageing_points_max: u16,
    /// How many jobs with one concurrency key are claimed at once, where no limit says otherwise; `None` for no bound.
    pub key_running_max: Option<u32>,
    /// How long a run that was told to stop at its deadline has to confirm that, in milliseconds.
    pub stop_grace_ms: u64,
    /// In which states a job holds its unique key. Only unfinished ones count.
    pub unique_over: Phases,
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
            flaps: 3,
            flap_window_ms: 1_800_000,
            repeat_after_ms: 86_400_000,
            backoff_first_ms: 1_000,
            backoff_max_ms: 600_000,
            ageing_every_ms: 60_000,
            ageing_points_max: 100,
            key_running_max: Some(1),
            stop_grace_ms: 60_000,
            unique_over: Phases::UNFINISHED,
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
