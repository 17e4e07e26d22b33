//! Verification from disk: is every receipt still here, and unaltered?
//!
//! Owns the run over a journal ([`verify_store`]), a bundle ([`verify_bundle`]) or published tiles ([`verify_tiles`]) and its
//! [`Report`]. It reads what lies on
//! the disk, by [`crate::journal::walk`], through no cache of a running process; it never writes, takes no lock, needs
//! neither keys nor anchor, and may run while a daemon appends. After damage it goes on, so that one run names all of it.
//! Memory is bounded by one segment, however long the logs are. What each key was permitted a judge says that the caller brings.

mod authority;
mod bundle;
mod check;
mod chunk;
mod cosigned;
mod cover;
mod entry;
mod excused;
mod given;
mod heads;
mod log;
mod payloads;
mod pruned;
mod report;
mod resume;
mod scope;
mod seen;
mod signed;
mod store;
mod suspect;
mod tiles;
mod window;
mod work;

pub use authority::{Authority, AuthorityMaker, Judgement, NotPermitted};
pub use bundle::verify_bundle;
pub use report::{
    Aspect, Counts, FINDINGS_MAX, Finding, Freshness, LogReport, NotChecked, Ranged, Report, Resumed,
};
pub use resume::{Resume, ResumeError};
pub use scope::Range;
pub use seen::{CheckpointAge, CheckpointFrom};
pub use store::verify_store;
pub use tiles::verify_tiles;

pub use ledger_core::kinds::Verdict;

use crate::clock::{Clock, SystemClock};
use crate::storage::{DiskStorage, Storage};
use ledger_core::checkpoint::Checkpoint;
use ledger_core::note::VerifierKey;
use ledger_core::{LogId, PublicKey, checkpoint};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// What a verification looks at.
#[derive(Clone)]
pub struct Options {
    /// Verify the signatures too. Without, the hashes alone are checked, which is many times quicker; a signed head that
    /// somebody else knows then covers everything before it.
    pub full: bool,
    /// Threads to work with; 0 for all cores.
    pub threads: usize,
    /// The logs to check, which must be here; empty for all. The journal itself is checked in any case.
    pub logs: Vec<LogId>,
    /// The checkpoint keys that a bundle's or a directory's log must have one of, and of a store some log; empty to check it
    /// against itself alone.
    pub keys: Vec<VerifierKey>,
    /// Judges what keys were permitted, when it makes sense here; every record is then taken apart once more.
    pub authority: Option<AuthorityMaker>,
    /// Checkpoints that somebody else has seen and checked: what they cover must be here. In a bundle only one over as many
    /// records as end there can be compared; of one over fewer the report says that it was not.
    pub checkpoints: Vec<Checkpoint>,
    /// An age of the newest receipt, in milliseconds, that is a finding when it is exceeded; otherwise the age is told.
    pub max_age_ms: Option<u64>,
    /// Receipts whose signatures are checked; `None` for all. Everything else is checked of all of them. Not for bundles.
    pub range: Option<Range>,
    /// Where a run over a store keeps how far it is, and goes on from; for a full verification only.
    pub resume: Option<Resume>,
    /// Set, it stops a run over a store, which keeps how far it is and ends with [`ResumeError::Interrupted`].
    pub stop: Option<Arc<AtomicBool>>,
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
            keys: Vec::new(),
            authority: None,
            checkpoints: Vec::new(),
            max_age_ms: None,
            range: None,
            resume: None,
            stop: None,
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

/// What is wrong when keys are pinned and none of these logs has one of them for its checkpoint key.
fn not_pinned<'l>(
    options: &Options,
    logs: impl IntoIterator<Item = (&'l LogId, &'l PublicKey)>,
) -> Option<Finding> {
    if options.keys.is_empty() {
        return None;
    }
    let (mut log, mut origins) = (None, Vec::new());
    for (found, key) in logs {
        let origin = checkpoint::origin(found);
        let mut keys = options.keys.iter();
        if keys.any(|pin| pin.name() == origin && pin.key().public() == *key) {
            return None;
        }
        log = log.or(Some(*found));
        origins.push(origin);
    }
    Some(Finding {
        code: "note.not-pinned",
        aspect: Aspect::Signatures,
        log: log.filter(|_| origins.len() == 1),
        seq: None,
        id: None,
        position: None,
        text: match origins.as_slice() {
            [origin] => format!("no key that is pinned is the checkpoint key of {origin}"),
            _ => format!(
                "no key that is pinned is the checkpoint key of any of the {} logs here",
                origins.len()
            ),
        },
    })
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
