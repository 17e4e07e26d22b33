//! The command line: global options and the list of commands. What a command takes stands in its own file.

use crate::commands;
use clap::{ArgAction, Args, Parser, Subcommand};
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  ledger demo                                  see it all work, in a minute, with your own files
  ledger up                                    one machine, one store, ready for requests
  ledger submit word-count --input '{\"path\":\"README.md\"}' --wait
  ledger replay --since 2h                     what happened, who, where, with which outputs
  ledger verify                                is every receipt still there, and unaltered
";

/// What changed? A studio's history, job queue and machines, signed and in order.
#[derive(Parser, Debug)]
#[command(name = "ledger", version, max_term_width = 100, after_help = concat_help())]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

fn concat_help() -> String {
    format!("{EXAMPLES}\n{}", crate::exit::HELP)
}

/// Options of every command.
#[derive(Args, Debug, Clone)]
pub(crate) struct Global {
    /// This machine's directory [default: LEDGER_DIR, else `ledger` in the platform's data directory]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// Print JSON: one envelope {ok, command, result, next_actions}, or a value a line for streams
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Say nothing but the result
    #[arg(long, short, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Log to stderr; twice for more (LEDGER_LOG sets it finely)
    #[arg(long, short, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Set one configuration value for this run, over file and environment
    #[arg(long = "set", global = true, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
}

/// Where the root key is, for commands that sign with it.
#[derive(Args, Debug, Clone)]
pub(crate) struct RootKey {
    /// The root key's file [default: DIR/root/root.key]
    #[arg(long, value_name = "FILE")]
    pub(crate) root_key: Option<PathBuf>,
}

/// The commands.
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Found a fleet: make this directory its gateway's store
    Init(commands::init::InitArgs),
    /// Found a fleet where there is none, and run its gateway
    Up(commands::up::UpArgs),
    /// Run the gateway of this directory
    Gateway(commands::daemon::DaemonArgs),
    /// Run a machine that joined
    Node(commands::daemon::DaemonArgs),
    /// Make the line with which a machine joins
    Invite(commands::invite::InviteArgs),
    /// Join a fleet with the line that `invite` printed
    Join(commands::join::JoinArgs),
    /// Ask for work
    Submit(commands::submit::SubmitArgs),
    /// List, show, follow and steer jobs
    Jobs(commands::jobs::JobsArgs),
    /// List, pause and resume handlers
    Handlers(commands::handlers::HandlersArgs),
    /// List, set and lift the limits under which jobs are claimed
    Limits(commands::limits::LimitsArgs),
    /// Tell what runs cost, by handler, machine, project or day
    Costs(commands::costs::CostsArgs),
    /// Ask for work again and again, by the clock
    Schedules(commands::schedules::SchedulesArgs),
    /// List, show and retire machines
    Nodes(commands::nodes::NodesArgs),
    /// List what people were told, and say that it was seen
    Notices(commands::notices::NoticesArgs),
    /// Say that this machine goes to sleep, for the system's sleep hook
    Sleeping(commands::rest::SleepingArgs),
    /// Say that this machine woke, for the system's sleep hook
    Waking(commands::rest::WakingArgs),
    /// Show the configuration and where each value comes from
    Config(commands::config::ConfigArgs),
    /// Index the Vault's files, and list them
    Vault(commands::vault::VaultArgs),
    /// Append a receipt of a kind of your own
    Append(commands::append::AppendArgs),
    /// Destroy the payload of a receipt; the receipt stays, and everything verifies
    Erase(commands::erase::EraseArgs),
    /// Free the space of old pulses; the rest still verifies
    Prune(commands::prune::PruneArgs),
    /// Show or set for how long pulses are kept, or let old ones go now
    Retention(commands::retention::RetentionArgs),
    /// Tell what happened, across all machines, in order
    Replay(commands::replay::ReplayArgs),
    /// Check every receipt of a store, of a bundle, or of a published log
    Verify(commands::verify::VerifyArgs),
    /// Write one log, or a range of it, as a bundle that anybody can verify
    Export(commands::export::ExportArgs),
    /// Take a bundle's log into this store, exactly as it is
    Import(commands::import::ImportArgs),
    /// Write one receipt with its proof for anybody to check
    Prove(commands::prove::ProveArgs),
    /// Publish one log as C2SP tiles for any web server
    Publish(commands::publish::PublishArgs),
    /// Check a proof offline with pinned keys
    Check(commands::check::CheckArgs),
    /// Print the keys that others pin
    Keys(commands::keys::KeysArgs),
    /// Make, list and revoke read-only tokens
    Token(commands::token::TokenArgs),
    /// Tell how this machine and its fleet are
    Status(commands::status::StatusArgs),
    /// See it all work, with real processes and your own files
    Demo(commands::demo::DemoArgs),
    /// A handler of the demo
    #[command(hide = true)]
    DemoHandler(commands::demo_handler::DemoHandlerArgs),
}

impl Command {
    /// The name as typed.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Init(_) => "init",
            Self::Up(_) => "up",
            Self::Gateway(_) => "gateway",
            Self::Node(_) => "node",
            Self::Invite(_) => "invite",
            Self::Join(_) => "join",
            Self::Submit(_) => "submit",
            Self::Jobs(_) => "jobs",
            Self::Handlers(_) => "handlers",
            Self::Limits(_) => "limits",
            Self::Costs(_) => "costs",
            Self::Schedules(_) => "schedules",
            Self::Nodes(_) => "nodes",
            Self::Sleeping(_) => "sleeping",
            Self::Waking(_) => "waking",
            Self::Notices(_) => "notices",
            Self::Config(_) => "config",
            Self::Vault(_) => "vault",
            Self::Append(_) => "append",
            Self::Erase(_) => "erase",
            Self::Prune(_) => "prune",
            Self::Retention(_) => "retention",
            Self::Replay(_) => "replay",
            Self::Verify(_) => "verify",
            Self::Export(_) => "export",
            Self::Import(_) => "import",
            Self::Prove(_) => "prove",
            Self::Publish(_) => "publish",
            Self::Check(_) => "check",
            Self::Keys(_) => "keys",
            Self::Token(_) => "token",
            Self::Status(_) => "status",
            Self::Demo(_) => "demo",
            Self::DemoHandler(_) => "demo-handler",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
