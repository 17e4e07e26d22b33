//! `ledger export`: one log of this machine as a bundle that anybody can verify, years later, with other people's tools.

use super::verify::log_id;
use crate::context::Context;
use crate::error::CliError;
use crate::exit::{Exit, FINE};
use crate::output::{bytes, count};
use clap::Args;
use ledger::core::LogId;
use ledger_server::http::wire::{ExportBody, LogHead};
use std::path::PathBuf;

/// What `export` takes.
#[derive(Args, Debug, Clone)]
#[command(
    after_help = "Examples:\n  ledger export --log order --out order.bundle && ledger verify order.bundle"
)]
pub(crate) struct ExportArgs {
    /// Which of this machine's logs: work, facts, pulse, order, or a LogId
    #[arg(long)]
    log: String,
    /// The file to write; must not exist
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
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
    let store = context.store().await?;
    let log = find(&store.api.status().await?.item.logs, &args.log)?;
    let body = ExportBody {
        log: log.to_hex(),
        path: path.to_string_lossy().into_owned(),
    };
    let exported = store.api.export(&body).await?.item;
    let next = [format!("ledger verify {}", args.out.display())];
    context.output.result(&exported, &next, || {
        let size = bytes(exported.bytes);
        let log = format!("log  {}\nroot {}", exported.log, exported.root);
        format!(
            "{} receipts, {size} in {}\n{log}",
            count(exported.receipts),
            args.out.display()
        )
    })?;
    Ok(FINE)
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
