//! The index of the Vault: every durable file by path, its digest, and the receipt that says so.
//!
//! Files come from `artifact.recorded` and `artifact.removed` in machines' facts logs, expanded where the order pins
//! them, and from runs' outputs: `artifact.staged` joins under `jobs/<job>/<path>` when the order says `job.succeeded`
//! for that very claim, so that a zombie cannot publish. A store without an order folds its own facts at once. It does
//! not look at files.

use crate::fleet::micros_of;
use crate::projection::{Halt, Projection, RANGE_MAX, ReceiptSource};
use crate::runs::Staged;
use crate::table::Table;
use ledger::{Changes, Receipt, Row};
use ledger_core::kinds::{AnyDetail, Detail, Evidence, Fence, JobId, LogGenesis, LogPinned, PinnedRange};
use ledger_core::{ContentDigest, LogId, MachineId, PublicKey, Stream};
use serde::{Deserialize, Serialize};

/// A file of the Vault.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct VaultFile {
    /// BLAKE3 of its content.
    pub blake3: ContentDigest,
    /// Size in bytes.
    pub size: u64,
    /// The machine that has it.
    pub machine: MachineId,
    /// Where that is recorded.
    pub evidence: Evidence,
    /// When it was recorded, microseconds since 1970.
    pub recorded_at: i64,
    /// The job whose output it is.
    pub job: Option<JobId>,
}

/// How far a machine's log is folded.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Source {
    machine: MachineId,
    machine_key: PublicKey,
    stream: Stream,
    next: u64,
}

/// An output that waits for its job's success.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Waiting {
    job: JobId,
    staged: Staged,
    machine: MachineId,
    evidence: Evidence,
}

const FILES: u16 = 1;
const SOURCES: u16 = 2;
const WAITING: u16 = 3;

/// The index.
#[derive(Clone, PartialEq, Debug)]
pub struct Vault {
    files: Table<String, VaultFile>,
    sources: Table<LogId, Source>,
    waiting: Table<(Fence, u64), Waiting>,
}

impl Projection for Vault {
    const NAME: &'static str = "vault";
    const VERSION: u32 = 1;

    fn empty() -> Self {
        Self {
            files: Table::new(FILES),
            sources: Table::new(SOURCES),
            waiting: Table::new(WAITING),
        }
    }

    fn fold(
        &mut self,
        receipt: &Receipt,
        source: &dyn ReceiptSource,
        changes: &mut Changes,
    ) -> Result<(), Halt> {
        let statement = receipt.statement();
        match statement.any_detail() {
            // The genesis of the very log that is fed: a store without an order feeds its own facts.
            Ok(AnyDetail::LogGenesis(genesis)) if genesis.stream == Stream::Facts => {
                self.open(receipt, genesis, changes);
            }
            Ok(AnyDetail::LogPinned(LogPinned { ranges })) => {
                for range in &ranges {
                    self.expand(range, source, changes)?;
                }
            }
            Ok(AnyDetail::JobSucceeded(d)) => {
                // The decision cites its evidence, so it takes the work log in up to there, whether or not the pin that
                // covers it comes later in the same batch.
                let (log, last, seal) = (d.evidence.log, d.evidence.seq, d.evidence.seal);
                self.expand(
                    &PinnedRange {
                        log,
                        first: last,
                        last,
                        seal,
                        root: None,
                    },
                    source,
                    changes,
                )?;
                self.publish(&d.fence, micros_of(receipt), changes);
            }
            Ok(AnyDetail::JobAttemptFailed(d)) => self.drop_waiting(&d.fence, changes),
            Ok(AnyDetail::JobLateResult(d)) => self.drop_waiting(&d.fence, changes),
            Ok(AnyDetail::JobResultConflict(d)) => self.drop_waiting(&d.fence, changes),
            Ok(AnyDetail::JobRequeued(d)) if d.evidence.is_some() => self.drop_waiting(&d.fence, changes),
            Ok(AnyDetail::JobCancelled(d)) if d.evidence.is_some() => {
                if let Some(fence) = d.fence {
                    self.drop_waiting(&fence, changes);
                }
            }
            Ok(AnyDetail::ArtifactRecorded(_) | AnyDetail::ArtifactRemoved(_)) => self.take(receipt, changes),
            _ => {}
        }
        if let Some(of) = self.sources.get(&receipt.log())
            && of.stream == Stream::Facts
            && of.next <= receipt.seq()
        {
            self.seen(receipt, changes);
        }
        Ok(())
    }

    fn load(&mut self, row: &Row) -> Result<(), String> {
        match row.table {
            FILES => self.files.load(row).map(drop),
            SOURCES => self.sources.load(row).map(drop),
            WAITING => self.waiting.load(row).map(drop),
            other => Err(format!("table {other} is not one of the Vault's")),
        }
    }
}

impl Vault {
    /// The file at a path.
    pub fn get(&self, path: &str) -> Option<&VaultFile> {
        self.files.get(&path.to_owned())
    }

