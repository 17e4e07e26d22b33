//! `ledger init`: founds a fleet.

use crate::context::Context;
use crate::error::CliError;
use crate::exit::{Exit, FINE};
use crate::output::{BOLD, DIM, paint};
use clap::Args;
use ledger::core::MachineId;
use serde_json::json;

/// What `init` takes.
#[derive(Args, Debug, Clone)]
#[command(after_help = "Examples:\n  ledger init --machine mac-mini\n  ledger --dir ./studio init")]
pub(crate) struct InitArgs {
    /// This machine's stable id, never renamed [default: the host's name]
    #[arg(long, value_name = "ID")]
    pub(crate) machine: Option<MachineId>,
}

/// Founds a fleet with this directory as its gateway's store.
pub(crate) async fn run(context: &Context, args: &InitArgs) -> Result<Exit, CliError> {
    let machine = machine_id(args.machine.as_ref())?;
    let (dir, id) = (context.dir.clone(), machine.clone());
    let founded = tokio::task::spawn_blocking(move || ledger_server::setup::init(&dir, &id)).await;
    let report =
        founded.map_err(|e| CliError::new("software.panic", format!("founding ended: {e}"), ""))??;
    let result = json!({
        "dir": context.dir,
        "fleet": report.fleet.to_string(),
        "machine": report.machine.to_string(),
        "root_key": report.root_key,
        "recovery_key": report.recovery_key,
    });
    let next = [
        format!(
            "move {} to a safe place off this machine",
            report.root_key.display()
        ),
        "ledger gateway".to_owned(),
    ];
    context.output.result(&result, &next, || {
        format!(
            "{} {}\n  fleet     {}\n  machine   {}\n  root key  {}  {}",
            paint(BOLD, "founded in"),
            context.dir.display(),
            report.fleet,
            report.machine,
            report.root_key.display(),
            paint(DIM, "(signs invitations, grants and restores)"),
        )
    })?;
    Ok(FINE)
}

/// The id that was given, or the host's name in the form of an id.
pub(crate) fn machine_id(given: Option<&MachineId>) -> Result<MachineId, CliError> {
    if let Some(id) = given {
        return Ok(id.clone());
    }
    let asked = std::process::Command::new("uname").arg("-n").output();
    let name = asked
        .map(|out| String::from_utf8_lossy(&out.stdout).trim().to_lowercase())
        .unwrap_or_default();
    let first = name.split('.').next().unwrap_or_default();
    let plain: String = first
        .chars()
        .filter(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '-')
        .collect();
    plain.parse().map_err(|_| {
        CliError::new(
            "usage.machine",
            "the host's name gives no id for this machine",
            "give --machine ID",
        )
    })
}
