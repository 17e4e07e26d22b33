//! `ledger submit`: asks for work, and waits for its end where that was asked for.

use super::job_args::JobArgs;
use super::jobs;
use crate::context::{Context, Store};
use crate::error::CliError;
use crate::exit::{DIFFERENCE, Exit, FINE};
use crate::output::{BOLD, DIM, paint};
use crate::times;
use clap::Args;
use jiff::Timestamp;
use ledger_server::http::wire::{EventsQuery, Receipt, RequestBody, Requested};
use serde_json::json;
use std::time::Duration;

/// The word for a request that went to the dead letters at once: no machine declares its handler.
const PARKED: &str = "parked";
/// Between two looks at the job when the live tail is silent; it only guards against a tail that broke.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// What `submit` takes.
#[derive(Args, Debug, Clone)]
#[command(after_help = "\
Examples:
  ledger submit word-count --input '{\"path\":\"README.md\"}' --wait
  ledger submit render --machine studio --priority 10 --input @scene.json
  jq -n '{n: 3}' | ledger submit resize --input - --label gpu")]
pub(crate) struct SubmitArgs {
    /// The handler
    handler: String,
    #[command(flatten)]
    job: JobArgs,
    /// Only after this job succeeded, named by its id or a part of it; repeatable
    #[arg(long, value_name = "JOB")]
    depends_on: Vec<String>,
    /// Hold instead of cancel when one of those ends without success
    #[arg(long, requires = "depends_on")]
    hold: bool,
    /// Not before this time: a length of time is one from now on (2h), else as for --since
    #[arg(long, value_name = "TIME")]
    not_before: Option<String>,
    /// Expired after this time, said in the same way
    #[arg(long, value_name = "TIME")]
    deadline: Option<String>,
    /// Your own id for the request (UUIDv7), so that asking twice is asking once
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// Wait for the end and show progress; the exit status is 1 when the job does not succeed
    #[arg(long)]
    wait: bool,
    /// With --wait: at most so long
    #[arg(long, value_name = "TIME", default_value = "1h")]
    timeout: String,
}

/// Asks.
pub(crate) async fn run(context: &Context, args: &SubmitArgs) -> Result<Exit, CliError> {
    let mut body = body_of(context, args)?;
    let timeout = times::parse_span(&args.timeout)?;
    let timeout =
        Duration::try_from(timeout).map_err(|e| CliError::new("time.malformed", e.to_string(), ""))?;
    let store = context.store().await?;
    for job in &mut body.depends_on {
        *job = jobs::resolve(&store.api, job).await?;
    }
    let cursor = if args.wait {
        Some(cursor_now(&store).await?)
    } else {
        None
    };
    let requested = store.api.request(&body).await?.item;
    if requested.answer_code == PARKED {
        return Err(unknown_handler(&args.handler, &requested));
    }
    let Some(cursor) = cursor else {
        let next = [format!("ledger jobs show {}", requested.job)];
        context.output.result(&requested, &next, || said(&requested))?;
        return Ok(FINE);
    };
    context.output.talk(said(&requested));
    if !store.has_daemon() {
        return Err(CliError::new(
            "daemon.absent",
            format!(
                "no daemon runs here, so job {} waits; the request is kept",
                requested.job
            ),
            "start `ledger gateway` or `ledger node`; the job needs no second request",
        )
        .with_result(json!(requested)));
    }
    let ended = tokio::time::timeout(timeout, follow(context, &store, &requested.job, cursor)).await;
    ended.map_err(|_| {
        CliError::new(
            "job.waiting",
            format!("job {} has not ended within {}", requested.job, args.timeout),
            format!("it goes on; look with `ledger jobs show {}`", requested.job),
        )
        .with_result(json!(requested))
    })??;
    let job = store.api.job(&requested.job).await?.item;
    let ok = job.job.state == "succeeded";
    context
        .output
        .verdict(ok, &job, &[], || jobs::describe(&job, &context.now))?;
    Ok(if ok { FINE } else { DIFFERENCE })
}

