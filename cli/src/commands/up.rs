//! `ledger up`: one machine, one store: founds a fleet where there is none, and runs its gateway.

use super::daemon::{self, DaemonArgs};
use super::init::{self, InitArgs};
use crate::context::Context;
use crate::error::CliError;
use crate::exit::Exit;
use clap::Args;

/// What `up` takes.
#[derive(Args, Debug, Clone)]
#[command(after_help = "Examples:\n  ledger up\n  ledger --dir ./studio up --set listen=127.0.0.1:0")]
pub(crate) struct UpArgs {
    #[command(flatten)]
    init: InitArgs,
    #[command(flatten)]
    daemon: DaemonArgs,
}

/// Founds where needed, then runs until it is told to stop.
pub(crate) async fn run(context: &Context, args: &UpArgs) -> Result<Exit, CliError> {
    if !context.has_store() {
        init::run(context, &args.init).await?;
    }
    daemon::gateway(context, &args.daemon).await
}
