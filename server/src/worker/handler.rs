//! What a machine declares about a handler: the program, its limits and where it may run.
//!
//! Owns the configuration's shape and its checks. Contract: a [`HandlerConfig`] that [`HandlerConfig::validate`]
//! accepts can be run; every problem is named at once, not one per attempt. It starts nothing.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::outputs;

/// Longest handler name and longest label, in bytes (the bound of a kind's name in a receipt).
pub(super) const NAME_BYTES_MAX: usize = 64;
/// Most arguments of a handler, its program included.
const ARGV_MAX: usize = 256;
/// Longest single argument, in bytes.
const ARGUMENT_BYTES_MAX: usize = 4096;
/// Most labels, environment names and output patterns of one handler (each).
const LIST_MAX: usize = 64;
/// Longest timeout, in seconds: a week; longer work belongs into several jobs.
const TIMEOUT_S_MAX: u64 = 7 * 24 * 3600;
/// Most concurrent runs of one handler.
const SLOTS_MAX: u32 = 256;
/// Largest captured stream, in bytes.
const CAPTURE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Longest time between asking a handler to end and killing it, in milliseconds.
const KILL_GRACE_MS_MAX: u64 = 60_000;

/// How a handler bears being interrupted or repeated; decides what happens when its machine vanishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// Short and harmless to repeat.
    Light,
    /// Long and pure.
    Heavy,
    /// Has effects outside; at most once.
    Exclusive,
}

impl Class {
    /// The name as written in configuration and receipts.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Class::Light => "light",
            Class::Heavy => "heavy",
            Class::Exclusive => "exclusive",
        }
    }
}

/// One `[[handler]]` table of a machine's configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HandlerConfig {
    /// What requests call it: `[a-z0-9.-]`, at most 64 bytes.
    pub name: String,
    /// Program and arguments, never passed through a shell. The program is an absolute path, or a bare name that
    /// is looked up in `PATH`.
    pub argv: Vec<String>,
    /// How it bears interruption.
    pub class: Class,
    /// Free words about what this machine offers with it.
    #[serde(default)]
    pub labels: Vec<String>,
    /// Working directory, absolute; the run's own directory when absent.
    #[serde(default)]
    pub cwd: Option<PathBuf>,
    /// Names of environment variables handed on from the daemon, beside `PATH`, `HOME`, `LANG` and `TZ`.
    #[serde(default)]
    pub env: Vec<String>,
    /// Longest run, in seconds, sleep of the machine included.
    #[serde(default = "default_timeout_s")]
    pub timeout_s: u64,
    /// Time between asking the handler to end and killing it, in milliseconds.
    #[serde(default = "default_kill_grace_ms")]
    pub kill_grace_ms: u64,
    /// Which files below the outputs folder (`LEDGER_OUT`) are outputs; patterns relative to that folder, where `*`
    /// stays within a folder and `**` crosses folders.
    #[serde(default = "default_outputs")]
    pub outputs: Vec<String>,
    /// Most bytes kept of standard output, and as many of standard error; the rest is read and dropped.
    #[serde(default = "default_output_bytes_max")]
    pub output_bytes_max: u64,
    /// How many runs of it may go on at once on this machine.
    #[serde(default = "default_slots")]
    pub slots: u32,
}

fn default_timeout_s() -> u64 {
    3600
}

fn default_kill_grace_ms() -> u64 {
    3000
}

fn default_outputs() -> Vec<String> {
    vec!["**".to_owned()]
}

fn default_output_bytes_max() -> u64 {
    1024 * 1024
}

fn default_slots() -> u32 {
    1
}

/// One thing that is wrong with a handler's declaration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandlerProblem {
    /// The field's name as in the configuration.
    pub field: &'static str,
    /// What was found and what is expected.
    pub reason: String,
}

/// A handler's declaration cannot be accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the handler {handler:?} is not valid: {}", ProblemList(problems))]
pub struct HandlerError {
    /// Its name as written.
    pub handler: String,
    /// All that is wrong with it, at least one entry.
    pub problems: Vec<HandlerProblem>,
}

