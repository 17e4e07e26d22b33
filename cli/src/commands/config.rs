//! `ledger config show`: every value and where it comes from.

use crate::context::Context;
use crate::error::CliError;
use crate::exit::{Exit, FINE};
use crate::output;
use clap::{Args, Subcommand};
use ledger_server::config::Config;
use serde_json::json;

/// What `config` takes.
#[derive(Args, Debug, Clone)]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Subcommand, Debug, Clone)]
enum ConfigCommand {
    /// Show every value: flag over environment over file over default
    #[command(
        after_help = "Examples:\n  ledger config show\n  LEDGER_TIMING_PULSE_MS=5000 ledger config show --json"
    )]
    Show,
}

/// Shows the configuration.
pub(crate) fn run(context: &Context, args: &ConfigArgs) -> Result<Exit, CliError> {
    let ConfigCommand::Show = args.command;
    let (config, origins) = Config::load(&context.dir, &context.overrides)?;
    let result = json!({
        "file": Config::path(&context.dir),
        "values": origins,
        "handlers": config.handlers.iter().map(|h| &h.name).collect::<Vec<_>>(),
    });
    context.output.result(&result, &[], || {
        let mut table = output::table(&["key", "value", "from"]);
        for origin in origins.iter().filter(|origin| origin.key != "handler") {
            table.add_row([&origin.key, &origin.value, origin.from]);
        }
        for handler in &config.handlers {
            let what = format!("{} {}", handler.class.as_str(), handler.argv.join(" "));
            table.add_row([format!("handler {}", handler.name), what, "file".to_owned()]);
        }
        table.to_string()
    })?;
    Ok(FINE)
}
