//! A machine's store as the engine behaves, in memory: one journal, batches that are decided at once and durable later.
//!
//! What is decided is folded into `tip`; readers and answers see `seen`, which moves when a batch is durable. A kill drops what is
//! not durable, at the bound of a batch: a batch is whole or not there. The decisions themselves are the real ones, through
//! [`OrderTx`].

use crate::control::Control;
use crate::effects::Then;
use ledger::{Changes, LedgerError, Position, Receipt, State, StateContext};
use ledger_core::kinds::Evidence;
use ledger_core::limits::DRIFT_MS_MAX;
use ledger_core::statement::AuthoredStatement;
use ledger_core::{
    Draft, Hlc, LogId, ReceiptId, Record, Seal, SealDigest, Signature, SigningKey, Stream, signature,
};
use ledger_projections::FleetState;
use ledger_projections::central::OrderTx;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// A place in a log, as machines tell it each other.
pub(crate) type Mark = (u64, SealDigest);

/// Milliseconds since 1970 of microseconds.
pub(crate) fn unix_ms(us: i64) -> u64 {
    u64::try_from(us / 1000).unwrap_or(0)
}

/// One log in a store: the journal's index of each seq, and how many are durable.
#[derive(Clone, Default)]
pub(crate) struct LogCopy {
    at: Vec<usize>,
    durable: usize,
}

/// A batch on its way to the disk.
struct Batch {
    end: usize,
    state: FleetState,
    hlc: Hlc,
    then: Vec<Then>,
}

/// The keys and logs by which a machine says something.
#[derive(Clone)]
pub(crate) struct Voice {
    pub(crate) key: Arc<SigningKey>,
    /// Work, facts, pulse, and the order where it is the gateway.
    pub(crate) logs: [Option<LogId>; 4],
}

impl Voice {
    pub(crate) fn log(&self, stream: Stream) -> LogId {
        let at = match stream {
            Stream::Work => 0,
            Stream::Facts => 1,
            Stream::Pulse => 2,
            Stream::Order => 3,
        };
        self.logs[at].expect("a machine writes this stream")
    }
}

/// See the module.
#[derive(Clone)]
pub(crate) struct Store {
    pub(crate) context: StateContext,
    pub(crate) journal: Vec<Receipt>,
    pub(crate) tip: FleetState,
    pub(crate) seen: FleetState,
    logs: BTreeMap<LogId, LogCopy>,
    ids: BTreeMap<ReceiptId, usize>,
    durable: usize,
    pending: VecDeque<Batch>,
    hlc: Hlc,
    seen_hlc: Hlc,
}

impl Clone for Batch {
    fn clone(&self) -> Self {
        Self {
            end: self.end,
            state: self.state.clone(),
            hlc: self.hlc,
            then: Vec::new(),
        }
    }
}

/// Why a run of another log was not taken in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum NotTaken {
    Gap,
    Fork,
}

impl Store {
    pub(crate) fn new(context: StateContext) -> Self {
        Self {
            tip: FleetState::empty(&context),
            seen: FleetState::empty(&context),
            context,
            journal: Vec::new(),
            logs: BTreeMap::new(),
            ids: BTreeMap::new(),
            durable: 0,
            pending: VecDeque::new(),
            hlc: Hlc::default(),
            seen_hlc: Hlc::default(),
        }
    }

    /// The newest record of a log that readers see.
    pub(crate) fn mark(&self, log: &LogId) -> Option<Mark> {
        let copy = self.logs.get(log)?;
        let at = copy.at.get(copy.durable.checked_sub(1)?)?;
        let receipt = &self.journal[*at];
        Some((receipt.seq(), receipt.seal_digest()))
    }

    /// The newest record of a log, durable or not.
    pub(crate) fn mark_at_tip(&self, log: &LogId) -> Option<Mark> {
        let receipt = self.tip_of(log)?;
        Some((receipt.seq(), receipt.seal_digest()))
    }

    /// The record at a place, durable or not.
    pub(crate) fn at(&self, log: &LogId, seq: u64) -> Option<&Receipt> {
        let at = self.logs.get(log)?.at.get(usize::try_from(seq).ok()?)?;
        self.journal.get(*at)
    }

    /// A record that readers see.
    pub(crate) fn get(&self, log: &LogId, seq: u64) -> Option<&Receipt> {
        let copy = self.logs.get(log)?;
        let seq = usize::try_from(seq).ok()?;
        let at = copy.at[..copy.durable].get(seq)?;
        self.journal.get(*at)
    }

