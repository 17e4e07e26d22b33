//! `ledger verify`: is every receipt still there, and unaltered? Reads files only; a daemon may run meanwhile.

use super::pins;
use crate::context::Context;
use crate::error::CliError;
use crate::exit::{DIFFERENCE, Exit, FINE};
use crate::output::{BAD, GOOD, count, paint};
use crate::progress::{Shown, bar};
use crate::times::{self, Moment};
use clap::Args;
use ledger::core::LogId;
use ledger::core::checkpoint::Checkpoint;
use ledger::core::note::VerifierKey;
use ledger::verify::{Options, Progress, Range, Report, Resume, verify_bundle, verify_store, verify_tiles};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::signal::unix::{SignalKind, signal};

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
  ledger verify --max-age 1d               a finding, too, when the newest receipt is older than a day
  ledger verify --since yesterday          everything, but only the newest receipts' signatures
  ledger verify --log LOGID --from 1200 --to 1300
  ledger verify --resume how-far           may be interrupted (Ctrl-C); the same command goes on from there")]
pub(crate) struct VerifyArgs {
    /// A bundle, or the directory of a published log [default: the store of the directory]
    path: Option<PathBuf>,
    /// Leave out the signatures, and what keys were permitted
    #[arg(long, alias = "hashes-only")]
    fast: bool,
    /// Let the machine do it and keep the outcome as a receipt, as the nightly run does
    #[arg(long, conflicts_with_all = ["path", "fast", "logs", "keys", "checkpoints", "max_age",
          "from", "to", "since", "until", "resume"])]
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
    /// Check signatures only from this seq of the log on; all else is checked of everything
    #[arg(long, value_name = "SEQ", requires = "logs", conflicts_with_all = ["fast", "since", "until"])]
    from: Option<u64>,
    /// Check signatures only up to this seq of the log; it must be there
    #[arg(long, value_name = "SEQ", requires = "logs", conflicts_with_all = ["fast", "since", "until"])]
    to: Option<u64>,
    /// Check signatures only of what was sealed at this time or later, written as `replay` takes it
    #[arg(long, value_name = "TIME", conflicts_with = "fast")]
    since: Option<String>,
    /// Check signatures only of what was sealed before this time
    #[arg(long, value_name = "TIME", conflicts_with = "fast")]
    until: Option<String>,
    /// Keep in this file how far the run is; when the file is there, go on from it. Signatures that it counts are not
    /// checked again, all else is
    #[arg(long, value_name = "FILE", conflicts_with_all = ["path", "fast"])]
    resume: Option<PathBuf>,
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
    let (path, what) = match &args.path {
        Some(path) => (path.clone(), what_is(path)?),
        None => (context.dir.clone(), What::Store),
    };
    let range = range(args, context)?;
    if range.is_some() && matches!(what, What::Bundle) {
        return Err(CliError::new(
            "usage.range",
            "a bundle is checked as a whole",
            "leave out the range; `ledger export --from --to` writes a bundle of a range",
        ));
    }
    let options = Options {
        range,
        resume: args.resume.clone().map(Resume::new),
        stop: args.resume.as_ref().map(|_| stop_on_signal()).transpose()?,
        checkpoints: checkpoints.collect::<Result<_, _>>()?,
        full: !args.fast,
        logs,
        keys,
        authority: (!args.fast).then(ledger_server::nightly::authority),
        max_age_ms: args.max_age.as_deref().map(max_age_ms).transpose()?,
        ..Options::default()
    };
    let bar = context.output.draws_progress().then(bar);
    let mut shown = bar.clone().map(Shown::new);
    let verified = tokio::task::spawn_blocking(move || {
        let mut progress = |p: Progress| {
            if let Some(shown) = &mut shown {
                shown.tell(p.bytes, p.bytes_total, p.receipts, p.findings);
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

// The receipts whose signatures are asked for.
fn range(args: &VerifyArgs, context: &Context) -> Result<Option<Range>, CliError> {
    if args.from.is_some() || args.to.is_some() {
        let (first, last) = (args.from.unwrap_or(0), args.to);
        if args.logs.len() != 1 || last.is_some_and(|last| last < first) {
            return Err(CliError::new(
                "usage.range",
                "a range of seqs is of one log, and does not end before it begins",
                "say --log LOGID --from 1200 --to 1300",
            ));
        }
        return Ok(Some(Range::Seqs { first, last }));
    }
    let ms = |moment| match moment {
        Moment::At(us) => Ok(u64::try_from(us / 1000).unwrap_or(0)),
        Moment::Seq(seq) => Err(CliError::new(
            "usage.since",
            format!("@{seq} is a place in the order, and this asks when receipts were sealed"),
            format!("say --log LOGID --from {seq} with the order's LogId"),
        )),
    };
    let since = args
        .since
        .as_deref()
        .map(|text| times::parse_since(text, &context.now));
    let until = args.until.as_deref().map(|text| times::parse(text, &context.now));
    let (since, until) = (since.transpose()?.map(ms), until.transpose()?.map(ms));
    if since.is_none() && until.is_none() {
        return Ok(None);
    }
    Ok(Some(Range::Times {
        since_unix_ms: since.transpose()?.unwrap_or(0),
        until_unix_ms: until.transpose()?,
    }))
}

// What the first SIGINT or SIGTERM sets; the run then ends by itself.
fn stop_on_signal() -> Result<Arc<AtomicBool>, CliError> {
    let unheard = |e: std::io::Error| CliError::new("io", format!("cannot listen for signals: {e}"), "");
    let mut interrupt = signal(SignalKind::interrupt()).map_err(unheard)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(unheard)?;
    let stop = Arc::new(AtomicBool::new(false));
    let set = Arc::clone(&stop);
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        set.store(true, Ordering::Release);
    });
    Ok(stop)
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
        let kept = match report.get("kept").and_then(Value::as_bool) {
            Some(false) => "not kept as a receipt: this machine does not know yet whether it lost something",
            _ => "kept as a receipt",
        };
        let read = format!("{} receipts, {kept}", count(count_of("/counts/receipts")));
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
