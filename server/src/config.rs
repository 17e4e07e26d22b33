//! A machine's configuration: `DIR/config.toml` < environment < flags. Unknown keys are errors, and there is no default
//! destination for anything: what is not configured does not happen.

use crate::checks::{self, CheckConfig};
use crate::reserve::DiskConfig;
use crate::worker::{HandlerConfig, HandlerError, validate_handlers};
use ledger_projections::queue::Policy;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// Bytes of a configuration file at most.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Slots of all handlers at most: what one hello can name, with room for what is not judged yet.
const SLOTS_MAX: u64 = 512;

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
    "timing.heal_wait_ms",
    "limits.losses_max",
    "mirror.logs",
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

/// Times, all in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Timing {
    /// Between two heartbeats (receipts in the pulse log).
    pub pulse_ms: u64,
    /// Between two beats, which renew leases.
    pub beat_ms: u64,
    /// A lease's term.
    pub term_ms: u64,
    /// Longest wait of a long poll, and between two tries to reach the gateway.
    pub poll_ms: u64,
    /// Silence after which a machine counts as offline.
    pub lost_after_ms: u64,
    /// Silence after which a person is told.
    pub notify_after_ms: u64,
    /// How long a machine must be back before a person is told.
    pub stable_after_ms: u64,
    /// How long a machine that is heard may bring in less than it adds before a person is told.
    pub outbox_after_ms: u64,
    /// How long a heavy job waits for its machine before it goes to a backup.
    pub failover_after_ms: u64,
    /// Between two exchanges of checkpoints with the gateway, each of which the other side cosigns.
    pub cosign_ms: u64,
    /// How long Central waits after a start for the marks of the machines; by what recovery found when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heal_wait_ms: Option<u64>,
}

/// Bounds on jobs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Leases that a job may lose after its start before it is parked; 0 lifts the bound.
    pub losses_max: u16,
}

/// What a node copies of other machines' logs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mirror {
    /// Which.
    pub logs: MirrorLogs,
}

/// Which logs a node copies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MirrorLogs {
    /// The order alone, without which it could not work.
    Order,
    /// The order, and the gateway's own work and facts, so that the gateway's disk may die.
    #[default]
    Gateway,
    /// Every log that the gateway has.
    All,
}

/// The Vault.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VaultConfig {
    /// Its directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dir: Option<PathBuf>,
}

/// Sinks of notices.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Notices {
    /// Program and arguments; gets the notice as JSON on its standard input and its id in `LEDGER_NOTICE`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// A URL that gets the notice as JSON by POST, its id in the header `ledger-notice`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook: Option<String>,
    /// A file of mode 0600 with a token that the webhook gets as `Authorization: Bearer`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook_token_file: Option<PathBuf>,
}

/// The nightly verification.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Verify {
    /// Whether the daemon runs it.
    pub enabled: bool,
    /// When, by the machine's local time, as `HH:MM`.
    pub at: String,
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
            vault: VaultConfig::default(),
            disk: DiskConfig::default(),
            notices: Notices::default(),
            verify: Verify::default(),
            handlers: Vec::new(),
            checks: Vec::new(),
        }
    }
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            pulse_ms: 15_000,
            beat_ms: 15_000,
            term_ms: 60_000,
            poll_ms: 10_000,
            lost_after_ms: 60_000,
            notify_after_ms: 120_000,
            stable_after_ms: 30_000,
            outbox_after_ms: 600_000,
            failover_after_ms: 300_000,
            cosign_ms: 300_000,
            heal_wait_ms: None,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { losses_max: 3 }
    }
}

