//! Step 2: the Vault: every real file becomes a receipt with path, digest and size.

use super::stage::{Stage, receipts};
use super::tell::Teller;
use crate::commands::vault::all;
use crate::error::CliError;
use crate::output::{bytes, count, span_ms};
use ledger::core::digest::content_digest;
use ledger_server::http::wire::{Artifact, ScanBody};
use std::time::{Duration, Instant, SystemTime};

/// Files shown as examples.
const EXAMPLES: usize = 3;
/// How long the index may take to follow the scan.
const IN_STEP_WITHIN: Duration = Duration::from_secs(10);
/// Between two looks meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Indexes the Vault and checks the index against the files.
pub(crate) async fn run(stage: &mut Stage, teller: &mut Teller) -> Result<(), CliError> {
    teller.step("The Vault: your own files");
    teller.say(format_args!(
        "indexing {} (its .gitignore is respected)",
        stage.vault.display()
    ));
    let api = stage.gateway.api();
    let (began, scanning) = (Instant::now(), SystemTime::now());
    let body = ScanBody {
        dir: Some(stage.vault.to_string_lossy().into_owned()),
    };
    let scanned = api.scan_vault(&body).await?.item;
    let took = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    teller.say(format_args!(
        "{} files, {} in {}: {} recorded, {} unchanged, {} gone, {} left out",
        count(scanned.files),
        bytes(scanned.bytes),
        span_ms(took),
        count(scanned.recorded),
        count(scanned.unchanged),
        count(scanned.removed),
        count(scanned.skipped),
    ));
    let expected = scanned.files.saturating_sub(scanned.skipped);
    let indexed = in_step(stage, expected, scanning).await?;
    for file in largest(&indexed) {
        teller.aside(&format!(
            "{}  {:>9}  {}",
            &file.blake3[..16],
            bytes(file.size),
            file.path
        ));
    }
    let recorded = receipts(&api, &["artifact.recorded"], Some("gateway"))
        .await?
        .len();
    let wrong = indexed
        .iter()
        .filter(|file| !is_true(stage, file, scanning))
        .count();
    let there = u64::try_from(indexed.len()).unwrap_or(u64::MAX);
    teller.fact("files", scanned.files);
    teller.fact("bytes", scanned.bytes);
    teller.fact("recorded", scanned.recorded);
    teller.fact("receipts", recorded);
    teller.promise(
        there == expected && recorded >= indexed.len(),
        format!("each of the {} files has its artifact receipt", count(expected)),
    );
    teller.promise(
        wrong == 0,
        "every digest equals BLAKE3 of the file, read again just now",
    );
    stage.choose_paths(&indexed);
    Ok(())
}

/// The indexed files, once the index has taken in what the scan recorded; it follows the order's pins, a moment behind.
async fn in_step(stage: &Stage, expected: u64, scanning: SystemTime) -> Result<Vec<Artifact>, CliError> {
    let api = stage.gateway.api();
    let began = Instant::now();
    loop {
        // Outputs of jobs join the Vault too; only the indexed files lie in its directory.
        let files = all(&api, None).await?.into_iter();
        let indexed: Vec<_> = files
            .filter(|file| stage.vault.join(&file.path).is_file())
            .collect();
        let there = u64::try_from(indexed.len()).unwrap_or(u64::MAX);
        let late = began.elapsed() > IN_STEP_WITHIN;
        if late || (there == expected && indexed.iter().all(|file| is_true(stage, file, scanning))) {
            return Ok(indexed);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Whether the index says of a file what the file says. A file that somebody changed since is left to the next scan.
fn is_true(stage: &Stage, file: &Artifact, scanning: SystemTime) -> bool {
    let path = stage.vault.join(&file.path);
    let says = std::fs::read(&path).is_ok_and(|content| content_digest(&content).to_hex() == file.blake3);
    says || std::fs::metadata(&path)
        .and_then(|meta| meta.modified())
        .is_ok_and(|changed| changed >= scanning)
}

fn largest(files: &[Artifact]) -> Vec<&Artifact> {
    let mut ranked: Vec<_> = files.iter().collect();
    ranked.sort_by_key(|file| std::cmp::Reverse(file.size));
    ranked.truncate(EXAMPLES);
    ranked
}
