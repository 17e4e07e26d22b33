//! Verification of a published log (C2SP `tlog-tiles`): every entry, tile and the checkpoint, with flat memory.
//!
//! The files are checked against themselves, as a bundle is: the first entry is the genesis that the log's name is the
//! digest of; it names the key of the checkpoint. [`Options::keys`] and [`Options::logs`] hold the directory to what the
//! reader knows. The tree is built from the leaf tiles, each entry is held to its leaf, and the tiles above to what the tree
//! gives, so that a damaged file is named. Only the files that the checkpoint's size demands are read.

use super::report::{Aspect, Finding, LogReport, Report};
use super::seen::{CheckpointAge, CheckpointFrom};
use super::{Options, Progress, given, not_pinned};
use crate::error::LedgerError;
use crate::publish::read;
use ledger_core::chain::{self, Chain};
use ledger_core::checkpoint::Checkpoint;
use ledger_core::error::ChainError;
use ledger_core::tiles::{self, CHECKPOINT_PATH, ENTRIES_BYTES_MAX, TILE_BYTES_MAX, Tile, TileBuilder};
use ledger_core::tree::{Hash, leaf_hash};
use ledger_core::{LogId, Record, TreeRoot};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

/// Bytes of a checkpoint with many cosignatures.
const CHECKPOINT_BYTES_MAX: usize = 128 * 1024;

/// Verifies a directory that [`crate::Ledger::publish`] wrote, or a copy of it.
///
/// # Errors
/// [`LedgerError::Io`] when a file cannot be read. Whatever is wrong or missing is a finding.
pub fn verify_tiles(
    dir: &Path,
    options: &Options,
    progress: &mut dyn FnMut(Progress),
) -> Result<Report, LedgerError> {
    let began = Instant::now();
    let mut check = Check {
        dir,
        options,
        report: Report::new(dir.to_owned(), options.full),
        builder: TileBuilder::new(),
        chain: None,
        pool: pool(options)?,
        linked: true,
        log: None,
        outside: 0,
        size: None,
        roots: BTreeMap::new(),
    };
    check.run(progress)?;
    let (log, read) = (check.log, check.builder.size());
    given::hold(&mut check.report, &options.checkpoints, log, read, |size| {
        check.roots.get(&size).copied()
    });
    let (outside, check_size) = (check.outside, check.size);
    let mut report = check.report;
    if let Some(range) = options.range {
        let newest = report
            .logs
            .first()
            .map(|log| (log.log, Some(log.seq.saturating_add(1))));
        let receipts = report.counts.receipts.saturating_sub(outside);
        report.set_range(range, receipts, options.full, newest.as_slice());
    }
    let newest = report.logs.first().and_then(|log| log.time);
    if let Some(size) = check_size {
        report
            .checkpoints
            .extend(published(&report, size, options.clock.now_us()));
    }
    report.set_freshness(newest, options.clock.now_us(), options.max_age_ms);
    report.tell_unchecked();
    report.elapsed = began.elapsed();
    Ok(report)
}

struct Check<'a> {
    dir: &'a Path,
    options: &'a Options,
    report: Report,
    builder: TileBuilder,
    chain: Option<Chain>,
    // Threads to work with; none for the ones that rayon shares.
    pool: Option<rayon::ThreadPool>,
    // Whether the record before was read and stands in its place.
    linked: bool,
    log: Option<LogId>,
    // Receipts outside the range.
    outside: u64,
    // Records under the checkpoint.
    size: Option<u64>,
    // The roots that given checkpoints ask for.
    roots: BTreeMap<u64, TreeRoot>,
}

// How old the checkpoint is; it carries no time of its own.
fn published(report: &Report, size: u64, now_us: i64) -> Option<CheckpointAge> {
    let log = report.logs.first()?;
    let mut age = CheckpointAge::new(CheckpointFrom::Published, log.log, size);
    let newest = log.time.filter(|_| log.seq.checked_add(1) == Some(size));
    newest.into_iter().for_each(|time| age.set_newest(time));
    age.set_now(now_us, log.seq.checked_add(1));
    Some(age)
}

