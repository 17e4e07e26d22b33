//! The Vault: scanning its directory into receipts, and reading its index.

use crate::error::ServerError;
use crate::machine::Machine;
use ignore::WalkBuilder;
use ledger::core::digest::path_digest;
use ledger::core::kinds::{AnyDetail, ArtifactRecorded, ArtifactRemoved, ArtifactSkipped, SkipReason};
use ledger::core::limits::PATH_BYTES_MAX;
use ledger::core::{ContentDigest, Draft, LogId, Stream, Subject};
use ledger::{Ledger, Receipt};
use ledger_projections::FleetState;
use ledger_projections::projection::{ReceiptSource, SourceError};
use ledger_projections::rows::DerivedRows;
use ledger_projections::runner::Runner;
use ledger_projections::vault::{Vault, VaultFile};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// Files whose receipts are committed together.
const COMMIT_FILES: usize = 256;
/// Receipts that the index folds in one go before it looks whether there are more.
const ADVANCE_RECEIPTS: u64 = 10_000;

/// What a scan found.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct ScanReport {
    /// Files seen.
    pub files: u64,
    /// New or changed, each a receipt.
    pub recorded: u64,
    /// Gone, each a receipt.
    pub removed: u64,
    /// As they were.
    pub unchanged: u64,
    /// Left out, each a receipt when it is new.
    pub skipped: u64,
    /// Bytes read.
    pub bytes: u64,
}

/// Reads receipts of any log of the store for projections.
pub(crate) struct Source<'a>(pub(crate) &'a Ledger<FleetState>);

impl ReceiptSource for Source<'_> {
    fn range(&self, log: &LogId, first: u64, last: u64) -> Result<Vec<Receipt>, SourceError> {
        self.0
            .range(log, first, last)
            .collect::<Result<_, _>>()
            .map_err(|e| SourceError(e.to_string()))
    }
}

/// The index of the Vault, folded on its own and asked under a lock.
pub(crate) struct VaultReader {
    runner: Mutex<Runner<Vault>>,
    rows: DerivedRows,
}

impl VaultReader {
    pub(crate) fn open(ledger: &Ledger<FleetState>) -> Result<Self, ServerError> {
        let rows = DerivedRows::new(ledger.derived().clone());
        Ok(Self {
            runner: Mutex::new(Runner::open(&rows)?),
            rows,
        })
    }

    /// Folds what is new and looks at the index.
    pub(crate) fn with<T>(
        &self,
        ledger: &Ledger<FleetState>,
        look: impl FnOnce(&Runner<Vault>) -> T,
    ) -> Result<T, ServerError> {
        let mut runner = self.runner.lock().expect("vault lock");
        let snapshot = ledger.snapshot();
        loop {
            let progress = runner.advance(&snapshot.state, &Source(ledger), &self.rows, ADVANCE_RECEIPTS)?;
            if progress.caught_up || progress.folded == 0 {
                break;
            }
        }
        Ok(look(&runner))
    }
}

/// A page of the index, and why it stands still when it does.
pub(crate) struct VaultPage {
    /// Files by path.
    pub(crate) files: Vec<(String, VaultFile)>,
    /// Why the index waits: receipts that the order pins and this store does not have, for instance.
    pub(crate) halted: Option<String>,
}

