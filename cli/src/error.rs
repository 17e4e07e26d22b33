//! What a command says when it cannot do what was asked.

use crate::exit::{self, Exit};
use std::path::Path;

/// An error with a stable code, a sentence, and what to do about it.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub(crate) struct CliError {
    /// Stable, for programs.
    pub(crate) code: String,
    /// What was expected and found.
    pub(crate) message: String,
    /// What a person can do now; may be empty when the message says it.
    pub(crate) what_to_do: String,
    /// What stands all the same: a request that was kept, for instance.
    pub(crate) result: Option<serde_json::Value>,
}

impl CliError {
    /// An error of this program.
    pub(crate) fn new(code: &str, message: impl Into<String>, what_to_do: impl Into<String>) -> Self {
        Self {
            code: code.to_owned(),
            message: message.into(),
            what_to_do: what_to_do.into(),
            result: None,
        }
    }

    /// The same, with what stands all the same.
    pub(crate) fn with_result(mut self, result: serde_json::Value) -> Self {
        self.result = Some(result);
        self
    }

    /// A file could not be read or written.
    pub(crate) fn io(doing: &str, path: &Path, error: &std::io::Error) -> Self {
        let code = match error.kind() {
            std::io::ErrorKind::NotFound => "input.not-found",
            _ => "io",
        };
        Self::new(
            code,
            format!("cannot {doing} {}: {error}", path.display()),
            "check the path and its permissions",
        )
    }

    /// The status that the program ends with.
    pub(crate) fn exit(&self) -> Exit {
        exit::of_code(&self.code)
    }
}
