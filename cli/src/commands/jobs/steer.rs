//! `ledger jobs retry|hold|release|discard|drain`: what a person does to the queue.

use super::resolve;
use crate::context::Context;
use crate::error::CliError;
use crate::exit::{Exit, FINE};
use crate::output::{BOLD, DIM, count, paint};
use clap::Args;
use ledger_server::client::Api;
use ledger_server::http::wire::{RetryBody, WishBody};

/// What holding, releasing and discarding take.
#[derive(Args, Debug, Clone)]
pub(crate) struct SteerArgs {
    /// The job
    id: String,
    /// Why
    #[arg(long, default_value = "")]
    reason: String,
}

/// Holds, releases or discards.
pub(super) async fn steer(
    context: &Context,
    api: &Api,
    act: &str,
    args: &SteerArgs,
) -> Result<Exit, CliError> {
    let id = resolve(api, &args.id).await?;
    let body = WishBody {
        reason: args.reason.clone(),
    };
    let done = api.steer_job(&id, act, &body).await?.item;
    context.output.result(&done, &[], || {
        let receipt = said(done.receipt.as_ref().map(|receipt| receipt.id.as_str()));
        format!("{}  {}  {receipt}", done.job.id, paint(BOLD, &done.job.answer))
    })?;
    Ok(FINE)
}

/// The receipt of an act, or that there is none because nothing changed.
pub(crate) fn said(receipt: Option<&str>) -> String {
    paint(DIM, receipt.unwrap_or("(it was so already; nothing was written)"))
}

/// Tries a job again.
pub(super) async fn retry(
    context: &Context,
    api: &Api,
    id: &str,
    own_id: Option<&str>,
) -> Result<Exit, CliError> {
    let id = resolve(api, id).await?;
    let body = RetryBody {
        id: own_id.map(str::to_owned),
    };
    let asked = api.retry_job(&id, &body).await?.item;
    let next = [format!("ledger jobs show {}", asked.job)];
    context.output.result(&asked, &next, || {
        let before = if asked.repeated { "  (asked before)" } else { "" };
        let of = paint(DIM, format_args!("again {id}"));
        format!("{}  {}  {of}{before}", asked.job, paint(BOLD, &asked.answer))
    })?;
    Ok(FINE)
}

/// Gives up a handler's backlog.
pub(super) async fn drain(
    context: &Context,
    api: &Api,
    handler: &str,
    reason: &str,
) -> Result<Exit, CliError> {
    let body = WishBody {
        reason: reason.to_owned(),
    };
    let drained = api.drain_handler(handler, &body).await?.item;
    context.output.result(&drained, &[], || {
        let row = &drained.handler;
        format!(
            "{handler}: {} discarded, {} running, {} parked",
            count(drained.discarded),
            count(row.running),
            count(row.parked)
        )
    })?;
    Ok(FINE)
}
