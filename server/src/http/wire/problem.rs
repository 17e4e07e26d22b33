//! Problem details (RFC 9457): the one form of every error.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Why a request was not done, as `application/problem+json`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// `urn:ledger:problem:` and the code.
    #[serde(rename = "type")]
    pub kind: String,
    /// The status in words.
    pub title: String,
    /// The status.
    pub status: u16,
    /// What was expected and what was found.
    pub detail: String,
    /// The stable code.
    pub code: String,
    /// What to do about it.
    pub what_to_do: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.detail, self.code)?;
        if self.what_to_do.is_empty() {
            Ok(())
        } else {
            write!(f, "; {}", self.what_to_do)
        }
    }
}
