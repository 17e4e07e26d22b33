//! `ledger verify`: is every receipt still there, and unaltered? Reads files only; a daemon may run meanwhile.

use super::pins;
use crate::context::Context;
use crate::error::CliError;
use crate::exit::{DIFFERENCE, Exit, FINE};
use crate::output::{BAD, GOOD, count, paint};
use crate::times;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use ledger::core::LogId;
use ledger::core::checkpoint::Checkpoint;
use ledger::core::note::VerifierKey;
use ledger::verify::{Options, Progress, Report, verify_bundle, verify_store, verify_tiles};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// What `verify` takes.
#[derive(Args, Debug, Clone)]
#[command(after_help = "\
Examples:
  ledger verify                            this machine's store
  ledger --dir /mnt/backup/studio verify   a copy; keys are not needed
  ledger verify order.bundle               one exported log
  ledger verify /srv/www/order --key FILE  one published log, held to the key that you trust
  ledger verify --record                   the same by hand or from cron as every night: leaves a receipt
  ledger verify --fast                     many times quicker: chain, tree and payloads, no signatures
  ledger verify --max-age 1d               a finding, too, when the newest receipt is older than a day")]
pub(crate) struct VerifyArgs {
    /// A bundle, or the directory of a published log [default: the store of the directory]
    path: Option<PathBuf>,
    /// Leave out the signatures, and what keys were permitted
    #[arg(long, alias = "hashes-only")]
    fast: bool,
    /// Let the machine do it and keep the outcome as a receipt, as the nightly run does
    #[arg(long, conflicts_with_all = ["path", "fast", "logs", "keys", "checkpoints", "max_age"])]
    record: bool,
    /// Only this log (a bundle or published log must be of it); repeatable
    #[arg(long = "log", value_name = "LOGID")]
    logs: Vec<String>,
    /// A key that you trust, as `ledger keys` prints it, or a file of such lines: the bundle's or published log's must be
    /// one of them, and a checkpoint must be signed by one; repeatable
    #[arg(long = "key", value_name = "KEY|FILE")]
    keys: Vec<String>,
    /// A checkpoint that you kept: what it covers must still be in the store, unaltered; repeatable
    #[arg(
        long = "checkpoint",
        value_name = "FILE",
        requires = "keys",
        conflicts_with = "path"
    )]
    checkpoints: Vec<PathBuf>,
    /// How old the newest receipt may be; older is a finding. Without, the age is told
    #[arg(long, value_name = "SPAN")]
    max_age: Option<String>,
}

/// What there is to verify.
#[derive(Clone, Copy)]
enum What {
    Store,
    Bundle,
    Tiles,
}

fn what_is(path: &Path) -> Result<What, CliError> {
    if path.is_file() {
        return Ok(What::Bundle);
    }
    if path.join("checkpoint").is_file() || path.join("tile").is_dir() {
        return Ok(What::Tiles);
    }
    Err(CliError::new(
        "input.not-found",
        format!("there is no bundle and no published log {}", path.display()),
        "name a file that `ledger export` wrote or a directory that `ledger publish` wrote; for a store use --dir",
    ))
}

