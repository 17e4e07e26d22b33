//! `POST /v1/export`: one log of this machine, or a range of it, as a bundle in a file. Only at the local door.
//!
//! The bundle is written beside its name as `FILE.part`, synced, and renamed when it is whole. What a crash leaves is that
//! `.part`, which the next export of the same name begins anew; under its own name a bundle is whole or not there.

use super::Api;
use super::extract::Json;
use super::problem::Problem;
use super::reply::Reply;
use super::times;
use super::wire::{self, Answer, ExportBody, Exported};
use crate::error::ServerError;
use crate::machine::Machine;
use axum::extract::State;
use http::StatusCode;
use ledger::bundle::ExportReport;
use ledger::core::{Hlc, LogId};
use rustix::fs::OFlags;
use std::fs::{File, Permissions, TryLockError};
use std::io::BufWriter;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Writes one log, or a range of it, as a bundle into a file that is not there yet.
#[utoipa::path(
    post, path = "/v1/export", operation_id = "export_log", tag = "receipts", request_body = ExportBody,
    responses(
        (status = 200, description = "What was written", body = Answer<Exported>),
        (status = "default", description = "A problem", body = wire::Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn export(
    State(api): State<Arc<Api>>,
    Json(body): Json<ExportBody>,
) -> Result<Reply<Answer<Exported>>, Problem> {
    let log = LogId::from_hex(&body.log).ok_or_else(|| {
        Problem::body(format!(
            "expected `log` as 64 hex characters, found {:?}",
            body.log
        ))
    })?;
    let path = PathBuf::from(&body.path);
    if !path.is_absolute() {
        return Err(Problem::body(format!(
            "expected `path` as an absolute path, found {}",
            path.display()
        )));
    }
    api.item(move |machine, _| {
        let range = range(machine, &log, &body)?;
        let report = write(&path, |file| {
            let mut out = BufWriter::new(file);
            let report = match range {
                None => machine.ledger.export(&log, &mut out)?,
                Some((first, last)) => machine.ledger.export_range(&log, first, last, &mut out)?,
            };
            Ok(report)
        })?;
        Ok(Exported {
            log: report.log.to_hex(),
            path: path.display().to_string(),
            first: report.first,
            receipts: report.receipts,
            payloads: report.payloads,
            erased: report.erased,
            absent: report.absent,
            bytes: report.bytes,
            tree_size: report.tree_size,
            root: report.root.to_hex(),
            checkpoint: report.checkpoint,
        })
    })
    .await
}

// The first and last seq that are asked for; none for the whole log.
fn range(machine: &Machine, log: &LogId, body: &ExportBody) -> Result<Option<(u64, u64)>, Problem> {
    if body.from.is_none() && body.to.is_none() && body.since.is_none() {
        return Ok(None);
    }
    let snapshot = machine.ledger.snapshot();
    let chain = snapshot.logs.get(log);
    let newest = chain.ok_or(ledger::LedgerError::UnknownLog(*log))?.tip().0;
    let first = match (body.from, &body.since) {
        (Some(_), Some(_)) => return Err(Problem::body("expected `from` or `since`, found both")),
        (from, None) => from.unwrap_or(0),
        (None, Some(since)) => {
            let ms = times::parse("since", since)?.max(0).unsigned_abs().div_ceil(1000);
            machine.ledger.seq_at(log, Hlc::from_unix_ms(ms))?
        }
    };
    if body.since.is_some() && first > newest {
        return Err(Problem::new(
            StatusCode::NOT_FOUND,
            "receipt.unknown",
            format!(
                "expected receipts of log {log} since then, found none: its newest, seq {newest}, is older"
            ),
            "ask for an earlier time, or for the whole log",
        ));
    }
    Ok(Some((first, body.to.unwrap_or(newest))))
}

// Nothing stands under the name before all of it does.
fn write(
    path: &Path,
    fill: impl FnOnce(&File) -> Result<ExportReport, ServerError>,
) -> Result<ExportReport, Problem> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    let part = path.with_file_name(name);
    // Payloads are in it, so that only its owner may read it.
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(i32::try_from(OFlags::NOFOLLOW.bits()).expect("a flag of open(2)"))
        .open(&part);
    let file = file.map_err(ServerError::io("creating", &part))?;
    file.set_permissions(Permissions::from_mode(0o600))
        .map_err(ServerError::io("making private", &part))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let detail = format!(
                "expected nobody else to write {}, found another export at it",
                part.display()
            );
            return Err(Problem::new(
                StatusCode::CONFLICT,
                "input.exists",
                detail,
                "wait for it, or name another file",
            ));
        }
        Err(TryLockError::Error(error)) => return Err(ServerError::io("locking", &part)(error).into()),
    }
    // Looked at under the lock: whoever held it before has renamed by now.
    if path.exists() {
        drop(std::fs::remove_file(&part));
        return Err(Problem::new(
            StatusCode::CONFLICT,
            "input.exists",
            format!("expected nothing under the name {}, found a file", path.display()),
            "name a file that does not exist; nothing is overwritten",
        ));
    }
    let written = file
        .set_len(0)
        .map_err(ServerError::io("emptying", &part))
        .and_then(|()| fill(&file))
        .and_then(|report| {
            file.sync_all().map_err(ServerError::io("syncing", &part))?;
            std::fs::rename(&part, path).map_err(ServerError::io("renaming", &part))?;
            let folder = path.parent().unwrap_or(path);
            let synced = File::open(folder).and_then(|folder| folder.sync_all());
            synced.map_err(ServerError::io("syncing the folder", folder))?;
            Ok(report)
        });
    Ok(written.inspect_err(|_| drop(std::fs::remove_file(&part)))?)
}