impl Check<'_> {
    fn run(&mut self, progress: &mut dyn FnMut(Progress)) -> Result<(), LedgerError> {
        let Some(signed) = self.read(CHECKPOINT_PATH, CHECKPOINT_BYTES_MAX)? else {
            return Ok(());
        };
        let signed = String::from_utf8(signed).unwrap_or_default();
        let said = match Checkpoint::read_unverified(&signed) {
            Ok(said) => said,
            Err(error) => {
                self.found(error.code(), Aspect::Integrity, None, &error);
                return Ok(());
            }
        };
        self.log = Some(said.log);
        let size = said.tree_size;
        self.size = Some(size);
        for index in 0..size.div_ceil(tiles::TILE_WIDTH) {
            let tile = Tile::at(0, index, size).expect("below the size");
            if !self.check_bundle(tile)? {
                break;
            }
            progress(Progress {
                bytes: self.report.counts.bytes,
                bytes_total: estimate(self.report.counts.bytes, self.builder.size(), size),
                receipts: self.report.counts.receipts,
                findings: self.report.findings_total,
            });
        }
        if self.builder.size() == size {
            for (tile, hashes) in self.builder.partials() {
                self.check_tile(tile, &hashes)?;
            }
        }
        self.check_checkpoint(&signed, &said);
        self.tell_log();
        Ok(())
    }

    fn on_threads<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        match &self.pool {
            Some(pool) => pool.install(work),
            None => work(),
        }
    }

    fn found(&mut self, code: &'static str, aspect: Aspect, seq: Option<u64>, text: &dyn std::fmt::Display) {
        self.report.found(Finding {
            code,
            aspect,
            log: self.log,
            seq,
            id: None,
            position: None,
            text: text.to_string(),
        });
    }

    // A file's bytes; a missing one is a finding.
    fn read(&mut self, path: &str, bytes_max: usize) -> Result<Option<Vec<u8>>, LedgerError> {
        let bytes = read(&*self.options.storage, &self.dir.join(path), bytes_max)?;
        match &bytes {
            Some(bytes) => self.report.counts.bytes += u64::try_from(bytes.len()).unwrap_or(u64::MAX),
            None => self.found(
                "tiles.missing",
                Aspect::Completeness,
                None,
                &format!("the file {path} is missing"),
            ),
        }
        Ok(bytes)
    }

    fn leaves(&mut self, tile: Tile) -> Result<Option<Vec<Hash>>, LedgerError> {
        let Some(bytes) = self.read(&tile.path(), TILE_BYTES_MAX)? else {
            return Ok(None);
        };
        Ok(tile
            .decode(&bytes)
            .map_err(|e| self.found(e.code(), Aspect::Integrity, None, &e))
            .ok())
    }

    // A bundle with its leaf tile; false when nothing of them is here, so that nothing more can follow.
    fn check_bundle(&mut self, tile: Tile) -> Result<bool, LedgerError> {
        let first = self.builder.size();
        let path = tiles::entries_path(tile.index(), tile.width());
        let leaves = self.leaves(tile)?;
        let bundle = self.read(&path, ENTRIES_BYTES_MAX)?;
        let entries = match &bundle {
            None => None,
            Some(bytes) => tiles::decode_entries(tile.index(), tile.width(), bytes)
                .map_err(|e| self.found(e.code(), Aspect::Integrity, Some(first), &e))
                .ok(),
        };
        let computed: Option<Vec<Hash>> = entries
            .as_ref()
            .map(|entries| self.on_threads(|| entries.par_iter().map(|entry| leaf_hash(entry)).collect()));
        if let (Some(leaves), Some(computed)) = (&leaves, &computed) {
            for (seq, (leaf, entry)) in (first..).zip(leaves.iter().zip(computed)) {
                if leaf != entry {
                    let text = format!("the entry in {path} is not the leaf in {}", tile.path());
                    self.found("tiles.leaf", Aspect::Integrity, Some(seq), &text);
                }
            }
        }
        let Some(hashes) = leaves.or(computed) else {
            return Ok(false);
        };
        match &entries {
            Some(entries) => self.check_records(first, entries)?,
            None => self.linked = false,
        }
        for hash in hashes {
            for (full, hashes) in self.builder.push(hash) {
                if full.level() > 0 {
                    self.check_tile(full, &hashes)?;
                }
            }
            let size = self.builder.size();
            if self
                .options
                .checkpoints
                .iter()
                .any(|given| given.tree_size == size)
            {
                self.roots.insert(size, self.builder.root());
            }
        }
        Ok(true)
    }

    // A tile above the leaves, whose hashes follow from those below.
    fn check_tile(&mut self, tile: Tile, expected: &[Hash]) -> Result<(), LedgerError> {
        if tile.level() == 0 {
            return Ok(());
        }
        if let Some(found) = self.leaves(tile)?
            && found != expected
        {
            let text = format!("{} does not hold the hashes of the tiles below it", tile.path());
            self.found("tiles.hash", Aspect::Integrity, None, &text);
        }
        Ok(())
    }

    fn check_records(&mut self, first: u64, entries: &[&[u8]]) -> Result<(), LedgerError> {
        let records: Vec<_> =
            self.on_threads(|| entries.par_iter().map(|bytes| Record::parse(bytes)).collect());
        let mut readable = Vec::with_capacity(records.len());
        for (seq, record) in (first..).zip(records) {
            match record {
                Ok(record) => {
                    self.place(seq, &record);
                    readable.push((seq, record));
                }
                Err(error) => {
                    self.linked = false;
                    self.found(error.code(), Aspect::Integrity, Some(seq), &error);
                }
            }
        }
        let counts = &mut self.report.counts;
        counts.receipts += u64::try_from(readable.len()).unwrap_or(u64::MAX);
        let with_payload = readable.iter().filter(|(_, r)| r.statement().payload.is_some());
        counts.absent += u64::try_from(with_payload.count()).unwrap_or(u64::MAX);
        let Some(machine) = self.chain.as_ref().map(|chain| chain.machine_verifier().clone()) else {
            return Ok(());
        };
        if !self.options.full {
            return Ok(());
        }
        let all = readable.len();
        let readable: Vec<(u64, Record)> = match self.options.range {
            Some(range) => readable
                .into_iter()
                .filter(|(seq, record)| range.takes(*seq, record.seal().time))
                .collect(),
            None => readable,
        };
        self.outside += u64::try_from(all - readable.len()).unwrap_or(u64::MAX);
        let counts = &mut self.report.counts;
        let signed_by_authors = readable.iter().filter(|(_, r)| r.author_signature().is_some());
        counts.author_signatures += u64::try_from(signed_by_authors.count()).unwrap_or(u64::MAX);
        counts.log_signatures += u64::try_from(readable.len()).unwrap_or(u64::MAX);
        let wrong =
            |(seq, record): &(u64, Record)| Some((*seq, chain::verify_signatures(record, &machine).err()?));
        let wrong: Vec<(u64, ChainError)> =
            self.on_threads(|| readable.par_iter().filter_map(wrong).collect());
        for (seq, error) in wrong {
            self.found(error.code(), Aspect::Signatures, Some(seq), &error);
        }
        Ok(())
    }

    // Where the record stands. The entry's index is its seq, whatever it says itself.
    fn place(&mut self, seq: u64, record: &Record) {
        let placed = match &mut self.chain {
            None if seq == 0 => Chain::start(record).map(|chain| self.chain = Some(chain)),
            None => return,
            Some(chain) if self.linked => chain.follow(record),
            Some(chain) => chain.resume(record, seq),
        };
        self.linked = placed.is_ok();
        if let Err(error) = placed {
            self.found(error.code(), Aspect::Integrity, Some(seq), &error);
        }
    }

    fn check_checkpoint(&mut self, signed: &str, said: &Checkpoint) {
        if self.builder.size() != said.tree_size {
            let text = format!(
                "the checkpoint covers {} entries, {} could be read",
                said.tree_size,
                self.builder.size()
            );
            self.found("tiles.tree-size", Aspect::Completeness, None, &text);
        } else if self.builder.root() != said.root {
            let text = format!(
                "the checkpoint's root is {}, that of the tiles {}",
                said.root,
                self.builder.root()
            );
            self.found("tiles.root", Aspect::Integrity, None, &text);
        }
        let Some((log, key)) = self
            .chain
            .as_ref()
            .map(|chain| (chain.log(), chain.genesis().checkpoint_key))
        else {
            let text = "without its genesis the checkpoint cannot be checked";
            self.found("tiles.genesis", Aspect::Integrity, Some(0), &text);
            return;
        };
        if log != said.log {
            let text = format!("the checkpoint is of another log than the entries, which are of {log}");
            self.found("tiles.other-log", Aspect::Integrity, None, &text);
            return;
        }
        let opened = key
            .verifier()
            .map_err(|e| (e.code(), e.to_string()))
            .and_then(|key| Checkpoint::open(signed, &log, &key).map_err(|e| (e.code(), e.to_string())));
        if let Err((code, text)) = opened {
            self.found(code, Aspect::Signatures, None, &text);
        }
        if !self.options.wants(&log) {
            let text = "the directory is of another log than the one asked for";
            self.found("tiles.other-log", Aspect::Integrity, None, &text);
        }
        if let Some(finding) = not_pinned(self.options, [(&log, &key)]) {
            self.report.found(finding);
        }
    }

    fn tell_log(&mut self) {
        let Some(chain) = &self.chain else {
            return;
        };
        let genesis = chain.genesis();
        let clean = self.report.is_clean();
        self.report.logs.push(LogReport {
            log: chain.log(),
            machine: Some(genesis.machine.to_string()),
            stream: Some(genesis.stream),
            incarnation: Some(genesis.incarnation),
            own: false,
            receipts: self.report.counts.receipts,
            seq: chain.tip().0,
            seal: Some(chain.tip().1),
            root: clean.then(|| self.builder.root()),
            time: Some(chain.time()),
        });
        self.report.counts.logs = 1;
        if self.report.counts.absent > 0 {
            let absent = self.report.counts.absent;
            self.report.note(format!(
                "{absent} receipts have payloads, which are not published"
            ));
        }
    }
}

fn pool(options: &Options) -> Result<Option<rayon::ThreadPool>, LedgerError> {
    let pool = (options.threads > 0).then(|| {
        rayon::ThreadPoolBuilder::new()
            .num_threads(options.threads)
            .build()
    });
    pool.transpose().map_err(|error| LedgerError::Io {
        what: "starting threads for",
        path: "the verification".into(),
        source: std::io::Error::other(error),
    })
}

// Bytes in all, if what is still to come is like what was read.
fn estimate(bytes: u64, read: u64, size: u64) -> u64 {
    let all = u128::from(bytes) * u128::from(size) / u128::from(read.max(1));
    u64::try_from(all).unwrap_or(u64::MAX)
}
