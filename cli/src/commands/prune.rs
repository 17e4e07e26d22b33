//! `ledger prune`: the oldest pulses go, and their disk space is freed; everything else still verifies.

use super::export::find;
use super::pins;
use crate::context::Context;
use crate::error::CliError;
use crate::exit::{Exit, FINE};
use crate::output::count;
use crate::times::parse_span;
use clap::Args;
use ledger::Pruning;
use ledger::core::{LogId, ReceiptId, Stream};
use serde_json::json;
use std::path::PathBuf;

/// What `prune` takes.
#[derive(Args, Debug, Clone)]
#[command(after_help = "\
Only logs of the stream pulse are pruned: heartbeats and progress, on which no decision builds. A `log.pruned` receipt says
what went, so that the rest verifies and is proven as before. A machine that has a gateway needs a checkpoint that
the gateway cosigned.

Examples:
  ledger prune --log pulse --older-than 30d --reason \"30 days of pulses\"
  ledger prune --log LOGID --below 120000 --reason \"the copy of a machine that is gone\"")]
pub(crate) struct PruneArgs {
    /// Which log: pulse, or the LogId of a copy of another machine's
    #[arg(long, value_name = "LOG", default_value = "pulse")]
    log: String,
    /// Everything that is older than this, such as 30d
    #[arg(
        long,
        value_name = "SPAN",
        required_unless_present = "below",
        conflicts_with = "below"
    )]
    older_than: Option<String>,
    /// Everything below this seq
    #[arg(long, value_name = "SEQ")]
    below: Option<u64>,
    /// Why, or by which policy, at most 200 bytes; kept for ever
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// The receipt that sums up what goes
    #[arg(long, value_name = "ID")]
    summary: Option<String>,
    /// A checkpoint of the log that somebody else cosigned
    #[arg(long, value_name = "FILE", requires = "keys")]
    checkpoint: Option<PathBuf>,
    /// A key that may have cosigned it, as `ledger keys` prints it, or a file of such lines; repeatable
    #[arg(long = "key", value_name = "KEY|FILE", requires = "checkpoint")]
    keys: Vec<String>,
}

/// Prunes.
pub(crate) async fn run(context: &Context, args: &PruneArgs) -> Result<Exit, CliError> {
    let store = context.store().await?;
    let Some(machine) = store.held() else {
        return Err(CliError::new(
            "store.locked",
            "a daemon holds this store, and pruning needs it alone",
            "let the daemon do it (`ledger retention set`, `ledger retention run`), or stop it, prune, and start it again",
        ));
    };
    let log = find(&store.api.status().await?.item.logs, &args.log)?;
    let wish = wish(context, args, log)?;
    let ledger = machine.ledger.clone();
    let own = ledger.own_log(Stream::Pulse) == Some(log);
    let needs_own = own && args.checkpoint.is_none();
    let work = move || {
        // Whoever keeps what is printed can hold this machine to it.
        let checkpoint = needs_own.then(|| ledger.checkpoint(&log)).transpose()?;
        let pruned = ledger.prune(&wish)?;
        Ok::<_, ledger::LedgerError>((checkpoint, pruned, ledger.first_kept(&log)))
    };
    let done = tokio::task::spawn_blocking(work).await;
    let (checkpoint, pruned, first_kept) =
        done.map_err(|e| CliError::new("software.panic", format!("pruning ended: {e}"), ""))??;
    let said = pruned.as_ref().map(|pruned| pruned.said.id().to_string());
    let (records, segments, bytes_freed) = pruned.as_ref().map_or((0, 0, 0), |pruned| {
        (pruned.records, pruned.segments, pruned.bytes_freed)
    });
    let result = json!({
        "log": log.to_hex(),
        "receipt": said,
        "first_kept": first_kept,
        "records": records,
        "segments": segments,
        "bytes_freed": bytes_freed,
        "checkpoint": checkpoint,
    });
    let next = ["ledger verify".to_owned()];
    let left = pruned
        .as_ref()
        .is_some_and(|pruned| pruned.records < pruned.last + 1 - pruned.first);
    let later = if left {
        "\n  the rest lies in the newest segment, is read by nobody any more, and goes with a pruning after that is full"
    } else {
        ""
    };
    context.output.result(&result, &next, || match &said {
        Some(said) => format!(
            "log {} begins at seq {first_kept} now; {} records are gone, {} bytes freed in {segments} segments\n  by {said}{later}",
            log.short(),
            count(records),
            count(bytes_freed),
        ),
        None => format!(
            "nothing to prune: log {} begins at seq {first_kept}",
            log.short()
        ),
    })?;
    Ok(FINE)
}

fn wish(context: &Context, args: &PruneArgs, log: LogId) -> Result<Pruning, CliError> {
    let mut wish = match (&args.older_than, args.below) {
        (Some(span), _) => {
            let cutoff = context.now.timestamp().checked_sub(parse_span(span)?);
            let unix_ms = cutoff.map_or(0, |cutoff| u64::try_from(cutoff.as_millisecond()).unwrap_or(0));
            Pruning::older_than(log, unix_ms, &args.reason)
        }
        (None, below) => Pruning::below(log, below.unwrap_or(0), &args.reason),
    };
    if let Some(id) = &args.summary {
        let parsed = ReceiptId::parse(id).ok_or_else(|| {
            CliError::new(
                "usage.id",
                format!("{id:?} is no receipt's id"),
                "copy it from `ledger replay`",
            )
        })?;
        wish = wish.summed_up_by(parsed);
    }
    if let Some(path) = &args.checkpoint {
        let text = std::fs::read_to_string(path).map_err(|e| CliError::io("read", path, &e))?;
        wish = wish.cosigned(&text, &pins::read(&args.keys)?);
    }
    Ok(wish)
}
