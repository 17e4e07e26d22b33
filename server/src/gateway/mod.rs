//! What only the machine that writes the order does: taking in other machines' logs, deciding, watching the clock,
//! telling people.

mod about;
mod again;
mod backlog;
mod branch;
mod brought;
pub mod central;
mod claims;
pub(crate) mod epochs;
mod evidence;
pub mod exchange;
mod incarnations;
mod joining;
pub(crate) mod lanes;
mod notices;
pub(crate) mod orphans;
mod polls;
pub(crate) mod processes;
pub(crate) mod records;
pub(crate) mod schedules;
mod sinks;
mod ticker;
mod waiting;
pub(crate) mod worker;

pub(crate) use claims::{claim_now, opens_in};
pub(crate) use evidence::forked;
pub(crate) use notices::deliver_forever;
pub(crate) use ticker::tick_forever;
