//! `ledger gateway` and `ledger node`: run until SIGINT, SIGTERM, or the end of standard input where that was asked for.

use crate::context::Context;
use crate::error::CliError;
use crate::exit::{Exit, FINE};
use crate::output::{BOLD, DIM, paint};
use clap::Args;
use serde_json::json;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// Between two looks whether the daemon is ready; only for telling it.
const READY_LOOK: Duration = Duration::from_millis(50);

/// What a daemon takes.
#[derive(Args, Debug, Clone)]
#[command(
    after_help = "Examples:\n  ledger gateway --set listen=100.64.0.1:7171\n  ledger --dir ~/studio node -v"
)]
pub(crate) struct DaemonArgs {
    /// Stop when standard input ends, as a child that must not outlive its parent
    #[arg(long, hide = true)]
    stop_with_stdin: bool,
}

/// Runs the gateway of the directory.
pub(crate) async fn gateway(context: &Context, args: &DaemonArgs) -> Result<Exit, CliError> {
    let config = context.config()?;
    let stop = stop(args.stop_with_stdin)?;
    let telling = tokio::spawn(tell_ready(context.dir.clone(), context.output.clone(), "gateway"));
    let ended = ledger_server::daemon::run_gateway(&context.dir, config, stop).await;
    telling.abort();
    ended?;
    Ok(FINE)
}

/// Runs the node of the directory.
pub(crate) async fn node(context: &Context, args: &DaemonArgs) -> Result<Exit, CliError> {
    let config = context.config()?;
    let stop = stop(args.stop_with_stdin)?;
    let telling = tokio::spawn(tell_ready(context.dir.clone(), context.output.clone(), "node"));
    let ended = ledger_server::daemon::run_node(&context.dir, config, stop).await;
    telling.abort();
    ended?;
    Ok(FINE)
}

async fn tell_ready(dir: std::path::PathBuf, output: crate::output::Output, role: &'static str) {
    let running = loop {
        match crate::context::running(&dir) {
            Some(running) if running.pid == std::process::id() => break running,
            _ => tokio::time::sleep(READY_LOOK).await,
        }
    };
    let address = running.address.unwrap_or_default();
    if output.is_json() {
        // A daemon's output is a stream: its readiness is the one element.
        let ready = json!({"ready": true, "role": role, "address": address, "pid": running.pid});
        let _ = output.write(&ready.to_string());
        return;
    }
    let at = if address.is_empty() {
        String::new()
    } else {
        format!(" at {}", paint(BOLD, &address))
    };
    output.talk(format_args!(
        "{role} is ready{at}  {}",
        paint(DIM, "(Ctrl-C stops it)")
    ));
}

fn stop(with_stdin: bool) -> Result<impl Future<Output = ()> + Send + 'static, CliError> {
    let unheard = |e: std::io::Error| CliError::new("io", format!("cannot listen for signals: {e}"), "");
    let mut interrupt = signal(SignalKind::interrupt()).map_err(unheard)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(unheard)?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            () = stdin_ended(), if with_stdin => {}
        }
    })
}

async fn stdin_ended() {
    let (ended, heard) = tokio::sync::oneshot::channel();
    // Reading standard input cannot be called off, so it has a thread that the process does not wait for.
    std::thread::spawn(move || {
        // Whatever is said is skipped; an error is an end too.
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        let _ = ended.send(());
    });
    let _ = heard.await;
}
