//! Erasures.

use super::Receipt;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// To destroy a payload, at the local door.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EraseBody {
    /// Why, 1 to 200 bytes. It is kept for ever: nothing that is to be forgotten belongs here.
    pub reason: String,
}

/// What was destroyed.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Erased {
    /// The receipt whose payload is gone.
    pub id: String,
    /// The receipts that say so: one for each place where the statement was sealed.
    pub erased_by: Vec<Receipt>,
    /// Whether it was erased before.
    pub repeated: bool,
}
