//! `ledger erase`: a payload is destroyed, with its salt; the receipt stays, and everything verifies.

use crate::context::Context;
use crate::error::CliError;
use crate::exit::{Exit, FINE};
use clap::Args;
use ledger_server::http::wire::EraseBody;

/// What `erase` takes.
#[derive(Args, Debug, Clone)]
#[command(after_help = "\
The statement itself (kind, subject, detail, author, times) is never erased. Copies in bundles, in backups and in what the
file system keeps are out of reach.

Examples:
  ledger erase 019b8d2b-8c06-7a54-8b6e-263bc4f5e70a --reason \"the customer asked for it\"")]
pub(crate) struct EraseArgs {
    /// The receipt
    id: String,
    /// Why, at most 200 bytes; kept for ever
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

/// Erases.
pub(crate) async fn run(context: &Context, args: &EraseArgs) -> Result<Exit, CliError> {
    let body = EraseBody {
        reason: args.reason.clone(),
    };
    let store = context.store().await?;
    let erased = store.api.erase(&args.id, &body).await?.item;
    context.output.result(&erased, &[], || {
        let said = erased.erased_by.iter().map(|receipt| {
            let (id, machine, stream) = (&receipt.id, &receipt.machine, &receipt.stream);
            format!("\n  by {id}  {machine} {stream}")
        });
        let before = if erased.repeated { "  (was before)" } else { "" };
        format!(
            "{}  payload erased{before}{}",
            erased.id,
            said.collect::<String>()
        )
    })?;
    Ok(FINE)
}