impl Machine {
    /// At most `limit` files of the Vault whose paths begin with `prefix` and stand behind `after`, by path. Folds what is new
    /// first; blocks.
    ///
    /// # Errors
    /// [`ServerError::Projection`].
    pub(crate) fn vault_page(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<VaultPage, ServerError> {
        self.vault.with(&self.ledger, |runner| {
            let files = runner.projection().files(prefix);
            let files = files.filter(|(path, _)| after.is_none_or(|after| path.as_str() > after));
            VaultPage {
                files: files
                    .take(limit)
                    .map(|(path, file)| (path.clone(), file.clone()))
                    .collect(),
                halted: runner.halted().map(ToString::to_string),
            }
        })
    }

    // What this machine itself recorded of its Vault, read from its own facts: another machine's Vault holds other files,
    // and the index may wait for receipts that only the gateway has.
    fn recorded_here(&self) -> Result<BTreeMap<String, ContentDigest>, ServerError> {
        let mut known = BTreeMap::new();
        let Some(facts) = self.ledger.own_log(Stream::Facts) else {
            return Ok(known);
        };
        for receipt in self.ledger.range(&facts, 0, u64::MAX) {
            match receipt?.statement().any_detail() {
                Ok(AnyDetail::ArtifactRecorded(file)) => {
                    known.insert(file.path, file.blake3);
                }
                Ok(AnyDetail::ArtifactRemoved(file)) => {
                    known.remove(&file.path);
                }
                _ => {}
            }
        }
        Ok(known)
    }

    /// Looks at every file below a directory, respecting .gitignore, and says what is new, changed or gone.
    ///
    /// # Errors
    /// [`ServerError::Io`] when the directory cannot be read; [`ServerError::Ledger`].
    pub async fn scan_vault(
        self: &Arc<Self>,
        dir: PathBuf,
        mut progress: impl FnMut(u64) + Send + 'static,
    ) -> Result<ScanReport, ServerError> {
        let machine = Arc::clone(self);
        let own = self.ledger.paths().dir().to_owned();
        let dir = dir
            .canonicalize()
            .map_err(ServerError::io("looking at the Vault", &dir))?;
        if !dir.is_dir() {
            return Err(ServerError::NotFound(format!(
                "{} is no directory; name the Vault's",
                dir.display()
            )));
        }
        let found = tokio::task::spawn_blocking(move || -> Result<_, ServerError> {
            let known = machine.recorded_here()?;
            walk(&dir, &own, known, &mut progress)
        })
        .await
        .expect("the scan does not panic")?;
        let (report, drafts) = found;
        let mut drafts = drafts.into_iter().peekable();
        while drafts.peek().is_some() {
            let part: Vec<Draft> = drafts.by_ref().take(COMMIT_FILES).collect();
            self.say(Stream::Facts, part).await?;
        }
        Ok(report)
    }
}

fn subject(path: &str) -> Subject {
    let digest = data_encoding::HEXLOWER.encode(&path_digest(path));
    Subject::new(&format!("vault/{digest}")).expect("hex is printable and short")
}

fn walk(
    dir: &Path,
    own: &Path,
    mut known: BTreeMap<String, ContentDigest>,
    progress: &mut dyn FnMut(u64),
) -> Result<(ScanReport, Vec<Draft>), ServerError> {
    let mut report = ScanReport::default();
    let mut drafts = Vec::new();
    let mut whole = true;
    let own = own.canonicalize().unwrap_or_else(|_| own.to_owned());
    let walker = WalkBuilder::new(dir)
        .hidden(false)
        .require_git(false)
        .sort_by_file_path(std::cmp::Ord::cmp)
        .filter_entry(move |entry| entry.file_name() != ".git" && entry.path() != own)
        .build();
    for entry in walker {
        let entry = match entry {
            Ok(entry) => entry,
            Err(e) => {
                tracing::warn!(error = %e, "a part of the Vault cannot be read; nothing is taken for removed in this scan");
                report.skipped += 1;
                whole = false;
                continue;
            }
        };
        if !entry.file_type().is_some_and(|t| t.is_file()) {
            continue;
        }
        report.files += 1;
        progress(report.files);
        let relative = entry.path().strip_prefix(dir).unwrap_or(entry.path());
        let mut skip = |reason, path: &str| {
            report.skipped += 1;
            let detail = ArtifactSkipped {
                path_digest: path_digest(path),
                reason,
            };
            // The id is derived, so that a file that stays unreadable is told once.
            let id = ledger::core::digest::derived_id(&[b"skipped", &detail.path_digest, &[reason as u8]]);
            drafts.push(Draft::of(&detail, subject(path)).id(id));
        };
        let Some(path) = relative.to_str() else {
            skip(SkipReason::PathNotUtf8, &relative.to_string_lossy());
            continue;
        };
        if path.len() > PATH_BYTES_MAX {
            skip(SkipReason::PathTooLong, path);
            continue;
        }
        let mut hasher = blake3::Hasher::new();
        let read = File::open(entry.path()).and_then(|mut file| std::io::copy(&mut file, &mut hasher));
        let Ok(size) = read else {
            // It is there: what was known of it stands.
            known.remove(path);
            skip(SkipReason::Unreadable, path);
            continue;
        };
        report.bytes += size;
        let content = ContentDigest(*hasher.finalize().as_bytes());
        let before = known.remove(path);
        if before == Some(content) {
            report.unchanged += 1;
            continue;
        }
        report.recorded += 1;
        let detail = ArtifactRecorded {
            path: path.to_owned(),
            blake3: content,
            size,
            before,
        };
        drafts.push(Draft::of(&detail, subject(path)));
    }
    for (path, before) in known.into_iter().filter(|_| whole) {
        report.removed += 1;
        let detail = ArtifactRemoved {
            path: path.clone(),
            before,
        };
        drafts.push(Draft::of(&detail, subject(&path)));
    }
    Ok((report, drafts))
}
