//! `ledger append`: a receipt of a kind of your own, from any shell or language.

use super::input;
use crate::context::Context;
use crate::error::CliError;
use crate::exit::{Exit, FINE};
use clap::Args;
use data_encoding::BASE64;
use ledger_server::http::wire::AppendBody;

/// What `append` takes.
#[derive(Args, Debug, Clone)]
#[command(after_help = "\
Examples:
  ledger append --kind x.note --subject project/site --payload '{\"text\":\"went live\"}'
  git diff | ledger append --kind x.review.diff --media text/x-diff --payload -")]
pub(crate) struct AppendArgs {
    /// The kind; begins with x.
    #[arg(long)]
    kind: String,
    /// What it is about
    #[arg(long, default_value = "")]
    subject: String,
    /// The payload's media type [default: application/json when it is JSON, text/plain when it is text]
    #[arg(long)]
    media: Option<String>,
    /// The payload: a text, @file, or - for standard input
    #[arg(long, value_name = "TEXT|@FILE|-")]
    payload: Option<String>,
    /// The receipt that led here
    #[arg(long, value_name = "ID")]
    cause: Option<String>,
    /// Your own id for it (UUIDv7), so that saying it twice is saying it once
    #[arg(long, value_name = "ID")]
    id: Option<String>,
}

/// Appends.
pub(crate) async fn run(context: &Context, args: &AppendArgs) -> Result<Exit, CliError> {
    let payload = args.payload.as_deref().map(input::bytes).transpose()?;
    let media = args.media.clone().or_else(|| payload.as_deref().map(media_of));
    let body = AppendBody {
        kind: args.kind.clone(),
        subject: args.subject.clone(),
        media,
        payload: None,
        payload_base64: payload.map(|bytes| BASE64.encode(&bytes)),
        cause: args.cause.clone(),
        id: args.id.clone(),
    };
    let store = context.store().await?;
    let appended = store.api.append(&body).await?.item;
    context.output.result(&appended, &[], || {
        let receipt = &appended.receipt;
        let before = if appended.repeated {
            "  (was here before)"
        } else {
            ""
        };
        format!(
            "{}  {} {}  {} {}{before}",
            receipt.id, receipt.machine, receipt.stream, receipt.kind, receipt.subject
        )
    })?;
    Ok(FINE)
}

fn media_of(bytes: &[u8]) -> String {
    if serde_json::from_slice::<serde::de::IgnoredAny>(bytes).is_ok() {
        "application/json".to_owned()
    } else if std::str::from_utf8(bytes).is_ok() {
        "text/plain".to_owned()
    } else {
        "application/octet-stream".to_owned()
    }
}
