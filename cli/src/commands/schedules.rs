//! `ledger schedules`: list, show, add, remove.

use super::job_args::JobArgs;
use crate::context::Context;
use crate::error::CliError;
use crate::exit::{Exit, FINE};
use crate::output::{self, BOLD, CARE, DIM, paint, span_ms};
use crate::times;
use clap::{Args, Subcommand, ValueEnum};
use ledger_server::http::wire::{Schedule, ScheduleBody, ScheduleFull, ScheduleSet, TickView, WishBody};
use serde_json::json;

/// What `schedules` takes.
#[derive(Args, Debug, Clone)]
pub(crate) struct SchedulesArgs {
    #[command(subcommand)]
    command: SchedulesCommand,
}

#[derive(Subcommand, Debug, Clone)]
enum SchedulesCommand {
    /// List the schedules with their last and next times, and how many they missed
    #[command(after_help = "Examples:\n  ledger schedules list")]
    List,
    /// Show one schedule: its next times, and what became of the last ones and why
    #[command(after_help = "Examples:\n  ledger schedules show nightly")]
    Show {
        /// Its name
        name: String,
    },
    /// Define a schedule, or define it anew
    #[command(after_help = "\
Examples:
  ledger schedules add nightly backup --cron '30 3 * * *' --zone Europe/Berlin --deadline 2h
  ledger schedules add poll fetch --cron '*/30 * * * * *' --overlap forbid --misfire skip --input '{\"n\":1}'
  ledger schedules add report render --cron '0 9 * * MON' --overlap queue --misfire catch-up:3 --project site")]
    Add(Box<AddArgs>),
    /// Remove a schedule; the jobs that came of it go on
    #[command(after_help = "Examples:\n  ledger schedules remove nightly --reason 'moved to studio'")]
    Remove {
        /// Its name
        name: String,
        /// Why
        #[arg(long, default_value = "")]
        reason: String,
    },
}

/// What a tick does while an earlier run is not over.
#[derive(ValueEnum, Debug, Clone, Copy)]
enum Overlap {
    /// Both run
    Allow,
    /// The tick is skipped
    Forbid,
    /// The new run waits for the earlier one
    Queue,
    /// The earlier run is cancelled
    Replace,
}

#[derive(Args, Debug, Clone)]
struct AddArgs {
    /// Its name: a-z, 0-9, '.', '-' and '_'
    name: String,
    /// The handler of each job
    handler: String,
    /// When: minute hour day month weekday; seconds in front or years at the end if wanted
    #[arg(long, value_name = "EXPRESSION")]
    cron: String,
    /// The time zone in which that is meant, as Europe/Berlin
    #[arg(long, default_value = "UTC")]
    zone: String,
    /// While an earlier run is not over
    #[arg(long, value_enum, default_value = "forbid")]
    overlap: Overlap,
    /// Times that nobody looked at: skip, run-once or catch-up:N
    #[arg(long, default_value = "run-once", value_name = "POLICY")]
    misfire: String,
    #[command(flatten)]
    job: JobArgs,
    /// Each job expires so long after it fired, as 2h
    #[arg(long, value_name = "TIME")]
    deadline: Option<String>,
}

/// Lists, shows, defines or removes.
pub(crate) async fn run(context: &Context, args: &SchedulesArgs) -> Result<Exit, CliError> {
    match &args.command {
        SchedulesCommand::List => list(context).await,
        SchedulesCommand::Show { name } => show(context, name).await,
        SchedulesCommand::Add(add) => define(context, add).await,
        SchedulesCommand::Remove { name, reason } => remove(context, name, reason).await,
    }
}

async fn list(context: &Context) -> Result<Exit, CliError> {
    let store = context.store().await?;
    let page = store.api.schedules().await?;
    let told = json!({"schedules": page.items, "as_of": page.as_of});
    context.output.result(&told, &[], || {
        let mut table = output::table(&[
            "schedule", "handler", "when", "last", "next", "fired", "missed", "skipped",
        ]);
        for row in &page.items {
            let last = row.last.as_ref();
            table.add_row([
                row.name.clone(),
                row.handler.clone(),
                format!("{} {}", row.cron, row.zone),
                last.map_or("-".to_owned(), |tick| {
                    format!("{} {}", clock(context, &tick.nominal), tick.what)
                }),
                row.next
                    .as_ref()
                    .map_or("never".to_owned(), |next| clock(context, next)),
                row.fired.to_string(),
                row.missed.to_string(),
                row.skipped.to_string(),
            ]);
        }
        let warned = page.items.iter().filter(|row| !row.warning.is_empty());
        let warnings = warned.map(|row| format!("\n{} {}: {}", paint(CARE, "!"), row.name, row.warning));
        format!("{table}{}", warnings.collect::<String>())
    })?;
    Ok(FINE)
}

