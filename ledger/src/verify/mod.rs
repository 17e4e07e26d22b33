//! Verification from disk: is every receipt still here, and unaltered?
//!
//! Owns the run over a journal ([`verify_store`]) or a bundle ([`verify_bundle`]) and its [`Report`]. It reads what lies on
//! the disk, by [`crate::journal::walk`], through no cache of a running process; it never writes, takes no lock, needs
//! neither keys nor anchor, and may run while a daemon appends. After damage it goes on, so that one run names all of it.
//! Memory is bounded by one segment, however long the logs are. What each key was permitted is not decided here.

mod bundle;
mod check;
mod heads;
mod log;
mod report;
mod store;
mod suspect;

pub use bundle::verify_bundle;
pub use report::{Aspect, Counts, FINDINGS_MAX, Finding, Freshness, LogReport, Report};
pub use store::verify_store;

pub use ledger_core::kinds::Verdict;

use crate::clock::{Clock, SystemClock};
use crate::storage::{DiskStorage, Storage};
use ledger_core::LogId;
use std::sync::Arc;

/// What a verification looks at.
#[derive(Clone)]
pub struct Options {
    /// Verify the signatures too. Without, the hashes alone are checked, which is many times quicker; a signed head that
    /// somebody else knows then covers everything before it.
    pub full: bool,
    /// Threads to work with; 0 for all cores.
    pub threads: usize,
    /// The logs to check; empty for all. The journal itself is checked in any case.
    pub logs: Vec<LogId>,
    /// The disk.
    pub storage: Arc<dyn Storage>,
    /// What tells the age of the newest receipt.
    pub clock: Arc<dyn Clock>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            full: true,
            threads: 0,
            logs: Vec::new(),
            storage: Arc::new(DiskStorage),
            clock: Arc::new(SystemClock),
        }
    }
}

impl Options {
    fn wants(&self, log: &LogId) -> bool {
        self.logs.is_empty() || self.logs.contains(log)
    }
}

/// How far a verification is.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Progress {
    /// Bytes read so far.
    pub bytes: u64,
    /// Bytes to read, as of the beginning.
    pub bytes_total: u64,
    /// Receipts read so far.
    pub receipts: u64,
    /// Findings so far.
    pub findings: u64,
}
