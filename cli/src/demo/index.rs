//! Step 2: the Vault: every real file becomes a receipt with path, digest and size.

use super::stage::{Stage, receipts};
use super::tell::Teller;
use crate::commands::vault::all;
use crate::error::CliError;
use crate::output::{bytes, count, span_ms};
use ledger::core::digest::content_digest;
use ledger_server::http::wire::ScanBody;
use std::time::Instant;

/// Files shown as examples.
const EXAMPLES: usize = 3;

/// Indexes the Vault and checks the index against the files.
pub(crate) async fn run(stage: &mut Stage, teller: &mut Teller) -> Result<(), CliError> {
    teller.step("The Vault: your own files");
    teller.say(format_args!(
        "indexing {} (its .gitignore is respected)",
        stage.vault.display()
    ));
    let api = stage.gateway.api();
    let began = Instant::now();
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
    let files = all(&api, None).await?;
    for file in largest(&files) {
        teller.aside(&format!(
            "{}  {:>9}  {}",
            &file.blake3[..16],
            bytes(file.size),
            file.path
        ));
    }
    // Outputs of jobs join the Vault too; only the indexed files lie in its directory.
    let indexed: Vec<_> = files
        .iter()
        .filter(|file| stage.vault.join(&file.path).is_file())
        .collect();
    let recorded = receipts(&api, &["artifact.recorded"], Some("gateway"))
        .await?
        .len();
    let wrong = indexed
        .iter()
        .filter(|file| {
            let content = std::fs::read(stage.vault.join(&file.path)).unwrap_or_default();
            content_digest(&content).to_hex() != file.blake3
        })
        .count();
    let expected = scanned.files.saturating_sub(scanned.skipped);
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
    stage.choose_paths(&indexed.into_iter().cloned().collect::<Vec<_>>());
    Ok(())
}

fn largest(files: &[ledger_server::http::wire::Artifact]) -> Vec<&ledger_server::http::wire::Artifact> {
    let mut ranked: Vec<_> = files.iter().collect();
    ranked.sort_by_key(|file| std::cmp::Reverse(file.size));
    ranked.truncate(EXAMPLES);
    ranked
}
