//! `ledger notices`: what people were told, and that somebody has seen it.

use crate::context::Context;
use crate::error::CliError;
use crate::exit::{Exit, FINE};
use crate::output::{self, DIM, paint};
use clap::{Args, Subcommand};
use ledger_server::client::Api;
use ledger_server::http::wire::{Notice, NoticesQuery, Page, SeenBody};
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
        /// Go on where an earlier list ended (its next_cursor with --json)
        #[arg(long)]
        cursor: Option<String>,
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
        NoticesCommand::List { open, limit, cursor } => list(context, *open, *limit, cursor.clone()).await,
        NoticesCommand::Ack { id, note, .. } => acknowledge(context, id.as_deref(), note).await,
    }
}

/// Notices of a page.
const PAGE: u32 = 1000;

// The newest notices behind a cursor, at most so many, and where to go on.
async fn newest(
    api: &Api,
    open: bool,
    limit: u32,
    cursor: Option<String>,
) -> Result<(Page<Notice>, Option<String>), CliError> {
    let mut query = NoticesQuery {
        only: open.then(|| "open".to_owned()),
        limit: Some(limit.min(PAGE)),
        cursor,
    };
    let mut found = api.notices(&query).await?;
    query.cursor = found.next_cursor.take();
    while query.cursor.is_some() {
        let had = u32::try_from(found.items.len()).unwrap_or(u32::MAX);
        let left = limit.saturating_sub(had);
        if left == 0 {
            break;
        }
        query.limit = Some(left.min(PAGE));
        let page = api.notices(&query).await?;
        found.items.extend(page.items);
        query.cursor = page.next_cursor;
    }
    Ok((found, query.cursor))
}

async fn list(context: &Context, open: bool, limit: u32, cursor: Option<String>) -> Result<Exit, CliError> {
    let store = context.store().await?;
    let (page, next) = newest(&store.api, open, limit, cursor).await?;
    let listed = json!({"notices": page.items, "as_of": page.as_of, "next_cursor": next});
    context.output.result(&listed, &[], || {
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
            // All of them before the first is acknowledged: a page is no place to stop.
            let open = newest(&store.api, true, u32::MAX, None).await?.0.items;
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
