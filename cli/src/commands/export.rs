//! `ledger export`: one log of this machine, or a range of it, as a bundle that anybody can verify, years later, with other
//! people's tools.

use super::verify::log_id;
use crate::context::Context;
use crate::error::CliError;
use crate::exit::{Exit, FINE};
use crate::output::{bytes, count};
use crate::times::{self, Moment};
use clap::Args;
use ledger::core::LogId;
use ledger_server::http::wire::{ExportBody, LogHead};
use std::path::PathBuf;

/// What `export` takes.
#[derive(Args, Debug, Clone)]
#[command(after_help = "\
Examples:
  ledger export --log order --out order.bundle && ledger verify order.bundle
  ledger export --log facts --since yesterday --out news.bundle
  ledger export --log facts --from 1200 --to 1300 --out range.bundle

A range stands alone: with the log's genesis, a signed checkpoint, and the hashes between them.")]
pub(crate) struct ExportArgs {
    /// Which of this machine's logs: work, facts, pulse, order, or a LogId
    #[arg(long)]
    log: String,
    /// The file to write; must not exist. It is written as FILE.part first
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Only from this seq on
    #[arg(long, value_name = "SEQ")]
    from: Option<u64>,
    /// Only up to this seq, which is included
    #[arg(long, value_name = "SEQ")]
    to: Option<u64>,
    /// Only what was sealed since: 2h, yesterday, 2026-01-31, RFC 3339
    #[arg(long, value_name = "TIME", conflicts_with = "from")]
    since: Option<String>,
}

/// Exports.
pub(crate) async fn run(context: &Context, args: &ExportArgs) -> Result<Exit, CliError> {
    let path = std::path::absolute(&args.out).map_err(|e| CliError::io("find", &args.out, &e))?;
    if path.exists() {
        let why = format!("{} exists", path.display());
        return Err(CliError::new(
            "input.exists",
            why,
            "name a file that does not; nothing is overwritten",
        ));
    }
    let since = args
        .since
        .as_deref()
        .map(|text| since(text, context))
        .transpose()?;
    let store = context.store().await?;
    let log = find(&store.api.status().await?.item.logs, &args.log)?;
    let body = ExportBody {
        log: log.to_hex(),
        path: path.to_string_lossy().into_owned(),
        from: args.from,
        to: args.to,
        since,
    };
    let exported = store.api.export(&body).await?.item;
    let next = [format!("ledger verify {}", args.out.display())];
    context.output.result(&exported, &next, || {
        let size = bytes(exported.bytes);
        let (receipts, covered) = (count(exported.receipts), count(exported.tree_size));
        let what = if exported.receipts == exported.tree_size {
            format!("{receipts} receipts")
        } else {
            format!("{receipts} receipts from seq {} on, of {covered}", exported.first)
        };
        let log = format!("log  {}\nroot {}", exported.log, exported.root);
        format!("{what}, {size} in {}\n{log}", args.out.display())
    })?;
    Ok(FINE)
}

fn since(text: &str, context: &Context) -> Result<String, CliError> {
    match times::parse_since(text, &context.now)? {
        moment @ Moment::At(_) => Ok(moment.to_query()),
        Moment::Seq(seq) => Err(CliError::new(
            "usage.since",
            format!("@{seq} is a place in the order, and this is one log"),
            format!("say --from {seq} for a seq of the log"),
        )),
    }
}

/// A log by the name of its stream, or by its LogId.
pub(crate) fn find(logs: &[LogHead], name: &str) -> Result<LogId, CliError> {
    if let Some(log) = logs.iter().find(|log| log.own && log.stream == name) {
        return log_id(&log.log);
    }
    if name.len() == 64 {
        return log_id(name);
    }
    let own: Vec<&str> = logs
        .iter()
        .filter(|log| log.own)
        .map(|log| log.stream.as_str())
        .collect();
    Err(CliError::new(
        "usage.log",
        format!("{name:?} is no log of this machine"),
        format!("its logs are {}; or give a LogId", own.join(", ")),
    ))
}
