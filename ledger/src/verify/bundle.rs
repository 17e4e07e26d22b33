//! Verification of a bundle: the pure check of `core`, fed from a file.
//!
//! A bundle is checked against itself: its genesis, its chain, its signatures, its signed checkpoint. Which log to trust
//! the reader must know; [`Options::logs`] holds the file to that.

use super::report::{Aspect, Finding, LogReport, Report};
use super::{Options, Progress, given, not_pinned};
use crate::error::LedgerError;
use crate::storage::Access;
use ledger_core::LogId;
use ledger_core::bundle::{BundleCheck, BundleReport};
use std::path::Path;
use std::time::Instant;

/// Bytes read at a time.
const READ_BYTES: usize = 1 << 20;

/// Verifies a bundle, in one pass and with flat memory. Signatures are always checked; when [`Options::logs`] names logs,
/// the bundle must be of one of them, and when [`Options::keys`] names keys, one of them
/// must be the log's.
///
/// # Errors
/// [`LedgerError::Io`] when the file cannot be read. Whatever is wrong with its content is a finding.
pub fn verify_bundle(
    path: &Path,
    options: &Options,
    progress: &mut dyn FnMut(Progress),
) -> Result<Report, LedgerError> {
    let began = Instant::now();
    let io = |what| {
        move |source| LedgerError::Io {
            what,
            path: path.to_owned(),
            source,
        }
    };
    let file = options
        .storage
        .open(path, Access::Read)
        .map_err(io("opening the bundle"))?;
    let bytes_total = file.len().map_err(io("measuring the bundle"))?;
    let mut check = BundleCheck::new();
    let mut buffer = vec![0; READ_BYTES];
    let mut told = Progress {
        bytes_total,
        ..Progress::default()
    };
    loop {
        let count = file
            .read_at(told.bytes, &mut buffer)
            .map_err(io("reading the bundle"))?;
        check.push(&buffer[..count]);
        told.bytes += u64::try_from(count).unwrap_or(u64::MAX);
        let so_far = check.so_far();
        (told.receipts, told.findings) = (so_far.records, so_far.findings_total);
        progress(told);
        if count < buffer.len() {
            break;
        }
    }
    let mut report = Report::new(path.to_owned(), true);
    report.counts.bytes = told.bytes;
    let found = check.finish();
    take(&mut report, &found, options);
    report.set_freshness(found.newest, options.clock.now_us(), options.max_age_ms);
    report.tell_unchecked();
    report.elapsed = began.elapsed();
    Ok(report)
}

fn take(report: &mut Report, found: &BundleReport, options: &Options) {
    let log = found.header.map(|header| header.log);
    for finding in &found.findings {
        report.found(Finding {
            code: finding.code,
            aspect: aspect(finding.code),
            log,
            seq: finding.seq,
            id: None,
            position: None,
            text: finding.text.clone(),
        });
    }
    // The check keeps fewer findings than it counts; each verdict was met by the ones that it kept.
    report.findings_total = report.findings_total.max(found.findings_total);
    if let Some(log) = log.filter(|log| !options.wants(log)) {
        report.found(other_log(log));
    }
    let unpinned = found
        .header
        .and_then(|header| not_pinned(options, [(&header.log, &header.checkpoint_key)]));
    if let Some(finding) = unpinned {
        report.found(finding);
    }
    let end = found
        .header
        .map_or(0, |header| header.first.saturating_add(found.records));
    let size = found.tree_size.unwrap_or(0).max(end);
    given::hold(report, &options.checkpoints, log, size, |size| {
        found.root.filter(|_| size == end)
    });
    if let Some(header) = &found.header {
        report.logs.push(LogReport {
            log: header.log,
            machine: found.genesis.as_ref().map(|genesis| genesis.machine.to_string()),
            stream: found.genesis.as_ref().map(|genesis| genesis.stream),
            incarnation: found.genesis.as_ref().map(|genesis| genesis.incarnation),
            own: false,
            receipts: found.records,
            seq: header.first.saturating_add(found.records.saturating_sub(1)),
            seal: None,
            root: found.root.filter(|_| found.is_clean()),
            time: None,
        });
    }
    report.counts.logs = u64::from(log.is_some());
    report.counts.receipts = found.records;
    report.counts.payloads = found.payloads;
    report.counts.erased = found.erased;
    report.counts.log_signatures = found.records;
    report.counts.author_signatures = found.author_signatures;
}

fn other_log(log: LogId) -> Finding {
    Finding {
        code: "bundle.other-log",
        aspect: Aspect::Integrity,
        log: Some(log),
        seq: None,
        id: None,
        position: None,
        text: "the bundle is of another log than the one asked for".to_owned(),
    }
}

fn aspect(code: &str) -> Aspect {
    match code {
        "chain.log-signature" | "chain.author-signature" | "note.signature" | "note.unsigned" => {
            Aspect::Signatures
        }
        "bundle.truncated" | "bundle.tree-size" | "bundle.payload-absent" | "chain.seq" => {
            Aspect::Completeness
        }
        _ => Aspect::Integrity,
    }
}
