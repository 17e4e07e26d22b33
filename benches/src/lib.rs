//! Benchmarks of the engine, each beside the floor that it cannot get below, interleaved in the same run.
//!
//! Owns the measuring code, the cases and what is printed; `benches/engine.rs` is the command. Nothing here asserts a time: ratios are
//! for people to read. A crash leaves a folder `ledger-bench-*` in the build's `tmp` folder, and nothing else.

pub mod append;
pub mod child;
pub mod daemons;
pub mod fleet;
pub mod fold;
pub mod lives;
pub mod lone;
pub mod measure;
pub mod peers;
pub mod plot;
pub mod read;
pub mod report;
pub mod run;
pub mod sign;
pub mod sync;
pub mod table;
pub mod verify;

use std::time::Duration;

/// Why a benchmark could not be run.
pub type Failed = Box<dyn std::error::Error + Send + Sync>;

/// Bytes of each payload of the bench record.
pub const PAYLOAD_BYTES: usize = 300;
/// Callers that wait for an answer at the same time.
pub const CALLERS: usize = 64;
/// Callers of a busy server, for the rows that tell what a crowd makes of it.
pub const CROWD: usize = 512;
/// Bytes that the bench record takes in the journal, payload included, in round numbers: what a plain file is given.
pub const RECORD_BYTES: usize = 800;

/// How much is measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Size {
    /// Times that everything is measured in turns; the median counts.
    pub rounds: usize,
    /// Signatures of one round.
    pub signatures: usize,
    /// Appends of each kind in one round.
    pub appends: usize,
    /// Lone appends of one round.
    pub lone: usize,
    /// Jobs whose lives are folded.
    pub jobs: usize,
    /// Receipts of the store whose memory is looked at.
    pub memory: usize,
    /// How often and how long other stores are asked.
    pub peers: peers::Effort,
}

impl Size {
    /// What a table is made with; some two minutes on two cores.
    pub const FULL: Size = Size {
        rounds: 5,
        signatures: 30_000,
        appends: 25_000,
        lone: 400,
        jobs: 20_000,
        memory: 250_000,
        peers: peers::Effort {
            grouped: 15_000,
            each: 5_000,
            lone: 200,
            within: Duration::from_millis(500),
        },
    };
    /// Whether it runs at all.
    pub const QUICK: Size = Size {
        rounds: 2,
        signatures: 2_000,
        appends: 2_000,
        lone: 20,
        jobs: 500,
        memory: 5_000,
        peers: peers::Effort {
            grouped: 1_000,
            each: 200,
            lone: 20,
            within: Duration::from_millis(200),
        },
    };
}
