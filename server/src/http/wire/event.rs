//! One event of the live tail.

use super::Receipt;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A receipt as the live tail tells it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// The event's `id:`; give it as `Last-Event-ID` (or `after`) to go on behind it.
    pub cursor: String,
    /// The receipt.
    pub receipt: Receipt,
}
