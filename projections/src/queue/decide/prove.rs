//! A claim of an epoch's lost tail, proven by the record that Central signed: known again, so that what comes under it is judged.
//!
//! The tail's claims gave nothing that the order knows: their jobs may be ready, or with another machine, by now. A success under such
//! a claim therefore counts as a late one does, and an exclusive one goes to a person, who alone knows what took effect: as long
//! as it waits for a claim it is held.

use super::dependencies::held;
use super::{OrderDraft, about, steer};
use crate::queue::{Job, Phase, Refusal};
use crate::{FleetState, notices};
use ledger_core::kinds::{AnyDetail, Class, Evidence, Fence, HeldReason, JobClaimProven, JobId, NoticeTopic};
use ledger_core::{MachineId, Record, chain};

const GIVEN_IN_LOST_TAIL: &str = "given to a machine in an epoch's lost tail";

/// Makes a claim known that Central gave behind the cut of an earlier epoch. `record` is the signed `job.claimed` that its machine, or
/// whoever followed the order, has kept. Nothing when the claim is known already. An exclusive job that waits is held, with a
/// notice, since what it does may have been done.
///
/// # Errors
/// [`Refusal::NotProven`] for anything else than such a record, [`Refusal::JobUnknown`] as long as the job's request was not accepted anew.
pub fn prove_claim(state: &FleetState, record: &Record) -> Result<Vec<OrderDraft>, Refusal> {
    let not_proven = |why: &'static str| Err(Refusal::NotProven { why });
    let seal = record.seal();
    let Some((epoch, row)) = state.epochs().find(|(_, row)| row.log == seal.log) else {
        return not_proven("it is in no order of this fleet");
    };
    if row.cut.is_none_or(|(cut, _)| seal.seq <= cut) {
        return not_proven(
            "it is not behind the cut of an epoch that is over; that part of the order stands as it is here",
        );
    }
    let central = state.log(&seal.log).map(|log| log.machine_key);
    let Some(key) = central.and_then(|key| key.verifier().ok()) else {
        return not_proven("the order's own log is not in this store");
    };
    if Some(record.statement().author) != central || chain::verify_signatures(record, &key).is_err() {
        return not_proven("Central's key did not sign it");
    }
    let Ok(AnyDetail::JobClaimed(claimed)) = record.statement().any_detail() else {
        return not_proven("it is no job.claimed");
    };
    let job = super::job(state, &claimed.job)?;
    let fence = Fence::of_claim(*epoch, seal.seq, &record.seal_digest());
    if state.fence(&fence).is_some() {
        return Ok(Vec::new());
    }
    let proven = JobClaimProven {
        job: job.id,
        fence,
        machine: claimed.machine,
        incarnation: claimed.incarnation,
        claim: claimed.claim,
        class: claimed.class,
        attempt: claimed.attempt,
        term_ms: claimed.term_ms,
        claimed: Evidence {
            log: seal.log,
            seq: seal.seq,
            seal: record.seal_digest(),
        },
    };
    let mut drafts = vec![about(&job.id, &proven, Some(record.statement().id))];
    let hold = match job.phase() {
        // The order was lost behind its acceptance.
        Phase::Accepted => Ok(vec![held(&job.id, HeldReason::ByHand, GIVEN_IN_LOST_TAIL)]),
        _ => steer::hold(state, &job.id, GIVEN_IN_LOST_TAIL),
    };
    if proven.class == Class::Exclusive
        && let Ok(held) = hold
    {
        // Nothing of it when it was held before; its person has to know all the same.
        drafts.extend(held);
        drafts.extend(told(state, &job.id, &fence, &proven.machine));
    }
    Ok(drafts)
}

/// An exclusive job whose claim just ended without a result, and that was given to a machine in an epoch's lost tail besides: it goes
/// back to no queue by itself, since what it does may have been done under that claim.
pub(super) fn held_for_lost_claim(state: &FleetState, job: &Job) -> Vec<OrderDraft> {
    let over = state
        .epochs()
        .filter_map(|(epoch, row)| Some((*epoch, row.cut?.0)));
    let mut of_lost_tails = over.flat_map(|(epoch, cut)| {
        let place = |seq, digest| Fence { epoch, seq, digest };
        let claims = &state.queue.claims;
        claims.range(place(cut.saturating_add(1), [0; 16])..=place(u64::MAX, [u8::MAX; 16]))
    });
    let exclusive = job.lease().filter(|lease| lease.class == Class::Exclusive);
    match exclusive.and_then(|_| of_lost_tails.find(|(_, claim)| claim.job == job.id)) {
        Some((_, claim)) => {
            let held = held(&job.id, HeldReason::ByHand, GIVEN_IN_LOST_TAIL);
            // Each time anew: it is held anew.
            let ended = job.last_fence.iter();
            std::iter::once(held)
                .chain(ended.flat_map(|ended| told(state, &job.id, ended, &claim.machine)))
                .collect()
        }
        None => Vec::new(),
    }
}

fn told(state: &FleetState, job: &JobId, fence: &Fence, machine: &MachineId) -> Vec<OrderDraft> {
    let text = format!(
        "exclusive job {job} was given to {machine} in an epoch's lost tail and may have taken effect: release or discard it"
    );
    let key: [&[u8]; 3] = [b"claim proven", &job.0.0, &fence.digest];
    notices::raise(state, NoticeTopic::JobParked, Some(machine), &text, &key)
}

/// Whether a claim was given in the part of an epoch's order that was lost.
pub(super) fn is_of_lost_tail(state: &FleetState, fence: &Fence) -> bool {
    let row = state.epochs().find(|(epoch, _)| **epoch == fence.epoch);
    row.and_then(|(_, row)| row.cut)
        .is_some_and(|(cut, _)| fence.seq > cut)
}
