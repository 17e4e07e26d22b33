//! `POST /v1/export`: one log of this machine as a bundle in a file. Only at the local door.
//!
//! What a crash leaves: a file that is no bundle and does not verify; on an error it is removed.

use super::Api;
use super::extract::Json;
use super::problem::Problem;
use super::reply::Reply;
use super::wire::{self, Answer, ExportBody, Exported};
use crate::error::ServerError;
use axum::extract::State;
use ledger::core::LogId;
use std::fs::File;
use std::io::BufWriter;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;

/// Writes one log as a bundle into a file that is not there yet.
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
        // Payloads are in it, so that only its owner may read it.
        let file = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path);
        let file = file.map_err(ServerError::io("creating", &path))?;
        let mut out = BufWriter::new(file);
        let written = machine
            .ledger
            .export(&log, &mut out)
            .map_err(ServerError::from)
            .and_then(|report| {
                out.get_ref()
                    .sync_all()
                    .map_err(ServerError::io("writing", &path))?;
                Ok(report)
            });
        let report = written.inspect_err(|_| {
            // What was begun is no bundle; if it stays, it does not verify.
            drop(std::fs::remove_file(&path));
        })?;
        Ok(Exported {
            log: report.log.to_hex(),
            path: path.display().to_string(),
            receipts: report.receipts,
            payloads: report.payloads,
            erased: report.erased,
            absent: report.absent,
            bytes: report.bytes,
            root: report.root.to_hex(),
            checkpoint: report.checkpoint,
        })
    })
    .await
}
