//! `ledger prove`: one receipt in a file that anybody can check, years later, with a pinned key and other people's tools.

use super::export::find;
use super::verify::log_id;
use crate::context::Context;
use crate::error::CliError;
use crate::exit::{Exit, FINE};
use crate::output::count;
use clap::Args;
use ledger_server::http::wire::{ProveBody, Proved};
use std::io::Write;
use std::path::{Path, PathBuf};

/// What `prove` takes.
#[derive(Args, Debug, Clone)]
#[command(after_help = "\
Examples:
  ledger prove 0199f3c2-… --out went-live.tlog-proof
  ledger prove @12 --log order --out decision.tlog-proof
  ledger keys > studio.keys && ledger check went-live.tlog-proof --key studio.keys

The file carries the payload when it is there: give it to whom you would give that.")]
pub(crate) struct ProveArgs {
    /// The receipt's id, or @ and its seq
    #[arg(value_name = "ID|@SEQ")]
    receipt: String,
    /// Which of this machine's logs: work, facts, pulse, order, or a LogId; needed with @SEQ
    #[arg(long)]
    log: Option<String>,
    /// The file to write; must not exist [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Proves.
pub(crate) async fn run(context: &Context, args: &ProveArgs) -> Result<Exit, CliError> {
    let store = context.store().await?;
    let log = match &args.log {
        Some(name) => Some(find(&store.api.status().await?.item.logs, name)?),
        None => None,
    };
    let place = |log: ledger::core::LogId, seq| ProveBody {
        log: Some(log.to_hex()),
        seq: Some(seq),
        id: None,
    };
    let body = match (args.receipt.strip_prefix('@'), log) {
        (Some(seq), Some(log)) => place(log, seq_of(seq)?),
        (Some(_), None) => {
            return Err(CliError::new(
                "usage.log",
                "a seq alone names no receipt",
                "say which log: --log order, for instance",
            ));
        }
        (None, None) => ProveBody {
            id: Some(args.receipt.clone()),
            ..ProveBody::default()
        },
        (None, Some(log)) => {
            let found = store.api.receipt(&args.receipt).await?.item;
            let in_log = found
                .iter()
                .find(|full| log_id(&full.receipt.log).is_ok_and(|its| its == log));
            let in_log = in_log.ok_or_else(|| {
                CliError::new(
                    "receipt.unknown",
                    format!("the log {log} has no receipt {}", args.receipt),
                    "leave out --log to look in every log of this machine",
                )
            })?;
            place(log, in_log.receipt.seq)
        }
    };
    let proved = store.api.prove(&body).await?.item;
    match &args.out {
        Some(path) => write(path, &proved)?,
        None if context.output.is_json() => {}
        None => {
            context.output.write(proved.proof.trim_end_matches('\n'))?;
            return Ok(FINE);
        }
    }
    let file = args
        .out
        .as_ref()
        .map_or_else(|| "FILE".into(), |path| path.display().to_string());
    let next = [format!("ledger check {file} --key '{}'", proved.key)];
    context.output.result(&proved, &next, || {
        let payload = if proved.payload { ", with its payload" } else { "" };
        format!(
            "receipt {} (seq {} of {}){payload} in {file}\nlog {}",
            proved.id,
            proved.seq,
            count(proved.tree_size),
            proved.log
        )
    })?;
    Ok(FINE)
}

fn seq_of(text: &str) -> Result<u64, CliError> {
    text.parse().map_err(|_| {
        CliError::new(
            "usage.seq",
            format!("@{text} is no seq"),
            "a seq is a number from 0, as in @12",
        )
    })
}

fn write(path: &Path, proved: &Proved) -> Result<(), CliError> {
    let file = std::fs::File::options().write(true).create_new(true).open(path);
    let mut file = file.map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => CliError::new(
            "input.exists",
            format!("{} exists", path.display()),
            "name a file that does not; nothing is overwritten",
        ),
        _ => CliError::io("create", path, &error),
    })?;
    file.write_all(proved.proof.as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(|e| CliError::io("write", path, &e))
}
