//! Step 6: the whole story in order; verification of all three stores; and one flipped bit, found by name.

use super::cut::same_heads;
use super::stage::{JOB_WITHIN, Stage, receipts, wait_for};
use super::tell::Teller;
use crate::error::CliError;
use crate::output::{BOLD, DIM, count, paint};
use data_encoding::BASE64;
use ledger_server::http::wire::{Receipt, ReceiptFull};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The kinds that tell the story; the others keep its books.
const STORY: [&str; 17] = [
    "key.joined",
    "node.booted",
    "node.lost",
    "node.back",
    "request.received",
    "run.started",
    "run.succeeded",
    "run.failed",
    "run.lost",
    "artifact.staged",
    "job.lease-expired",
    "job.resumed",
    "job.requeued",
    "job.succeeded",
    "job.failed",
    "job.parked",
    "notice.raised",
];

/// Replays, stops the daemons, verifies, flips.
pub(crate) async fn run(stage: &mut Stage, teller: &mut Teller) -> Result<(), CliError> {
    teller.step("What happened, and the proof");
    let gateway = stage.gateway.api();
    for daemon in [&stage.studio, &stage.mini] {
        let own = daemon.api();
        let what = format!("every receipt of {} to be at the gateway", daemon.machine);
        wait_for(&what, JOB_WITHIN, async || {
            Ok(same_heads(&own, &gateway, daemon.machine).await?.then_some(()))
        })
        .await?;
    }
    replay(stage, teller).await?;
    // The run that will be looked for later: chosen while its machine still answers.
    let chosen = receipts(&stage.studio.api(), &["run.succeeded"], Some("studio")).await?;
    let chosen = chosen
        .last()
        .map(|receipt| receipt.id.clone())
        .unwrap_or_default();
    let full = stage.studio.api().receipt(&chosen).await?.item;
    for daemon in [&mut stage.studio, &mut stage.mini, &mut stage.gateway] {
        daemon.stop().await?;
    }
    teller.say("the three daemons have stopped; verify reads their files alone");
    verify_all(stage, teller).await?;
    let Some(full) = full.first() else {
        return Err(CliError::new(
            "demo.record",
            format!("studio does not show its receipt {chosen}"),
            "",
        ));
    };
    flip(stage, teller, full).await
}