    /// The files whose paths begin with `prefix`, by path.
    pub fn files<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a String, &'a VaultFile)> {
        self.files
            .range(prefix.to_owned()..)
            .take_while(move |(path, _)| path.starts_with(prefix))
    }

    /// How many files it has.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    fn open(&mut self, receipt: &Receipt, genesis: LogGenesis, changes: &mut Changes) {
        if self.sources.get(&receipt.log()).is_none() {
            let LogGenesis {
                machine,
                machine_key,
                stream,
                ..
            } = genesis;
            self.sources.set(
                receipt.log(),
                Source {
                    machine,
                    machine_key,
                    stream,
                    next: 1,
                },
                changes,
            );
        }
    }

    fn expand(
        &mut self,
        range: &PinnedRange,
        source: &dyn ReceiptSource,
        changes: &mut Changes,
    ) -> Result<(), Halt> {
        let missing = |first| Halt::Missing {
            log: range.log,
            first,
            last: range.last,
        };
        if self.sources.get(&range.log).is_none() {
            let genesis = source.range(&range.log, 0, 0)?;
            let receipt = genesis.first().ok_or_else(|| missing(0))?;
            if let Ok(detail) = LogGenesis::decode(&receipt.statement().detail) {
                self.open(receipt, detail, changes);
            }
        }
        let Some(mut next) = self.sources.get(&range.log).map(|of| of.next) else {
            return Ok(());
        };
        while next <= range.last {
            let receipts = source.range(
                &range.log,
                next,
                range.last.min(next.saturating_add(RANGE_MAX - 1)),
            )?;
            if receipts.is_empty() {
                return Err(missing(next));
            }
            for receipt in receipts {
                if receipt.seq() == range.last && receipt.seal_digest() != range.seal {
                    let (log, seq, pinned, found) =
                        (range.log, range.last, range.seal, receipt.seal_digest());
                    return Err(Halt::Fork {
                        log,
                        seq,
                        pinned,
                        found,
                    });
                }
                self.take(&receipt, changes);
                self.seen(&receipt, changes);
                next = receipt.seq().saturating_add(1);
            }
        }
        Ok(())
    }

    fn seen(&mut self, receipt: &Receipt, changes: &mut Changes) {
        if let Some(of) = self.sources.get(&receipt.log()).cloned() {
            let next = receipt.seq().saturating_add(1);
            self.sources.set(receipt.log(), Source { next, ..of }, changes);
        }
    }

    /// Takes in one record of a machine's log.
    fn take(&mut self, receipt: &Receipt, changes: &mut Changes) {
        let Some(of) = self.sources.get(&receipt.log()).cloned() else {
            return;
        };
        if receipt.statement().author != of.machine_key || receipt.seq() < of.next {
            return;
        }
        let (evidence, machine) = (receipt.evidence(), of.machine);
        match (of.stream, receipt.statement().any_detail()) {
            (Stream::Facts, Ok(AnyDetail::ArtifactRecorded(d))) => {
                let recorded_at = micros_of(receipt);
                let file = VaultFile {
                    blake3: d.blake3,
                    size: d.size,
                    machine,
                    evidence,
                    recorded_at,
                    job: None,
                };
                self.files.set(d.path, file, changes);
            }
            (Stream::Facts, Ok(AnyDetail::ArtifactRemoved(d)))
                if self.get(&d.path).is_some_and(|file| file.machine == machine) =>
            {
                self.files.remove(&d.path, changes);
            }
            (Stream::Work, Ok(AnyDetail::ArtifactStaged(d))) => {
                let (key, job) = ((d.fence, receipt.seq()), d.job);
                self.waiting.set(
                    key,
                    Waiting {
                        job,
                        staged: d.into(),
                        machine,
                        evidence,
                    },
                    changes,
                );
            }
            _ => {}
        }
    }

    fn take_waiting(&mut self, fence: &Fence, changes: &mut Changes) -> Vec<Waiting> {
        let rows: Vec<_> = self
            .waiting
            .range((*fence, 0)..=(*fence, u64::MAX))
            .map(|(key, waiting)| (*key, waiting.clone()))
            .collect();
        for (key, _) in &rows {
            self.waiting.remove(key, changes);
        }
        rows.into_iter().map(|(_, waiting)| waiting).collect()
    }

    fn drop_waiting(&mut self, fence: &Fence, changes: &mut Changes) {
        self.take_waiting(fence, changes);
    }

    fn publish(&mut self, fence: &Fence, recorded_at: i64, changes: &mut Changes) {
        for Waiting {
            job,
            staged,
            machine,
            evidence,
        } in self.take_waiting(fence, changes)
        {
            let file = VaultFile {
                blake3: staged.blake3,
                size: staged.size,
                machine,
                evidence,
                recorded_at,
                job: Some(job),
            };
            self.files
                .set(format!("jobs/{job}/{}", staged.path), file, changes);
        }
    }
}
