//! What orphan branches tell, read from where they are kept, a bounded piece at a time.
//!
//! A branch whose end `log.cited` names was settled up to there: what was asked there applied then, or was refused, and is not asked
//! again months later. Only what nobody could decide yet is read again: it names a job whose request is not here.

use super::about::{About, steered};
use super::again::{AT_ONCE, BYTES_AT_ONCE, Erasure, Offer, Tick};
use super::records::raw_of;
use crate::error::ServerError;
use crate::exchange::Raw;
use crate::machine::Machine;
use ledger::core::digest::derived_id;
use ledger::core::kinds::{
    AnyDetail, CitedHead, Class, Detail, Fence, JobCancelAsked, JobClaimed, JobDiscarded, JobHeld, JobId,
    JobReleased, LogCited, RequestReceived,
};
use ledger::core::{Draft, Payload, ReceiptId, Record, SignedStatement, Statement, VerifiedStatement};
use ledger::{LedgerError, Receipt};
use ledger_projections::schedules::FiredBefore;
use ledger_projections::{FleetState, Place};

/// What people say about jobs that is said again, beside erasures.
const STEERS: [&str; 4] = [
    JobCancelAsked::KIND,
    JobHeld::KIND,
    JobReleased::KIND,
    JobDiscarded::KIND,
];
/// Records of a branch that are looked through for one piece at most.
const LOOK_MAX: usize = 4096;

/// The end of an order behind its cut.
#[derive(Clone)]
pub(super) struct Branch {
    /// The epoch, and where it was cut.
    pub(super) epoch: u64,
    pub(super) cut: u64,
    /// The end of its log.
    pub(super) cited: CitedHead,
    // Up to where the order cites it as settled; its cut when it does not.
    settled: u64,
    // Up to where this process said it again.
    said: u64,
}

/// What some records of a branch tell.
pub(super) struct Piece {
    /// To be decided, in this order; each with its place.
    pub(super) told: Vec<(Place, Told)>,
    /// Where the next piece begins.
    pub(super) next: Option<u64>,
    pub(super) counts: Counts,
}

/// What a branch tells of what was not settled, counted.
#[derive(Default)]
pub(super) struct Counts {
    /// Requests that are offered again.
    pub(super) offered: u64,
    /// What else people said: it is not said again.
    pub(super) others: u64,
    /// Ticks of schedules whose jobs are not asked for again.
    pub(super) passed_over: u64,
    /// Schedule and nominal time of the last of them, microseconds since 1970.
    pub(super) last_passed_over: Option<(String, i64)>,
}

impl Counts {
    /// With those of the next piece.
    pub(super) fn and(self, next: Self) -> Self {
        Self {
            offered: self.offered.saturating_add(next.offered),
            others: self.others.saturating_add(next.others),
            passed_over: self.passed_over.saturating_add(next.passed_over),
            last_passed_over: next.last_passed_over.or(self.last_passed_over),
        }
    }
}

/// What one record of a branch tells.
pub(super) enum Told {
    /// To be sealed again, or to wait for what it names.
    Request(Box<Offer>),
    /// To be said once more by Central, unless the schedule made up for it.
    Tick(Box<Tick>),
    /// To be proven, or to wait for the request of its job.
    Claim(Box<Receipt>),
    /// To be said again, or to wait for the request of its job.
    Steer(Box<VerifiedStatement>),
    /// A payload is destroyed, wherever it was sealed.
    Erasure(Box<Erasure>),
}

impl Branch {
    /// All that are kept here.
    ///
    /// # Errors
    /// [`LedgerError`] when the store cannot be read.
    pub(super) fn all(machine: &Machine) -> Result<Vec<Self>, ServerError> {
        let snapshot = machine.ledger.snapshot();
        let state = &snapshot.state;
        let mut branches = Vec::new();
        for (epoch, row) in state.epochs() {
            let (Some((cut, _)), Some(chain)) = (row.cut, snapshot.logs.get(&row.log)) else {
                continue;
            };
            let cited = CitedHead {
                log: row.log,
                head: chain.head(),
            };
            if cited.head.seq > cut {
                branches.push(Self {
                    epoch: *epoch,
                    cut,
                    settled: settled_to(machine, state, &cited, cut)?,
                    said: machine.central.orphans.said(&row.log),
                    cited,
                });
            }
        }
        Ok(branches)
    }

    /// Whether the order does not cite all of it as settled.
    pub(super) fn is_open(&self) -> bool {
        self.settled < self.cited.head.seq
    }

    /// The seq at which its first piece begins.
    pub(super) fn first(&self) -> u64 {
        self.cut.saturating_add(1)
    }

