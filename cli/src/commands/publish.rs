//! `ledger publish`: one log of this machine as C2SP tiles in a directory that any web server can serve.

use super::export::find;
use crate::context::Context;
use crate::error::CliError;
use crate::exit::{Exit, FINE};
use crate::output::{bytes, count};
use clap::Args;
use ledger_server::http::wire::PublishBody;
use std::path::PathBuf;

/// What `publish` takes.
#[derive(Args, Debug, Clone)]
#[command(after_help = "\
Examples:
  ledger publish /srv/www/order --log order       again and again: only what is new is written
  ledger verify /srv/www/order --key studio.keys

Records are published, payloads are not: records commit to them with a salt.")]
pub(crate) struct PublishArgs {
    /// The directory; made when it is not there
    #[arg(value_name = "DIR")]
    into: PathBuf,
    /// Which of this machine's logs: work, facts, pulse, order, or a LogId
    #[arg(long)]
    log: String,
}

/// Publishes.
pub(crate) async fn run(context: &Context, args: &PublishArgs) -> Result<Exit, CliError> {
    let path = std::path::absolute(&args.into).map_err(|e| CliError::io("find", &args.into, &e))?;
    let store = context.store().await?;
    let log = find(&store.api.status().await?.item.logs, &args.log)?;
    let body = PublishBody {
        log: log.to_hex(),
        path: path.to_string_lossy().into_owned(),
    };
    let published = store.api.publish(&body).await?.item;
    let next = [format!(
        "ledger verify {} --key '{}'",
        args.into.display(),
        published.key
    )];
    context.output.result(&published, &next, || {
        let (size, dir) = (bytes(published.bytes), args.into.display());
        let new = published.receipts - published.receipts_before;
        let mended = match published.mended {
            0 => String::new(),
            files => format!("\n{files} damaged files mended"),
        };
        format!(
            "{} receipts ({} new), {} tiles and {} bundles written, {size} in {dir}{mended}\nlog  {}\nroot {}",
            count(published.receipts),
            count(new),
            count(published.tiles),
            count(published.bundles),
            published.log,
            published.root
        )
    })?;
    Ok(FINE)
}