impl Default for Verify {
    fn default() -> Self {
        Self {
            enabled: true,
            at: "03:30".into(),
        }
    }
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Origin {
    /// The key, with dots.
    pub key: String,
    /// The value, as TOML.
    pub value: String,
    /// `default`, `file`, `environment` or `flag`.
    pub from: &'static str,
}

/// What is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A key that does not exist.
    #[error("{from}: unknown key {key:?}; `ledger config show` lists the keys that exist")]
    UnknownKey {
        /// Where it stands.
        from: String,
        /// The key.
        key: String,
    },
    /// A value of the wrong shape.
    #[error("{from}: {why}")]
    Invalid {
        /// Where it stands.
        from: String,
        /// What is wrong.
        why: String,
    },
    /// A handler's declaration.
    #[error(transparent)]
    Handler(#[from] HandlerError),
}

impl ConfigError {
    /// The stable code of this error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Io { .. } => "config.io",
            Self::UnknownKey { .. } => "config.unknown-key",
            Self::Invalid { .. } => "config.invalid",
            Self::Handler(_) => "config.handler",
        }
    }
}

impl Config {
    /// The file of a directory.
    pub fn path(dir: &Path) -> PathBuf {
        dir.join("config.toml")
    }

    /// Puts file, environment and flags together, and tells where each value comes from.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn load(dir: &Path, flags: &[(String, String)]) -> Result<(Self, Vec<Origin>), ConfigError> {
        let environment = |key: &str| std::env::var(variable(key)).ok();
        Self::assemble(dir, environment, flags)
    }

    fn assemble(
        dir: &Path,
        environment: impl Fn(&str) -> Option<String>,
        flags: &[(String, String)],
    ) -> Result<(Self, Vec<Origin>), ConfigError> {
        let path = Self::path(dir);
        let file = read_file(&path)?;
        let from_file = path.display().to_string();
        check_keys(&file, &from_file)?;
        let mut origins: Vec<(String, &'static str)> = Vec::new();
        let mut table = Table::try_from(Self::default()).expect("the defaults are valid TOML");
        leaves(&file, "", &mut |key, _| origins.push((key, "file")));
        merge(&mut table, file);
        for key in KEYS {
            if let Some(text) = environment(key) {
                set(&mut table, key, value_of(&text));
                origins.push(((*key).to_owned(), "environment"));
            }
        }
        for (key, text) in flags {
            if !KEYS.contains(&key.as_str()) {
                return Err(ConfigError::UnknownKey {
                    from: "--set".into(),
                    key: key.clone(),
                });
            }
            set(&mut table, key, value_of(text));
            origins.push((key.clone(), "flag"));
        }
        let invalid = |why: String| ConfigError::Invalid {
            from: from_file.clone(),
            why,
        };
        let config: Self = table
            .clone()
            .try_into()
            .map_err(|e: toml::de::Error| invalid(e.message().to_owned()))?;
        config.check().map_err(invalid)?;
        validate_handlers(&config.handlers)?;
        let mut shown = Vec::new();
        leaves(&table, "", &mut |key, value| {
            let from = origins
                .iter()
                .rev()
                .find(|(k, _)| *k == key)
                .map_or("default", |(_, from)| from);
            shown.push(Origin {
                key,
                value: value.to_string(),
                from,
            });
        });
        Ok((config, shown))
    }

    fn check(&self) -> Result<(), String> {
        let t = &self.timing;
        for (name, value) in [
            ("timing.pulse_ms", t.pulse_ms),
            ("timing.beat_ms", t.beat_ms),
            ("timing.term_ms", t.term_ms),
            ("timing.poll_ms", t.poll_ms),
            ("timing.lost_after_ms", t.lost_after_ms),
        ] {
            if !(50..=86_400_000).contains(&value) {
                return Err(format!(
                    "{name} = {value}: a time between 50 and 86,400,000 milliseconds is expected"
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
            ..Policy::default()
        }
    }

    /// Sets one key in a directory's file and keeps the rest of it.
    ///
    /// # Errors
    /// [`ConfigError::Io`] or [`ConfigError::Invalid`].
    pub fn write_key(dir: &Path, key: &str, value: &str) -> Result<(), ConfigError> {
        let path = Self::path(dir);
        let mut table = read_file(&path)?;
        set(&mut table, key, Value::String(value.to_owned()));
        let io = |source| ConfigError::Io {
            path: path.clone(),
            source,
        };
        std::fs::write(&path, table.to_string()).map_err(io)
    }
}

fn is_web_address(url: &str) -> bool {
    url.starts_with("http://") || url.starts_with("https://")
}

/// The environment variable of a key.
pub fn variable(key: &str) -> String {
    format!("LEDGER_{}", key.to_uppercase().replace('.', "_"))
}

fn read_file(path: &Path) -> Result<Table, ConfigError> {
    let io = |source| ConfigError::Io {
        path: path.to_owned(),
        source,
    };
    match std::fs::metadata(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Table::new()),
        Err(e) => return Err(io(e)),
        Ok(meta) if meta.len() > FILE_BYTES_MAX => {
            let why = format!(
                "the file has {} bytes, at most {FILE_BYTES_MAX} are read",
                meta.len()
            );
            return Err(ConfigError::Invalid {
                from: path.display().to_string(),
                why,
            });
        }
        Ok(_) => {}
    }
    let text = std::fs::read_to_string(path).map_err(io)?;
    let invalid = |e: toml::de::Error| ConfigError::Invalid {
        from: path.display().to_string(),
        why: e.to_string(),
    };
    text.parse::<Table>().map_err(invalid)
}

// The handlers' and checks' own keys are checked when they are read.
fn check_keys(table: &Table, from: &str) -> Result<(), ConfigError> {
    let mut unknown = None;
    leaves(table, "", &mut |key, _| {
        if !["handler", "check"].contains(&key.as_str()) && !KEYS.contains(&key.as_str()) {
            unknown.get_or_insert(key);
        }
    });
    match unknown {
        Some(key) => Err(ConfigError::UnknownKey {
            from: from.to_owned(),
            key,
        }),
        None => Ok(()),
    }
}

fn leaves(table: &Table, prefix: &str, visit: &mut dyn FnMut(String, &Value)) {
    for (name, value) in table {
        let key = if prefix.is_empty() {
            name.clone()
        } else {
            format!("{prefix}.{name}")
        };
        match value {
            Value::Table(inner) => leaves(inner, &key, visit),
            other => visit(key, other),
        }
    }
}

fn merge(table: &mut Table, over: Table) {
    for (name, value) in over {
        match (table.get_mut(&name), value) {
            (Some(Value::Table(inner)), Value::Table(value)) => merge(inner, value),
            (_, value) => {
                table.insert(name, value);
            }
        }
    }
}

fn set(table: &mut Table, key: &str, value: Value) {
    match key.split_once('.') {
        None => {
            table.insert(key.to_owned(), value);
        }
        Some((first, rest)) => {
            let inner = table.entry(first).or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(inner) = inner {
                set(inner, rest, value);
            }
        }
    }
}

// A value as TOML; what is no TOML is a text.
fn value_of(text: &str) -> Value {
    let line = format!("v = {text}");
    line.parse::<Table>()
        .ok()
        .and_then(|mut t| t.remove("v"))
        .unwrap_or_else(|| Value::String(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_win_over_environment_over_file_over_defaults() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(
            Config::path(dir.path()),
            "listen = \"127.0.0.1:1\"\n[timing]\npulse_ms = 111\nterm_ms = 900\nbeat_ms = 100\n",
        )
        .unwrap();
        let environment = |key: &str| (key == "timing.pulse_ms").then(|| "222".to_owned());
        let flags = [("timing.term_ms".to_owned(), "1000".to_owned())];
        let (config, origins) = Config::assemble(dir.path(), environment, &flags).unwrap();
        assert_eq!((config.timing.pulse_ms, config.timing.term_ms), (222, 1000));
        let from = |key: &str| origins.iter().find(|o| o.key == key).map(|o| o.from);
        assert_eq!(from("timing.pulse_ms"), Some("environment"));
        assert_eq!(from("timing.term_ms"), Some("flag"));
        assert_eq!(from("listen"), Some("file"));
        assert_eq!(from("timing.poll_ms"), Some("default"));
    }

    #[test]
    fn an_unknown_key_is_named() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(Config::path(dir.path()), "[timing]\npulse = 3\n").unwrap();
        let error = Config::assemble(dir.path(), |_| None, &[]).unwrap_err();
        assert_eq!(error.code(), "config.unknown-key");
        assert!(error.to_string().contains("timing.pulse"));
    }
}
