//! The commands, one file each: what it takes, what it asks of the store, how it says the answer.

pub(crate) mod append;
pub(crate) mod check;
pub(crate) mod config;
pub(crate) mod costs;
pub(crate) mod daemon;
pub(crate) mod demo;
pub(crate) mod demo_handler;
pub(crate) mod erase;
pub(crate) mod export;
pub(crate) mod handlers;
pub(crate) mod import;
pub(crate) mod init;
pub(crate) mod input;
pub(crate) mod invite;
mod job_args;
pub(crate) mod jobs;
pub(crate) mod join;
pub(crate) mod keys;
pub(crate) mod limits;
pub(crate) mod nodes;
pub(crate) mod notices;
pub(crate) mod pins;
pub(crate) mod prove;
pub(crate) mod prune;
pub(crate) mod publish;
pub(crate) mod replay;
pub(crate) mod rest;
pub(crate) mod retention;
pub(crate) mod schedules;
pub(crate) mod status;
pub(crate) mod submit;
pub(crate) mod token;
pub(crate) mod up;
pub(crate) mod vault;
pub(crate) mod verify;

use crate::args::Command;
use crate::context::Context;
use crate::error::CliError;
use crate::exit::{Exit, FINE};
use ledger_server::http::wire::RestWhat;

/// Runs one command.
pub(crate) async fn run(context: &Context, command: Command) -> Result<Exit, CliError> {
    match command {
        Command::Init(args) => init::run(context, &args).await,
        Command::Up(args) => up::run(context, &args).await,
        Command::Gateway(args) => daemon::gateway(context, &args).await,
        Command::Node(args) => daemon::node(context, &args).await,
        Command::Invite(args) => invite::run(context, &args).await,
        Command::Join(args) => join::run(context, &args).await,
        Command::Submit(args) => submit::run(context, &args).await,
        Command::Jobs(args) => jobs::run(context, &args).await,
        Command::Handlers(args) => handlers::run(context, &args).await,
        Command::Limits(args) => limits::run(context, &args).await,
        Command::Costs(args) => costs::run(context, &args).await,
        Command::Schedules(args) => schedules::run(context, &args).await,
        Command::Nodes(args) => nodes::run(context, &args).await,
        Command::Notices(args) => notices::run(context, &args).await,
        Command::Sleeping(_) => rest::run(context, RestWhat::Sleeping).await,
        Command::Waking(_) => rest::run(context, RestWhat::Waking).await,
        Command::Config(args) => config::run(context, &args),
        Command::Vault(args) => vault::run(context, &args).await,
        Command::Append(args) => append::run(context, &args).await,
        Command::Erase(args) => erase::run(context, &args).await,
        Command::Prune(args) => prune::run(context, &args).await,
        Command::Retention(args) => retention::run(context, &args).await,
        Command::Replay(args) => replay::run(context, &args).await,
        Command::Verify(args) => verify::run(context, &args).await,
        Command::Export(args) => export::run(context, &args).await,
        Command::Import(args) => import::run(context, &args).await,
        Command::Prove(args) => prove::run(context, &args).await,
        Command::Publish(args) => publish::run(context, &args).await,
        Command::Check(args) => check::run(context, &args),
        Command::Keys(args) => keys::run(context, &args).await,
        Command::Token(args) => token::run(context, &args).await,
        Command::Status(args) => status::run(context, &args).await,
        Command::Demo(args) => demo::run(context, &args).await,
        Command::DemoHandler(_) => Ok(FINE),
    }
}
