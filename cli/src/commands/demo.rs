//! `ledger demo`: what it takes; the steps stand in `demo/`.

use crate::context::Context;
use crate::error::CliError;
use crate::exit::Exit;
use clap::Args;
use std::path::PathBuf;

/// What `demo` takes.
#[derive(Args, Debug, Clone)]
#[command(after_help = "\
Examples:
  ledger demo
  ledger demo --vault ~/notes --keep
  ledger --dir ./studio demo       keeps the folder; a second run goes on with the same history")]
pub(crate) struct DemoArgs {
    /// The Vault: a directory of real files [default: the current directory]
    #[arg(long, value_name = "DIR")]
    pub(crate) vault: Option<PathBuf>,
    /// Keep the folder (with --dir it is kept anyway)
    #[arg(long)]
    pub(crate) keep: bool,
}

/// Runs it.
pub(crate) async fn run(context: &Context, args: &DemoArgs) -> Result<Exit, CliError> {
    crate::demo::run(context, args).await
}
