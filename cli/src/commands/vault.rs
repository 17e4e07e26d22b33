//! `ledger vault`: index the durable files, and list them.

use crate::context::Context;
use crate::error::CliError;
use crate::exit::{Exit, FINE};
use crate::output::{self, bytes, count};
use clap::{Args, Subcommand};
use ledger_server::http::wire::{Artifact, ScanBody, VaultQuery};
use serde_json::json;
use std::path::PathBuf;

/// Files asked for at a time.
const PAGE: u32 = 1000;

/// What `vault` takes.
#[derive(Args, Debug, Clone)]
pub(crate) struct VaultArgs {
    #[command(subcommand)]
    command: VaultCommand,
}

#[derive(Subcommand, Debug, Clone)]
enum VaultCommand {
    /// Record every new, changed and gone file of a directory (its .gitignore is respected)
    #[command(after_help = "Examples:\n  ledger vault scan ~/studio/vault")]
    Scan {
        /// The directory [default: the configured Vault]
        #[arg(value_name = "DIR")]
        folder: Option<PathBuf>,
    },
    /// List the files with their digests
    #[command(after_help = "Examples:\n  ledger vault ls\n  ledger vault ls docs/ --json")]
    Ls {
        /// Paths that begin so
        prefix: Option<String>,
    },
}

/// Indexes or lists.
pub(crate) async fn run(context: &Context, args: &VaultArgs) -> Result<Exit, CliError> {
    match &args.command {
        VaultCommand::Scan { folder } => scan(context, folder.clone()).await,
        VaultCommand::Ls { prefix } => list(context, prefix.clone()).await,
    }
}

async fn scan(context: &Context, dir: Option<PathBuf>) -> Result<Exit, CliError> {
    let dir = match dir {
        Some(dir) => Some(std::fs::canonicalize(&dir).map_err(|e| CliError::io("find", &dir, &e))?),
        None => None,
    };
    let store = context.store().await?;
    let spinner = context.output.draws_progress().then(|| {
        let spinner = indicatif::ProgressBar::new_spinner().with_message("reading files");
        spinner.enable_steady_tick(std::time::Duration::from_millis(100));
        spinner
    });
    let body = ScanBody {
        dir: dir.as_ref().map(|dir| dir.to_string_lossy().into_owned()),
    };
    let scanned = store.api.scan_vault(&body).await;
    if let Some(spinner) = spinner {
        spinner.finish_and_clear();
    }
    let scanned = scanned?.item;
    context
        .output
        .result(&scanned, &["ledger vault ls".to_owned()], || {
            format!(
                "{} files, {}: {} recorded, {} unchanged, {} gone, {} left out",
                count(scanned.files),
                bytes(scanned.bytes),
                count(scanned.recorded),
                count(scanned.unchanged),
                count(scanned.removed),
                count(scanned.skipped),
            )
        })?;
    Ok(FINE)
}

async fn list(context: &Context, prefix: Option<String>) -> Result<Exit, CliError> {
    let store = context.store().await?;
    let files = all(&store.api, prefix).await?;
    context.output.result(&json!({"files": files}), &[], || {
        let mut table = output::table(&["path", "size", "blake3"]);
        for file in &files {
            table.add_row([
                file.path.clone(),
                bytes(file.size),
                file.blake3.chars().take(16).collect(),
            ]);
        }
        format!(
            "{table}\n{} files",
            count(u64::try_from(files.len()).unwrap_or(u64::MAX))
        )
    })?;
    Ok(FINE)
}

/// Every file of the Vault whose path begins so.
pub(crate) async fn all(
    api: &ledger_server::client::Api,
    prefix: Option<String>,
) -> Result<Vec<Artifact>, CliError> {
    let mut query = VaultQuery {
        prefix,
        limit: Some(PAGE),
        cursor: None,
    };
    let mut files = Vec::new();
    loop {
        let page = api.vault(&query).await?;
        files.extend(page.items);
        query.cursor = page.next_cursor;
        if query.cursor.is_none() {
            return Ok(files);
        }
    }
}
