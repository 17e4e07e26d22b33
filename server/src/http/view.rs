//! From receipts, jobs and payloads to what the API shows of them.
//!
//! Contract: names come from the state, nothing is invented: what this program does not know is shown raw. Payloads are
//! inert bytes: shown as JSON only when they are JSON by name and by content. Does not: read the store.

use super::times;
use super::wire;
use data_encoding::{BASE64, HEXLOWER};
use ledger::core::kinds::DetailError;
use ledger::core::{Grade, Statement};
use ledger::{PayloadState, Receipt};
use ledger_projections::FleetState;
use ledger_projections::queue::{Job, JobState, Phase, answer_for};
use ledger_projections::timeline::describe;
use serde_json::{Value, json};

/// A receipt, in a list.
pub(crate) fn receipt(receipt: &Receipt, state: &FleetState) -> wire::Receipt {
    let line = describe(receipt, state);
    let statement = receipt.statement();
    wire::Receipt {
        id: statement.id.to_string(),
        kind: statement.kind.to_string(),
        line: line.sentence,
        outputs: line.outputs,
        schema: statement.schema,
        grade: match statement.grade {
            Grade::FirstHand => "first-hand",
            Grade::Imported => "imported",
            Grade::Telemetry => "telemetry",
        }
        .to_owned(),
        subject: statement.subject.to_string(),
        time: times::text(times::hlc_us(receipt.time())),
        hlc: receipt.time().0.to_string(),
        authored_at: times::text(statement.authored_at),
        actor: line.actor,
        author: statement.author.to_hex(),
        machine: line.machine,
        stream: line
            .stream
            .map(|stream| stream.as_str())
            .unwrap_or("unknown")
            .to_owned(),
        log: receipt.log().to_hex(),
        seq: receipt.seq(),
        seal: receipt.seal_digest().to_hex(),
        cause: statement.cause.map(|cause| cause.to_string()),
        detail: detail(statement),
        payload: statement.payload.as_ref().map(|payload| wire::PayloadView {
            commitment: payload.commitment.to_hex(),
            bytes: payload.bytes,
            media: payload.media.clone(),
        }),
    }
}

fn detail(statement: &Statement) -> Value {
    match statement.any_detail() {
        Ok(detail) => serde_json::to_value(&detail).unwrap_or_else(|_| raw(&statement.detail)),
        Err(DetailError::Unknown { .. }) if statement.kind.is_custom() => {
            json!({ "media": String::from_utf8_lossy(&statement.detail) })
        }
        Err(_) => raw(&statement.detail),
    }
}

fn raw(bytes: &[u8]) -> Value {
    json!({ "raw": HEXLOWER.encode(bytes) })
}

/// A receipt with its payload and bytes.
pub(crate) fn receipt_full(found: &Receipt, payload: PayloadState, state: &FleetState) -> wire::ReceiptFull {
    let payload_state = match &payload {
        PayloadState::None => "none",
        PayloadState::Present(_) => "present",
        PayloadState::Erased => "erased",
        PayloadState::Absent => "absent",
        PayloadState::Damaged => "damaged",
    };
    wire::ReceiptFull {
        receipt: receipt(found, state),
        payload_state: payload_state.to_owned(),
        content: content(found, payload),
        position: found.position.to_string(),
        record: BASE64.encode(found.record.bytes()),
    }
}

/// A payload that is here, as JSON, text or base64.
pub(crate) fn content(receipt: &Receipt, payload: PayloadState) -> Option<wire::Content> {
    let media = receipt.statement().payload.as_ref()?.media.clone();
    let bytes = payload.present()?.bytes;
    let mut content = wire::Content {
        media,
        json: None,
        text: None,
        base64: None,
    };
    // Parameters, such as the schema of a typed kind, do not make it something else.
    let essence = content.media.split(';').next().unwrap_or_default().trim_end();
    let is_json = essence == "application/json" || essence.ends_with("+json");
    if is_json && let Ok(value) = serde_json::from_slice(&bytes) {
        content.json = Some(value);
        return Some(content);
    }
    match String::from_utf8(bytes) {
        Ok(text) => content.text = Some(text),
        Err(error) => content.base64 = Some(BASE64.encode(error.as_bytes())),
    }
    Some(content)
}

/// A job, in a list.
pub(crate) fn job(job: &Job, state: &FleetState) -> wire::Job {
    let answer = answer_for(state, &job.id);
    let phase = job.phase();
    wire::Job {
        id: job.id.to_string(),
        state: phase.as_str().to_owned(),
        is_final: phase.is_final(),
        handler: job.spec.handler.clone(),
        answer: answer.as_ref().map(ToString::to_string).unwrap_or_default(),
        answer_code: answer
            .as_ref()
            .map(|answer| answer.code())
            .unwrap_or("unknown")
            .to_owned(),
        priority: job.spec.priority,
        machine: machine(job),
        actor: state.name_of(&job.requester),
        requester: job.requester.to_hex(),
        request: job.request.to_string(),
        accepted_at: times::text(job.accepted_at),
        changed_at: times::text(job.changed_at),
        attempts: job.attempts,
        losses: job.losses,
        failovers: job.failovers,
        cancel_asked: job.cancel_asked,
    }
}

fn machine(job: &Job) -> Option<String> {
    let at = job.lease().map(|lease| &lease.machine);
    let by = job.success().map(|success| &success.machine);
    at.or(by).or(job.spec.machine.as_ref()).map(ToString::to_string)
}

/// What made a job fail, or lie among the dead letters.
pub(crate) fn error(job: &Job) -> Option<String> {
    match &job.state {
        JobState::Failed(error) | JobState::Backoff { error, .. } => Some(word(error)),
        JobState::Parked(reason) => Some(word(reason)),
        _ => None,
    }
}

/// The stable word of an enum of the catalogue: what its JSON is.
pub(crate) fn word(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(Value::String(word)) => word,
        Ok(other) => other.to_string(),
        Err(_) => "unknown".to_owned(),
    }
}

/// Reads a state's name.
pub(crate) fn phase(name: &str) -> Option<Phase> {
    Phase::ALL.into_iter().find(|phase| phase.as_str() == name)
}
