//! `ledger retention`: how long pulses are kept, and letting them go while the daemon runs.

use crate::context::Context;
use crate::error::CliError;
use crate::exit::{Exit, FINE};
use crate::output::{self, CARE, DIM, bytes, count, paint};
use clap::{Args, Subcommand};
use ledger_server::http::wire::RetentionBody;
use serde_json::json;

/// What `retention` takes.
#[derive(Args, Debug, Clone)]
pub(crate) struct RetentionArgs {
    #[command(subcommand)]
    command: RetentionCommand,
}

#[derive(Subcommand, Debug, Clone)]
enum RetentionCommand {
    /// Tell for how long pulses are kept, what is here, and what a run would let go
    #[command(after_help = "Examples:\n  ledger retention show")]
    Show,
    /// Set for how long the fleet keeps its pulses; at the gateway
    #[command(after_help = "\
A day's pulses go when it is older than that, its sums are in facts, and, on a machine that has a gateway, the gateway has
cosigned what goes. Uptime and everything else stay as they are.

Examples:
  ledger retention set --pulses 30d --reason 'a month is enough'
  ledger retention set --pulses forever")]
    Set {
        /// For how long: whole days such as 30d, or forever
        #[arg(long, value_name = "DAYS")]
        pulses: String,
        /// Why, at most 200 bytes; kept for ever
        #[arg(long, value_name = "TEXT", default_value = "")]
        reason: String,
    },
    /// Let go now what may go from this machine's store; the daemon does it every night
    #[command(after_help = "Examples:\n  ledger retention run")]
    Run,
}

/// Shows, sets or runs.
pub(crate) async fn run(context: &Context, args: &RetentionArgs) -> Result<Exit, CliError> {
    match &args.command {
        RetentionCommand::Show => show(context).await,
        RetentionCommand::Set { pulses, reason } => set(context, pulses, reason).await,
        RetentionCommand::Run => run_now(context).await,
    }
}

fn kept_for(days: Option<u32>) -> String {
    match days {
        None => "for ever".to_owned(),
        Some(1) => "for 1 day".to_owned(),
        Some(days) => format!("for {days} days"),
    }
}

async fn show(context: &Context) -> Result<Exit, CliError> {
    let store = context.store().await?;
    let told = store.api.retention().await?.item;
    context.output.result(&told, &[], || {
        let policy = told
            .policy
            .as_ref()
            .map_or("nobody set anything".to_owned(), |policy| {
                let why = match policy.reason.as_str() {
                    "" => String::new(),
                    why => format!(": {why}"),
                };
                format!("by {} at {}{why}", policy.author, policy.time)
            });
        let mut lines = vec![format!(
            "pulses are kept {}  {}",
            kept_for(told.pulse_days),
            paint(DIM, policy)
        )];
        let mut table = output::table(&["machine", "log", "pulses", "oldest", "about", "to go now"]);
        for log in &told.logs {
            table.add_row([
                log.machine.clone(),
                if log.own { "own" } else { "copy" }.to_owned(),
                count(log.kept),
                log.oldest.clone().unwrap_or("-".to_owned()),
                bytes(log.bytes_about),
                count(log.due),
            ]);
        }
        lines.push(table.to_string());
        for log in &told.logs {
            if let Some(waits) = &log.waits {
                lines.push(paint(CARE, format_args!("{}: {waits}", log.machine)));
            }
        }
        lines.join("\n")
    })?;
    Ok(FINE)
}

async fn set(context: &Context, pulses: &str, reason: &str) -> Result<Exit, CliError> {
    let body = RetentionBody {
        pulse_days: days(pulses)?,
        reason: reason.to_owned(),
    };
    let store = context.store().await?;
    let set = store.api.set_retention(&body).await?.item;
    let next = ["ledger retention run".to_owned()];
    context.output.result(&set, &next, || {
        format!(
            "pulses are kept {} from here on  {}",
            kept_for(set.pulse_days),
            paint(DIM, &set.receipt.id)
        )
    })?;
    Ok(FINE)
}

// Days, or none for ever.
fn days(text: &str) -> Result<Option<u32>, CliError> {
    if text == "forever" {
        return Ok(None);
    }
    let days = text.strip_suffix('d').and_then(|days| days.parse::<u32>().ok());
    days.filter(|days| *days > 0).map(Some).ok_or_else(|| {
        CliError::new(
            "usage.days",
            format!("{text:?} is no number of days"),
            "write whole days such as 30d, or forever",
        )
    })
}

async fn run_now(context: &Context) -> Result<Exit, CliError> {
    let store = context.store().await?;
    let runs = store.api.run_retention().await?.item;
    let next = ["ledger verify".to_owned()];
    context.output.result(&json!({"logs": runs}), &next, || {
        if runs.is_empty() {
            return "nothing goes: no policy says for how long pulses are kept (`ledger retention set`)"
                .to_owned();
        }
        let lines = runs.iter().map(|run| {
            let went = match &run.receipt {
                Some(receipt) => format!(
                    "{} records are gone, {} freed  {}",
                    count(run.records),
                    bytes(run.bytes_freed),
                    paint(DIM, receipt)
                ),
                None => "nothing to let go".to_owned(),
            };
            let waits = run
                .waits
                .as_ref()
                .map(|waits| format!("\n  {}", paint(CARE, waits)));
            format!("{}: {went}{}", run.machine, waits.unwrap_or_default())
        });
        lines.collect::<Vec<_>>().join("\n")
    })?;
    Ok(FINE)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn days_are_whole_and_forever_is_a_word() {
        assert_eq!(days("30d").unwrap(), Some(30));
        assert_eq!(days("forever").unwrap(), None);
        for wrong in ["", "30", "0d", "-1d", "1.5d", "30h", "d"] {
            assert_eq!(days(wrong).unwrap_err().code, "usage.days", "{wrong}");
        }
    }
}
