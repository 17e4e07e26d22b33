//! `ledger notices`: what people were told, and that somebody has seen it.

use crate::context::Context;
use crate::error::CliError;
use crate::exit::{Exit, FINE};
use crate::output::{self, DIM, paint};
use clap::{Args, Subcommand};
use ledger_server::http::wire::{Notice, NoticesQuery, SeenBody};
use serde_json::json;

/// What `notices` takes.
#[derive(Args, Debug, Clone)]
pub(crate) struct NoticesArgs {
    #[command(subcommand)]
    command: NoticesCommand,
}

#[derive(Subcommand, Debug, Clone)]
enum NoticesCommand {
    /// List them, the newest first
    #[command(after_help = "Examples:\n  ledger notices list\n  ledger notices list --open")]
    List {
        /// Only those that a sink did not take, or that nobody was told of yet
        #[arg(long)]
        open: bool,
        /// At most so many
        #[arg(long, default_value_t = 20, value_name = "N")]
        limit: u32,
    },
    /// Say that somebody has seen it: it is told to nobody any more, and leaves `status`
    #[command(
        after_help = "Examples:\n  ledger notices ack 0190b1c2-…\n  ledger notices ack --all --note 'the webhook was down'"
    )]
    Ack {
        /// The notice
        #[arg(required_unless_present = "all")]
        id: Option<String>,
        /// All that are open
        #[arg(long, conflicts_with = "id")]
        all: bool,
        /// In words
        #[arg(long, default_value = "")]
        note: String,
    },
}

/// Lists or acknowledges.
pub(crate) async fn run(context: &Context, args: &NoticesArgs) -> Result<Exit, CliError> {
    match &args.command {
        NoticesCommand::List { open, limit } => list(context, *open, *limit).await,
        NoticesCommand::Ack { id, note, .. } => acknowledge(context, id.as_deref(), note).await,
    }
}

async fn list(context: &Context, open: bool, limit: u32) -> Result<Exit, CliError> {
    let store = context.store().await?;
    let query = NoticesQuery {
        only: open.then(|| "open".to_owned()),
        limit: Some(limit),
    };
    let page = store.api.notices(&query).await?;
    context
        .output
        .result(&json!({"notices": page.items, "as_of": page.as_of}), &[], || {
            if page.items.is_empty() {
                return "no notices".to_owned();
            }
            let mut table = output::table(&["raised", "topic", "told", "notice", "id"]);
            for notice in &page.items {
                table.add_row([
                    notice.raised_at.clone(),
                    notice.topic.clone(),
                    told(notice),
                    notice.text.clone(),
                    notice.id.clone(),
                ]);
            }
            table.to_string()
        })?;
    Ok(FINE)
}

// Who was told, in a few words.
fn told(notice: &Notice) -> String {
    let failed = notice.deliveries.iter().find(|delivery| !delivery.delivered);
    match (failed, &notice.acknowledged_at) {
        (_, Some(_)) => "seen".to_owned(),
        (Some(failed), None) => format!("not {}", failed.destination),
        (None, None) if notice.open => "not yet".to_owned(),
        (None, None) => "yes".to_owned(),
    }
}

async fn acknowledge(context: &Context, id: Option<&str>, note: &str) -> Result<Exit, CliError> {
    let store = context.store().await?;
    let ids = match id {
        Some(id) => vec![id.to_owned()],
        None => {
            let query = NoticesQuery {
                only: Some("open".to_owned()),
                limit: Some(1000),
            };
            let open = store.api.notices(&query).await?.items;
            open.into_iter().map(|notice| notice.id).collect()
        }
    };
    let body = SeenBody {
        note: note.to_owned(),
    };
    let mut seen = Vec::with_capacity(ids.len());
    for id in &ids {
        seen.push(store.api.acknowledge(id, &body).await?.item);
    }
    context.output.result(&json!({"acknowledged": seen}), &[], || {
        let line = |done: &ledger_server::http::wire::Seen| {
            format!("{}  {}", done.notice.text, paint(DIM, &done.notice.id))
        };
        if seen.is_empty() {
            return "no notice is open".to_owned();
        }
        seen.iter().map(line).collect::<Vec<_>>().join("\n")
    })?;
    Ok(FINE)
}
