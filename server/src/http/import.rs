//! `POST /v1/import`: a bundle's log into this machine's store, as it is. Only at the local door.
//!
//! A log of a machine of this fleet is taken in by the gateway as if that machine had pushed it: pinned, and with all that
//! follows from it. What a crash leaves is a whole prefix of the log; the same import goes on behind it.

use super::Api;
use super::extract::Json;
use super::problem::Problem;
use super::reply::Reply;
use super::wire::{self, Answer, ImportBody, Imported};
use crate::error::ServerError;
use crate::gateway::exchange::take_in_now;
use crate::machine::Machine;
use axum::extract::State;
use http::StatusCode;
use ledger::core::bundle::FrameParser;
use ledger::core::{LogId, MachineId, canonical};
use ledger::{ImportError, ImportReport};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes that hold a bundle's first line and header.
const BEGIN_BYTES: u64 = 512;

/// Takes in a bundle that lies in a file.
#[utoipa::path(
    post, path = "/v1/import", operation_id = "import_log", tag = "receipts", request_body = ImportBody,
    responses(
        (status = 200, description = "What was taken in; it is durable", body = Answer<Imported>),
        (status = "default", description = "A problem", body = wire::Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn import(
    State(api): State<Arc<Api>>,
    Json(body): Json<ImportBody>,
) -> Result<Reply<Answer<Imported>>, Problem> {
    let path = PathBuf::from(&body.path);
    if !path.is_absolute() {
        let found = path.display();
        return Err(Problem::body(format!(
            "expected `path` as an absolute path, found {found}"
        )));
    }
    let machine = Arc::clone(&api.machine);
    let looking = tokio::task::spawn_blocking(move || {
        let log = log_of(&path)?;
        Ok::<_, Problem>((log.and_then(|log| pushed_by(&machine, &log)), path))
    });
    let (node, path) = looking.await.map_err(|_| Problem::broken("reading a bundle"))??;
    if node.is_some() {
        // What its machine would have to wait for, this waits for, too.
        api.machine.central.wait_until_serving().await?;
    }
    let machine = Arc::clone(&api.machine);
    let importing = tokio::task::spawn_blocking(move || run(&machine, &path, node.as_ref()));
    let report = importing.await.map_err(|_| Problem::broken("importing"))??;
    let imported = Imported {
        log: report.log.to_hex(),
        machine: report.machine,
        stream: report.stream.map(|stream| stream.to_string()),
        first: report.first,
        receipts: report.receipts,
        new: report.new,
        known: report.known,
        inadmissible: report.inadmissible,
        payloads: report.payloads,
        erased: report.erased,
        absent: report.absent,
        size: report.size,
    };
    api.item(move |_, _| Ok(imported)).await
}

fn open(path: &Path) -> Result<File, Problem> {
    let opened = File::open(path).map_err(ServerError::io("opening", path));
    opened.map_err(Problem::from)
}

// Which log a bundle says to hold; none when it says nothing, which the import tells.
fn log_of(path: &Path) -> Result<Option<LogId>, Problem> {
    let mut begin = Vec::new();
    let read = open(path)?.take(BEGIN_BYTES).read_to_end(&mut begin);
    read.map_err(ServerError::io("reading", path))?;
    let mut parser = FrameParser::new();
    parser.push(&begin);
    let header = parser.next_frame().ok().flatten();
    let header = header
        .and_then(|frame| canonical::decode::<ledger::core::bundle::Header>("header", &frame.bytes).ok());
    Ok(header.map(|header| header.log))
}

// The machine that pushes a log to this one.
fn pushed_by(machine: &Machine, log: &LogId) -> Option<MachineId> {
    let snapshot = machine.ledger.snapshot();
    let own = &machine.ledger.context().machine;
    if !snapshot.state.is_central() {
        return None;
    }
    let mut others = snapshot.state.machines().filter(|other| other.id != *own);
    let writes = others.find(|other| snapshot.state.writes(other, log));
    writes.map(|other| other.id.clone())
}

fn run(machine: &Machine, path: &Path, node: Option<&MachineId>) -> Result<ImportReport, Problem> {
    let mut file = open(path)?;
    let done = match node {
        None => machine.ledger.import(&mut file),
        Some(node) => machine.ledger.import_with(&mut file, &mut |run| {
            take_in_now(machine, run, node).map_err(|error| match error {
                ServerError::Ledger(error) => ImportError::Ledger(error),
                other => ImportError::Refused {
                    code: other.code(),
                    text: other.to_string(),
                },
            })
        }),
    };
    done.map_err(problem)
}

fn problem(error: ImportError) -> Problem {
    let (code, detail) = (error.code(), error.to_string());
    match error {
        ImportError::Ledger(error) => error.into(),
        ImportError::Fork { .. } | ImportError::OwnLog { .. } => Problem::new(
            StatusCode::CONFLICT,
            code,
            detail,
            "keep the bundle and the store as they are, and compare both with the machine's owner",
        ),
        _ => Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            code,
            detail,
            "look at the bundle with `ledger verify`, which names all that is wrong, and ask for a whole one",
        ),
    }
}
