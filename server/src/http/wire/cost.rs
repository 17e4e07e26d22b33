//! Costs as JSON.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::{IntoParams, ToSchema};

/// Which costs, and how they are grouped.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct CostsQuery {
    /// `handler`, `machine`, `project` or `day`; `handler` if not said.
    pub by: Option<String>,
    /// From the day (UTC) of this time on, RFC 3339; from the beginning if not said.
    pub since: Option<String>,
    /// To the day (UTC) of this time, RFC 3339; today if not said.
    pub until: Option<String>,
}

/// What some runs cost. Sums that would pass 64 bits stay at the largest number.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct CostSums {
    /// How many runs.
    pub runs: u64,
    /// Wall time in milliseconds, measured.
    pub wall_ms: u64,
    /// CPU time in milliseconds, measured.
    pub cpu_ms: u64,
    /// The largest peak of memory of one of them, in bytes, measured.
    pub peak_memory_bytes: u64,
    /// Tokens, as handlers report them.
    pub tokens: u64,
    /// Millionths of each currency by its three letters, as handlers report them.
    pub money_micros: BTreeMap<String, u64>,
    /// Whether a sum passed 64 bits.
    pub saturated: bool,
}

/// One group.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct CostGroup {
    /// The handler, machine, project (empty: none was said) or day (as 2026-01-31, UTC).
    pub group: String,
    /// All runs.
    pub all: CostSums,
    /// Of these, by what became of them: `succeeded` and `adopted` stand; `failed`, `stopped` and `late` cost all the same.
    pub by_outcome: BTreeMap<String, CostSums>,
}

/// What runs cost.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct CostsTold {
    /// How they are grouped.
    pub by: String,
    /// The first day, UTC; absent from the beginning.
    pub from: Option<String>,
    /// The last day, UTC.
    pub until: String,
    /// The groups, by name.
    pub groups: Vec<CostGroup>,
    /// All of them.
    pub total: CostSums,
}