    /// What it tells from a seq on, as far as one piece reaches.
    ///
    /// # Errors
    /// [`LedgerError`] when the store cannot be read.
    pub(super) fn piece(&self, machine: &Machine, first: u64) -> Result<Piece, ServerError> {
        let snapshot = machine.ledger.snapshot();
        let mut piece = Piece {
            told: Vec::new(),
            next: None,
            counts: Counts::default(),
        };
        let (mut count, mut bytes) = (0usize, 0usize);
        let records = machine.ledger.range(&self.cited.log, first, self.cited.head.seq);
        for (looked, receipt) in records.enumerate() {
            let receipt = receipt?;
            if looked >= LOOK_MAX || count >= AT_ONCE || bytes >= BYTES_AT_ONCE {
                piece.next = Some(receipt.seq());
                break;
            }
            let place = Place {
                epoch: self.epoch,
                seq: receipt.seq(),
            };
            let told = self.take(machine, &snapshot.state, &receipt, &mut piece.counts)?;
            for told in told.into_iter().flatten() {
                let (more, larger) = told.size();
                count = count.saturating_add(more);
                bytes = bytes.saturating_add(larger);
                piece.told.push((place, told));
            }
        }
        Ok(piece)
    }

    // What a record tells of what is still to be decided, and what is counted of it.
    fn take(
        &self,
        machine: &Machine,
        state: &FleetState,
        receipt: &Receipt,
        counts: &mut Counts,
    ) -> Result<[Option<Told>; 2], ServerError> {
        let is_settled = receipt.seq() <= self.settled;
        let said = receipt.statement();
        let told = match receipt.kind() {
            JobClaimed::KIND => {
                let fence = Fence::of_claim(self.epoch, receipt.seq(), &receipt.seal_digest());
                return Ok([claim(receipt).filter(|_| state.fence(&fence).is_none()), None]);
            }
            _ if is_settled && !waits(state, said) && !is_tick_without_job(state, receipt) => {
                return Ok([None, None]);
            }
            _ => told(machine, receipt)?,
        };
        if is_settled {
            // A tick that was passed over comes back only when a longer branch shows that a machine was given it.
            let is_given = |tick: &Tick| !tick.about.claims.is_empty();
            return Ok([
                told.filter(|told| !matches!(told, Told::Tick(tick) if !is_given(tick))),
                None,
            ]);
        }
        let spread = spread(machine, receipt)?;
        let is_request = receipt.kind() == RequestReceived::KIND;
        let by_hand = receipt.record.author_signature().is_some();
        match &told {
            Some(Told::Request(_)) if spread.is_none() => counts.offered += 1,
            Some(Told::Request(_)) => return Ok([spread, None]),
            Some(Told::Tick(tick)) => match tick.becomes(state) {
                Some(FiredBefore::AskedAgain) | None => counts.offered += 1,
                Some(FiredBefore::PassedOver) => {
                    counts.passed_over += 1;
                    counts.last_passed_over = Some((tick.schedule.clone(), tick.nominal));
                }
                Some(FiredBefore::Undecided) => {}
            },
            None if is_request || by_hand => counts.others += 1,
            _ => {}
        }
        // What was refused is not said again, when it would apply. What is about a known job does nothing when it was done.
        let is_open = is_request && state.job(&job_of(said)).is_some()
            || waits(state, said)
            || is_tick_without_job(state, receipt);
        Ok([told.filter(|_| receipt.seq() > self.said || is_open), spread])
    }
}

impl Told {
    // How many things are decided of it, and how many bytes it holds.
    fn size(&self) -> (usize, usize) {
        match self {
            Self::Request(offer) => {
                let (count, bytes) = offer.about.size();
                (1 + count, size(&offer.said) + bytes)
            }
            Self::Tick(tick) => {
                let (count, bytes) = tick.about.size();
                let content = tick.draft.content.as_ref().map_or(0, |(_, bytes)| bytes.len());
                (1 + count, bytes + tick.draft.detail.len() + content)
            }
            Self::Claim(receipt) => (1, receipt.record.bytes().len()),
            Self::Steer(said) => (1, size(said)),
            Self::Erasure(_) => (1, 0),
        }
    }

    /// The job whose claims are known when it is decided, if they are then.
    pub(super) fn proves(&self) -> Option<JobId> {
        match self {
            Self::Request(offer) => Some(job_of(offer.said.statement())),
            Self::Tick(tick) => Some(tick.job),
            Self::Claim(claim) => claimed(claim),
            Self::Steer(_) | Self::Erasure(_) => None,
        }
    }
}

