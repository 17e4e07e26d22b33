//! The whole life of a job as its receipts tell it.
//!
//! Owns: putting a job's receipts together, those of this store and those that its gateway brought, and saying which are cited
//! and nowhere to be had. Contract: what is brought counts only when it verifies: a request by its author's signature, a report by
//! the signature of the machine whose log it stands in, both by the digest that the order cites where it does. Does not: keep
//! what was brought.

use super::limits::{EVIDENCE_BYTES_MAX, EVIDENCE_WITHIN, JOB_RECEIPTS_MAX};
use super::problem::Problem;
use super::wire::{self, JobFull, RawRecord, SaidPayload};
use super::{jobs, times, view};
use crate::machine::Machine;
use crate::marks::Standing;
use data_encoding::{BASE64, HEXLOWER};
use http::Method;
use ledger::core::kinds::{AnyDetail, Costs, Evidence, Fence, JobId};
use ledger::core::{LogId, Payload, Record, Salt, SealDigest, chain};
use ledger::{LedgerError, PayloadState, Position, Receipt};
use ledger_projections::FleetState;
use ledger_projections::queue::Job;
use ledger_projections::timeline::merge_key;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A receipt of a job's life; one that was brought comes with its payload.
struct Piece {
    receipt: Receipt,
    brought: Option<PayloadState>,
}

impl Piece {
    fn payload(&self, machine: &Machine) -> Result<PayloadState, LedgerError> {
        match &self.brought {
            Some(payload) => Ok(payload.clone()),
            None => machine.ledger.payload(&self.receipt),
        }
    }

    fn detail(&self) -> Option<AnyDetail> {
        self.receipt.statement().any_detail().ok()
    }
}

/// The request and everything about a job that this store has, in order.
fn of_store(machine: &Machine, state: &FleetState, job: &Job) -> Result<Vec<Receipt>, LedgerError> {
    let mut receipts = machine.ledger.by_subject(&job.id.subject())?;
    let of_requester = |receipt: &Receipt| receipt.statement().author == job.requester;
    let requests = machine.ledger.find(&job.request)?.into_iter();
    receipts.extend(requests.filter(of_requester));
    receipts.sort_by_cached_key(|receipt| (merge_key(receipt, state), receipt.position));
    receipts.dedup_by_key(|receipt| receipt.position);
    Ok(receipts)
}

/// What the order cites about a job, and as what.
fn cited(job: &Job, receipts: &[Receipt]) -> BTreeMap<(LogId, u64), (Evidence, String)> {
    let mut cited = BTreeMap::new();
    let mut cite = |evidence: Evidence, what: &str| {
        let place = (evidence.log, evidence.seq);
        cited.entry(place).or_insert_with(|| (evidence, what.to_owned()));
    };
    for receipt in receipts {
        let evidence = match receipt.statement().any_detail() {
            Ok(AnyDetail::JobStarted(d)) => Some(d.evidence),
            Ok(AnyDetail::JobCheckpointed(d)) => Some(d.evidence),
            Ok(AnyDetail::JobSucceeded(d)) => Some(d.evidence),
            Ok(AnyDetail::JobAttemptFailed(d)) => Some(d.evidence),
            Ok(AnyDetail::JobLateResult(d)) => Some(d.evidence),
            Ok(AnyDetail::JobResultConflict(d)) => Some(d.evidence),
            Ok(AnyDetail::JobRequeued(d)) => d.evidence,
            Ok(AnyDetail::JobCancelled(d)) => d.evidence,
            Ok(AnyDetail::JobFailed(d)) => d.evidence,
            _ => None,
        };
        if let Some(evidence) = evidence {
            cite(evidence, &format!("what {} goes by", receipt.kind()));
        }
    }
    if let Some(evidence) = job.evidence {
        cite(evidence, "the request");
    }
    cited
}

