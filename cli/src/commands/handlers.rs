//! `ledger handlers`: list, pause, resume.

use super::jobs::said;
use crate::context::Context;
use crate::error::CliError;
use crate::exit::{Exit, FINE};
use crate::output::{self, BOLD, CARE, count, paint};
use crate::times;
use clap::{Args, Subcommand};
use ledger_server::http::wire::{HandlerRow, HandlerSteered, LimitView, PauseBody, WishBody};
use serde_json::json;

/// What `handlers` takes.
#[derive(Args, Debug, Clone)]
pub(crate) struct HandlersArgs {
    #[command(subcommand)]
    command: HandlersCommand,
}

#[derive(Subcommand, Debug, Clone)]
enum HandlersCommand {
    /// List the handlers: who runs them, what waits, what keeps them
    #[command(after_help = "Examples:\n  ledger handlers list")]
    List,
    /// Give nothing of a handler out any more; what runs goes on
    #[command(
        after_help = "Examples:\n  ledger handlers pause render --reason 'the licence server is down' --until 2h\n  ledger handlers resume render"
    )]
    Pause {
        /// The handler
        handler: String,
        /// Why: whoever waits for its jobs is told
        #[arg(long)]
        reason: String,
        /// When it goes on by itself: a length of time from now, or a time
        #[arg(long, value_name = "TIME")]
        until: Option<String>,
    },
    /// Give jobs of a paused handler out again
    #[command(after_help = "Examples:\n  ledger handlers resume render")]
    Resume {
        /// The handler
        handler: String,
        /// Why
        #[arg(long, default_value = "")]
        reason: String,
    },
}

/// Lists, pauses or resumes.
pub(crate) async fn run(context: &Context, args: &HandlersArgs) -> Result<Exit, CliError> {
    let store = context.store().await?;
    match &args.command {
        HandlersCommand::List => {
            let page = store.api.handlers().await?;
            let told = json!({"handlers": page.items, "as_of": page.as_of});
            context.output.result(&told, &[], || table(&page.items))?;
        }
        HandlersCommand::Pause {
            handler,
            reason,
            until,
        } => {
            let until = until.as_deref();
            let until = until
                .map(|text| times::parse_ahead(text, &context.now))
                .transpose()?;
            let body = PauseBody {
                reason: reason.clone(),
                until,
            };
            let done = store.api.pause_handler(handler, &body).await?.item;
            context.output.result(&done, &[], || stands(&done))?;
        }
        HandlersCommand::Resume { handler, reason } => {
            let body = WishBody {
                reason: reason.clone(),
            };
            let done = store.api.resume_handler(handler, &body).await?.item;
            context.output.result(&done, &[], || stands(&done))?;
        }
    }
    Ok(FINE)
}

fn stands(done: &HandlerSteered) -> String {
    let state = paused(&done.handler).unwrap_or("not paused".to_owned());
    let receipt = said(done.receipt.as_ref().map(|receipt| receipt.id.as_str()));
    format!("{}  {}  {receipt}", done.handler.handler, paint(BOLD, state))
}

fn paused(row: &HandlerRow) -> Option<String> {
    let pause = row.paused.as_ref()?;
    let until = pause.until.as_ref().map(|until| format!(" until {until}"));
    Some(format!("paused{}: {}", until.unwrap_or_default(), pause.reason))
}

fn table(rows: &[HandlerRow]) -> String {
    if rows.is_empty() {
        return "no handlers".to_owned();
    }
    let mut table = output::table(&[
        "handler", "machines", "ready", "waiting", "running", "parked", "limit", "state",
    ]);
    for row in rows {
        let machines = row.machines.iter().map(|on| {
            let declared = &on.declared;
            let text = format!("{} {} ×{}", on.machine, declared.class, declared.slots);
            if on.working { text } else { paint(CARE, text) }
        });
        let machines: Vec<String> = machines.collect();
        table.add_row([
            row.handler.clone(),
            if machines.is_empty() {
                "nobody declares it".to_owned()
            } else {
                machines.join("\n")
            },
            count(row.ready),
            count(row.waiting),
            count(row.running),
            count(row.parked),
            row.limit.as_ref().map_or("-".to_owned(), bounds),
            paused(row).unwrap_or("open".to_owned()),
        ]);
    }
    table.to_string()
}

/// The bounds of a limit: `2 at once, 10 in 1m`.
pub(crate) fn bounds(limit: &LimitView) -> String {
    let at_once = limit.running_max.map(|most| format!("{most} at once"));
    let rate = limit
        .rate
        .map(|rate| format!("{} in {}", rate.claims, output::span_ms(rate.period_ms)));
    let bounds: Vec<String> = at_once.into_iter().chain(rate).collect();
    bounds.join(", ")
}
