//! `ledger jobs`: list, show, tail; cancel, retry, hold, release, discard, drain.

mod show;
mod steer;
mod tail;

pub(crate) use show::{describe, shown};
pub(crate) use steer::said;

use crate::context::Context;
use crate::error::CliError;
use crate::exit::{Exit, FINE};
use crate::output::{self, BOLD, paint};
use crate::times;
use clap::{Args, Subcommand};
use jiff::{Timestamp, Zoned};
use ledger_server::client::Api;
use ledger_server::http::wire::{CancelBody, Job, JobsQuery};
use serde_json::json;

/// Jobs asked for at a time.
const PAGE: u32 = 1000;
/// Characters of a whole job id.
const ID_CHARS: usize = 36;
/// Characters of a part of one, at least.
const PART_CHARS_MIN: usize = 6;

/// What `jobs` takes.
#[derive(Args, Debug, Clone)]
pub(crate) struct JobsArgs {
    #[command(subcommand)]
    command: JobsCommand,
}

#[derive(Subcommand, Debug, Clone)]
enum JobsCommand {
    /// List the newest jobs
    #[command(
        after_help = "Examples:\n  ledger jobs list\n  ledger jobs list --state ready --state leased --json\n  ledger jobs list --handler render --machine studio --since 2d"
    )]
    List(ListArgs),
    /// Show one job: what it is, its runs, its result and outputs, its receipts
    #[command(
        after_help = "Examples:\n  ledger jobs show 5f3a9c2b1d0e      (six characters of its beginning or end will do)"
    )]
    Show {
        /// The job
        id: String,
    },
    /// Follow the jobs: a line for each change, until interrupted
    #[command(after_help = "Examples:\n  ledger jobs tail\n  ledger jobs tail --handler render --json")]
    Tail(tail::TailArgs),
    /// Ask for a job to be stopped
    #[command(after_help = "Examples:\n  ledger jobs cancel 5f3a9c2b1d0e --reason 'wrong scene'")]
    Cancel {
        /// The job
        id: String,
        /// Do not wait for the machine that runs it
        #[arg(long)]
        force: bool,
        /// Why
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Try a job again that ended without success, or is a dead letter: a new job, linked to it
    #[command(after_help = "Examples:\n  ledger jobs retry 5f3a9c2b1d0e\n  ledger jobs list --state parked")]
    Retry {
        /// The job
        id: String,
        /// Your own id for the request (UUIDv7), so that asking twice is asking once
        #[arg(long = "id", value_name = "ID")]
        own_id: Option<String>,
    },
    /// Keep a job that is not claimed from being claimed, until it is released
    #[command(after_help = "Examples:\n  ledger jobs hold 5f3a9c2b1d0e --reason 'input is not final'")]
    Hold(steer::SteerArgs),
    /// Let a held job go on
    #[command(after_help = "Examples:\n  ledger jobs release 5f3a9c2b1d0e")]
    Release(steer::SteerArgs),
    /// Give up a job that is not claimed, or a dead letter, for good
    #[command(after_help = "Examples:\n  ledger jobs discard 5f3a9c2b1d0e --reason 'asked for by mistake'")]
    Discard(steer::SteerArgs),
    /// Give up what of a handler waits for a claim, each job with the reason; what runs goes on
    #[command(
        after_help = "Examples:\n  ledger jobs drain thumbnails --reason 'the backlog of December is of no use any more'"
    )]
    Drain {
        /// The handler
        handler: String,
        /// Why: demanded, since a backlog is never dropped without one
        #[arg(long)]
        reason: String,
    },
}

/// What `jobs list` takes.
#[derive(Args, Debug, Clone)]
struct ListArgs {
    /// Only jobs in this state; repeatable
    #[arg(long = "state", value_name = "STATE")]
    states: Vec<String>,
    /// Only jobs of this handler
    #[arg(long)]
    handler: Option<String>,
    /// Only jobs that this machine has, had last, or alone may run
    #[arg(long, value_name = "ID")]
    machine: Option<String>,
    /// Only jobs accepted since then: a length of time before now, a time, or @SEQ of the order
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// At most so many
    #[arg(long, default_value_t = 20)]
    limit: u32,
    /// Go on where an earlier list ended (its next_cursor with --json)
    #[arg(long)]
    cursor: Option<String>,
}

