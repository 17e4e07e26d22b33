//! `ledger jobs`: list, show, cancel.

use crate::context::Context;
use crate::error::CliError;
use crate::exit::{Exit, FINE};
use crate::output::{self, BAD, BOLD, CARE, DIM, GOOD, bytes, paint, span_ms};
use crate::times;
use anstyle::Style;
use clap::{Args, Subcommand};
use jiff::{Timestamp, Zoned};
use ledger_server::client::Api;
use ledger_server::http::wire::{CancelBody, Content, Job, JobFull, JobsQuery};
use serde_json::json;

/// Jobs asked for at a time.
const PAGE: u32 = 1000;
/// Characters of a whole job id.
const ID_CHARS: usize = 36;
/// Characters of a part of one, at least.
const PART_CHARS_MIN: usize = 6;
/// Characters of a result shown at most.
const RESULT_CHARS_MAX: usize = 2000;

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
        after_help = "Examples:\n  ledger jobs list\n  ledger jobs list --state ready --state leased --json"
    )]
    List {
        /// Only jobs in this state; repeatable
        #[arg(long = "state", value_name = "STATE")]
        states: Vec<String>,
        /// At most so many
        #[arg(long, default_value_t = 20)]
        limit: u32,
    },
    /// Show one job: what it is, its runs, its result and outputs, its receipts
    #[command(
        after_help = "Examples:\n  ledger jobs show 5f3a9c2b1d0e      (six characters of its beginning or end will do)"
    )]
    Show {
        /// The job
        id: String,
    },
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
}

/// Lists, shows or cancels.
pub(crate) async fn run(context: &Context, args: &JobsArgs) -> Result<Exit, CliError> {
    let store = context.store().await?;
    match &args.command {
        JobsCommand::List { states, limit } => list(context, &store.api, states, *limit).await,
        JobsCommand::Show { id } => {
            let id = resolve(&store.api, id).await?;
            let job = store.api.job(&id).await?.item;
            context
                .output
                .result(&job, &[], || describe(&job, &context.now))?;
            Ok(FINE)
        }
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
    }
}

async fn list(context: &Context, api: &Api, states: &[String], limit: u32) -> Result<Exit, CliError> {
    let mut query = JobsQuery {
        state: states.to_vec(),
        limit: Some(limit.clamp(1, PAGE)),
        cursor: None,
    };
    let wanted = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut jobs: Vec<Job> = Vec::new();
    while jobs.len() < wanted {
        let page = api.jobs(&query).await?;
        jobs.extend(page.items);
        query.cursor = page.next_cursor;
        if query.cursor.is_none() {
            break;
        }
    }
    jobs.truncate(wanted);
    context.output.result(&json!({"jobs": jobs}), &[], || {
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

/// The colour of a state.
pub(crate) fn style_of(state: &str) -> Style {
    match state {
        "succeeded" => GOOD,
        "failed" | "parked" | "expired" => BAD,
        "suspect" | "backoff" | "held" => CARE,
        _ => BOLD,
    }
}

/// A job with all there is to say, for people.
pub(crate) fn describe(full: &JobFull, now: &Zoned) -> String {
    let job = &full.job;
    let mut lines = vec![format!(
        "{}  {}  {}",
        paint(style_of(&job.state).bold(), &job.state),
        job.handler,
        paint(DIM, &job.id)
    )];
    let mut field = |name: &str, value: String| {
        lines.push(format!("  {}  {value}", paint(DIM, format_args!("{name:<8}"))));
    };
    field("stands", job.answer.clone());
    field(
        "asked",
        format!("{} by {}", ago(&job.accepted_at, now), job.actor),
    );
    for run in &full.runs {
        let started = if run.started { "started" } else { "not started" };
        let verdicts = verdicts_of(&run.verdicts);
        field(
            "run",
            format!(
                "{} {} attempt {}, {started}{verdicts}",
                run.machine, run.class, run.attempt
            ),
        );
    }
    if let Some(costs) = &full.costs {
        let peak = bytes(costs.peak_memory_bytes);
        field(
            "cost",
            format!(
                "{} wall, {} cpu, {peak} peak",
                span_ms(costs.wall_ms),
                span_ms(costs.cpu_ms)
            ),
        );
    }
    for made in &full.outputs {
        field(
            "output",
            format!("{}  {}  {}", made.path, bytes(made.size), made.blake3),
        );
    }
    if let Some(error) = &full.error {
        field("error", error.clone());
    }
    if let Some(content) = full.result.as_ref().or(full.tail.as_ref()) {
        field("result", shown(content));
    }
    lines.join("\n")
}

/// `: success on-time`, from the words that the interface gives.
fn verdicts_of(verdicts: &[String]) -> String {
    let plain = |verdict: &String| verdict.replace(['{', '}', '"'], "").replace(':', " ");
    let words: Vec<String> = verdicts.iter().map(plain).collect();
    if words.is_empty() {
        String::new()
    } else {
        format!(": {}", words.join(", "))
    }
}

/// Content on the command line, cut where it is long.
pub(crate) fn shown(content: &Content) -> String {
    let text = match content {
        Content {
            json: Some(value), ..
        } => value.to_string(),
        Content { text: Some(text), .. } => text.trim_end().to_owned(),
        Content { base64, .. } => {
            let characters = base64.as_ref().map_or(0, String::len);
            format!("{} bytes of {}", characters / 4 * 3, content.media)
        }
    };
    match text.char_indices().nth(RESULT_CHARS_MAX) {
        Some((cut, _)) => format!("{}…", &text[..cut]),
        None => text,
    }
}
