//! `ledger replay`: what happened, across all machines, in order.

use crate::context::Context;
use crate::error::CliError;
use crate::exit::{Exit, FINE};
use crate::output::{BOLD, DIM, paint};
use crate::times;
use clap::Args;
use jiff::{Timestamp, Zoned};
use ledger_server::client::Api;
use ledger_server::http::wire::{Receipt, ReceiptsQuery};

/// Receipts asked for at a time.
const PAGE: u32 = 1000;
/// Kinds that only say that time goes by or that the ledger keeps its books; shown when asked for.
const QUIET: [&str; 4] = ["node.pulse", "run.progressed", "log.pinned", "log.confirmed"];

/// What `replay` takes.
#[derive(Args, Debug, Clone)]
#[command(after_help = "\
Examples:
  ledger replay --since 2h
  ledger replay --since yesterday --until today --kind 'job.*' --machine studio
  ledger replay --since @120 --subject job/01987c7e-… --json | jq .line

Times: 90m, 2h, 3d, today, yesterday, a date (its first moment), RFC 3339, @seq of the order.
Pulses, progress and pins are left out unless --all or --kind names them.")]
pub(crate) struct ReplayArgs {
    /// Not before this time [default: the beginning]
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Before this time [default: now]
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Only this kind, or a pattern as job.*; repeatable
    #[arg(long = "kind", value_name = "KIND")]
    kinds: Vec<String>,
    /// Only what this actor said: a name or a key
    #[arg(long)]
    actor: Option<String>,
    /// Only this machine's logs
    #[arg(long, value_name = "ID")]
    machine: Option<String>,
    /// Only what is about this
    #[arg(long)]
    subject: Option<String>,
    /// At most so many
    #[arg(long)]
    limit: Option<u64>,
    /// Pulses, progress and pins too
    #[arg(long)]
    all: bool,
}

/// Tells it.
pub(crate) async fn run(context: &Context, args: &ReplayArgs) -> Result<Exit, CliError> {
    let since = args
        .since
        .as_deref()
        .map(|text| times::parse_since(text, &context.now))
        .transpose()?;
    let until = args
        .until
        .as_deref()
        .map(|text| times::parse(text, &context.now))
        .transpose()?;
    let query = ReceiptsQuery {
        since: since.map(times::Moment::to_query),
        until: until.map(times::Moment::to_query),
        kind: args.kinds.clone(),
        actor: args.actor.clone(),
        machine: args.machine.clone(),
        subject: args.subject.clone(),
        limit: Some(PAGE),
        cursor: None,
    };
    let store = context.store().await?;
    let quiet = !args.all && args.kinds.is_empty();
    let mut left = args.limit.unwrap_or(u64::MAX);
    each(&store.api, query, |receipt| {
        if quiet && QUIET.contains(&receipt.kind.as_str()) {
            return Ok(true);
        }
        if left == 0 {
            return Ok(false);
        }
        left -= 1;
        context.output.element(receipt, || line(receipt, &context.now))?;
        Ok(left > 0)
    })
    .await?;
    Ok(FINE)
}

/// Hands every receipt of a query to `take`, page by page, until it says that it has enough.
pub(crate) async fn each(
    api: &Api,
    mut query: ReceiptsQuery,
    mut take: impl FnMut(&Receipt) -> Result<bool, CliError>,
) -> Result<(), CliError> {
    loop {
        let page = api.receipts(&query).await?;
        for receipt in &page.items {
            if !take(receipt)? {
                return Ok(());
            }
        }
        query.cursor = page.next_cursor;
        if query.cursor.is_none() {
            return Ok(());
        }
    }
}

/// One receipt as a line: when, on which machine, who, what.
pub(crate) fn line(receipt: &Receipt, now: &Zoned) -> String {
    let time = receipt.time.parse::<Timestamp>();
    let time = time.map_or_else(
        |_| receipt.time.clone(),
        |t| times::clock(t.as_microsecond(), now),
    );
    let outputs = if receipt.outputs.is_empty() {
        String::new()
    } else {
        format!(
            "  {}",
            paint(DIM, format_args!("→ {}", receipt.outputs.join(", ")))
        )
    };
    format!(
        "{}  {:<8} {:<12} {} {}{outputs}",
        paint(DIM, time),
        receipt.machine,
        receipt.actor,
        paint(BOLD, format_args!("{:<18}", receipt.kind)),
        receipt.line
    )
}
