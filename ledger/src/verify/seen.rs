//! How old the checkpoints are that anchor, reader or publisher hold the log to.
//!
//! A checkpoint carries no time of its own. What is known is when the newest record under it was sealed: it is not older than that,
//! and whoever holds it has seen nothing that came after. Cosignatures, which do carry a time, are told by the daemon's status.

use super::log::LogState;
use crate::clock;
use ledger_core::{Hlc, LogId};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;

/// Where a checkpoint comes from.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CheckpointFrom {
    /// The anchor: the last one that the machine released.
    Anchor,
    /// The reader, by [`super::Options::checkpoints`].
    Given,
    /// The directory of a published log.
    Published,
}

/// How old a checkpoint is, as far as that can be known.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct CheckpointAge {
    /// Where it comes from.
    pub from: CheckpointFrom,
    /// Its log.
    pub log: LogId,
    /// Records under it.
    pub tree_size: u64,
    /// When the newest of them was sealed, milliseconds since 1970: the checkpoint came later. `None` when that record is
    /// not here.
    pub newest_unix_ms: Option<u64>,
    /// How long ago that was, in milliseconds.
    pub age_ms: Option<u64>,
    /// Records of the log after it.
    pub after: Option<u64>,
}

impl CheckpointAge {
    /// Of records under it, of which the newest was sealed then.
    pub(super) fn new(from: CheckpointFrom, log: LogId, tree_size: u64) -> Self {
        Self {
            from,
            log,
            tree_size,
            newest_unix_ms: None,
            age_ms: None,
            after: None,
        }
    }

    /// Says when its newest record was sealed.
    pub(super) fn set_newest(&mut self, time: Hlc) {
        self.newest_unix_ms = Some(time.unix_ms());
    }

    /// Says what time it is, and what follows behind the newest record of its log.
    pub(super) fn set_now(&mut self, now_us: i64, next: Option<u64>) {
        let now = clock::unix_ms(now_us);
        self.age_ms = self.newest_unix_ms.map(|newest| now.saturating_sub(newest));
        self.after = next.and_then(|next| next.checked_sub(self.tree_size));
    }
}

impl fmt::Display for CheckpointAge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let from = match self.from {
            CheckpointFrom::Anchor => "last released",
            CheckpointFrom::Given => "given",
            CheckpointFrom::Published => "published",
        };
        write!(
            f,
            "{from}, log {}, over {} receipts, ",
            self.log.short(),
            self.tree_size
        )?;
        match self.age_ms {
            Some(age) => write!(f, "the newest sealed {}.{} s ago", age / 1000, age % 1000 / 100)?,
            None => f.write_str("of which the newest is not here")?,
        }
        match self.after {
            Some(0) => f.write_str(", none after it"),
            Some(after) => write!(f, ", {after} after it"),
            None => Ok(()),
        }
    }
}

/// The checkpoints that a run over a store knows of.
#[derive(Debug, Default)]
pub(super) struct Seen(Vec<CheckpointAge>);

impl Seen {
    /// Notes one; one over nothing says nothing.
    pub(super) fn note(&mut self, from: CheckpointFrom, log: LogId, tree_size: u64) {
        if tree_size > 0 {
            self.0.push(CheckpointAge::new(from, log, tree_size));
        }
    }

    /// Whether one is waiting for the time of a record of this range.
    pub(super) fn waits_in(&self, log: &LogId, first: u64, last: u64) -> bool {
        let waits = |age: &CheckpointAge| {
            age.log == *log && age.newest_unix_ms.is_none() && (first..=last).contains(&(age.tree_size - 1))
        };
        self.0.iter().any(waits)
    }

    /// A log got to a seq.
    pub(super) fn reached(&mut self, log: &LogId, seq: u64, time: Hlc) {
        for age in &mut self.0 {
            if age.log == *log && age.tree_size - 1 == seq {
                age.set_newest(time);
            }
        }
    }

    /// What the report says.
    pub(super) fn report(&self, now_us: i64, logs: &BTreeMap<LogId, LogState>) -> Vec<CheckpointAge> {
        let mut ages = self.0.clone();
        for age in &mut ages {
            age.set_now(now_us, logs.get(&age.log).map(LogState::expects));
        }
        ages.sort_by_key(|age| (age.from, age.log, age.tree_size));
        ages
    }
}