/// Verifies.
pub(crate) async fn run(context: &Context, args: &VerifyArgs) -> Result<Exit, CliError> {
    if args.record {
        return record(context).await;
    }
    let logs = args
        .logs
        .iter()
        .map(|text| log_id(text))
        .collect::<Result<_, _>>()?;
    let keys = pins::read(&args.keys)?;
    let checkpoints = args.checkpoints.iter().map(|path| checkpoint(path, &keys));
    let options = Options {
        checkpoints: checkpoints.collect::<Result<_, _>>()?,
        full: !args.fast,
        logs,
        keys,
        authority: (!args.fast).then(ledger_server::nightly::authority),
        max_age_ms: args.max_age.as_deref().map(max_age_ms).transpose()?,
        ..Options::default()
    };
    let bar = context.output.draws_progress().then(bar);
    let (path, what) = match &args.path {
        Some(path) => (path.clone(), what_is(path)?),
        None => (context.dir.clone(), What::Store),
    };
    let shown = bar.clone();
    let verified = tokio::task::spawn_blocking(move || {
        let mut progress = |p: Progress| {
            if let Some(bar) = &shown {
                bar.set_length(p.bytes_total);
                bar.set_position(p.bytes);
                bar.set_message(format!("{} receipts, {} findings", count(p.receipts), p.findings));
            }
        };
        match what {
            What::Bundle => verify_bundle(&path, &options, &mut progress),
            What::Tiles => verify_tiles(&path, &options, &mut progress),
            What::Store => verify_store(&path, &options, &mut progress),
        }
    })
    .await;
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    let report =
        verified.map_err(|e| CliError::new("software.panic", format!("verifying ended: {e}"), ""))??;
    let clean = report.is_clean();
    context
        .output
        .verdict(clean, &report, &[], || describe(&report))?;
    Ok(if clean { FINE } else { DIFFERENCE })
}

// A checkpoint from a file, signed by a key that is trusted for its log.
fn checkpoint(path: &Path, keys: &[VerifierKey]) -> Result<Checkpoint, CliError> {
    let malformed = |why: String| {
        CliError::new(
            "input.checkpoint",
            format!("{}: {why}", path.display()),
            "name a checkpoint of the store's log, and with --key the key that `ledger keys` printed for that log",
        )
    };
    let text = std::fs::read_to_string(path).map_err(|e| malformed(e.to_string()))?;
    let said = Checkpoint::read_unverified(&text).map_err(|e| malformed(e.to_string()))?;
    let origin = ledger::core::checkpoint::origin(&said.log);
    let pin = keys.iter().find(|pin| pin.name() == origin);
    let pin = pin.ok_or_else(|| malformed(format!("no key that is trusted is that of {origin}")))?;
    Checkpoint::open(&text, &said.log, pin.key()).map_err(|e| malformed(e.to_string()))
}

fn max_age_ms(text: &str) -> Result<u64, CliError> {
    let span = times::parse_span(text)?;
    Ok(u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
}

async fn record(context: &Context) -> Result<Exit, CliError> {
    let store = context.store().await?;
    let report = store.api.verify().await?.item;
    let count_of = |pointer: &str| {
        report
            .pointer(pointer)
            .and_then(Value::as_u64)
            .unwrap_or_default()
    };
    let found = count_of("/findings_total");
    context.output.verdict(found == 0, &report, &[], || {
        let read = format!(
            "{} receipts, kept as a receipt",
            count(count_of("/counts/receipts"))
        );
        if found == 0 {
            return format!("{}  {read}", paint(GOOD.bold(), "clean"));
        }
        let findings = report
            .get("findings")
            .and_then(Value::as_array)
            .into_iter()
            .flatten();
        let lines: Vec<String> = findings.map(|finding| format!("  {finding}")).collect();
        format!(
            "{}  {read}\n{}",
            paint(BAD.bold(), format_args!("{found} findings")),
            lines.join("\n")
        )
    })?;
    Ok(if found == 0 { FINE } else { DIFFERENCE })
}

fn describe(report: &Report) -> String {
    let head = if report.is_clean() {
        paint(GOOD.bold(), "clean")
    } else {
        paint(BAD.bold(), format_args!("{} findings", report.findings_total))
    };
    format!("{head}  {report}")
}

fn bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:30} {bytes}/{total_bytes}  {msg}");
    ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// A LogId from its hex form.
pub(crate) fn log_id(text: &str) -> Result<LogId, CliError> {
    LogId::from_hex(text).ok_or_else(|| {
        CliError::new(
            "usage.log",
            format!("{text:?} is no LogId: 64 hex characters are expected"),
            "`ledger status --json` lists the logs",
        )
    })
}