fn is_here(machine: &Machine, evidence: &Evidence) -> Result<bool, LedgerError> {
    let found = machine.ledger.get(&evidence.log, evidence.seq)?;
    Ok(found.is_some_and(|receipt| receipt.seal_digest() == evidence.seal))
}

/// Whether something that the order cites about a job is not in this store.
pub(super) fn absent(machine: &Machine, state: &FleetState, job: JobId) -> Result<bool, Problem> {
    let job = jobs::known(machine, state, job)?;
    for (evidence, _) in cited(job, &of_store(machine, state, job)?).values() {
        if !is_here(machine, evidence)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The records about a job outside the order, as far as one answer holds them.
pub(super) fn evidence(machine: &Machine, state: &FleetState, job: JobId) -> Result<Vec<RawRecord>, Problem> {
    let job = jobs::known(machine, state, job)?;
    let orders: BTreeSet<LogId> = state.epochs().map(|(_, epoch)| epoch.log).collect();
    let receipts = of_store(machine, state, job)?;
    let cited = cited(job, &receipts);
    let mut records = Vec::new();
    for receipt in receipts.iter().filter(|receipt| !orders.contains(&receipt.log())) {
        let payload = machine.ledger.payload(receipt)?.present();
        let bytes = receipt.record.bytes().len() + payload.as_ref().map_or(0, |payload| payload.bytes.len());
        let weight = match cited.contains_key(&(receipt.log(), receipt.seq())) {
            _ if receipt.id() == job.request => Weight::Request,
            true => Weight::Cited,
            false => Weight::Other,
        };
        records.push((weight, bytes, receipt, payload));
    }
    let held = held(records.iter().map(|(weight, bytes, ..)| (*weight, *bytes)));
    let held = records.into_iter().zip(held).filter(|(_, held)| *held);
    let raw = held.map(|((_, _, receipt, payload), _)| RawRecord {
        record: BASE64.encode(receipt.record.bytes()),
        payload: payload.map(|payload| SaidPayload {
            salt: HEXLOWER.encode(&payload.salt.0),
            bytes: BASE64.encode(&payload.bytes),
        }),
    });
    Ok(raw.collect())
}

/// What a record about a job is for whoever lacks it, the most needed first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Weight {
    Request,
    Cited,
    Other,
}

// Which records, of those given oldest first, one answer holds: the request, then what the order cites from the newest on, which
// is what the job ended by, then the others from the oldest on.
fn held(records: impl Iterator<Item = (Weight, usize)>) -> Vec<bool> {
    let mut order: Vec<(usize, Weight, usize)> = records
        .enumerate()
        .map(|(at, (weight, bytes))| (at, weight, bytes))
        .collect();
    let mut held = vec![false; order.len()];
    order.sort_by_key(|(at, weight, _)| match weight {
        Weight::Cited => (*weight, usize::MAX - at),
        _ => (*weight, *at),
    });
    let (mut left, mut places) = (EVIDENCE_BYTES_MAX, JOB_RECEIPTS_MAX);
    for (at, _, bytes) in order {
        if places == 0 {
            break;
        }
        if let Some(rest) = left.checked_sub(bytes) {
            (left, places) = (rest, places - 1);
            held[at] = true;
        }
    }
    held
}

/// What the gateway has about a job outside the order; nothing when it cannot be asked, or does not answer.
pub(super) async fn fetch(machine: &Machine, job: JobId) -> Option<Vec<RawRecord>> {
    let gateway = machine.upstream()?;
    let target = format!("/v1/jobs/{job}/evidence");
    let asking = gateway.call(Method::GET, &target, "", Vec::new());
    let answer = match tokio::time::timeout(EVIDENCE_WITHIN, asking).await {
        Ok(Ok(body)) => serde_json::from_slice::<wire::Answer<Vec<RawRecord>>>(&body)
            .map_err(|error| tracing::debug!(%job, %error, "the gateway's evidence cannot be read")),
        Ok(Err(error)) => {
            tracing::debug!(%job, %error, "the gateway does not bring evidence");
            Err(())
        }
        Err(_) => Err(()),
    };
    answer.map(|answer| answer.item).ok()
}

// What was brought, when it proves itself.
fn proven(state: &FleetState, job: &Job, raw: &RawRecord) -> Option<Piece> {
    let record = Record::parse(&BASE64.decode(raw.record.as_bytes()).ok()?).ok()?;
    let statement = record.statement();
    let stands = if statement.id == job.request && statement.author == job.requester {
        record.author_signature().is_some() && chain::verify_author(&record).is_ok()
    } else {
        let row = state.machine_by_key(&statement.author)?;
        let key = row.machine_key.verifier().ok()?;
        row.machine_key == statement.author
            && statement.subject == job.id.subject()
            && chain::verify_signatures(&record, &key).is_ok()
    };
    if !stands {
        return None;
    }
    let payload = match (&statement.payload, &raw.payload) {
        (None, _) => PayloadState::None,
        (Some(wanted), Some(said)) => {
            let payload = Payload {
                salt: Salt(HEXLOWER.decode(said.salt.as_bytes()).ok()?.try_into().ok()?),
                bytes: BASE64.decode(said.bytes.as_bytes()).ok()?,
            };
            if payload.matches(wanted) {
                PayloadState::Present(payload)
            } else {
                PayloadState::Absent
            }
        }
        (Some(_), None) => PayloadState::Absent,
    };
    let receipt = Receipt {
        position: Position::START,
        record: Arc::new(record),
    };
    Some(Piece {
        receipt,
        brought: Some(payload),
    })
}

/// What was asked of the gateway for one answer.
pub(super) enum Asked {
    /// Nothing: all is here, this is the gateway, or the caller wants no more than this store has.
    Nothing,
    /// It has brought this; nothing where it could not be asked or did not answer.
    For(Option<Vec<RawRecord>>),
}

/// A job with all there is to say.
pub(super) fn tell(
    machine: &Machine,
    state: &FleetState,
    job: JobId,
    asked: Asked,
) -> Result<JobFull, Problem> {
    let (gateway_answered, brought) = match asked {
        Asked::Nothing => (None, Vec::new()),
        Asked::For(brought) => (Some(brought.is_some()), brought.unwrap_or_default()),
    };
    let job = jobs::known(machine, state, job)?;
    let receipts = of_store(machine, state, job)?;
    let cited = cited(job, &receipts);
    let here: BTreeSet<(LogId, u64)> = receipts.iter().map(|r| (r.log(), r.seq())).collect();
    let local = receipts.into_iter().map(|receipt| Piece {
        receipt,
        brought: None,
    });
    let mut pieces: Vec<Piece> = local.collect();
    for piece in brought.iter().filter_map(|raw| proven(state, job, raw)) {
        let place = (piece.receipt.log(), piece.receipt.seq());
        let other = |(evidence, _): &(Evidence, String)| evidence.seal != piece.receipt.seal_digest();
        if !here.contains(&place) && !cited.get(&place).is_some_and(other) {
            pieces.push(piece);
        }
    }
    pieces.sort_by_cached_key(|piece| merge_key(&piece.receipt, state));
    let fetched = pieces.iter().filter(|piece| piece.brought.is_some()).count();
    let had: BTreeSet<SealDigest> = pieces.iter().map(|piece| piece.receipt.seal_digest()).collect();
    let mut absent = Vec::new();
    for (evidence, what) in cited.into_values() {
        if !had.contains(&evidence.seal) && !is_here(machine, &evidence)? {
            absent.push(wire::AbsentEvidence {
                what,
                log: evidence.log.to_hex(),
                seq: evidence.seq,
                seal: evidence.seal.to_hex(),
            });
        }
    }
    let content = |piece: Option<&Piece>| -> Result<Option<wire::Content>, LedgerError> {
        let Some(piece) = piece else { return Ok(None) };
        Ok(view::content(&piece.receipt, piece.payload(machine)?))
    };
    let success = job.success();
    let result = success.and_then(|success| {
        let (log, seq) = (success.evidence.log, success.evidence.seq);
        pieces
            .iter()
            .find(|piece| (piece.receipt.log(), piece.receipt.seq()) == (log, seq))
    });
    let failed = pieces
        .iter()
        .rev()
        .find(|piece| piece.receipt.kind() == "run.failed");
    let request = pieces.iter().find(|piece| piece.receipt.id() == job.request);
    let alone = pieces.iter().rev().any(|piece| {
        let (log, seq) = (piece.receipt.log(), piece.receipt.seq());
        piece.brought.is_none() && machine.standing_at(state, &log, seq) == Standing::Local
    });
    let standing = if alone {
        Standing::Local
    } else {
        Standing::Replicated
    };
    Ok(JobFull {
        job: view::job(job, state),
        standing: standing.as_str().to_owned(),
        spec: serde_json::to_value(&job.spec).unwrap_or_default(),
        runs: runs(&pieces, state),
        input: content(request)?,
        result: content(result)?,
        result_digest: success.map(|success| success.result.to_hex()),
        outputs: success
            .map(|success| outputs(&pieces, &success.fence))
            .unwrap_or_default(),
        outputs_count: success.map_or(0, |success| success.outputs.count),
        costs: success.map(|success| costs(&success.costs)),
        error: view::error(job),
        tail: content(failed)?,
        retried_as: job.retried_as.map(|next| next.to_string()),
        receipts: pieces
            .iter()
            .take(JOB_RECEIPTS_MAX)
            .map(|piece| shown(piece, state))
            .collect(),
        fetched: u32::try_from(fetched).unwrap_or(u32::MAX),
        gateway_answered,
        absent,
    })
}

// A log that is not in this store tells no machine; the key of its machine does.
fn shown(piece: &Piece, state: &FleetState) -> wire::Receipt {
    let mut shown = view::receipt(&piece.receipt, state);
    if piece.brought.is_some()
        && let Some(row) = state.machine_by_key(&piece.receipt.statement().author)
    {
        shown.machine = row.id.to_string();
    }
    shown
}

fn costs(costs: &Costs) -> wire::Costs {
    wire::Costs {
        wall_ms: costs.wall_ms,
        cpu_ms: costs.cpu_ms,
        peak_memory_bytes: costs.peak_memory_bytes,
        tokens: costs.tokens,
        usd_micros: costs.usd_micros,
    }
}

/// The claims that receipts tell of, oldest first, each with what became of it.
fn runs(pieces: &[Piece], state: &FleetState) -> Vec<wire::Attempt> {
    let mut runs: Vec<(Fence, wire::Attempt)> = Vec::new();
    for piece in pieces {
        let (Some(detail), receipt) = (piece.detail(), &piece.receipt) else {
            continue;
        };
        let at = || times::text(times::hlc_us(receipt.time()));
        if let AnyDetail::JobClaimed(_) = detail {
            runs.extend(claimed(receipt, state, at()));
            continue;
        }
        let Some((fence, event)) = event(&detail) else {
            continue;
        };
        let Some((_, run)) = runs.iter_mut().find(|(of, _)| *of == fence) else {
            continue;
        };
        match event {
            Event::Started => run.started_at = run.started_at.take().or_else(|| Some(at())),
            Event::Checkpoint => run.checkpoints += 1,
            Event::Ended(how, cost) => {
                if run.ended_at.is_none() {
                    (run.ended_at, run.ended) = (Some(at()), Some(how.to_owned()));
                }
                run.costs = run.costs.or_else(|| cost.map(|cost| costs(&cost)));
            }
        }
    }
    runs.into_iter().map(|(_, run)| run).collect()
}

/// What a receipt tells of a run.
enum Event {
    Started,
    Checkpoint,
    Ended(&'static str, Option<Costs>),
}

// The order's own words: where the reports themselves are absent, they still tell it.
fn event(detail: &AnyDetail) -> Option<(Fence, Event)> {
    Some(match detail {
        AnyDetail::JobStarted(d) => (d.fence, Event::Started),
        AnyDetail::JobCheckpointed(d) => (d.fence, Event::Checkpoint),
        AnyDetail::JobSucceeded(d) => (d.fence, Event::Ended("succeeded", Some(d.costs))),
        AnyDetail::JobAttemptFailed(d) => (d.fence, Event::Ended("failed", Some(d.costs))),
        AnyDetail::JobRequeued(d) => (d.fence, Event::Ended("requeued", None)),
        AnyDetail::JobFailedOver(d) => (d.fence, Event::Ended("failed-over", None)),
        AnyDetail::JobResultConflict(d) => (d.fence, Event::Ended("conflict", None)),
        AnyDetail::JobLateResult(d) => (d.fence, Event::Ended("late", None)),
        AnyDetail::JobCancelled(d) => (d.fence?, Event::Ended("cancelled", None)),
        AnyDetail::JobExpired(d) => (d.fence?, Event::Ended("expired", None)),
        AnyDetail::JobParked(d) => (d.fence?, Event::Ended("parked", None)),
        _ => return None,
    })
}

fn claimed(receipt: &Receipt, state: &FleetState, claimed_at: String) -> Option<(Fence, wire::Attempt)> {
    let (epoch, _) = state.epochs().find(|(_, row)| row.log == receipt.log())?;
    let fence = Fence::of_claim(*epoch, receipt.seq(), &receipt.seal_digest());
    let claim = state.fence(&fence)?;
    let verdicts = claim.judged.iter().map(|judged| view::word(&judged.verdict));
    let attempt = wire::Attempt {
        fence: fence.to_string(),
        machine: claim.machine.to_string(),
        attempt: claim.attempt,
        class: claim.class.to_string(),
        started: claim.started,
        claimed_at,
        started_at: None,
        checkpoints: 0,
        ended_at: None,
        ended: None,
        costs: None,
        verdicts: verdicts.collect(),
    };
    Some((fence, attempt))
}

fn outputs(pieces: &[Piece], fence: &Fence) -> Vec<wire::Output> {
    let staged = pieces.iter().filter_map(|piece| match piece.detail() {
        Some(AnyDetail::ArtifactStaged(staged)) if staged.fence == *fence => Some(staged),
        _ => None,
    });
    staged
        .map(|staged| wire::Output {
            path: staged.path,
            blake3: staged.blake3.to_hex(),
            size: staged.size,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_holds_the_request_and_what_the_job_ended_by_however_many_records_there_are() {
        let outputs = JOB_RECEIPTS_MAX + 500;
        let mut records = vec![(Weight::Request, 100)];
        records.extend(vec![(Weight::Cited, 100); 700]);
        records.extend(vec![(Weight::Other, 100); outputs]);
        records.push((Weight::Cited, 100));
        let held_of = |records: &[(Weight, usize)]| held(records.iter().copied());
        let all = held_of(&records);
        assert_eq!(all.iter().filter(|held| **held).count(), JOB_RECEIPTS_MAX);
        assert!(all[0] && all[all.len() - 1] && all[701] && !all[all.len() - 2]);
        // In bytes as well: what is too large leaves room to what is not.
        let large = held_of(&[
            (Weight::Other, EVIDENCE_BYTES_MAX),
            (Weight::Cited, EVIDENCE_BYTES_MAX / 2),
            (Weight::Cited, EVIDENCE_BYTES_MAX / 2),
            (Weight::Request, 100),
        ]);
        assert_eq!(large, [false, false, true, true]);
    }
}