    /// Whether readers see this very record.
    pub(crate) fn holds(&self, log: &LogId, mark: &Mark) -> bool {
        self.get(log, mark.0)
            .is_some_and(|receipt| receipt.seal_digest() == mark.1)
    }

    /// Records that readers see from a seq on, at most so many.
    pub(crate) fn run_of(&self, log: &LogId, next: u64, most: usize) -> Vec<Receipt> {
        let Some(copy) = self.logs.get(log) else {
            return Vec::new();
        };
        let first = usize::try_from(next).unwrap_or(usize::MAX).min(copy.durable);
        let places = copy.at[first..copy.durable].iter().take(most);
        places.map(|at| self.journal[*at].clone()).collect()
    }

    fn tip_of(&self, log: &LogId) -> Option<&Receipt> {
        let at = self.logs.get(log)?.at.last()?;
        self.journal.get(*at)
    }

    fn push(&mut self, record: Arc<Record>) -> Receipt {
        let offset = u32::try_from(self.journal.len()).unwrap_or(u32::MAX);
        let receipt = Receipt {
            position: Position { segment: 1, offset },
            record,
        };
        let copy = self.logs.entry(receipt.log()).or_default();
        copy.at.push(self.journal.len());
        self.tip.fold(&receipt, &mut Changes::discarding());
        self.journal.push(receipt.clone());
        receipt
    }

    fn cut(&mut self, len: usize) {
        self.journal.truncate(len);
        for copy in self.logs.values_mut() {
            while copy.at.last().is_some_and(|at| *at >= len) {
                copy.at.pop();
            }
            copy.durable = copy.durable.min(copy.at.len());
        }
        self.ids.retain(|_, at| *at < len);
    }

    /// A command ended well: its batch is on its way, and `then` follows when it is durable.
    pub(crate) fn submit(&mut self, then: Vec<Then>) {
        self.pending.push_back(Batch {
            end: self.journal.len(),
            state: self.tip.clone(),
            hlc: self.hlc,
            then,
        });
    }

    /// A command failed: nothing of it is kept.
    pub(crate) fn abandon(&mut self, len: usize, before: FleetState) {
        self.cut(len);
        self.tip = before;
    }

    /// The oldest batch is durable: what was new in it, and what follows.
    pub(crate) fn land(&mut self) -> (Vec<Receipt>, Vec<Then>) {
        let Some(batch) = self.pending.pop_front() else {
            return (Vec::new(), Vec::new());
        };
        let new = self.journal[self.durable..batch.end].to_vec();
        for receipt in &new {
            if let Some(copy) = self.logs.get_mut(&receipt.log()) {
                copy.durable += 1;
            }
        }
        self.durable = batch.end;
        self.seen = batch.state;
        self.seen_hlc = batch.hlc;
        (new, batch.then)
    }

    /// Everything so far is durable: for what a machine is founded with.
    pub(crate) fn settle(&mut self) -> Vec<Receipt> {
        self.submit(Vec::new());
        self.land().0
    }

    /// The process died. Of the batches that were not durable the first `kept` had reached the medium all the same; tells what these
    /// brought.
    pub(crate) fn kill(&mut self, kept: usize) -> Vec<Receipt> {
        let mut new = Vec::new();
        for _ in 0..kept.min(self.pending.len()) {
            new.extend(self.land().0);
        }
        self.pending.clear();
        self.cut(self.durable);
        self.tip = self.seen.clone();
        self.hlc = self.seen_hlc;
        new
    }

    /// Batches that are not durable.
    pub(crate) fn unsynced(&self) -> usize {
        self.pending.len()
    }

    /// What folding the whole journal anew gives.
    pub(crate) fn rebuilt(&self) -> FleetState {
        let mut state = FleetState::empty(&self.context);
        for receipt in &self.journal[..self.durable] {
            state.fold(receipt, &mut Changes::discarding());
        }
        state
    }
}

/// A commit of a machine.
pub(crate) struct SimTx<'a> {
    pub(crate) store: &'a mut Store,
    pub(crate) voice: &'a Voice,
    pub(crate) now_us: i64,
    pub(crate) rng: &'a mut fastrand::Rng,
    /// Seals are signed; else their signatures are zeros, which no fold reads.
    pub(crate) signed: bool,
    pub(crate) control: Control,
}

