//! Which receipts' signatures a run checks. Everything else it reads of all of them in any case: checksums, chain, tree, payloads,
//! heads and what keys were permitted, so that a part is held to the whole that it stands in.

use super::Options;
use crate::Position;
use ledger_core::Hlc;
use serde::Serialize;
use std::collections::BTreeSet;
use std::fmt;

/// Receipts whose signatures shall be checked, of each log that is looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Range {
    /// From a seq to another, both included; they must be there.
    Seqs {
        /// The first seq.
        first: u64,
        /// The last seq; `None` for the newest that is here.
        last: Option<u64>,
    },
    /// By the time of the seal, milliseconds since 1970.
    Times {
        /// Not before this.
        since_unix_ms: u64,
        /// Before this; `None` for all that came after.
        until_unix_ms: Option<u64>,
    },
}

impl Range {
    /// Whether a receipt of this seq, sealed at this time, is one of them.
    pub fn takes(&self, seq: u64, time: Hlc) -> bool {
        match *self {
            Self::Seqs { first, last } => seq >= first && last.is_none_or(|last| seq <= last),
            Self::Times {
                since_unix_ms,
                until_unix_ms,
            } => time.unix_ms() >= since_unix_ms && until_unix_ms.is_none_or(|until| time.unix_ms() < until),
        }
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Seqs { first, last: None } => write!(f, "from seq {first} on"),
            Self::Seqs {
                first,
                last: Some(last),
            } => write!(f, "seq {first} to {last}"),
            Self::Times {
                since_unix_ms,
                until_unix_ms,
            } => {
                write!(f, "sealed from {since_unix_ms} ms")?;
                until_unix_ms.map_or(Ok(()), |until| write!(f, " to {until} ms"))?;
                f.write_str(" since 1970")
            }
        }
    }
}

/// What is done with a receipt's signatures.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Duty {
    /// Nobody asked for them.
    Outside,
    /// An earlier run checked them.
    Covered,
    Check,
}

/// See the module.
#[derive(Clone, Default, Debug)]
pub(super) struct Scope {
    signatures: bool,
    range: Option<Range>,
    // Up to where an earlier run checked them, that record included.
    covered: Option<Position>,
    // What it found bad there, which is checked and told again.
    bad: BTreeSet<Position>,
}

impl Scope {
    pub(super) fn new(options: &Options) -> Self {
        Self {
            signatures: options.full,
            range: options.range,
            covered: None,
            bad: BTreeSet::new(),
        }
    }

    /// An earlier run checked all up to a place, and found these bad.
    pub(super) fn set_covered(&mut self, at: Position, bad: &BTreeSet<Position>) {
        self.covered = Some(at);
        self.bad.clone_from(bad);
    }

    /// Whether a record lies where an earlier run was.
    pub(super) fn is_before(&self, position: Position) -> bool {
        self.covered.is_some_and(|at| position <= at)
    }

    /// What is done with a receipt's signatures.
    pub(super) fn duty(&self, position: Position, seq: u64, time: Hlc) -> Duty {
        if !self.signatures || self.range.is_some_and(|range| !range.takes(seq, time)) {
            Duty::Outside
        } else if self.is_before(position) && !self.bad.contains(&position) {
            Duty::Covered
        } else {
            Duty::Check
        }
    }
}
