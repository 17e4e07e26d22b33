//! The engine's promises, one module for each.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::result_large_err
)]

mod bitflip;
mod bundle;
mod cited;
mod damage;
mod disk;
mod embedding;
mod erase;
mod forging;
mod full_disk;
mod fuzz;
mod gaps;
mod import;
mod intake;
mod journal;
mod kills;
mod no_space;
mod orphans;
mod pipeline;
mod proofs;
mod properties;
mod prune;
mod prune_faults;
mod pruned_start;
mod pruned_start_faults;
mod python;
mod ranges;
mod real;
mod recovery;
mod resume;
mod review;
mod store;
mod stores;
mod support;
mod sync;
mod syscalls;
mod verdicts;
mod verify;
mod verify_logs;
mod witness;
mod witness_faults;