impl HandlerError {
    /// The stable code of this error.
    #[must_use]
    pub fn code(&self) -> &'static str {
        "handler.invalid"
    }
}

struct ProblemList<'a>(&'a [HandlerProblem]);

impl fmt::Display for ProblemList<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{}: {}", problem.field, problem.reason)?;
        }
        Ok(())
    }
}

impl HandlerConfig {
    /// Checks every field.
    ///
    /// # Errors
    /// A [`HandlerError`] that lists all problems.
    pub fn validate(&self) -> Result<(), HandlerError> {
        let mut problems = Problems::default();
        self.check_name(&mut problems);
        self.check_argv(&mut problems);
        self.check_lists(&mut problems);
        self.check_bounds(&mut problems);
        if problems.0.is_empty() {
            Ok(())
        } else {
            Err(HandlerError {
                handler: self.name.clone(),
                problems: problems.0,
            })
        }
    }

    fn check_name(&self, problems: &mut Problems) {
        if !is_plain_name(&self.name) {
            problems.add(
                "name",
                "expected 1 to 64 of a-z, 0-9, '.' and '-', beginning with a letter or digit",
            );
        }
    }

    fn check_argv(&self, problems: &mut Problems) {
        let Some(program) = self.argv.first() else {
            problems.add("argv", "is empty; expected the program and its arguments");
            return;
        };
        if program.is_empty() || (program.contains('/') && !program.starts_with('/')) {
            problems.add(
                "argv",
                format!(
                    "the program {program:?} is neither an absolute path nor a bare name to look up in PATH"
                ),
            );
        }
        if self.argv.len() > ARGV_MAX {
            problems.add(
                "argv",
                format!("has {} entries; at most {ARGV_MAX}", self.argv.len()),
            );
        }
        for (index, argument) in self.argv.iter().enumerate() {
            if argument.len() > ARGUMENT_BYTES_MAX || argument.contains('\0') {
                problems.add(
                    "argv",
                    format!(
                        "entry {index} is longer than {ARGUMENT_BYTES_MAX} bytes or contains a zero character"
                    ),
                );
            }
        }
    }

    fn check_lists(&self, problems: &mut Problems) {
        for (field, list) in [
            ("labels", &self.labels),
            ("env", &self.env),
            ("outputs", &self.outputs),
        ] {
            if list.len() > LIST_MAX {
                problems.add(field, format!("has {} entries; at most {LIST_MAX}", list.len()));
            }
        }
        for label in &self.labels {
            let plain = |b: u8| {
                b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_' | b'=')
            };
            if label.is_empty() || label.len() > NAME_BYTES_MAX || !label.bytes().all(plain) {
                problems.add(
                    "labels",
                    format!("{label:?}: expected 1 to 64 of a-z, 0-9, '.', '-', '_' and '='"),
                );
            }
        }
        for name in &self.env {
            let shape = name
                .bytes()
                .enumerate()
                .all(|(i, b)| b == b'_' || b.is_ascii_alphabetic() || (i > 0 && b.is_ascii_digit()));
            if name.is_empty() || name.len() > 256 || !shape {
                problems.add(
                    "env",
                    format!("{name:?} is not the name of a variable (values are not given here)"),
                );
            } else if name.starts_with("LEDGER_") {
                problems.add(
                    "env",
                    format!("{name:?}: names that begin with LEDGER_ are set by the worker"),
                );
            }
        }
        for glob in &self.outputs {
            if let Err(error) = outputs::check_glob(glob) {
                problems.add("outputs", error.to_string());
            }
        }
    }

    fn check_bounds(&self, problems: &mut Problems) {
        if let Some(cwd) = &self.cwd
            && !cwd.is_absolute()
        {
            problems.add("cwd", format!("{} is not an absolute path", cwd.display()));
        }
        problems.range("timeout_s", self.timeout_s, 1, TIMEOUT_S_MAX);
        problems.range("kill_grace_ms", self.kill_grace_ms, 0, KILL_GRACE_MS_MAX);
        problems.range("output_bytes_max", self.output_bytes_max, 1, CAPTURE_BYTES_MAX);
        problems.range("slots", u64::from(self.slots), 1, u64::from(SLOTS_MAX));
    }
}

