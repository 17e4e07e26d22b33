//! A machine's configuration: `DIR/config.toml` < environment < flags. Unknown keys are errors, and there is no default
//! destination for anything: what is not configured does not happen.

mod layers;
mod parts;
mod queue;

pub use layers::{ConfigError, Origin, variable};
pub use parts::{Limits, Mirror, MirrorLogs, Notices, Timing, VaultConfig, Verify};
pub use queue::QueueConfig;

use crate::checks::{self, CheckConfig};
use crate::reserve::DiskConfig;
use crate::worker::HandlerConfig;
use ledger_projections::queue::Policy;
use serde::{Deserialize, Serialize};

/// Slots of all handlers at most: what one hello can name, with room for what is not judged yet.
const SLOTS_MAX: u64 = 512;

/// The shortest and the longest time of what happens again and again, milliseconds: faster is a loop without a pause, and a day
/// is as good as never.
const EVERY_MS: std::ops::RangeInclusive<u64> = 50..=86_400_000;
/// The shortest and the longest time after which something follows, milliseconds: up to a year.
const AFTER_MS: std::ops::RangeInclusive<u64> = 50..=31_622_400_000;
/// The longest time that Central waits for marks after a start, milliseconds.
const HEAL_WAIT_MS_MAX: u64 = 86_400_000;

/// What can be set by environment (`LEDGER_` and the key in capitals, `_` for `.`) or flag, beside the file.
pub const KEYS: &[&str] = &[
    "listen",
    "hosts",
    "gateway",
    "timing.pulse_ms",
    "timing.beat_ms",
    "timing.term_ms",
    "timing.poll_ms",
    "timing.lost_after_ms",
    "timing.notify_after_ms",
    "timing.stable_after_ms",
    "timing.outbox_after_ms",
    "timing.failover_after_ms",
    "timing.cosign_ms",
    "timing.heal_wait_ms",
    "limits.losses_max",
    "mirror.logs",
    "queue.backoff_first_ms",
    "queue.backoff_max_ms",
    "queue.ageing_every_ms",
    "queue.ageing_points_max",
    "queue.key_running_max",
    "queue.failovers_max",
    "queue.stop_grace_ms",
    "queue.unique_states",
    "queue.outside_probe",
    "vault.dir",
    "disk.reserve",
    "notices.command",
    "notices.webhook",
    "notices.webhook_token_file",
    "verify.enabled",
    "verify.at",
];

/// Everything that a machine can be told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where the gateway listens: a loopback or tailnet address and a port (0 takes any).
    pub listen: String,
    /// Host names and addresses by which the gateway may be called.
    pub hosts: Vec<String>,
    /// The gateway that a node dials, as `http://host:port`. Set by `ledger join`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
    /// Times.
    pub timing: Timing,
    /// Bounds on jobs.
    pub limits: Limits,
    /// What a node copies.
    pub mirror: Mirror,
    /// How the queue waits, ages and bounds.
    pub queue: QueueConfig,
    /// The Vault.
    pub vault: VaultConfig,
    /// The disk that holds the store.
    pub disk: DiskConfig,
    /// Where notices go, beside the log.
    pub notices: Notices,
    /// The nightly verification.
    pub verify: Verify,
    /// What this machine runs.
    #[serde(rename = "handler", skip_serializing_if = "Vec::is_empty")]
    pub handlers: Vec<HandlerConfig>,
    /// The things beside this machine that it looks at.
    #[serde(rename = "check", skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<CheckConfig>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:7171".into(),
            hosts: vec!["127.0.0.1".into(), "localhost".into()],
            gateway: None,
            timing: Timing::default(),
            limits: Limits::default(),
            mirror: Mirror::default(),
            queue: QueueConfig::default(),
            vault: VaultConfig::default(),
            disk: DiskConfig::default(),
            notices: Notices::default(),
            verify: Verify::default(),
            handlers: Vec::new(),
            checks: Vec::new(),
        }
    }
}

