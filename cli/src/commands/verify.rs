//! `ledger verify`: is every receipt still there, and unaltered? Reads files only; a daemon may run meanwhile.

use crate::context::Context;
use crate::error::CliError;
use crate::exit::{DIFFERENCE, Exit, FINE};
use crate::output::{BAD, GOOD, count, paint};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use ledger::core::LogId;
use ledger::verify::{Options, Progress, Report, verify_bundle, verify_store};
use serde_json::Value;
use std::path::PathBuf;

/// What `verify` takes.
#[derive(Args, Debug, Clone)]
#[command(after_help = "\
Examples:
  ledger verify                            this machine's store
  ledger --dir /mnt/backup/studio verify   a copy; keys are not needed
  ledger verify order.bundle               one exported log
  ledger verify --record                   the same by hand or from cron as every night: leaves a receipt
  ledger verify --hashes-only              many times quicker: chain, tree and payloads, no signatures")]
pub(crate) struct VerifyArgs {
    /// A bundle [default: the store of the directory]
    bundle: Option<PathBuf>,
    /// Leave out the signatures
    #[arg(long)]
    hashes_only: bool,
    /// Let the machine do it and keep the outcome as a receipt, as the nightly run does
    #[arg(long, conflicts_with_all = ["bundle", "hashes_only", "logs"])]
    record: bool,
    /// Only this log (a bundle must be of it); repeatable
    #[arg(long = "log", value_name = "LOGID")]
    logs: Vec<String>,
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
    let options = Options {
        full: !args.hashes_only,
        logs,
        ..Options::default()
    };
    let bar = context.output.draws_progress().then(bar);
    let (path, is_bundle) = match &args.bundle {
        Some(path) => (path.clone(), true),
        None => (context.dir.clone(), false),
    };
    if is_bundle && !path.is_file() {
        return Err(CliError::new(
            "input.not-found",
            format!("there is no bundle {}", path.display()),
            "name a file that `ledger export` wrote; for a directory use --dir",
        ));
    }
    let shown = bar.clone();
    let verified = tokio::task::spawn_blocking(move || {
        let mut progress = |p: Progress| {
            if let Some(bar) = &shown {
                bar.set_length(p.bytes_total);
                bar.set_position(p.bytes);
                bar.set_message(format!("{} receipts, {} findings", count(p.receipts), p.findings));
            }
        };
        if is_bundle {
            verify_bundle(&path, &options, &mut progress)
        } else {
            verify_store(&path, &options, &mut progress)
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
