//! `ledger import`: a bundle's log into this machine's store, exactly as it is.

use crate::context::Context;
use crate::error::CliError;
use crate::exit::{Exit, FINE};
use crate::output::count;
use clap::Args;
use ledger_server::http::wire::{ImportBody, Imported};
use std::path::PathBuf;

/// What `import` takes.
#[derive(Args, Debug, Clone)]
#[command(after_help = "\
Examples:
  ledger import laptop-facts.bundle      again and again: what is here already is skipped

The log must be of this machine's fleet. Everything is verified before it is kept; a log of this
machine's own is only compared. A range is taken in where it continues what is here.")]
pub(crate) struct ImportArgs {
    /// The bundle, as `ledger export` wrote it
    file: PathBuf,
}

/// Imports.
pub(crate) async fn run(context: &Context, args: &ImportArgs) -> Result<Exit, CliError> {
    let path = std::path::absolute(&args.file).map_err(|e| CliError::io("find", &args.file, &e))?;
    // Whether it is there and may be read is told before any store is opened.
    std::fs::File::open(&path).map_err(|e| CliError::io("read", &args.file, &e))?;
    let store = context.store().await?;
    let body = ImportBody {
        path: path.to_string_lossy().into_owned(),
    };
    let imported = store.api.import(&body).await?.item;
    let next = [format!("ledger replay --machine {}", name(&imported))];
    context.output.result(&imported, &next, || tell(&imported))?;
    Ok(FINE)
}

fn name(imported: &Imported) -> &str {
    imported.machine.as_deref().unwrap_or("unknown")
}

fn tell(imported: &Imported) -> String {
    let stream = imported.stream.as_deref().unwrap_or("log");
    let mut lines = vec![format!(
        "{} receipts taken in, {} were here already; {} {stream} has {} here now",
        count(imported.new),
        count(imported.known),
        name(imported),
        count(imported.size)
    )];
    if imported.inadmissible > 0 {
        lines.push(format!(
            "{} of them are kept and inert: their author's signature is not valid",
            count(imported.inadmissible)
        ));
    }
    if imported.absent > 0 {
        lines.push(format!(
            "{} payloads were not at the exporter's",
            count(imported.absent)
        ));
    }
    lines.push(format!("log  {}", imported.log));
    lines.join("\n")
}