fn size(said: &VerifiedStatement) -> usize {
    let said = said.signed();
    said.bytes.len() + said.payload.as_ref().map_or(0, |payload| payload.bytes.len())
}

/// What stands at a place of a branch; nothing when nothing is said again of it.
///
/// # Errors
/// [`LedgerError`] when the store cannot be read.
pub(super) fn told_at(machine: &Machine, place: Place) -> Result<Option<Told>, ServerError> {
    let snapshot = machine.ledger.snapshot();
    let mut epochs = snapshot.state.epochs();
    let Some((_, row)) = epochs.find(|(epoch, _)| **epoch == place.epoch) else {
        return Ok(None);
    };
    match machine.ledger.get(&row.log, place.seq)? {
        Some(receipt) => told(machine, &receipt),
        None => Ok(None),
    }
}

fn told(machine: &Machine, receipt: &Receipt) -> Result<Option<Told>, ServerError> {
    let said = receipt.statement();
    if let Some(erased) = ledger::erase::said(receipt) {
        let signed = receipt.record.author_signature().is_some();
        let signed = signed.then(|| said_again(machine, receipt)).transpose()?;
        if signed.as_ref().is_some_and(Option::is_none) {
            return Ok(None);
        }
        return Ok(Some(Told::Erasure(Box::new(Erasure {
            erased,
            cause: receipt.id(),
            signed: signed.flatten(),
        }))));
    }
    let is_request = receipt.kind() == RequestReceived::KIND;
    if receipt.record.author_signature().is_none() {
        return if is_request {
            tick(machine, receipt)
        } else {
            Ok(claim(receipt))
        };
    }
    if !is_request && !STEERS.contains(&receipt.kind()) || is_bold(machine, said)? {
        return Ok(None);
    }
    let Some(again) = said_again(machine, receipt)? else {
        return Ok(None);
    };
    Ok(Some(if is_request {
        let about = About::of(machine, &job_of(said))?;
        Told::Request(Box::new(Offer {
            sealed: receipt.evidence(),
            said: again,
            about,
        }))
    } else {
        Told::Steer(Box::new(again))
    }))
}

// The request that a schedule's tick became; its cause says which.
fn tick(machine: &Machine, receipt: &Receipt) -> Result<Option<Told>, ServerError> {
    let (said, job) = (receipt.statement(), job_of(receipt.statement()));
    let (mut fired, snapshot) = (None, machine.ledger.snapshot());
    let is_before_cut = |fired: &Receipt| {
        let mut epochs = snapshot.state.epochs();
        let row = epochs.find(|(_, row)| row.log == fired.log());
        row.is_some_and(|(_, row)| row.cut.is_none_or(|(cut, _)| fired.seq() <= cut))
    };
    for cause in said.cause.iter() {
        let found = machine.ledger.find(cause)?.into_iter();
        let mut found = found.filter(|found| found.log() == receipt.log());
        fired = found.find_map(|found| match found.statement().any_detail() {
            Ok(AnyDetail::ScheduleFired(fired)) if fired.job == job => Some((fired, is_before_cut(&found))),
            _ => None,
        });
    }
    let Some((fired, is_decided)) = fired else {
        return Ok(None);
    };
    let draft = Draft {
        kind: said.kind.clone(),
        schema: said.schema,
        grade: said.grade,
        subject: said.subject.clone(),
        cause: said.cause,
        trace: said.trace,
        detail: said.detail.clone(),
        id: Some(said.id),
        content: None,
        salt: None,
    };
    let draft = match (&said.payload, raw_of(machine, receipt)?.payload) {
        (None, _) => draft,
        (Some(named), Some(payload)) => draft.payload(&named.media, payload.bytes)?.salt(payload.salt.0),
        // Its input is gone.
        (Some(_), None) => return Ok(None),
    };
    Ok(Some(Told::Tick(Box::new(Tick {
        sealed: receipt.evidence(),
        job,
        schedule: fired.schedule,
        nominal: fired.nominal,
        draft,
        is_decided,
        about: About::of(machine, &job)?,
    }))))
}

fn claim(receipt: &Receipt) -> Option<Told> {
    claimed(receipt).map(|_| Told::Claim(Box::new(receipt.clone())))
}

/// The job that Central says is claimed.
pub(super) fn claimed(receipt: &Receipt) -> Option<JobId> {
    match receipt.statement().any_detail() {
        Ok(AnyDetail::JobClaimed(claimed)) if receipt.record.author_signature().is_none() => {
            Some(claimed.job)
        }
        _ => None,
    }
}

