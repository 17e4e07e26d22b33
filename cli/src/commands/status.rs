//! `ledger status`: how this machine and its fleet are, and how fresh that is.

use crate::context::Context;
use crate::error::CliError;
use crate::exit::{Exit, FINE};
use crate::output::{BAD, BOLD, CARE, DIM, GOOD, count, paint, span_ms};
use clap::Args;
use ledger_server::http::wire::{Answer, Status};
use serde_json::json;

/// What `status` takes.
#[derive(Args, Debug, Clone)]
#[command(after_help = "Examples:\n  ledger status\n  ledger status --json | jq .result.outbox")]
pub(crate) struct StatusArgs {}

/// Tells it.
pub(crate) async fn run(context: &Context, _: &StatusArgs) -> Result<Exit, CliError> {
    let store = context.store().await?;
    let answer = store.api.status().await?;
    let mut result = json!(answer.item);
    if let Some(map) = result.as_object_mut() {
        map.insert("daemon".to_owned(), json!(store.has_daemon()));
        map.insert("as_of".to_owned(), json!(answer.as_of));
    }
    context
        .output
        .result(&result, &[], || describe(&answer, store.has_daemon()))?;
    Ok(FINE)
}

fn describe(answer: &Answer<Status>, daemon: bool) -> String {
    let status = &answer.item;
    let ready = if status.ready {
        paint(GOOD, "ready")
    } else {
        paint(BAD, "not ready")
    };
    let runs = if daemon { "daemon runs" } else { "no daemon runs" };
    let mut lines = vec![format!(
        "{}  {}  {ready}, {runs}",
        paint(BOLD, &status.machine),
        status.role
    )];
    let mut field = |name: &str, value: String| {
        lines.push(format!("  {}  {value}", paint(DIM, format_args!("{name:<8}"))));
    };
    field("fleet", status.fleet.clone());
    if let Some(link) = &status.link {
        let state = if link.connected {
            paint(GOOD, "connected")
        } else {
            paint(CARE, "not connected")
        };
        field(
            "gateway",
            format!(
                "{} {state}",
                link.gateway.as_deref().unwrap_or("none is configured")
            ),
        );
        if let Some(why) = &link.frozen {
            field("frozen", paint(BAD, why));
        }
    }
    let oldest = status
        .outbox
        .oldest_age_ms
        .map(|ms| format!(", the oldest {} old", span_ms(ms)))
        .unwrap_or_default();
    field(
        "outbox",
        format!("{} receipts{oldest}", count(status.outbox.receipts)),
    );
    for log in &status.logs {
        let own = if log.own { "own" } else { "copy" };
        let name = format!("{} {}", log.machine, log.stream);
        field(
            "log",
            format!(
                "{name:<18} {:>8} receipts  {own}",
                count(log.seq.saturating_add(1))
            ),
        );
    }
    let jobs: Vec<String> = status
        .counts
        .jobs
        .iter()
        .map(|(state, n)| format!("{n} {state}"))
        .collect();
    field(
        "jobs",
        if jobs.is_empty() {
            "none".to_owned()
        } else {
            jobs.join(", ")
        },
    );
    field(
        "holds",
        format!(
            "{} receipts, {} machines",
            count(status.counts.receipts),
            count(status.counts.machines)
        ),
    );
    match &status.verification {
        Some(v) if v.clean => field(
            "verified",
            format!("{} ago, {} receipts, clean", span_ms(v.age_ms), count(v.receipts)),
        ),
        Some(v) => field(
            "verified",
            paint(
                BAD,
                format_args!("{} ago, {} findings", span_ms(v.age_ms), count(v.findings)),
            ),
        ),
        None => field("verified", "not yet".to_owned()),
    }
    let age = answer
        .as_of
        .age_ms
        .map_or("no receipts".to_owned(), |ms| format!("{} old", span_ms(ms)));
    field(
        "as of",
        format!(
            "{} ({}, {age})",
            answer.as_of.receipt.as_deref().unwrap_or("-"),
            answer.as_of.standing
        ),
    );
    for warning in &status.warnings {
        lines.push(format!(
            "  {} {} {}",
            paint(CARE, "!"),
            warning.text,
            paint(DIM, format_args!("[{}]", warning.code))
        ));
        if !warning.what_to_do.is_empty() {
            lines.push(format!("    {}", warning.what_to_do));
        }
    }
    lines.join("\n")
}