/// Lists, shows, follows or steers.
pub(crate) async fn run(context: &Context, args: &JobsArgs) -> Result<Exit, CliError> {
    let store = context.store().await?;
    match &args.command {
        JobsCommand::List(args) => list(context, &store.api, args).await,
        JobsCommand::Show { id } => {
            let id = resolve(&store.api, id).await?;
            let job = store.api.job(&id).await?.item;
            context
                .output
                .result(&job, &[], || describe(&job, &context.now))?;
            Ok(FINE)
        }
        JobsCommand::Tail(args) => tail::run(context, &store, args).await,
        JobsCommand::Cancel { id, force, reason } => {
            let id = resolve(&store.api, id).await?;
            let body = CancelBody {
                force: *force,
                reason: reason.clone(),
            };
            let cancelled = store.api.cancel(&id, &body).await?.item;
            let job = &cancelled.job;
            context.output.result(&cancelled, &[], || {
                format!("{}  {}", job.id, paint(BOLD, &job.answer))
            })?;
            Ok(FINE)
        }
        JobsCommand::Retry { id, own_id } => steer::retry(context, &store.api, id, own_id.as_deref()).await,
        JobsCommand::Hold(args) => steer::steer(context, &store.api, "hold", args).await,
        JobsCommand::Release(args) => steer::steer(context, &store.api, "release", args).await,
        JobsCommand::Discard(args) => steer::steer(context, &store.api, "discard", args).await,
        JobsCommand::Drain { handler, reason } => steer::drain(context, &store.api, handler, reason).await,
    }
}

async fn list(context: &Context, api: &Api, args: &ListArgs) -> Result<Exit, CliError> {
    let since = args
        .since
        .as_deref()
        .map(|text| times::parse_since(text, &context.now));
    let mut query = JobsQuery {
        state: args.states.clone(),
        handler: args.handler.clone(),
        machine: args.machine.clone(),
        since: since.transpose()?.map(times::Moment::to_query),
        limit: None,
        cursor: args.cursor.clone(),
    };
    let mut left = args.limit;
    let mut jobs: Vec<Job> = Vec::new();
    while left > 0 {
        query.limit = Some(left.min(PAGE));
        let page = api.jobs(&query).await?;
        left = left.saturating_sub(u32::try_from(page.items.len()).unwrap_or(u32::MAX));
        jobs.extend(page.items);
        query.cursor = page.next_cursor;
        if query.cursor.is_none() {
            break;
        }
    }
    let told = json!({"jobs": jobs, "next_cursor": query.cursor});
    context.output.result(&told, &[], || {
        let mut table = output::table(&[
            "job",
            "handler",
            "machine",
            "state",
            "accepted",
            "where it stands",
        ]);
        for job in &jobs {
            table.add_row([
                output::short(&job.id),
                &job.handler,
                job.machine.as_deref().unwrap_or("-"),
                &job.state,
                &ago(&job.accepted_at, &context.now),
                &job.answer,
            ]);
        }
        if jobs.is_empty() {
            "no jobs".to_owned()
        } else {
            table.to_string()
        }
    })?;
    Ok(FINE)
}

/// The id that a part of it names, beginning or end.
pub(crate) async fn resolve(api: &Api, part: &str) -> Result<String, CliError> {
    let part = part.trim_start_matches("job/").to_lowercase();
    if part.len() == ID_CHARS {
        return Ok(part);
    }
    let unknown = |why: &str| {
        CliError::new(
            "job.unknown",
            format!("{part:?} {why}"),
            "`ledger jobs list` shows the jobs",
        )
    };
    if part.len() < PART_CHARS_MIN {
        return Err(unknown(
            "is too short to name a job; give six characters at least",
        ));
    }
    let mut query = JobsQuery {
        limit: Some(PAGE),
        ..JobsQuery::default()
    };
    let mut found: Vec<String> = Vec::new();
    loop {
        let page = api.jobs(&query).await?;
        let named = |id: &String| id.starts_with(&part) || id.ends_with(&part);
        found.extend(page.items.into_iter().map(|job| job.id).filter(named));
        query.cursor = page.next_cursor;
        if query.cursor.is_none() {
            break;
        }
    }
    match found.as_slice() {
        [one] => Ok(one.clone()),
        [] => Err(unknown("names no job")),
        _ => Err(unknown("names several jobs")),
    }
}

fn ago(time: &str, now: &Zoned) -> String {
    time.parse::<Timestamp>()
        .map_or_else(|_| time.to_owned(), |t| times::ago(t.as_microsecond(), now))
}
