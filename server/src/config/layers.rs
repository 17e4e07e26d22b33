//! Putting a configuration together from its layers, and telling where each value comes from.

use super::{Config, KEYS};
use crate::worker::{HandlerError, validate_handlers};
use serde::Serialize;
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// Bytes of a configuration file at most.
const FILE_BYTES_MAX: u64 = 1 << 20;

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
