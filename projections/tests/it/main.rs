//! The folds and deciders against real records: each module one promise.
#![allow(clippy::unwrap_used)]

mod authority;
mod bad_input;
mod calendar;
mod claims;
mod clocks;
mod costs;
mod deadlines;
mod dependencies;
mod erasing;
mod failover;
mod harness;
mod health;
mod late_results;
mod leases;
mod limits;
mod members;
mod nominal_times;
mod notices;
mod orphans;
mod proven_claims;
mod random;
mod routing;
mod rules;
mod schedules;
mod steering;
mod table;
mod timeline;
mod uptime;
mod vault;
mod walk;