// Whether it releases an exclusive job that a branch has a claim of: who said so knew nothing of what that claim came to. A person
// decides anew.
fn is_bold(machine: &Machine, said: &Statement) -> Result<bool, ServerError> {
    let Some(job) = steered(said).filter(|_| said.kind.as_str() == JobReleased::KIND) else {
        return Ok(false);
    };
    let exclusive = |claim: &Receipt| {
        let detail = claim.statement().any_detail();
        matches!(detail, Ok(AnyDetail::JobClaimed(claimed)) if claimed.class == Class::Exclusive)
    };
    Ok(About::of(machine, &job)?.claims.iter().any(exclusive))
}

// What was erased in one place where a statement was sealed is erased in all.
fn spread(machine: &Machine, receipt: &Receipt) -> Result<Option<Told>, ServerError> {
    let said = receipt.statement();
    if said.payload.is_none() || machine.ledger.erased_by(&receipt.evidence())?.is_some() {
        return Ok(None);
    }
    for other in machine.ledger.find(&receipt.id())? {
        if other.statement().author == said.author
            && let Some(by) = machine.ledger.erased_by(&other.evidence())?
            && let Some(erased) = ledger::erase::said(&by)
        {
            let (cause, signed) = (by.id(), None);
            return Ok(Some(Told::Erasure(Box::new(Erasure {
                erased,
                cause,
                signed,
            }))));
        }
    }
    Ok(None)
}

/// The id under which the order cites a branch up to a seq.
pub(super) fn cited_id(cited: &CitedHead, seq: u64) -> ReceiptId {
    derived_id(&[b"orphan branch", &cited.log.0, &seq.to_be_bytes()])
}

// The newest seq of a branch that the order cites as settled, else its cut.
fn settled_to(
    machine: &Machine,
    state: &FleetState,
    cited: &CitedHead,
    cut: u64,
) -> Result<u64, LedgerError> {
    // What stands in a branch itself does not count.
    let counts = |receipt: &Receipt| {
        let mut epochs = state.epochs();
        receipt.kind() == LogCited::KIND
            && receipt.record.author_signature().is_none()
            && epochs.any(|(_, row)| {
                row.log == receipt.log() && row.cut.is_none_or(|(cut, _)| receipt.seq() <= cut)
            })
    };
    let orphans = &machine.central.orphans;
    let (asked, mut settled) = orphans.cited(&cited.log).unwrap_or((cut, cut));
    for seq in (asked.saturating_add(1)..=cited.head.seq).rev() {
        if machine.ledger.find(&cited_id(cited, seq))?.iter().any(counts) {
            settled = seq;
            break;
        }
    }
    orphans.cite(cited.log, cited.head.seq, settled);
    Ok(settled)
}

/// The job that a request becomes.
pub(super) fn job_of(request: &Statement) -> JobId {
    JobId::of_request(&request.author, &request.id)
}

/// The first job that a request names and that is not known here.
pub(super) fn lacks(state: &FleetState, request: &Statement) -> Option<JobId> {
    let Ok(AnyDetail::RequestReceived(asked)) = request.any_detail() else {
        return None;
    };
    let spec = &asked.spec;
    let mut named = spec.depends_on.iter().chain(&spec.retry_of);
    named.find(|job| state.job(job).is_none()).copied()
}

// Whether nobody could decide about it yet.
fn waits(state: &FleetState, said: &Statement) -> bool {
    if said.kind.as_str() == RequestReceived::KIND {
        state.job(&job_of(said)).is_none() && lacks(state, said).is_some()
    } else {
        steered(said).is_some_and(|job| state.job(&job).is_none())
    }
}

fn is_tick_without_job(state: &FleetState, receipt: &Receipt) -> bool {
    receipt.kind() == RequestReceived::KIND
        && receipt.record.author_signature().is_none()
        && state.job(&job_of(receipt.statement())).is_none()
}

// A statement as its author brought it; nothing when a part of it is missing.
fn said_again(machine: &Machine, receipt: &Receipt) -> Result<Option<VerifiedStatement>, ServerError> {
    let Raw { record, payload } = raw_of(machine, receipt)?;
    let said = verified(&record, payload);
    if said.is_none() {
        tracing::warn!(id = %receipt.id(), "a statement of an orphan branch cannot be said again: its payload or signature is missing");
    }
    Ok(said)
}

fn verified(record: &[u8], payload: Option<Payload>) -> Option<VerifiedStatement> {
    let record = Record::parse(record).ok()?;
    let said = SignedStatement {
        bytes: record.statement_bytes().to_vec(),
        signature: *record.author_signature()?,
        payload,
    };
    said.verify().ok()
}
