//! Pure folds over the ledger: the fleet's order, its members, the job queue with its deciders, health, Vault, timeline.
//!
//! [`FleetState`] is folded inside the committer. Everything that decides is in [`queue::decide`], [`members`] and
//! [`notices`]: functions from that state and a command to drafts for the order. What may lag behind the committer
//! follows the contract of [`projection`]. Nothing here appends a receipt, reads a clock or opens a socket.

pub mod authority;
pub mod central;
pub mod costs;
mod erasing;
pub mod fleet;
mod hashed;
pub mod health;
pub mod members;
pub mod notices;
mod one;
pub mod order;
mod parted;
mod presence;
pub mod projection;
pub mod queue;
pub mod retention;
pub mod rows;
pub mod runner;
pub mod runs;
pub mod schedules;
pub mod table;
pub mod timeline;
pub mod uptime;
pub mod vault;
mod view;

pub use fleet::{FleetState, micros_of};
pub use order::{Place, pin};
pub use queue::{Answer, Policy, Refusal, answer_for};
