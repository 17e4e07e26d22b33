//! Understanding a claim's answer: it must be sealed by Central's log, and its parts must belong together.

use super::Jobs;
use crate::error::ServerError;
use crate::exchange::{Claimed, Raw};
use ledger::core::kinds::{AnyDetail, Fence, JobAccepted, JobClaimed, JobId};
use ledger::core::{Record, chain};

/// What is needed of a claim's answer.
pub(super) struct Work {
    pub(super) fence: Fence,
    pub(super) job: JobId,
    pub(super) attempt: u16,
    pub(super) handler: String,
    pub(super) input: Vec<u8>,
}

/// A claim that Central's log sealed for this machine.
pub(super) struct Claim {
    pub(super) fence: Fence,
    pub(super) job: JobId,
    attempt: u16,
}

fn bad(what: &str) -> ServerError {
    ServerError::Malformed(format!("a claim's answer: {what}"))
}

fn parse(raw: &Raw) -> Result<(Record, AnyDetail), ServerError> {
    let record = Record::parse(&raw.record).map_err(|e| ServerError::Malformed(e.to_string()))?;
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
        Ok(Claim { fence, job, attempt })
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
        let input = match (&spec.input, &claimed.request) {
            (None, _) => b"null".to_vec(),
            (Some(_), None) => return Err(bad("the request with the input is absent")),
            (Some(wanted), Some(raw)) => {
                let asked = Record::parse(&raw.record).map_err(|e| ServerError::Malformed(e.to_string()))?;
                let said = asked
                    .statement()
                    .payload
                    .as_ref()
                    .filter(|said| said.commitment == wanted.commitment);
                let given = said
                    .zip(raw.payload.as_ref())
                    .filter(|(said, payload)| payload.matches(said));
                let given = given.filter(|_| asked.statement().id == request);
                let (_, payload) =
                    given.ok_or_else(|| bad("the input is absent or not what the job names"))?;
                payload.bytes.clone()
            }
        };
        if let Some(held) = self.held.lock().expect("held lock").get_mut(&claim.fence) {
            held.handler.clone_from(&spec.handler);
        }
        let Claim { fence, job, attempt } = claim;
        Ok(Work {
            fence,
            job,
            attempt,
            handler: spec.handler,
            input,
        })
    }
}
