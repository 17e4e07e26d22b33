//! Step 3: requests become jobs; light ones run on the gateway, heavy ones on a node; results and outputs come back.

use super::stage::Stage;
use super::tell::Teller;
use crate::commands::jobs::shown;
use crate::error::CliError;
use crate::output::{BOLD, DIM, bytes, paint, span_ms};
use ledger_server::http::wire::{JobFull, RequestBody};
use serde_json::{Value, json};

/// Characters of a result in the telling.
const RESULT_CHARS: usize = 110;

/// Asks for work and shows what comes back.
pub(crate) async fn run(stage: &mut Stage, teller: &mut Teller) -> Result<(), CliError> {
    teller.step("Requests become jobs");
    let paths = json!({"paths": stage.paths});
    let few: Vec<&String> = stage.paths.iter().take(40).collect();
    let mut wanted: Vec<(&str, Value, RequestBody, &str)> = vec![
        ("word-count", paths.clone(), RequestBody::default(), "gateway"),
        ("largest-files", json!(few), RequestBody::default(), "gateway"),
    ];
    if stage.has_git {
        wanted.push(("git-log", Value::Null, RequestBody::default(), "gateway"));
    } else {
        teller.say("the Vault is no git checkout (or git is not here), so there is no git-log job");
    }
    let only = |machine: &str| RequestBody {
        machine: Some(machine.to_owned()),
        ..RequestBody::default()
    };
    wanted.push(("digest-manifest", paths.clone(), only("studio"), "studio"));
    let backup = RequestBody {
        labels: vec!["backup".to_owned()],
        ..RequestBody::default()
    };
    wanted.push(("digest-manifest", paths, backup, "mini"));

    let mut asked = Vec::new();
    for (handler, input, more, machine) in wanted {
        let requested = stage.ask(handler, input, more).await?;
        teller.say(format_args!(
            "asked for {}: {}",
            paint(BOLD, handler),
            requested.answer
        ));
        asked.push((requested.job, machine));
    }
    let mut placed = true;
    let mut good = 0;
    let mut outputs = 0;
    for (job, machine) in &asked {
        let full = stage.ended(job).await?;
        tell_end(teller, &full);
        placed &= full.job.machine.as_deref() == Some(machine);
        good += usize::from(full.job.state == "succeeded" && full.result_digest.is_some());
        outputs += full.outputs.len();
    }
    teller.fact("jobs", asked.iter().map(|(job, _)| job).collect::<Vec<_>>());
    teller.fact("succeeded", good);
    teller.fact("outputs", outputs);
    teller.promise(
        good == asked.len(),
        format!("all {} jobs succeeded, each with its result", asked.len()),
    );
    teller.promise(
        placed,
        "light work ran on the gateway, heavy work on the node that was meant",
    );
    teller.promise(
        outputs == 2,
        "both manifests are known as outputs, by path and digest",
    );
    Ok(())
}

/// Says how a job ended.
pub(crate) fn tell_end(teller: &Teller, full: &JobFull) {
    let class = full.runs.last().map(|run| run.class.as_str()).unwrap_or_default();
    let machine = full.job.machine.as_deref().unwrap_or("nobody");
    let wall = full.costs.map(|costs| span_ms(costs.wall_ms)).unwrap_or_default();
    teller.say(format_args!(
        "{} {} on {machine}  {}",
        paint(BOLD, &full.job.handler),
        full.job.state,
        paint(DIM, format_args!("{class}, {wall}")),
    ));
    if let Some(result) = &full.result {
        for line in shown(result).lines().take(3) {
            teller.aside(&cut(line));
        }
    }
    for output in &full.outputs {
        teller.aside(&format!(
            "→ {}  {}  {}",
            output.path,
            bytes(output.size),
            &output.blake3[..16]
        ));
    }
}

fn cut(line: &str) -> String {
    match line.char_indices().nth(RESULT_CHARS) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line.to_owned(),
    }
}
