//! Understanding a claim's answer: it must be sealed by Central's log, and its parts must belong together.

use super::Jobs;
use crate::error::ServerError;
use crate::exchange::{Claimed, Raw};
use ledger::core::Record;
use ledger::core::kinds::{AnyDetail, Fence, JobAccepted, JobClaimed, JobId};

/// What is needed of a claim's answer.
pub(super) struct Work {
    pub(super) fence: Fence,
    pub(super) job: JobId,
    pub(super) attempt: u16,
    pub(super) handler: String,
    pub(super) input: Vec<u8>,
}

impl Jobs {
    // The claim must be sealed by Central's log, and the parts must belong together.
    pub(super) fn understand(&self, claimed: &Claimed) -> Result<Work, ServerError> {
        let bad = |what: &str| ServerError::Malformed(format!("a claim's answer: {what}"));
        let record = |raw: &Raw| {
            let record = Record::parse(&raw.record).map_err(|e| ServerError::Malformed(e.to_string()))?;
            let detail = record
                .statement()
                .any_detail()
                .map_err(|e| ServerError::Malformed(e.to_string()))?;
            Ok::<_, ServerError>((record, detail))
        };
        let (claim, detail) = record(&claimed.claimed)?;
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
        ledger::core::chain::verify_signatures(&claim, &central)
            .map_err(|_| bad("its log signature is not valid"))?;
        let (_, detail) = record(&claimed.accepted)?;
        let AnyDetail::JobAccepted(JobAccepted {
            job: accepted,
            spec,
            request,
            ..
        }) = detail
        else {
            return Err(bad("its second record is no job.accepted"));
        };
        if accepted != job {
            return Err(bad("claim and acceptance are of different jobs"));
        }
        let input = match (&spec.input, &claimed.request) {
            (None, _) => b"null".to_vec(),
            (Some(wanted), Some(raw)) => {
                let (asked, _) = record(raw)?;
                let commits = asked
                    .statement()
                    .payload
                    .as_ref()
                    .is_some_and(|p| p.commitment == wanted.commitment);
                let payload = raw.payload.as_ref().filter(|payload| {
                    commits
                        && asked.statement().id == request
                        && asked
                            .statement()
                            .payload
                            .as_ref()
                            .is_some_and(|w| payload.matches(w))
                });
                payload
                    .ok_or_else(|| bad("the input is absent or not what the job names"))?
                    .bytes
                    .clone()
            }
            (Some(_), None) => return Err(bad("the request with the input is absent")),
        };
        let fence = Fence::of_claim(order.epoch, claim.seal().seq, &claim.seal_digest());
        Ok(Work {
            fence,
            job,
            attempt,
            handler: spec.handler,
            input,
        })
    }
}
