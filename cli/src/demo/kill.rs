//! Step 4: `kill -9` of the heavy node in the middle of a job; further requests queue, exactly one notice goes out, and
//! when the machine is back the job is recovered and the backlog drains.

use super::settings::{SURVEY_MS, timings};
use super::stage::{JOB_WITHIN, Stage, receipts, wait_for};
use super::tell::Teller;
use super::work::tell_end;
use crate::error::CliError;
use crate::output::{BAD, BOLD, paint};
use ledger_server::client::Api;
use ledger_server::http::wire::{Receipt, RequestBody};
use serde_json::json;
use std::time::Duration;

/// How long the gateway may take to notice a silence or a return, beyond the configured times.
const NOTICE_WITHIN: Duration = Duration::from_secs(15);

/// Kills, queues, counts, restarts.
pub(crate) async fn run(stage: &mut Stage, teller: &mut Teller) -> Result<(), CliError> {
    teller.step("kill -9 in the middle of a heavy job");
    let api = stage.gateway.api();
    let notices_before = offline_notices(&api).await?.len();
    let lines_before = stage.offline_lines();
    let task = json!({"paths": stage.paths, "duration_ms": SURVEY_MS});

    let hit = stage.ask("survey", task, RequestBody::default()).await?.job;
    stage.started(&hit).await?;
    teller.say("survey runs on studio");
    wait_for("the survey to be in its middle", NOTICE_WITHIN, async || {
        Ok((!stage.effects(&hit).is_empty()).then_some(()))
    })
    .await?;
    let lost_before = receipts(&api, &["node.lost"], None).await?.len();
    stage.studio.kill()?;
    teller.say(paint(BAD, "kill -9 studio"));
    wait_for("the gateway to miss studio", NOTICE_WITHIN, async || {
        Ok((receipts(&api, &["node.lost"], None).await?.len() > lost_before).then_some(()))
    })
    .await?;
    teller.say(format_args!(
        "silence is a receipt: node.lost, after {} ms",
        timings().lost_after_ms
    ));

    let mut backlog = Vec::new();
    let mut answers = Vec::new();
    for duration_ms in [400, 300, 200] {
        let task = json!({"paths": stage.paths, "duration_ms": duration_ms});
        let asked = stage.ask("survey", task, RequestBody::default()).await?;
        answers.push(asked.answer);
        backlog.push(asked.job);
    }
    let answer = answers.first().cloned().unwrap_or_default();
    teller.say(format_args!(
        "asked for another survey: {}",
        paint(BOLD, format_args!("{answer:?}"))
    ));
    teller.say("and for two more, so that there is a backlog");
    let queued = answers
        .iter()
        .all(|answer| answer == "queued, when studio reconnects");

    let notice = one_notice(stage, teller, &api, notices_before, lines_before).await?;
    let pid = stage.studio.start().await?;
    teller.say(format_args!("studio starts again as pid {pid}"));
    let recovered = stage.ended(&hit).await?;
    tell_end(teller, &recovered);
    let mut drained = 0;
    for job in &backlog {
        let full = stage.ended(job).await?;
        drained += usize::from(full.job.state == "succeeded");
    }
    teller.say(format_args!(
        "the backlog has drained: {drained} of {}",
        backlog.len()
    ));
    let mut jobs = backlog;
    jobs.push(hit.clone());
    let once = jobs.iter().all(|job| finished_once(stage, job));

    teller.fact("killed_job", &hit);
    teller.fact("answer", &answer);
    teller.fact("notices", notice);
    teller.fact("claims_of_killed_job", recovered.runs.len());
    teller.promise(
        queued,
        "further requests were answered \"queued, when studio reconnects\"",
    );
    teller.promise(
        notice == (1, 1, 1),
        "exactly one notice: one receipt, one delivery, one line from the notice command",
    );
    teller.promise(
        recovered.job.state == "succeeded" && recovered.runs.len() == 2,
        "the killed job was recovered: proven dead, claimed again, succeeded",
    );
    teller.promise(drained + 1 == jobs.len(), "the backlog drained");
    teller.promise(once, "outside of the ledger: every survey finished exactly once");
    Ok(())
}

/// Whether the handler's own trace says one end, and each start under a fence of its own.
pub(crate) fn finished_once(stage: &Stage, job: &str) -> bool {
    let lines = stage.effects(job);
    let mut starts: Vec<&str> = lines
        .iter()
        .filter_map(|line| line.strip_prefix("started "))
        .collect();
    let all = starts.len();
    starts.sort_unstable();
    starts.dedup();
    let ends = lines.iter().filter(|line| line.starts_with("finished ")).count();
    ends == 1 && starts.len() == all && all >= 1
}

async fn offline_notices(api: &Api) -> Result<Vec<Receipt>, CliError> {
    let raised = receipts(api, &["notice.raised"], None).await?;
    let about = |receipt: &Receipt| {
        let detail = |name: &str| {
            receipt
                .detail
                .get(name)
                .and_then(|value| value.as_str())
                .unwrap_or_default()
        };
        detail("topic") == "node-offline" && detail("machine") == "studio"
    };
    Ok(raised.into_iter().filter(about).collect())
}

/// Waits for the notice, then once more as long to see that no second one follows; counts receipts, deliveries and lines.
async fn one_notice(
    stage: &Stage,
    teller: &Teller,
    api: &Api,
    before: usize,
    lines_before: usize,
) -> Result<(usize, usize, usize), CliError> {
    let first = wait_for("the notice that studio is offline", NOTICE_WITHIN, async || {
        let raised = offline_notices(api).await?;
        let delivered = stage.offline_lines() > lines_before;
        Ok(raised.get(before).filter(|_| delivered).cloned())
    })
    .await?;
    teller.say(format_args!(
        "one notice goes out: {}",
        paint(BOLD, first.line.trim_start_matches("notice: "))
    ));
    tokio::time::sleep(Duration::from_millis(timings().notify_after_ms)).await;
    let raised = offline_notices(api).await?.len() - before;
    let deliveries = wait_for("the delivery's receipt", JOB_WITHIN, async || {
        let delivered = receipts(api, &["notice.delivered"], None).await?;
        // The log of the daemon is told as well; what a person configured is the command.
        let ours = delivered.iter().filter(|receipt| {
            let detail = |name: &str| {
                receipt
                    .detail
                    .get(name)
                    .and_then(|value| value.as_str())
                    .unwrap_or_default()
            };
            detail("notice") == first.id && detail("destination").starts_with("command")
        });
        Ok(Some(ours.count()).filter(|count| *count > 0))
    })
    .await?;
    Ok((raised, deliveries, stage.offline_lines() - lines_before))
}
