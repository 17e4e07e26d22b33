//! `ledger join`: makes this machine's keys and joins a fleet.

use super::init::machine_id;
use crate::context::Context;
use crate::error::CliError;
use crate::exit::{Exit, FINE};
use crate::output::{BOLD, paint};
use clap::Args;
use ledger::core::MachineId;
use serde_json::json;

/// What `join` takes.
#[derive(Args, Debug, Clone)]
#[command(after_help = "Examples:\n  ledger join 'LINE THAT INVITE PRINTED' --machine studio")]
pub(crate) struct JoinArgs {
    /// The line that `ledger invite` printed
    line: String,
    /// This machine's stable id, never renamed [default: the host's name]
    #[arg(long, value_name = "ID")]
    machine: Option<MachineId>,
}

/// What an invitation to be a node grants, for people.
const MAY: &str =
    "run jobs and write its own logs; shells on it may hand in requests, messages and x.* receipts";

/// Joins.
pub(crate) async fn run(context: &Context, args: &JoinArgs) -> Result<Exit, CliError> {
    let machine = machine_id(args.machine.as_ref())?;
    let report = ledger_server::setup::join(&context.dir, &args.line, &machine).await?;
    let result = json!({
        "dir": context.dir,
        "fleet": report.fleet.to_string(),
        "machine": report.machine.to_string(),
        "gateway": report.gateway.to_string(),
        "address": report.address,
        "role": report.role.to_string(),
    });
    context.output.result(&result, &["ledger node".to_owned()], || {
        format!(
            "{} {} as {}, a {}\n  gateway   {} at {}\n  may       {}",
            paint(BOLD, "joined"),
            report.fleet,
            report.machine,
            report.role,
            report.gateway,
            report.address,
            MAY,
        )
    })?;
    Ok(FINE)
}
