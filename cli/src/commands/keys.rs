//! `ledger keys`: the keys that others pin, so that they can check proofs and checkpoints without trusting anybody.

use crate::context::Context;
use crate::error::CliError;
use crate::exit::{Exit, FINE};
use clap::Args;

/// What `keys` takes.
#[derive(Args, Debug, Clone)]
#[command(
    after_help = "Examples:\n  ledger keys > studio.keys      give this file to whoever shall check; `ledger check FILE --key studio.keys`"
)]
pub(crate) struct KeysArgs {
    /// Only the logs that this machine writes
    #[arg(long)]
    own: bool,
}

/// Lists.
pub(crate) async fn run(context: &Context, args: &KeysArgs) -> Result<Exit, CliError> {
    let store = context.store().await?;
    let mut keys = store.api.keys().await?.item;
    keys.retain(|key| key.own || !args.own);
    context.output.result(&keys, &[], || {
        let lines = keys.iter().map(|key| {
            format!(
                "# {} {} {}\n{}\n",
                key.machine, key.stream, key.incarnation, key.key
            )
        });
        lines.collect()
    })?;
    Ok(FINE)
}