impl Config {
    // What is wrong with it, when something is.
    fn check(&self) -> Result<(), String> {
        let t = &self.timing;
        let heal_wait_ms = t.heal_wait_ms.unwrap_or(0);
        for (name, value, bounds) in [
            ("timing.pulse_ms", t.pulse_ms, EVERY_MS),
            ("timing.beat_ms", t.beat_ms, EVERY_MS),
            ("timing.term_ms", t.term_ms, EVERY_MS),
            ("timing.poll_ms", t.poll_ms, EVERY_MS),
            ("timing.cosign_ms", t.cosign_ms, EVERY_MS),
            ("timing.lost_after_ms", t.lost_after_ms, EVERY_MS),
            ("timing.notify_after_ms", t.notify_after_ms, AFTER_MS),
            ("timing.stable_after_ms", t.stable_after_ms, AFTER_MS),
            ("timing.outbox_after_ms", t.outbox_after_ms, AFTER_MS),
            ("timing.failover_after_ms", t.failover_after_ms, AFTER_MS),
            ("timing.heal_wait_ms", heal_wait_ms, 0..=HEAL_WAIT_MS_MAX),
        ] {
            if !bounds.contains(&value) {
                return Err(format!(
                    "{name} = {value}: a time between {} and {} milliseconds is expected",
                    bounds.start(),
                    bounds.end()
                ));
            }
        }
        if t.beat_ms * 2 > t.term_ms {
            return Err(format!(
                "timing.beat_ms = {}: a lease of {} ms needs two beats at least",
                t.beat_ms, t.term_ms
            ));
        }
        if u32::try_from(t.term_ms).is_err() {
            return Err("timing.term_ms does not fit 32 bits".into());
        }
        let slots = self
            .handlers
            .iter()
            .fold(0u64, |sum, h| sum.saturating_add(u64::from(h.slots)));
        if slots > SLOTS_MAX {
            return Err(format!(
                "the handlers have {slots} slots in all; at most {SLOTS_MAX} are possible"
            ));
        }
        self.queue.check(&self.checks, self.timing.failover_after_ms)?;
        crate::nightly::parse_at(&self.verify.at).ok_or_else(|| {
            format!(
                "verify.at = {:?}: a time of day as HH:MM is expected",
                self.verify.at
            )
        })?;
        if let Some(url) = self.gateway.iter().find(|url| !is_web_address(url)) {
            return Err(format!("{url:?}: an address beginning with http:// is expected"));
        }
        // Its address may be a secret.
        if self
            .notices
            .webhook
            .as_ref()
            .is_some_and(|url| !url.starts_with("http://"))
        {
            return Err(
                "notices.webhook: an address beginning with http:// is expected; this program speaks no TLS, so for an https:// \
                 address let notices.command call a program that does"
                    .into(),
            );
        }
        if self.notices.webhook_token_file.is_some() && self.notices.webhook.is_none() {
            return Err(
                "notices.webhook_token_file: a token without notices.webhook is given to nobody".into(),
            );
        }
        if let Some(wrong) = checks::wrong(&self.checks) {
            return Err(wrong);
        }
        if let Some(wrong) = self.disk.wrong() {
            return Err(wrong);
        }
        if self.notices.command.as_ref().is_some_and(Vec::is_empty) {
            return Err("notices.command: program and arguments are expected".into());
        }
        Ok(())
    }

    /// What the deciders go by.
    pub fn policy(&self) -> Policy {
        let t = &self.timing;
        Policy {
            term_ms: u32::try_from(t.term_ms).unwrap_or(u32::MAX),
            failover_after_ms: t.failover_after_ms,
            losses_max: Some(self.limits.losses_max).filter(|max| *max > 0),
            notify_after_ms: t.notify_after_ms,
            lost_after_ms: t.lost_after_ms,
            stable_after_ms: t.stable_after_ms,
            ..self.queue.policy()
        }
    }
}

fn is_web_address(url: &str) -> bool {
    url.starts_with("http://") || url.starts_with("https://")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(change: impl FnOnce(&mut Timing)) -> Option<String> {
        let mut config = Config::default();
        change(&mut config.timing);
        config.check().err()
    }

    #[test]
    fn every_time_is_bounded_and_the_refusal_names_it() {
        type Set = fn(&mut Timing, u64);
        let times: [(&str, Set); 6] = [
            ("timing.cosign_ms", |t, ms| t.cosign_ms = ms),
            ("timing.notify_after_ms", |t, ms| t.notify_after_ms = ms),
            ("timing.stable_after_ms", |t, ms| t.stable_after_ms = ms),
            ("timing.outbox_after_ms", |t, ms| t.outbox_after_ms = ms),
            ("timing.failover_after_ms", |t, ms| t.failover_after_ms = ms),
            ("timing.heal_wait_ms", |t, ms| t.heal_wait_ms = Some(ms)),
        ];
        for (name, set) in times {
            for ms in [0, u64::MAX] {
                let refused = wrong(|t| set(t, ms));
                let allowed = name == "timing.heal_wait_ms" && ms == 0;
                assert_eq!(refused.is_none(), allowed, "{name} = {ms}: {refused:?}");
                assert!(refused.is_none_or(|why| why.starts_with(name)));
            }
            assert_eq!(wrong(|t| set(t, 1_000)), None, "{name}");
        }
    }
}