async fn show(context: &Context, name: &str) -> Result<Exit, CliError> {
    let store = context.store().await?;
    let answer = store.api.schedule(name).await?;
    let mut told = serde_json::to_value(&answer.item).unwrap_or_default();
    if let Some(fields) = told.as_object_mut() {
        fields.insert("as_of".to_owned(), json!(answer.as_of));
    }
    let next = [format!("ledger replay --subject schedule/{name}")];
    context
        .output
        .result(&told, &next, || describe(context, &answer.item))?;
    Ok(FINE)
}

async fn define(context: &Context, args: &AddArgs) -> Result<Exit, CliError> {
    let deadline_ms = args.deadline.as_deref().map(|text| -> Result<u64, CliError> {
        let span = std::time::Duration::try_from(times::parse_span(text)?);
        let span = span.map_err(|e| CliError::new("time.malformed", e.to_string(), ""))?;
        Ok(u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
    });
    let overlap = args
        .overlap
        .to_possible_value()
        .map(|value| value.get_name().to_owned());
    let body = ScheduleBody {
        name: args.name.clone(),
        cron: args.cron.clone(),
        zone: Some(args.zone.clone()),
        overlap,
        misfire: Some(args.misfire.clone()),
        handler: args.handler.clone(),
        input: args.job.input()?,
        priority: args.job.priority,
        machine: args.job.machine.clone(),
        labels: args.job.labels.clone(),
        attempts_max: args.job.attempts,
        unique_key: args.job.unique_key.clone(),
        concurrency_key: args.job.concurrency_key.clone(),
        deadline_ms: deadline_ms.transpose()?,
        project: args.job.project.clone(),
        id: None,
    };
    let store = context.store().await?;
    let set = store.api.define_schedule(&body).await?.item;
    let next = [format!("ledger schedules show {}", args.name)];
    context.output.result(&set, &next, || said(context, &set))?;
    Ok(FINE)
}

async fn remove(context: &Context, name: &str, reason: &str) -> Result<Exit, CliError> {
    let store = context.store().await?;
    let body = WishBody {
        reason: reason.to_owned(),
    };
    let set = store.api.remove_schedule(name, &body).await?.item;
    context.output.result(&set, &[], || {
        format!("{} is removed; its jobs go on", paint(BOLD, name))
    })?;
    Ok(FINE)
}

fn said(context: &Context, set: &ScheduleSet) -> String {
    let Some(row) = &set.schedule else {
        return "it was removed meanwhile".to_owned();
    };
    let next = row
        .next
        .as_ref()
        .map_or("never".to_owned(), |next| clock(context, next));
    let warning = match row.warning.as_str() {
        "" => String::new(),
        warning => format!("\n{} {warning}", paint(CARE, "!")),
    };
    format!("{}  next {next}{warning}", paint(BOLD, &row.name))
}

fn clock(context: &Context, time: &str) -> String {
    let time = time
        .parse::<jiff::Timestamp>()
        .map(|t| times::local(t.as_microsecond(), &context.now));
    time.unwrap_or_else(|_| "-".to_owned())
}

fn describe(context: &Context, full: &ScheduleFull) -> String {
    let row: &Schedule = &full.schedule;
    let mut lines = vec![format!("{}  {}", paint(BOLD, &row.name), row.handler)];
    let mut field = |name: &str, value: String| {
        lines.push(format!("  {}  {value}", paint(DIM, format_args!("{name:<8}"))));
    };
    field("when", format!("{} ({})", row.cron, row.zone));
    field("overlap", row.overlap.clone());
    field("misfire", row.misfire.clone());
    if let Some(ms) = row.deadline_ms {
        field("deadline", format!("{} after it fired", span_ms(ms)));
    }
    if let Some(project) = &row.project {
        field("project", project.clone());
    }
    let upcoming: Vec<String> = full.upcoming.iter().map(|at| clock(context, at)).collect();
    field("next", upcoming.join(", "));
    field(
        "so far",
        format!(
            "{} fired, {} missed, {} skipped",
            row.fired, row.missed, row.skipped
        ),
    );
    let jobs: Vec<String> = full
        .jobs
        .iter()
        .map(|job| format!("{} {}", job.id, job.state))
        .collect();
    if !jobs.is_empty() {
        field("open", jobs.join(", "));
    }
    if !row.warning.is_empty() {
        field("warning", paint(CARE, &row.warning));
    }
    let missed = full.last_missed.iter().chain(&full.last_skipped);
    let older = missed.filter(|tick| !full.ticks.contains(tick));
    for tick in full.ticks.iter().chain(older) {
        lines.push(tick_line(context, tick));
    }
    lines.join("\n")
}

fn tick_line(context: &Context, tick: &TickView) -> String {
    let until = tick
        .until
        .as_ref()
        .map(|until| format!(" to {} ({} times)", clock(context, until), tick.count));
    let job = tick
        .job
        .as_ref()
        .map(|job| format!("  job {job}"))
        .unwrap_or_default();
    format!(
        "  {}  {:<7} {}{job}",
        paint(
            DIM,
            format_args!("{}{}", clock(context, &tick.nominal), until.unwrap_or_default())
        ),
        tick.what,
        tick.why,
    )
}
