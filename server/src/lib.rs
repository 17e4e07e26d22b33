//! The long-running processes of the ledger: gateway and node, their HTTP doors, worker, replication and notices.
//!
//! Decisions are pure functions in `ledger-projections`; the engine is `ledger`. What is here acts: it owns sockets,
//! processes, clocks and tasks, and every task has an owner that waits for it.

pub mod checks;
pub mod client;
mod clock;
mod closing;
pub mod config;
pub mod cosign;
pub mod daemon;
mod doors;
mod erase;
pub mod error;
mod evidence;
pub mod exchange;
mod found;
pub mod gateway;
pub mod heartbeat;
pub mod http;
mod jobs;
pub mod machine;
mod marks;
pub mod nightly;
mod node;
mod outside;
pub mod pace;
pub mod reserve;
mod rest;
pub mod retention;
mod say;
pub mod setup;
mod standing;
mod steering;
pub mod vault;
pub mod worker;

pub use closing::Closing;
pub use config::Config;
pub use error::ServerError;
pub use machine::Machine;
