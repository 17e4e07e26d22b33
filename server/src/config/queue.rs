//! The section `queue`: how jobs wait, age and are bounded. What the deciders go by is [`Policy`].

use crate::checks::CheckConfig;
use ledger_projections::queue::{Phase, Phases, Policy};
use serde::{Deserialize, Serialize};

/// The longest time of this section, in milliseconds: a week.
const TIME_MS_MAX: u64 = 7 * 24 * 3_600_000;

/// How jobs wait between attempts, age, stop and hold their keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QueueConfig {
    /// Wait after the first failed attempt in milliseconds, doubled with each further one; 0 tries again at once.
    pub backoff_first_ms: u64,
    /// The longest wait between two attempts, in milliseconds.
    pub backoff_max_ms: u64,
    /// How long a ready job waits for one point of priority, in milliseconds; 0 lets nothing age.
    pub ageing_every_ms: u64,
    /// Points that waiting gives at most.
    pub ageing_points_max: u16,
    /// Jobs with one concurrency key claimed at once, where no limit says otherwise; 0 lifts the bound.
    pub key_running_max: u32,
    /// How often a job may go to a backup before it is parked.
    pub failovers_max: u16,
    /// How long a run that was told to stop at its deadline has to confirm that, in milliseconds.
    pub stop_grace_ms: u64,
    /// The states in which a job holds its unique key.
    pub unique_states: Vec<String>,
    /// A check of the gateway (`[[check]]`) that looks at something outside. While it is up, Central is not the one that is cut off,
    /// though it hears no other machine, and failovers go on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outside_probe: Option<String>,
}

/// The states that can hold a unique key; a job passes `accepted` within one commit, and holds it there always.
fn holding() -> impl Iterator<Item = Phase> {
    let unfinished = Phase::ALL
        .into_iter()
        .filter(|phase| Phases::UNFINISHED.contains(*phase));
    unfinished.filter(|phase| *phase != Phase::Accepted)
}

impl Default for QueueConfig {
    fn default() -> Self {
        let policy = Policy::default();
        Self {
            backoff_first_ms: policy.backoff_first_ms,
            backoff_max_ms: policy.backoff_max_ms,
            ageing_every_ms: policy.ageing_every_ms,
            ageing_points_max: policy.ageing_points_max,
            key_running_max: policy.key_running_max.unwrap_or(0),
            failovers_max: policy.failovers_max.unwrap_or(u16::MAX),
            stop_grace_ms: policy.stop_grace_ms,
            unique_states: holding().map(|phase| phase.as_str().to_owned()).collect(),
            outside_probe: None,
        }
    }
}

impl QueueConfig {
    /// What is wrong with it, when something is. A probe must be among the machine's checks, and must be known to be down before a
    /// silence leads to a failover.
    pub(super) fn check(&self, checks: &[CheckConfig], failover_after_ms: u64) -> Result<(), String> {
        if let Some(probe) = &self.outside_probe {
            let Some(check) = checks.iter().find(|check| check.name == *probe) else {
                return Err(format!(
                    "queue.outside_probe = {probe:?}: the name of a [[check]] of this machine is expected"
                ));
            };
            let known_ms = check.every_ms.saturating_add(check.timeout_ms);
            let known_ms = known_ms.saturating_mul(u64::from(check.failures));
            if known_ms >= failover_after_ms {
                return Err(format!(
                    "queue.outside_probe = {probe:?}: it is known to be down after {known_ms} ms; less than timing.failover_after_ms, \
                     which is {failover_after_ms}, is expected"
                ));
            }
        }
        for (name, value) in [
            ("queue.backoff_first_ms", self.backoff_first_ms),
            ("queue.backoff_max_ms", self.backoff_max_ms),
            ("queue.ageing_every_ms", self.ageing_every_ms),
            ("queue.stop_grace_ms", self.stop_grace_ms),
        ] {
            if value > TIME_MS_MAX {
                return Err(format!(
                    "{name} = {value}: at most {TIME_MS_MAX} milliseconds (a week) are expected"
                ));
            }
        }
        if self.backoff_first_ms > self.backoff_max_ms {
            return Err(format!(
                "queue.backoff_first_ms = {}: at most queue.backoff_max_ms, which is {}, is expected",
                self.backoff_first_ms, self.backoff_max_ms
            ));
        }
        let unknown = |name: &&String| holding().all(|phase| phase.as_str() != name.as_str());
        match self.unique_states.iter().find(unknown) {
            None => Ok(()),
            Some(name) => {
                let names: Vec<&str> = holding().map(Phase::as_str).collect();
                Err(format!(
                    "queue.unique_states: one of {} is expected, {name:?} found",
                    names.join(", ")
                ))
            }
        }
    }

    /// The policy that this section tells; the rest of it is the default's.
    pub(super) fn policy(&self) -> Policy {
        let named = |phase: &Phase| self.unique_states.iter().any(|name| phase.as_str() == name);
        let holding: Vec<Phase> = holding().filter(named).chain([Phase::Accepted]).collect();
        Policy {
            backoff_first_ms: self.backoff_first_ms,
            backoff_max_ms: self.backoff_max_ms,
            ageing_every_ms: self.ageing_every_ms,
            ageing_points_max: self.ageing_points_max,
            key_running_max: Some(self.key_running_max).filter(|most| *most > 0),
            failovers_max: Some(self.failovers_max),
            stop_grace_ms: self.stop_grace_ms,
            unique_over: Phases::of(&holding),
            ..Policy::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_set_is_the_policys_own_default() {
        assert_eq!(QueueConfig::default().policy(), Policy::default());
        assert_eq!(QueueConfig::default().check(&[], 1), Ok(()));
    }

    #[test]
    fn what_cannot_be_is_named_with_what_was_expected() {
        let base = QueueConfig::default;
        let probed = |check: &str| QueueConfig {
            outside_probe: Some(check.to_owned()),
            ..base()
        };
        let nas: CheckConfig = toml::from_str("name = \"nas\"\ntcp = \"127.0.0.1:1\"").expect("a check");
        for (wrong, named) in [
            (
                QueueConfig {
                    backoff_first_ms: 700_000,
                    ..base()
                },
                "backoff_max_ms",
            ),
            (
                QueueConfig {
                    stop_grace_ms: TIME_MS_MAX + 1,
                    ..base()
                },
                "stop_grace_ms",
            ),
            (
                QueueConfig {
                    unique_states: vec!["succeeded".into()],
                    ..base()
                },
                "unique_states",
            ),
            (probed("nowhere"), "[[check]]"),
            (probed("nas"), "failover_after_ms"),
        ] {
            assert!(
                wrong
                    .check(std::slice::from_ref(&nas), 69_999)
                    .unwrap_err()
                    .contains(named)
            );
        }
        // Every 30 s, 5 s each, twice in a row.
        assert_eq!(probed("nas").check(&[nas], 70_001), Ok(()));
        let only_ready = QueueConfig {
            unique_states: vec!["ready".into()],
            key_running_max: 0,
            ..base()
        };
        assert_eq!(only_ready.check(&[], 1), Ok(()));
        let policy = only_ready.policy();
        assert!(policy.unique_over.contains(Phase::Ready) && !policy.unique_over.contains(Phase::Held));
        assert_eq!(policy.key_running_max, None);
    }
}
