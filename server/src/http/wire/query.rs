//! Query strings. An unknown parameter is an error; a repeated one only where it says so.

use serde::{Deserialize, Serialize};
use utoipa::IntoParams;

/// Which receipts.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct ReceiptsQuery {
    /// Not before: RFC 3339, or `@seq` for the time of that receipt of the order.
    pub since: Option<String>,
    /// Before: RFC 3339, or `@seq` for the time of that receipt of the order.
    pub until: Option<String>,
    /// A kind, or a pattern as `job.*`; repeatable.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kind: Vec<String>,
    /// The author: its name, its key, or at least 8 hex characters of the key's beginning.
    pub actor: Option<String>,
    /// The machine whose log it is.
    pub machine: Option<String>,
    /// Subjects that begin so, like `job/`.
    pub subject: Option<String>,
    /// At most so many, up to 1,000; 100 if not said.
    pub limit: Option<u32>,
    /// Where the page before ended.
    pub cursor: Option<String>,
}

/// Which jobs.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct JobsQuery {
    /// A state; repeatable.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub state: Vec<String>,
    /// The handler.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handler: Option<String>,
    /// The machine that has it, had it last, or alone may run it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
    /// Accepted at or after: RFC 3339, or `@seq` for the time of that receipt of the order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// At most so many, up to 1,000; 100 if not said.
    pub limit: Option<u32>,
    /// Where the page before ended.
    pub cursor: Option<String>,
}

/// How much of a job.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct JobQuery {
    /// `no`: only what this store has; its gateway is not asked for more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<String>,
}

/// Which files of the Vault.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct VaultQuery {
    /// Paths that begin so.
    pub prefix: Option<String>,
    /// At most so many, up to 1,000; 100 if not said.
    pub limit: Option<u32>,
    /// Where the page before ended.
    pub cursor: Option<String>,
}

/// Which receipts to follow.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct EventsQuery {
    /// Behind this cursor; `start` begins with the store's first receipt. `Last-Event-ID` goes before it; without
    /// either the tail begins now.
    pub after: Option<String>,
    /// A kind, or a pattern as `job.*`; repeatable.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kind: Vec<String>,
    /// The author: its name, its key, or at least 8 hex characters of the key's beginning.
    pub actor: Option<String>,
    /// The machine whose log it is.
    pub machine: Option<String>,
    /// Subjects that begin so, like `job/`.
    pub subject: Option<String>,
}

/// Whose uptime, and of when.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct UptimeQuery {
    /// The machine; all of them if not said.
    pub machine: Option<String>,
    /// The window's begin, RFC 3339.
    pub since: String,
    /// The window's end, RFC 3339; now if not said.
    pub until: Option<String>,
}
