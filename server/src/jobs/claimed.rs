//! Understanding a claim's answer: it must be sealed by Central's log, and its parts must belong together.

use super::Jobs;
use crate::error::ServerError;
use crate::exchange::{Claimed, Raw};
use ledger::core::kinds::{AnyDetail, Evidence, Fence, JobAccepted, JobClaimed, JobId};
use ledger::core::statement::Trace;
use ledger::core::{Record, chain};

/// Bytes of the two ids of a trace context.
const TRACE_ID_BYTES: usize = 16;
const SPAN_ID_BYTES: usize = 8;

/// What is needed of a claim's answer.
pub(super) struct Work {
    pub(super) fence: Fence,
    pub(super) job: JobId,
    pub(super) attempt: u16,
    pub(super) handler: String,
    pub(super) input: Vec<u8>,
    // Where an earlier run said that a later one may go on from.
    pub(super) checkpoint: Option<Vec<u8>>,
    // W3C trace context: the request's trace, else one that is the job's own; the parent is this claim.
    pub(super) traceparent: String,
}

/// A claim that Central's log sealed for this machine.
pub(super) struct Claim {
    pub(super) fence: Fence,
    pub(super) job: JobId,
    attempt: u16,
    progress: Option<Evidence>,
}

fn bad(what: &str) -> ServerError {
    ServerError::Malformed(format!("a claim's answer: {what}"))
}

fn record(raw: &Raw) -> Result<Record, ServerError> {
    Record::parse(&raw.record).map_err(|e| ServerError::Malformed(e.to_string()))
}

// The payload that came along, when it is what the record committed to.
fn payload_of(record: &Record, raw: &Raw) -> Option<Vec<u8>> {
    let said = record.statement().payload.as_ref()?;
    let payload = raw.payload.as_ref().filter(|payload| payload.matches(said))?;
    Some(payload.bytes.clone())
}

// Sampled: whoever traces follows the run, and this program itself decides nothing about that.
fn traceparent(trace: Option<&Trace>, job: &JobId, fence: &Fence) -> String {
    let trace_id = trace.map_or(job.0.0.as_slice(), |trace| &trace.0[..TRACE_ID_BYTES]);
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    format!("00-{}-{}-01", hex(trace_id), hex(&fence.digest[..SPAN_ID_BYTES]))
}

fn parse(raw: &Raw) -> Result<(Record, AnyDetail), ServerError> {
    let record = record(raw)?;
    let detail = record
        .statement()
        .any_detail()
        .map_err(|e| ServerError::Malformed(e.to_string()))?;
    Ok((record, detail))
}

impl Jobs {
    /// What was claimed, by Central's own signature.
    pub(super) fn claim_of(&self, claimed: &Claimed) -> Result<Claim, ServerError> {
        let (claim, detail) = parse(&claimed.claimed)?;
        let AnyDetail::JobClaimed(JobClaimed {
            job,
            machine,
            attempt,
            progress,
            ..
        }) = detail
        else {
            return Err(bad("its first record is no job.claimed"));
        };
        let snapshot = self.machine.ledger.snapshot();
        let order = snapshot
            .state
            .order()
            .ok_or_else(|| bad("this store does not know the order yet"))?;
        let central = order
            .central_key
            .verifier()
            .map_err(|_| bad("Central's key is not usable"))?;
        if claim.seal().log != order.log || machine != *self.machine.id() {
            return Err(bad("it is not ours, or not of the order that we follow"));
        }
        chain::verify_signatures(&claim, &central).map_err(|_| bad("its log signature is not valid"))?;
        let fence = Fence::of_claim(order.epoch, claim.seal().seq, &claim.seal_digest());
        Ok(Claim {
            fence,
            job,
            attempt,
            progress,
        })
    }

    /// What is to be run: acceptance and input must belong to the claim.
    pub(super) fn work_of(&self, claim: Claim, claimed: &Claimed) -> Result<Work, ServerError> {
        let (_, detail) = parse(&claimed.accepted)?;
        let AnyDetail::JobAccepted(JobAccepted {
            job, spec, request, ..
        }) = detail
        else {
            return Err(bad("its second record is no job.accepted"));
        };
        if job != claim.job {
            return Err(bad("claim and acceptance are of different jobs"));
        }
        let asked = match &claimed.request {
            Some(raw) => Some((record(raw)?, raw)).filter(|(asked, _)| asked.statement().id == request),
            None => None,
        };
        let input = match (&spec.input, &asked) {
            (None, _) => b"null".to_vec(),
            (Some(_), None) => return Err(bad("the request with the input is absent")),
            (Some(wanted), Some((asked, raw))) => {
                let said = asked.statement().payload.as_ref();
                let is_wanted = said.is_some_and(|said| said.commitment == wanted.commitment);
                let given = payload_of(asked, raw).filter(|_| is_wanted);
                given.ok_or_else(|| bad("the input is absent or not what the job names"))?
            }
        };
        // What was erased, or is not to be had, is no reason not to run: from the beginning, then.
        let checkpoint = match (claim.progress, &claimed.progress) {
            (Some(place), Some(raw)) => {
                let said = record(raw)?;
                if said.seal_digest() != place.seal {
                    return Err(bad("its checkpoint is not the one that the claim names"));
                }
                payload_of(&said, raw)
            }
            _ => None,
        };
        let trace = asked.as_ref().and_then(|(asked, _)| asked.statement().trace);
        if let Some(held) = self.held.lock().expect("held lock").get_mut(&claim.fence) {
            held.handler.clone_from(&spec.handler);
        }
        let Claim {
            fence, job, attempt, ..
        } = claim;
        let traceparent = traceparent(trace.as_ref(), &job, &fence);
        Ok(Work {
            fence,
            job,
            attempt,
            handler: spec.handler,
            input,
            checkpoint,
            traceparent,
        })
    }
}
