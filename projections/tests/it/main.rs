//! The folds and deciders against real records: each module one promise.
#![allow(clippy::unwrap_used)]

mod authority;
mod claims;
mod harness;
mod health;
mod late_results;
mod leases;
mod members;
mod notices;
mod random;
mod routing;
mod table;
mod timeline;
mod uptime;
mod vault;
mod walk;