async fn replay(stage: &Stage, teller: &mut Teller) -> Result<(), CliError> {
    let began = stage.began.clone();
    let mut words = vec!["replay", "--since", began.as_str()];
    for kind in STORY {
        words.extend(["--kind", kind]);
    }
    teller.say(format_args!(
        "{}",
        paint(BOLD, format_args!("ledger replay --since {began}"))
    ));
    let told = stage.raw_command(&stage.gateway.dir, &words, false).await?;
    for line in String::from_utf8_lossy(&told.stdout).lines() {
        teller.plain(line);
    }
    let gateway = stage.gateway.api();
    let before_it = gateway.status().await?.item.counts.receipts;
    let streamed = stage
        .raw_command(&stage.gateway.dir, &["replay", "--all"], true)
        .await?;
    let after_it = gateway.status().await?.item.counts.receipts;
    let mut machines = BTreeSet::new();
    let mut actors = BTreeSet::new();
    let (mut lines, mut ordered, mut before) = (0_u64, true, 0_u64);
    for line in String::from_utf8_lossy(&streamed.stdout).lines() {
        let receipt: Value = serde_json::from_str(line).unwrap_or_default();
        let text = |field: &str| {
            receipt
                .get(field)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let hlc = text("hlc").parse().unwrap_or_default();
        ordered &= hlc >= before && hlc > 0;
        before = hlc;
        machines.insert(text("machine"));
        actors.insert(text("actor"));
        lines += 1;
    }
    teller.say(format_args!(
        "in all {} receipts of {} machines by {} actors, read back in one order",
        count(lines),
        machines.len(),
        actors.len()
    ));
    teller.fact("receipts", lines);
    teller.fact("machines", &machines);
    teller.promise(
        told.status.success() && streamed.status.success() && ordered && machines.len() == 3,
        "one history of three machines, in order: who, where, what, when, with which outputs",
    );
    teller.promise(
        (before_it..=after_it).contains(&lines),
        "and whole: as many receipts as the gateway's store holds",
    );
    Ok(())
}

async fn verify_all(stage: &Stage, teller: &mut Teller) -> Result<(), CliError> {
    let mut clean = 0;
    for daemon in [&stage.gateway, &stage.studio, &stage.mini] {
        let envelope = stage.command(&daemon.dir, &["verify"]).await?;
        let number = |pointer: &str| {
            envelope
                .pointer(pointer)
                .and_then(Value::as_u64)
                .unwrap_or_default()
        };
        let verdict = |name: &str| {
            let pointer = format!("/result/{name}");
            envelope
                .pointer(&pointer)
                .and_then(Value::as_str)
                .unwrap_or("?")
                .to_owned()
        };
        let ok = envelope.get("ok").and_then(Value::as_bool) == Some(true);
        clean += usize::from(ok);
        teller.say(format_args!(
            "verify {} {} receipts in {} logs, integrity {}, signatures {}, completeness {}  {}",
            paint(BOLD, format_args!("{:<8}", daemon.machine)),
            count(number("/result/counts/receipts")),
            number("/result/counts/logs"),
            verdict("integrity"),
            verdict("signatures"),
            verdict("completeness"),
            paint(DIM, format_args!("{} ms", number("/result/elapsed_ms"))),
        ));
        if !ok {
            teller.aside(&envelope.to_string());
        }
        teller.fact(
            &format!("verified_{}", daemon.machine),
            number("/result/counts/receipts"),
        );
    }
    teller.promise(
        clean == 3,
        "all three stores verify: every receipt is there, and unaltered",
    );
    Ok(())
}

/// Flips one bit inside a receipt in a copy of the store, and lets `verify` find it.
async fn flip(stage: &Stage, teller: &mut Teller, full: &ReceiptFull) -> Result<(), CliError> {
    let Receipt { id, log, seq, .. } = &full.receipt;
    let record = BASE64.decode(full.record.as_bytes()).unwrap_or_default();
    let copy = stage.root.join("flipped-copy");
    let from = stage.studio.dir.join("data/journal");
    copy_files(&from, &copy.join("data/journal"))?;
    let (file, offset) = find(&copy.join("data/journal"), &record)?;
    let at = offset + record.len() / 2;
    let mut bytes = std::fs::read(&file).map_err(|e| CliError::io("read", &file, &e))?;
    bytes[at] ^= 1;
    std::fs::write(&file, bytes).map_err(|e| CliError::io("write", &file, &e))?;
    let name = file
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    teller.say(format_args!(
        "one bit flipped in a copy of studio's store: {name}, byte {at}, inside receipt {id}, seq {seq} of its log"
    ));
    let out = stage.raw_command(&copy, &["verify"], true).await?;
    let envelope: Value = serde_json::from_slice(&out.stdout).unwrap_or_default();
    let findings = envelope
        .pointer("/result/findings")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    let text = |value: &Value, field: &str| {
        value
            .get(field)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let named = |finding: &&Value| {
        let at = finding.get("seq").and_then(Value::as_u64);
        text(finding, "log") == *log && at == Some(*seq) && text(finding, "aspect") == "integrity"
    };
    let found = findings.iter().find(named);
    match found {
        Some(finding) => {
            let short: String = log.chars().take(12).collect();
            teller.say(format_args!(
                "verify: [{}] log {short}… seq {seq}: the very receipt",
                text(finding, "code")
            ));
            teller.aside(&text(finding, "text"));
        }
        None => teller.aside(&format!("verify said: {envelope}")),
    }
    std::fs::remove_dir_all(&copy).map_err(|e| CliError::io("remove", &copy, &e))?;
    teller.fact("flipped_receipt", id);
    teller.fact("finding", found.cloned());
    teller.promise(
        out.status.code() == Some(1) && found.is_some(),
        "one flipped bit: verify ends with status 1 and names the very receipt",
    );
    Ok(())
}

fn copy_files(from: &Path, to: &Path) -> Result<(), CliError> {
    std::fs::create_dir_all(to).map_err(|e| CliError::io("create", to, &e))?;
    for path in files(from)? {
        let target = to.join(path.file_name().unwrap_or_default());
        std::fs::copy(&path, &target).map_err(|e| CliError::io("copy", &path, &e))?;
    }
    Ok(())
}

fn files(dir: &Path) -> Result<Vec<PathBuf>, CliError> {
    let entries = std::fs::read_dir(dir).map_err(|e| CliError::io("list", dir, &e))?;
    let mut paths: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|p| p.is_file())
        .collect();
    paths.sort();
    Ok(paths)
}

/// Where a record's bytes stand in the segments.
fn find(dir: &Path, record: &[u8]) -> Result<(PathBuf, usize), CliError> {
    if !record.is_empty() {
        for path in files(dir)? {
            let bytes = std::fs::read(&path).map_err(|e| CliError::io("read", &path, &e))?;
            if let Some(offset) = bytes.windows(record.len()).position(|window| window == record) {
                return Ok((path, offset));
            }
        }
    }
    Err(CliError::new(
        "demo.record",
        "the chosen receipt's bytes are not in the copy's journal",
        "",
    ))
}