impl SimTx<'_> {
    /// Says something as this machine.
    pub(crate) fn append(&mut self, stream: Stream, draft: Draft) -> Receipt {
        let own_id = draft.id;
        if let Some(at) = own_id.and_then(|id| self.store.ids.get(&id)) {
            return self.store.journal[*at].clone();
        }
        let fresh = self.fresh_id();
        let author = self.voice.key.public();
        let authored = draft
            .into_statement(self.store.context.fleet, author, fresh, self.now_us, [7; 32])
            .expect("drafts are within their bounds");
        if own_id.is_some() {
            self.store
                .ids
                .insert(authored.statement.id, self.store.journal.len());
        }
        self.seal(stream, &authored, None)
    }

    /// Seals what somebody else said and signed; the same again gives the first receipt.
    pub(crate) fn append_signed(
        &mut self,
        stream: Stream,
        said: &AuthoredStatement,
        by: Signature,
    ) -> Receipt {
        if let Some(at) = self.store.ids.get(&said.statement.id) {
            return self.store.journal[*at].clone();
        }
        self.store.ids.insert(said.statement.id, self.store.journal.len());
        self.seal(stream, said, Some(by))
    }

    /// The newest record of an own log, this commit included.
    pub(crate) fn tip(&self, log: &LogId) -> Mark {
        let tip = self.store.tip_of(log).expect("a log has its genesis");
        (tip.seq(), tip.seal_digest())
    }

    fn fresh_id(&mut self) -> ReceiptId {
        let mut random = [0; 10];
        self.rng.fill(&mut random);
        ReceiptId::v7(unix_ms(self.now_us), random)
    }

    fn seal(&mut self, stream: Stream, said: &AuthoredStatement, by: Option<Signature>) -> Receipt {
        let log = self.voice.log(stream);
        let before = self.store.tip_of(&log).expect("a log has its genesis");
        let (seq, prev, last) = (before.seq() + 1, before.seal_digest(), before.time());
        let time = self.store.hlc.max(last).tick(unix_ms(self.now_us));
        self.store.hlc = time;
        let seal = Seal {
            version: 1,
            log,
            seq,
            prev,
            time,
            statement: said.digest,
        };
        let signed = if self.signed {
            signature::sign_seal(&self.voice.key, &seal.digest())
        } else {
            Signature([0; 64])
        };
        let record = Record::assemble(said.statement.clone(), &said.bytes, by, seal, signed);
        self.store.push(Arc::new(record))
    }

    /// Takes in a run of another machine's log; what was new.
    pub(crate) fn intake(&mut self, records: &[Receipt]) -> Result<Vec<Receipt>, NotTaken> {
        let mut new = Vec::new();
        for receipt in records {
            let copy = self.store.logs.get(&receipt.log());
            let len = copy.map_or(0, |copy| copy.at.len());
            let seq = usize::try_from(receipt.seq()).unwrap_or(usize::MAX);
            if seq < len {
                let here = copy.map(|copy| &self.store.journal[copy.at[seq]]);
                if here.is_some_and(|here| here.seal_digest() != receipt.seal_digest()) {
                    return Err(NotTaken::Fork);
                }
                continue;
            }
            let tip = self.store.tip_of(&receipt.log());
            let follows = match tip {
                None => seq == 0,
                Some(tip) => seq == len && receipt.record.seal().prev == tip.seal_digest(),
            };
            if !follows {
                return Err(if seq == len { NotTaken::Fork } else { NotTaken::Gap });
            }
            let (time, wall) = (receipt.time(), unix_ms(self.now_us));
            self.store.hlc = self.store.hlc.merge(time, wall, DRIFT_MS_MAX);
            new.push(self.store.push(Arc::clone(&receipt.record)));
        }
        Ok(new)
    }
}

impl OrderTx for SimTx<'_> {
    fn state(&self) -> &FleetState {
        &self.store.tip
    }

    fn now_us(&self) -> i64 {
        self.now_us
    }

    fn decide(&mut self, draft: Draft) -> Result<Receipt, LedgerError> {
        let draft = self.control.meddle(&self.store.tip, draft);
        Ok(self.append(Stream::Order, draft))
    }

    fn is_erased(&self, _: &Evidence) -> Result<bool, LedgerError> {
        Ok(false)
    }
}
