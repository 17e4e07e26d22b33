//! `ledger invite`: the line with which a machine joins.

use crate::args::RootKey;
use crate::context::Context;
use crate::error::CliError;
use crate::exit::{Exit, FINE};
use crate::output::{DIM, paint};
use crate::times;
use clap::Args;
use ledger::core::MachineId;
use ledger::core::kinds::Role;
use serde_json::json;
use std::time::Duration;

/// What `invite` takes.
#[derive(Args, Debug, Clone)]
#[command(
    after_help = "Examples:\n  ledger invite --machine studio\n  ledger invite --root-key /media/key/root.key --for 5m"
)]
pub(crate) struct InviteArgs {
    /// The id that the machine must take [default: its own choice]
    #[arg(long, value_name = "ID")]
    machine: Option<MachineId>,
    /// How long the code lives
    #[arg(long = "for", value_name = "TIME", default_value = "10m")]
    lifetime: String,
    /// Where the gateway is reached [default: where it listens now]
    #[arg(long, value_name = "URL")]
    address: Option<String>,
    #[command(flatten)]
    root: RootKey,
}

/// Signs an invitation and hands it to the order.
pub(crate) async fn run(context: &Context, args: &InviteArgs) -> Result<Exit, CliError> {
    let lifetime = times::parse_span(&args.lifetime)?;
    let lifetime =
        Duration::try_from(lifetime).map_err(|e| CliError::new("time.malformed", e.to_string(), ""))?;
    let root = context.root_key(&args.root)?;
    let address = match &args.address {
        Some(address) => address.clone(),
        None => context
            .running()
            .and_then(|running| running.address)
            .ok_or_else(|| {
                CliError::new(
                    "daemon.absent",
                    "no gateway runs here, so its address is not known",
                    "start it, or give --address http://HOST:PORT",
                )
            })?,
    };
    let address = if address.contains("://") {
        address
    } else {
        format!("http://{address}")
    };
    let store = context.store().await?;
    let fleet = store.fleet().await?;
    let (said, line) =
        ledger_server::setup::invitation(&root, fleet, Role::Node, args.machine.clone(), lifetime, &address)?;
    let appended = store.api.append_signed(&said).await?.item;
    let result = json!({
        "line": line,
        "role": "node",
        "machine": args.machine.as_ref().map(ToString::to_string),
        "address": address,
        "receipt": appended.receipt.id,
        "standing": appended.standing,
    });
    let next = [format!("ledger join '{line}'   on the machine that shall join")];
    context.output.result(
        &result,
        if context.output.is_json() { &next } else { &[] },
        || {
            context.output.talk(paint(
                DIM,
                format_args!(
                    "single use, dies in {}; on the machine that shall join:",
                    args.lifetime
                ),
            ));
            format!("ledger join '{line}'")
        },
    )?;
    Ok(FINE)
}
