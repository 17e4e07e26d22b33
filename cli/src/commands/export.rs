//! `ledger export`: one log of this machine as a bundle that anybody can verify, years later, with other people's tools.

use super::verify::log_id;
use crate::context::Context;
use crate::error::CliError;
use crate::exit::{Exit, FINE};
use crate::output::{bytes, count};
use clap::Args;
use ledger::core::LogId;
use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

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
    let store = context.store().await?;
    let log = find(&store.api.status().await?.item.logs, &args.log)?;
    let out = args.out.clone();
    let making = out.with_extension("making");
    if out.exists() {
        let why = format!("{} exists", out.display());
        return Err(CliError::new(
            "input.exists",
            why,
            "name a file that does not; nothing is overwritten",
        ));
    }
    let report = store.export(log, &making).await.inspect_err(|_| {
        // What was begun is no bundle.
        let _ = std::fs::remove_file(&making);
    })?;
    std::fs::rename(&making, &out).map_err(|e| CliError::io("write", &out, &e))?;
    let next = [format!("ledger verify {}", out.display())];
    context.output.result(&report, &next, || {
        format!(
            "{} receipts, {} in {}\nlog {}\nroot {}",
            count(report.receipts),
            bytes(report.bytes),
            out.display(),
            report.log,
            report.root
        )
    })?;
    Ok(FINE)
}

fn find(logs: &[ledger_server::http::wire::LogHead], name: &str) -> Result<LogId, CliError> {
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

/// Creates the file, which only its owner may read: payloads are in it.
pub(crate) fn create(path: &Path) -> Result<BufWriter<File>, CliError> {
    use std::os::unix::fs::OpenOptionsExt;
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path);
    Ok(BufWriter::new(
        file.map_err(|e| CliError::io("create", path, &e))?,
    ))
}
