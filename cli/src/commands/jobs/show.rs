//! `ledger jobs show`: the whole life of one job, for people.

use super::ago;
use crate::output::{self, BAD, BOLD, CARE, DIM, GOOD, bytes, paint, span_ms};
use crate::times;
use anstyle::Style;
use jiff::{Timestamp, Zoned};
use ledger_server::http::wire::{Attempt, Content, JobFull};

/// Characters of a result shown at most.
const RESULT_CHARS_MAX: usize = 2000;

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
    if let Some(next) = &full.retried_as {
        field("again", format!("as {next}"));
    }
    for run in &full.runs {
        field("run", told(run, now));
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
    lines.push(String::new());
    for receipt in &full.receipts {
        let time = receipt.time.parse::<Timestamp>();
        let time = time.map_or_else(
            |_| receipt.time.clone(),
            |time| times::clock(time.as_microsecond(), now),
        );
        lines.push(format!(
            "  {}  {:<10} {}",
            paint(DIM, time),
            receipt.machine,
            receipt.line
        ));
    }
    let where_not = match full.gateway_answered {
        Some(false) => "not here, and the gateway was not reached",
        _ => "neither here nor at the gateway",
    };
    for absent in &full.absent {
        let place = format!("{}… seq {}", output::short(&absent.log), absent.seq);
        lines.push(format!(
            "  {}  {}, {place}: {where_not}",
            paint(CARE, "absent"),
            absent.what
        ));
    }
    lines.join("\n")
}

// A run in a line: where, as what, from when to when, and what became of it.
fn told(run: &Attempt, now: &Zoned) -> String {
    let started = match (&run.started_at, run.started) {
        (Some(at), _) => format!("started {}", ago(at, now)),
        (None, true) => "started".to_owned(),
        (None, false) => "not started".to_owned(),
    };
    let mut parts = vec![
        format!("{} {} attempt {}", run.machine, run.class, run.attempt),
        format!("given {}", ago(&run.claimed_at, now)),
        started,
    ];
    if run.checkpoints > 0 {
        parts.push(format!("{} checkpoints", run.checkpoints));
    }
    if let (Some(how), Some(at)) = (&run.ended, &run.ended_at) {
        parts.push(format!("{how} {}", ago(at, now)));
    }
    if let Some(costs) = &run.costs {
        parts.push(format!("{} wall", span_ms(costs.wall_ms)));
    }
    format!(
        "{}{}  {}",
        parts.join(", "),
        verdicts_of(&run.verdicts),
        paint(DIM, &run.fence)
    )
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
