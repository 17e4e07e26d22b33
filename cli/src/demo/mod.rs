//! `ledger demo`: real processes on this machine, with this machine's own files, step by step.
//!
//! One file per step. [`stage`] owns the processes and folders and takes them down however the demo ends; [`tell`] owns
//! what is printed and the promises; nothing waits without a bound.

mod audit;
mod child;
mod close;
mod cut;
mod found;
mod index;
mod kill;
mod proxy;
mod settings;
mod stage;
mod tell;
mod work;

use crate::commands::demo::DemoArgs;
use crate::context::Context;
use crate::error::CliError;
use crate::exit::{DIFFERENCE, Exit, FINE};
use serde_json::json;
use stage::Stage;
use tell::Teller;
use tokio::signal::unix::{SignalKind, signal};

/// Runs all steps, or until one cannot go on.
pub(crate) async fn run(context: &Context, args: &DemoArgs) -> Result<Exit, CliError> {
    let mut teller = Teller::new(context.output.clone());
    let mut stage = Stage::new(context, args)?;
    let unheard = |e: std::io::Error| CliError::new("io", format!("cannot listen for signals: {e}"), "");
    let mut terminate = signal(SignalKind::terminate()).map_err(unheard)?;
    let ended = tokio::select! {
        ended = steps(&mut stage, &mut teller) => ended,
        _ = tokio::signal::ctrl_c() => Err(interrupted()),
        _ = terminate.recv() => Err(interrupted()),
    };
    if let Err(error) = &ended {
        teller.broke(error);
        for line in stage.last_words() {
            teller.aside(&line);
        }
    }
    let held = ended.is_ok() && teller.all_held();
    close::summary(&stage, &mut teller, held);
    let kept = stage.kept().map(|dir| dir.display().to_string());
    let result = json!({
        "steps": teller.steps(),
        "timings_ms": settings::timings(),
        "dir": kept,
        "vault": stage.vault,
        "elapsed_ms": teller.elapsed_ms(),
    });
    stage.take_down();
    if context.output.is_json() {
        context
            .output
            .verdict(held, &result, &close::next_actions(&stage), String::new)?;
    }
    Ok(if held { FINE } else { DIFFERENCE })
}

async fn steps(stage: &mut Stage, teller: &mut Teller) -> Result<(), CliError> {
    found::run(stage, teller).await?;
    index::run(stage, teller).await?;
    work::run(stage, teller).await?;
    kill::run(stage, teller).await?;
    cut::run(stage, teller).await?;
    audit::run(stage, teller).await
}

fn interrupted() -> CliError {
    CliError::new(
        "demo.interrupted",
        "the demo was interrupted; its processes are stopped",
        "",
    )
}
