//! `ledger jobs show`: the whole life of one job, for people.

use super::ago;
use crate::output::{BAD, BOLD, CARE, DIM, GOOD, bytes, paint, span_ms};
use anstyle::Style;
use jiff::Zoned;
use ledger_server::http::wire::{Content, JobFull};

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
