//! `GET /v1/vault`, `POST /v1/vault/scan`.

use super::caller::Caller;
use super::cursor::{Cursor, FileKey};
use super::extract::{Json, Query};
use super::problem::Problem;
use super::reply::Reply;
use super::wire::{self, Answer, Artifact, Page, ScanBody, Scanned, VaultQuery};
use super::{Api, select, times};
use axum::Extension;
use axum::extract::State;
use ledger_projections::vault::VaultFile;
use std::path::PathBuf;
use std::sync::Arc;

/// Files of the Vault, by path.
#[utoipa::path(
    get, path = "/v1/vault", operation_id = "list_vault", tag = "vault", params(VaultQuery),
    responses(
        (status = 200, description = "A page of files", body = Page<Artifact>),
        (status = "default", description = "A problem", body = wire::Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn list(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<VaultQuery>,
) -> Result<Reply<Page<Artifact>>, Problem> {
    caller.may_read()?;
    let limit = select::page_size(query.limit)?;
    let after = query.cursor.as_deref().map(FileKey::read).transpose()?;
    let prefix = query.prefix.unwrap_or_default();
    api.page(move |machine, _| {
        let after = after.as_ref().map(|after| after.path.as_str());
        let mut files = machine.vault_page(&prefix, after, limit + 1)?.files;
        let more = files.len() > limit;
        files.truncate(limit);
        let next = files
            .last()
            .filter(|_| more)
            .map(|(path, _)| FileKey { path: path.clone() }.to_text());
        Ok((
            files.into_iter().map(|(path, file)| view(path, &file)).collect(),
            next,
        ))
    })
    .await
}

fn view(path: String, file: &VaultFile) -> Artifact {
    Artifact {
        path,
        blake3: file.blake3.to_hex(),
        size: file.size,
        machine: file.machine.to_string(),
        recorded_at: times::text(file.recorded_at),
        job: file.job.map(|job| job.to_string()),
        log: file.evidence.log.to_hex(),
        seq: file.evidence.seq,
    }
}

/// Looks at every file of a directory and says by receipts what is new, changed or gone. Only at the local door.
#[utoipa::path(
    post, path = "/v1/vault/scan", operation_id = "scan_vault", tag = "vault", request_body = ScanBody,
    responses(
        (status = 200, description = "What was found", body = Answer<Scanned>),
        (status = "default", description = "A problem", body = wire::Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn scan(
    State(api): State<Arc<Api>>,
    Json(body): Json<ScanBody>,
) -> Result<Reply<Answer<Scanned>>, Problem> {
    let dir =
        match body.dir.map(PathBuf::from) {
            Some(dir) if dir.is_absolute() => dir,
            Some(dir) => {
                return Err(Problem::body(format!(
                    "expected `dir` as an absolute path, found {}",
                    dir.display()
                )));
            }
            None => api.machine.config.vault.dir.clone().ok_or_else(|| {
                Problem::body("expected `dir`, or [vault] dir in config.toml; found neither")
            })?,
        };
    let found = api.machine.scan_vault(dir, |_| ()).await?;
    api.item(move |_, _| {
        Ok(Scanned {
            files: found.files,
            recorded: found.recorded,
            removed: found.removed,
            unchanged: found.unchanged,
            skipped: found.skipped,
            bytes: found.bytes,
        })
    })
    .await
}
