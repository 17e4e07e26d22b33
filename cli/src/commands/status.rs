//! `ledger status`: how this machine and its fleet are, and how fresh that is.

use crate::context::Context;
use crate::error::CliError;
use crate::exit::{Exit, FINE};
use crate::output::{BAD, BOLD, CARE, DIM, GOOD, bytes, count, paint, span_ms};
use clap::Args;
use ledger_server::http::wire::{Answer, Cosignature, Link, LogHead, ProjectionView, Status};
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

/// Warnings that fit a screen; all are in `--json`.
const WARNINGS_MAX: usize = 5;

fn describe(answer: &Answer<Status>, daemon: bool) -> String {
    let status = &answer.item;
    let ready = if status.ready {
        paint(GOOD, "ready")
    } else {
        paint(BAD, "not ready")
    };
    let runs = if daemon { "daemon runs" } else { "no daemon runs" };
    let mut lines = vec![format!(
        "{}  {}  {ready}, {runs}, version {}",
        paint(BOLD, &status.machine),
        status.role,
        status.version
    )];
    let mut field = |name: &str, value: String| {
        lines.push(format!("  {}  {value}", paint(DIM, format_args!("{name:<8}"))));
    };
    field("fleet", fleet(status));
    if let Some(link) = &status.link {
        field("gateway", gateway(link));
        if let Some(why) = &link.frozen {
            field("frozen", paint(BAD, why));
        }
    }
    field("own logs", own_logs(status));
    field("outbox", outbox(status));
    field("jobs", jobs(status));
    let folded: Vec<String> = status.projections.iter().map(folded).collect();
    field("folded", folded.join(", "));
    field("verified", verified(status));
    field("checked", checkpoints(status));
    if status.witnessed.iter().any(|seen| seen.tree_size > 0) {
        field("cosigned", witnesses(status));
    }
    if let Some(disk) = &status.disk {
        let reserve = match disk.reserve_bytes {
            0 => "no reserve".to_owned(),
            reserve => format!("{} are to stay free", bytes(reserve)),
        };
        let free = format!("{} free of {}", bytes(disk.free_bytes), bytes(disk.total_bytes));
        let free = if disk.below_reserve {
            paint(BAD, free)
        } else {
            free
        };
        field("disk", format!("{free}, {reserve}"));
    }
    if let Some(newest) = status.undelivered.first() {
        let many = format!("{} not delivered; ", count(status.counts.notices_open));
        field("notices", paint(CARE, many + &newest.text));
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
    for warning in status.warnings.iter().take(WARNINGS_MAX) {
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
    if let more @ 1.. = status.warnings.len().saturating_sub(WARNINGS_MAX) {
        lines.push(format!(
            "  {} {more} more: `ledger status --json`",
            paint(CARE, "!")
        ));
    }
    lines.join("\n")
}

fn fleet(status: &Status) -> String {
    let id = status.fleet.get(..16).unwrap_or(&status.fleet);
    let machines = match status.counts.machines {
        1 => "1 machine".to_owned(),
        several => format!("{} machines", count(several)),
    };
    match (&status.central, status.epoch) {
        (Some(central), Some(epoch)) => {
            format!("{id}…  {machines}, {central} is Central, epoch {epoch}")
        }
        _ => format!("{id}…  {machines}"),
    }
}

fn gateway(link: &Link) -> String {
    let state = if link.connected {
        paint(GOOD, "connected")
    } else {
        paint(CARE, "not connected")
    };
    let mut told = format!(
        "{} {state}",
        link.gateway.as_deref().unwrap_or("none is configured")
    );
    if let Some(ms) = link.last_contact_age_ms {
        told.push_str(&format!(", heard {} ago", span_ms(ms)));
    }
    if let Some(ms) = link.clock_offset_ms {
        let side = if ms < 0 { "behind" } else { "ahead" };
        told.push_str(&format!(", clock {} {side}", span_ms(ms.unsigned_abs())));
    }
    told
}

// Each own log with its length, and on a node how much of it the gateway has.
fn own_logs(status: &Status) -> String {
    let node = status.role == "node";
    let one = |log: &LogHead| {
        let size = log.seq.saturating_add(1);
        let known = log.acknowledged_seq.or(log.pinned_seq);
        let there = match known.map(|seq| seq.saturating_add(1)) {
            _ if !node => String::new(),
            Some(there) if there >= size => " (all there)".to_owned(),
            Some(there) => format!(" ({} there)", count(there)),
            None => " (unknown there)".to_owned(),
        };
        format!("{} {}{there}", log.stream, count(size))
    };
    let own: Vec<String> = status.logs.iter().filter(|log| log.own).map(one).collect();
    let copies = status.logs.len().saturating_sub(own.len());
    let copies = match copies {
        0 => String::new(),
        copies => format!("; {copies} copies"),
    };
    format!("{}{copies}", own.join(", "))
}

fn outbox(status: &Status) -> String {
    if status.outbox.receipts == 0 {
        return "empty".to_owned();
    }
    let oldest = status.outbox.oldest_age_ms;
    let oldest = oldest.map(|ms| format!(", the oldest {} old", span_ms(ms)));
    format!(
        "{} receipts, {}{}",
        count(status.outbox.receipts),
        bytes(status.outbox.bytes),
        oldest.unwrap_or_default()
    )
}

fn jobs(status: &Status) -> String {
    let here = &status.jobs_here;
    let mut told = format!("here {} of {} slots", here.held, here.slots);
    if here.waiting > 0 {
        told.push_str(&format!(", {} wait for this machine", count(here.waiting)));
    }
    let all: Vec<String> = status
        .counts
        .jobs
        .iter()
        .map(|(state, n)| format!("{} {state}", count(*n)))
        .collect();
    let all = if all.is_empty() {
        "none".to_owned()
    } else {
        all.join(", ")
    };
    format!("{told}; in all {all}")
}

fn folded(projection: &ProjectionView) -> String {
    match (&projection.halted, projection.behind) {
        (Some(_), behind) => format!("{} waits, {} behind", projection.name, count(behind)),
        (None, 0) => format!("{} up to date", projection.name),
        (None, behind) => format!("{} {} behind", projection.name, count(behind)),
    }
}

fn verified(status: &Status) -> String {
    match &status.verification {
        Some(v) if v.clean => format!("{} ago, {} receipts, clean", span_ms(v.age_ms), count(v.receipts)),
        Some(v) => paint(
            BAD,
            format_args!("{} ago, {} findings", span_ms(v.age_ms), count(v.findings)),
        ),
        None => "not yet".to_owned(),
    }
}

// Who cosigned the own logs, and how much came after that.
fn witnesses(status: &Status) -> String {
    let told = status
        .witnessed
        .iter()
        .filter(|seen| seen.tree_size > 0)
        .map(|seen| {
            let name = |by: &Cosignature| by.witness.rsplit('/').next().unwrap_or_default().to_owned();
            let by: Vec<String> = seen.by.iter().map(name).collect();
            let behind = match seen.behind_ms {
                Some(ms) => format!("{} behind, {}", count(seen.behind), span_ms(ms)),
                None => "all of it".to_owned(),
            };
            format!("{} by {} ({behind})", seen.stream, by.join(" "))
        });
    told.collect::<Vec<_>>().join(", ")
}

// How much of each own log stands under a checkpoint that somebody was given.
fn checkpoints(status: &Status) -> String {
    let one = |log: &LogHead| {
        let size = log.checkpoint_size.filter(|size| *size > 0)?;
        let behind = log.seq.saturating_add(1).saturating_sub(size);
        Some(format!("{} {} behind", log.stream, count(behind)))
    };
    let told: Vec<String> = status.logs.iter().filter(|log| log.own).filter_map(one).collect();
    if told.is_empty() {
        "no checkpoint was given to anybody yet".to_owned()
    } else {
        format!("by the last checkpoint: {}", told.join(", "))
    }
}
