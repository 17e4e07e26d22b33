//! Step 5: the link between a node and the gateway is cut while the node works; it goes on, logs locally, and everything
//! arrives when the link is back.

use super::kill::finished_once;
use super::settings::SURVEY_MS;
use super::stage::{JOB_WITHIN, Stage, receipts, wait_for};
use super::tell::Teller;
use super::work::tell_end;
use crate::error::CliError;
use crate::output::{BAD, GOOD, paint};
use ledger_server::client::Api;
use ledger_server::http::wire::{LogHead, RequestBody};
use serde_json::json;
use std::time::Duration;

/// How long the gateway may take to notice the silence.
const NOTICE_WITHIN: Duration = Duration::from_secs(15);

/// Cuts, watches both sides, heals, compares.
pub(crate) async fn run(stage: &mut Stage, teller: &mut Teller) -> Result<(), CliError> {
    teller.step("A severed link");
    let (gateway, studio) = (stage.gateway.api(), stage.studio.api());
    let task = json!({"paths": stage.paths, "duration_ms": SURVEY_MS});
    let job = stage.ask("survey", task, RequestBody::default()).await?.job;
    stage.started(&job).await?;
    teller.say("survey runs on studio");
    let lost_before = receipts(&gateway, &["node.lost"], None).await?.len();
    let before = own_receipts(&studio).await?;
    if let Some(proxy) = &stage.proxy {
        proxy.sever();
    }
    teller.say(paint(
        BAD,
        "the connection is cut: live ones dropped, new ones closed at once",
    ));
    wait_for("the gateway to miss studio", NOTICE_WITHIN, async || {
        Ok((receipts(&gateway, &["node.lost"], None).await?.len() > lost_before).then_some(()))
    })
    .await?;
    teller.say("the gateway has noticed the silence; studio works on");

    let offline = RequestBody {
        handler: "word-count".to_owned(),
        input: Some(json!({"paths": stage.paths.iter().take(10).collect::<Vec<_>>()})),
        ..RequestBody::default()
    };
    let handed_in = studio.request(&offline).await?.item;
    stage.jobs.push(handed_in.job.clone());
    teller.say(format_args!(
        "a request handed in at studio, offline: {:?} ({})",
        handed_in.answer, handed_in.standing
    ));
    wait_for("studio to finish its run on its own", JOB_WITHIN, async || {
        let ends = receipts(&studio, &["run.succeeded"], Some("studio")).await?;
        let ours = |id: &str| {
            ends.iter()
                .any(|end| end.detail.get("job").and_then(|v| v.as_str()) == Some(id))
        };
        Ok(ours(&job).then_some(()))
    })
    .await?;
    let grown = own_receipts(&studio).await?.saturating_sub(before);
    let outbox = not_pinned(&studio).await?;
    let early = gateway.job(&job).await?.item.job;
    teller.say(format_args!(
        "studio has finished: {grown} new receipts in its own logs, {outbox} of them wait for the gateway; there the job is \
         {}",
        early.state
    ));

    if let Some(proxy) = &stage.proxy {
        proxy.heal();
    }
    teller.say(paint(GOOD, "the link is back"));
    let full = stage.ended(&job).await?;
    tell_end(teller, &full);
    let offline_job = stage.ended(&handed_in.job).await?;
    tell_end(teller, &offline_job);
    let equal = wait_for(
        "every receipt of studio to be at the gateway",
        JOB_WITHIN,
        async || Ok(same_heads(&studio, &gateway, "studio").await?.then_some(true)),
    )
    .await?;
    let successes = receipts(&gateway, &["job.succeeded"], None).await?;
    let twice = stage.jobs.iter().filter(|job| {
        let of = |receipt: &&ledger_server::http::wire::Receipt| receipt.subject == format!("job/{job}");
        successes.iter().filter(of).count() != 1
    });
    let twice: Vec<String> = twice.cloned().collect();

    teller.fact("job", &job);
    teller.fact("receipts_logged_offline", grown);
    teller.fact("outbox_when_cut", outbox);
    teller.fact("state_at_gateway_when_cut", &early.state);
    teller.fact("claims", full.runs.len());
    teller.promise(
        grown > 0 && !early.is_final,
        "cut off, studio went on and logged locally; the gateway did not guess",
    );
    teller.promise(
        full.job.state == "succeeded" && full.runs.len() == 1,
        "the result arrived under the same claim: not lost, not run again",
    );
    teller.promise(
        offline_job.job.state == "succeeded" && offline_job.job.id == handed_in.job,
        "the request that was handed in offline became one job, and succeeded",
    );
    teller.promise(
        equal,
        "nothing is lost: studio's logs and the gateway's copies have equal heads",
    );
    teller.promise(
        twice.is_empty() && finished_once(stage, &job),
        format!(
            "nothing is done twice: {} jobs, one effective success each",
            stage.jobs.len()
        ),
    );
    Ok(())
}

async fn own_receipts(api: &Api) -> Result<u64, CliError> {
    let logs = api.status().await?.item.logs;
    Ok(logs
        .iter()
        .filter(|log| log.own)
        .map(|log| log.seq.saturating_add(1))
        .sum())
}

/// Receipts of its work and facts that the order, as the machine knows it, has not taken in.
async fn not_pinned(api: &Api) -> Result<u64, CliError> {
    let logs = api.status().await?.item.logs;
    let kept = logs
        .iter()
        .filter(|log| log.own && matches!(log.stream.as_str(), "work" | "facts"));
    Ok(kept
        .map(|log| log.seq.saturating_sub(log.pinned_seq.unwrap_or_default()))
        .sum())
}

/// Whether a machine's work and facts are at the gateway to their last receipt.
pub(crate) async fn same_heads(own: &Api, gateway: &Api, machine: &str) -> Result<bool, CliError> {
    let kept = |logs: Vec<LogHead>| -> Vec<(String, u64, String)> {
        let mut heads: Vec<_> = logs
            .into_iter()
            .filter(|log| log.machine == machine && matches!(log.stream.as_str(), "work" | "facts"))
            .map(|log| (log.log, log.seq, log.seal))
            .collect();
        heads.sort();
        heads
    };
    let here = kept(own.status().await?.item.logs);
    let there = kept(gateway.status().await?.item.logs);
    Ok(!here.is_empty() && here == there)
}