fn body_of(context: &Context, args: &SubmitArgs) -> Result<RequestBody, CliError> {
    // Asking again under an id of one's own is to say the same, and may come after the deadline.
    let once = args.id.is_some();
    let ahead = |text: &Option<String>| match text.as_deref() {
        Some(text) if once && times::parse_span(text).is_ok() => Err(CliError::new(
            "time.malformed",
            format!("{text} is another time whenever it is said, and --id says the same request again"),
            "write a time of the clock (2026-11-20T18:00) beside --id",
        )),
        Some(text) => times::parse_ahead(text, &context.now).map(Some),
        None => Ok(None),
    };
    let deadline = ahead(&args.deadline)?;
    let passed = deadline.as_deref().filter(|at| !once && has_passed(at, context));
    if let Some(passed) = passed {
        return Err(CliError::new(
            "time.past",
            format!("--deadline {passed} has passed, so the job would expire at once"),
            "give a time that is to come, such as 2h or tomorrow",
        ));
    }
    Ok(RequestBody {
        handler: args.handler.clone(),
        input: args.job.input()?,
        priority: args.job.priority,
        machine: args.job.machine.clone(),
        labels: args.job.labels.clone(),
        attempts_max: args.job.attempts,
        unique_key: args.job.unique_key.clone(),
        concurrency_key: args.job.concurrency_key.clone(),
        depends_on: args.depends_on.clone(),
        hold_on_failed_dependency: args.hold,
        not_before: ahead(&args.not_before)?,
        deadline,
        project: args.job.project.clone(),
        id: args.id.clone(),
    })
}

fn has_passed(at: &str, context: &Context) -> bool {
    at.parse::<Timestamp>()
        .is_ok_and(|at| at < context.now.timestamp())
}

fn said(requested: &Requested) -> String {
    let before = if requested.repeated {
        "  (asked before)"
    } else {
        ""
    };
    format!(
        "{}  {}  {}{before}",
        requested.job,
        paint(BOLD, &requested.answer),
        paint(DIM, format_args!("({})", requested.standing)),
    )
}

fn unknown_handler(handler: &str, requested: &Requested) -> CliError {
    CliError::new(
        "handler.unknown",
        format!("no machine declares the handler {handler:?}; the request is kept as job {} and parked", requested.job),
        "declare it as [[handler]] in a machine's config.toml and restart its daemon, or cancel the job; `ledger nodes \
         list` shows the handlers there are",
    )
    .with_result(json!(requested))
}

/// The place in the live tail from which nothing of the coming job can be missed.
async fn cursor_now(store: &Store) -> Result<Option<String>, CliError> {
    let events = store
        .api
        .events(&EventsQuery {
            kind: following(),
            ..EventsQuery::default()
        })
        .await?;
    Ok(events.cursor().map(ToOwned::to_owned))
}

fn following() -> Vec<String> {
    vec!["job.*".to_owned(), "run.*".to_owned()]
}

/// Tells what happens with the job until it has ended or lies among the dead letters.
async fn follow(
    context: &Context,
    store: &Store,
    job: &str,
    mut cursor: Option<String>,
) -> Result<(), CliError> {
    let subject = format!("job/{job}");
    loop {
        let query = EventsQuery {
            after: cursor.clone(),
            kind: following(),
            subject: Some(subject.clone()),
            ..EventsQuery::default()
        };
        let mut events = store.api.events(&query).await?;
        loop {
            match tokio::time::timeout(LOOK_EVERY, events.next()).await {
                Ok(Some(Ok(event))) => {
                    tell(context, &event.receipt);
                    cursor = Some(event.cursor);
                    if ends(&event.receipt.kind) {
                        return Ok(());
                    }
                }
                // The tail broke: go on behind what was seen.
                Ok(Some(Err(_)) | None) => break,
                Err(_silence) => {
                    if has_ended(store, job).await? {
                        return Ok(());
                    }
                }
            }
        }
        if has_ended(store, job).await? {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn has_ended(store: &Store, job: &str) -> Result<bool, CliError> {
    let job = store.api.job_here(job).await?.item.job;
    Ok(job.is_final || job.state == PARKED)
}

fn ends(kind: &str) -> bool {
    matches!(
        kind,
        "job.succeeded" | "job.failed" | "job.cancelled" | "job.expired" | "job.parked" | "job.discarded"
    )
}

fn tell(context: &Context, receipt: &Receipt) {
    let time = receipt
        .time
        .parse::<jiff::Timestamp>()
        .map(|t| times::clock(t.as_microsecond(), &context.now));
    let time = time.unwrap_or_else(|_| receipt.time.clone());
    context.output.talk(format_args!(
        "  {}  {:<8} {}",
        paint(DIM, time),
        receipt.machine,
        receipt.line
    ));
}