/// Checks every handler of a machine, and that no two have one name.
///
/// # Errors
/// The first handler that is not valid, with all its problems.
pub fn validate_handlers(handlers: &[HandlerConfig]) -> Result<(), HandlerError> {
    let mut names = BTreeSet::new();
    for handler in handlers {
        handler.validate()?;
        if !names.insert(handler.name.as_str()) {
            let reason = "is declared twice; give each handler a name of its own".to_owned();
            return Err(HandlerError {
                handler: handler.name.clone(),
                problems: vec![HandlerProblem {
                    field: "name",
                    reason,
                }],
            });
        }
    }
    Ok(())
}

fn is_plain_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-');
    name.len() <= NAME_BYTES_MAX
        && name.bytes().all(plain)
        && name
            .bytes()
            .next()
            .is_some_and(|first| first.is_ascii_alphanumeric())
}

#[derive(Default)]
struct Problems(Vec<HandlerProblem>);

impl Problems {
    fn add(&mut self, field: &'static str, reason: impl Into<String>) {
        self.0.push(HandlerProblem {
            field,
            reason: reason.into(),
        });
    }

    fn range(&mut self, field: &'static str, value: u64, min: u64, max: u64) {
        if !(min..=max).contains(&value) {
            self.add(field, format!("is {value}; expected {min} to {max}"));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parse(text: &str) -> Result<HandlerConfig, toml::de::Error> {
        toml::from_str(text)
    }

    #[test]
    fn the_shortest_declaration_is_valid_and_has_the_documented_defaults() {
        let handler = parse("name = 'word-count'\nargv = ['wc']\nclass = 'light'").unwrap();
        handler.validate().unwrap();
        assert_eq!(handler.timeout_s, 3600);
        assert_eq!(handler.kill_grace_ms, 3000);
        assert_eq!(handler.outputs, ["**"]);
        assert_eq!(handler.output_bytes_max, 1 << 20);
        assert_eq!((handler.slots, handler.cwd), (1, None));
    }

    #[test]
    fn an_unknown_field_or_class_is_refused() {
        assert!(parse("name = 'a'\nargv = ['wc']\nclass = 'light'\nshell = true").is_err());
        assert!(parse("name = 'a'\nargv = ['wc']\nclass = 'huge'").is_err());
    }

    #[test]
    fn every_problem_is_named_at_once() {
        let handler = parse(
            "name = 'Word Count'\nargv = ['bin/wc']\nclass = 'heavy'\ncwd = 'here'\ntimeout_s = 0\nslots = 0\n\
             env = ['LEDGER_JOB', 'A=B']\noutputs = ['../*', '/etc/*', '[']\nlabels = ['']\noutput_bytes_max = 0\n\
             kill_grace_ms = 60001",
        )
        .unwrap();
        let error = handler.validate().unwrap_err();
        let fields: BTreeSet<_> = error.problems.iter().map(|p| p.field).collect();
        let expected = [
            "name",
            "argv",
            "cwd",
            "timeout_s",
            "slots",
            "env",
            "outputs",
            "labels",
            "output_bytes_max",
            "kill_grace_ms",
        ];
        assert_eq!(fields, expected.into_iter().collect());
        assert_eq!(error.problems.iter().filter(|p| p.field == "outputs").count(), 3);
        assert_eq!(error.problems.iter().filter(|p| p.field == "env").count(), 2);
        assert_eq!(error.code(), "handler.invalid");
        assert!(error.to_string().contains("Word Count"));
    }

    #[test]
    fn two_handlers_of_one_name_are_refused() {
        let handler = parse("name = 'a'\nargv = ['wc']\nclass = 'exclusive'").unwrap();
        validate_handlers(std::slice::from_ref(&handler)).unwrap();
        let error = validate_handlers(&[handler.clone(), handler]).unwrap_err();
        assert!(error.to_string().contains("twice"));
    }
}
