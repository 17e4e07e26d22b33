//! What stands around every answer: the item or items, and as of which receipt that is.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The newest receipt that an answer has taken in, and how old that is.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct AsOf {
    /// The receipt's id; absent in a store without receipts.
    pub receipt: Option<String>,
    /// The log that has it.
    pub log: Option<String>,
    /// Its place in that log.
    pub seq: Option<u64>,
    /// When that log sealed it.
    pub time: Option<String>,
    /// How long ago that is, in milliseconds, by this machine's clock.
    pub age_ms: Option<u64>,
    /// Behind this place in the answering store's journal nothing was looked at.
    pub position: String,
    /// `central`: this store writes the order, so decisions are final here. `mirror`: the order is a copy, as old as said.
    pub standing: String,
}

/// One item.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Answer<T> {
    /// How fresh it is.
    pub as_of: AsOf,
    /// The item.
    pub item: T,
}

/// Some items of a longer list.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    /// How fresh they are.
    pub as_of: AsOf,
    /// The items. May be fewer than asked for, even none, while `next_cursor` is there: looking was bounded.
    pub items: Vec<T>,
    /// Give it as `cursor` to go on; absent at the end.
    pub next_cursor: Option<String>,
}
