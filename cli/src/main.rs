//! The command `ledger`: parsing, printing and exit statuses over `ledger-server`.
//!
//! The hidden subcommand `supervise` is looked at before anything else: it must run in a process without threads.

mod args;
mod commands;
mod context;
mod demo;
mod error;
mod exit;
mod output;
mod progress;
mod telemetry;
mod times;

use clap::Parser;
use clap::error::ErrorKind;
use error::CliError;
use exit::Exit;
use output::Output;
use std::process::ExitCode;
use tikv_jemallocator::Jemalloc;

// Of this binary only: a job takes some 8 % less CPU than with the system's (ADR 0025).
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    if words.next().is_some_and(|word| word == "supervise") {
        let status = ledger_server::worker::supervise_main(words);
        return ExitCode::from(u8::try_from(status).unwrap_or(u8::MAX));
    }
    let cli = match args::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refuse(&error),
    };
    telemetry::start(cli.global.verbose);
    let output = Output::new(cli.command.name(), cli.global.json, cli.global.quiet);
    let ended = run(cli, output.clone());
    ExitCode::from(match ended {
        Ok(exit) => exit.0,
        Err(error) if error.code == output::BROKEN_PIPE => exit::FINE.0,
        Err(error) => {
            output.failure(&error);
            error.exit().0
        }
    })
}

/// A command line that is wrong, or that asks for help.
fn refuse(error: &clap::Error) -> ExitCode {
    let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    if !asked && std::env::args_os().any(|word| word == "--json") {
        let text = error.to_string();
        let first = text
            .lines()
            .next()
            .unwrap_or_default()
            .trim_start_matches("error: ");
        let output = Output::new("", true, true);
        output.failure(&CliError::new("usage.wrong", first, "see ledger --help"));
        return ExitCode::from(exit::USAGE.0);
    }
    // Nobody can be told that nobody listens.
    let _ = error.print();
    ExitCode::from(if asked { exit::FINE.0 } else { exit::USAGE.0 })
}

fn run(cli: args::Cli, output: Output) -> Result<Exit, CliError> {
    if let args::Command::DemoHandler(handler) = cli.command {
        return commands::demo_handler::run(&handler);
    }
    let context = context::Context::new(cli.global, output)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::new("io", format!("cannot start the runtime: {error}"), ""))?;
    let ended = runtime.block_on(commands::run(&context, cli.command));
    runtime.shutdown_timeout(std::time::Duration::from_secs(5));
    ended
}
