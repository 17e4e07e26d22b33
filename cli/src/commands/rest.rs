//! `ledger sleeping` and `ledger waking`: for the system's sleep hooks, so that a machine that sleeps is not taken for lost.

use crate::context::Context;
use crate::error::CliError;
use crate::exit::{Exit, FINE};
use crate::output::span_ms;
use clap::Args;
use ledger_server::http::wire::{RestBody, RestWhat};
use serde_json::json;

/// What `sleeping` takes.
#[derive(Args, Debug, Clone)]
#[command(
    after_help = "Examples:\n  ledger sleeping        # from the hook that the system runs before it sleeps"
)]
pub(crate) struct SleepingArgs {}

/// What `waking` takes.
#[derive(Args, Debug, Clone)]
#[command(
    after_help = "Examples:\n  ledger waking          # from the hook that the system runs when it woke"
)]
pub(crate) struct WakingArgs {}

/// Says it to the daemon. Where none runs there is nothing to say, and a hook must not fail for that.
pub(crate) async fn run(context: &Context, what: RestWhat) -> Result<Exit, CliError> {
    let store = context.store().await?;
    if !store.has_daemon() {
        let none = json!({"said": false, "heard": false, "slept_ms": null});
        context.output.result(&none, &[], || {
            "no daemon runs on this machine, so nobody expects to hear it".to_owned()
        })?;
        return Ok(FINE);
    }
    let rested = store.api.rest(&RestBody { what }).await?.item;
    context
        .output
        .result(&rested, &[], || match (rested.said, what, rested.slept_ms) {
            (true, RestWhat::Sleeping, _) if rested.heard => {
                "the gateway knows that this machine sleeps".to_owned()
            }
            (true, RestWhat::Sleeping, _) => {
                "kept; the gateway has not confirmed it, and learns it when the machine is back".to_owned()
            }
            (true, RestWhat::Waking, slept) => format!("awake after {}", span_ms(slept.unwrap_or(0))),
            (false, ..) => "nothing said that this machine sleeps, or it is told already".to_owned(),
        })?;
    Ok(FINE)
}
