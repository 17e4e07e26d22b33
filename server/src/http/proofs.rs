//! `POST /v1/prove`, `POST /v1/publish`, `GET /v1/keys`: what strangers can check. Only at the local door: a proof carries a
//! payload, publishing writes where it is told, and keys are pinned from hand to hand.

use super::Api;
use super::extract::Json;
use super::problem::Problem;
use super::reply::Reply;
use super::wire::{self, Answer, LogKey, ProveBody, Proved, PublishBody, PublishedLog};
use axum::extract::State;
use ledger::core::proof::check;
use ledger::core::{LogId, ReceiptId};
use std::path::PathBuf;
use std::sync::Arc;

fn log_of(text: &str) -> Result<LogId, Problem> {
    LogId::from_hex(text)
        .ok_or_else(|| Problem::body(format!("expected `log` as 64 hex characters, found {text:?}")))
}

/// Proves one receipt of a log of this machine.
#[utoipa::path(
    post, path = "/v1/prove", operation_id = "prove_receipt", tag = "receipts", request_body = ProveBody,
    responses(
        (status = 200, description = "The proof", body = Answer<Proved>),
        (status = "default", description = "A problem", body = wire::Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn prove(
    State(api): State<Arc<Api>>,
    Json(body): Json<ProveBody>,
) -> Result<Reply<Answer<Proved>>, Problem> {
    let place = match (&body.id, &body.log, body.seq) {
        (Some(id), None, None) => {
            let parsed = ReceiptId::parse(id);
            Err(parsed
                .ok_or_else(|| Problem::body(format!("expected `id` as a receipt's id, found {id:?}")))?)
        }
        (None, Some(log), Some(seq)) => Ok((log_of(log)?, seq)),
        _ => {
            return Err(Problem::body(
                "expected either `id`, or `log` and `seq`".to_owned(),
            ));
        }
    };
    api.item(move |machine, _| {
        let ledger = &machine.ledger;
        let proof = match place {
            Ok((log, seq)) => Some(ledger.prove(&log, seq)?),
            Err(id) => ledger.prove_id(&id)?,
        };
        let proof = proof.ok_or_else(|| {
            Problem::unknown(
                "receipt.unknown",
                "expected a receipt with this id, found none in this store".to_owned(),
                "ask the machine that wrote it",
            )
        })?;
        let pins: Vec<_> = machine
            .ledger
            .snapshot()
            .logs
            .keys()
            .filter_map(|log| ledger.verifier_key(log))
            .collect();
        let proven = check(&proof, &pins).map_err(ledger::LedgerError::from)?;
        let log = proven.checkpoint.log;
        let key = ledger
            .verifier_key(&log)
            .ok_or(ledger::LedgerError::UnknownLog(log))?;
        Ok(Proved {
            log: log.to_hex(),
            seq: proven.record.seal().seq,
            id: proven.record.statement().id.to_string(),
            tree_size: proven.checkpoint.tree_size,
            payload: proven.payload.is_some(),
            key: key.to_text(),
            proof,
        })
    })
    .await
}

/// Publishes a log of this machine as C2SP tiles into a directory, or adds what is new.
#[utoipa::path(
    post, path = "/v1/publish", operation_id = "publish_log", tag = "receipts", request_body = PublishBody,
    responses(
        (status = 200, description = "What was written", body = Answer<PublishedLog>),
        (status = "default", description = "A problem", body = wire::Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn publish(
    State(api): State<Arc<Api>>,
    Json(body): Json<PublishBody>,
) -> Result<Reply<Answer<PublishedLog>>, Problem> {
    let log = log_of(&body.log)?;
    let path = PathBuf::from(&body.path);
    if !path.is_absolute() {
        let found = path.display();
        return Err(Problem::body(format!(
            "expected `path` as an absolute path, found {found}"
        )));
    }
    api.item(move |machine, _| {
        let report = machine.ledger.publish(&log, &path)?;
        let key = machine
            .ledger
            .verifier_key(&log)
            .ok_or(ledger::LedgerError::UnknownLog(log))?;
        Ok(PublishedLog {
            log: report.log.to_hex(),
            path: path.display().to_string(),
            receipts: report.receipts,
            receipts_before: report.receipts_before,
            tiles: report.tiles,
            bundles: report.bundles,
            mended: report.mended,
            bytes: report.bytes,
            root: report.root.to_hex(),
            key: key.to_text(),
            checkpoint: report.checkpoint,
        })
    })
    .await
}

/// The checkpoint keys of all logs here, own ones first; then those with which the machines cosign others' checkpoints.
#[utoipa::path(
    get, path = "/v1/keys", operation_id = "list_keys", tag = "receipts",
    responses(
        (status = 200, description = "The keys", body = Answer<Vec<LogKey>>),
        (status = "default", description = "A problem", body = wire::Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn keys(State(api): State<Arc<Api>>) -> Result<Reply<Answer<Vec<LogKey>>>, Problem> {
    api.item(|machine, snapshot| {
        let own = machine.ledger.context().machine_key;
        let mut keys: Vec<LogKey> = snapshot
            .logs
            .iter()
            .filter_map(|(log, chain)| {
                let genesis = chain.genesis();
                Some(LogKey {
                    log: log.to_hex(),
                    machine: genesis.machine.to_string(),
                    stream: genesis.stream.to_string(),
                    incarnation: genesis.incarnation,
                    own: chain.machine_key() == own,
                    key: machine.ledger.verifier_key(log)?.to_text(),
                })
            })
            .collect();
        keys.sort_by(|a, b| {
            let of = |k: &LogKey| (!k.own, k.machine.clone(), k.incarnation, k.stream.clone());
            of(a).cmp(&of(b))
        });
        let machines = snapshot.state.machines();
        keys.extend(machines.filter_map(|row| {
            Some(LogKey {
                log: String::new(),
                machine: row.id.to_string(),
                stream: "witness".to_owned(),
                incarnation: 0,
                own: row.machine_key == own,
                key: crate::cosign::pin_of(&snapshot.state, &row.id)?.to_text(),
            })
        }));
        Ok(keys)
    })
    .await
}
