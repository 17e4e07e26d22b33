//! What a command sees and may do: read the state as of this batch, append to the store's own logs, take in others'.

use super::batch::{Overlay, Pending, Tip};
use crate::clock::Pool;
use crate::erase;
use crate::error::LedgerError;
use crate::intake::VerifiedRun;
use crate::prune::book::Place;
use crate::prune::kept;
use crate::read::receipt_of;
use crate::shared::Shared;
use crate::state::State;
use crate::{Position, Receipt, clock};
use ledger_core::kinds::Evidence;
use ledger_core::limits::DRIFT_MS_MAX;
use ledger_core::record::Seal;
use ledger_core::statement::VerifiedStatement;
use ledger_core::{Chain, Draft, Hlc, LogId, PublicKey, ReceiptId, Record, Signature, Stream};
use std::sync::Arc;

/// What became of a statement.
#[derive(Clone, Debug)]
pub enum Appended {
    /// It is new. Its position and the log's signature are known only when the batch is durable; see
    /// [`super::Committed::receipts`].
    New(Receipt),
    /// The author said it before; here is what stands. Said in this batch or in the one just before, it has no position yet;
    /// see [`crate::Ledger::settled`].
    Before(Receipt),
}

impl Appended {
    /// The receipt, new or not.
    pub fn receipt(&self) -> &Receipt {
        match self {
            Self::New(receipt) | Self::Before(receipt) => receipt,
        }
    }

    /// Whether it was said before.
    pub fn is_repetition(&self) -> bool {
        matches!(self, Self::Before(_))
    }
}

/// What a log's run came to.
#[derive(Clone, Debug)]
pub struct Intake {
    /// The receipts that were new here.
    pub new: Vec<Receipt>,
    /// How many were here already.
    pub known: u64,
    /// The newest seq of the log.
    pub head_seq: u64,
}

/// The transaction of one command. Dropping it by an error leaves nothing behind.
pub struct Tx<'a, S: State> {
    pub(crate) overlay: &'a mut Overlay<S>,
    pub(crate) shared: &'a Shared<S>,
    pub(crate) pool: &'a mut Pool,
    pub(crate) now_us: i64,
}

impl<S: State> Tx<'_, S> {
    /// The state with everything that this batch decided so far.
    pub fn state(&self) -> &S {
        &self.overlay.state
    }

    /// The time of this command, microseconds since 1970.
    pub fn now_us(&self) -> i64 {
        self.now_us
    }

    /// Random bytes.
    pub fn random<const N: usize>(&mut self) -> [u8; N] {
        self.pool.take()
    }

    /// The store's own log of a stream.
    ///
    /// # Errors
    /// [`LedgerError::NotCommitted`] when this store does not write that stream.
    pub fn own_log(&self, stream: Stream) -> Result<LogId, LedgerError> {
        self.shared.own_log(stream)
    }

    /// The receipts of this batch so far that are not ours to decide upon again: log, seq and seal digest of each, in
    /// their order. For embedders that pin what a batch brought.
    pub fn batch(&self) -> impl Iterator<Item = (&Record, bool)> {
        self.overlay.said.pending.iter().map(|p| (&*p.record, p.own))
    }

    /// The chain of a foreign log, with what this batch took in.
    pub fn foreign(&self, log: &LogId) -> Option<Arc<Chain>> {
        match self.overlay.tip(log) {
            Some(Tip::Foreign(chain)) => Some(Arc::new((**chain).clone())),
            _ => self.shared.chain(log),
        }
    }

    /// The next place of an own log.
    fn tip(&self, log: &LogId) -> Result<(u64, ledger_core::SealDigest), LedgerError> {
        match self.overlay.tip(log) {
            Some(Tip::Own { seq, prev }) => Ok((*seq, *prev)),
            Some(Tip::Foreign(_)) => Err(LedgerError::NotOwn(*log)),
            None => {
                let chain = self.shared.chain(log).ok_or(LedgerError::UnknownLog(*log))?;
                let (seq, prev, _) = chain.next_place();
                Ok((seq, prev))
            }
        }
    }

    /// The newest record of an own log (this batch included): seq and seal digest.
    ///
    /// # Errors
    /// [`LedgerError`] when this store does not write that stream.
    pub fn own_tip(&self, stream: Stream) -> Result<(u64, ledger_core::SealDigest), LedgerError> {
        let (next, seal) = self.tip(&self.own_log(stream)?)?;
        Ok((next - 1, seal))
    }

    /// Fails unless the newest seq of an own log is the expected one (this batch included).
    ///
    /// # Errors
    /// [`LedgerError::HeadMoved`].
    pub fn expect_head(&self, stream: Stream, expected: u64) -> Result<(), LedgerError> {
        let log = self.own_log(stream)?;
        let found = self.tip(&log)?.0 - 1;
        if found == expected {
            Ok(())
        } else {
            Err(LedgerError::HeadMoved { log, expected, found })
        }
    }

    /// The receipt that an author made under an id, in this batch or before. What stands in an order behind the head at which its
    /// successor ended it does not count.
    ///
    /// # Errors
    /// [`LedgerError`] when the store cannot be read.
    pub fn find(&self, author: &PublicKey, id: &ReceiptId) -> Result<Option<Receipt>, LedgerError> {
        let said = |receipt: &Receipt| {
            receipt.statement().author == *author
                && !self.shared.is_beyond_end(&receipt.log(), receipt.seq())
                && self.is_the_authors(&receipt.record)
        };
        // The first one counts: the store is older than what is on its way, and that than this batch.
        if let Some(stored) = self.shared.find(id)?.into_iter().find(said) {
            return Ok(Some(stored));
        }
        let pending = self.overlay.layers().filter_map(|said| said.find(author, id));
        Ok(pending.last().map(provisional))
    }

    /// The receipts of an author's statement, oldest first: it may be sealed in several logs. Of those that one batch brings the first.
    ///
    /// # Errors
    /// [`LedgerError`] when the store cannot be read.
    pub fn sealings(&self, author: &PublicKey, id: &ReceiptId) -> Result<Vec<Receipt>, LedgerError> {
        let newer = self.overlay.layers().filter_map(|said| said.find(author, id));
        let mut newer: Vec<Receipt> = newer.map(provisional).collect();
        let mut found = self.shared.find(id)?;
        newer.retain(|new| found.iter().all(|old| old.evidence() != new.evidence()));
        found.extend(newer.into_iter().rev());
        found.retain(|one| one.statement().author == *author && self.is_the_authors(&one.record));
        Ok(found)
    }

    /// The receipt at a place, in this batch or before.
    ///
    /// # Errors
    /// [`LedgerError`] when the store cannot be read.
    pub fn get(&self, log: &LogId, seq: u64) -> Result<Option<Receipt>, LedgerError> {
        match self.pending_at(log, seq) {
            Some(record) => Ok(Some(provisional(record))),
            None => kept(self.shared.get(log, seq)),
        }
    }

    // A record in another machine's log may name an author who never said it: it is kept, and must not take the id away from who it
    // names. What this store sealed itself was verified before.
    fn is_the_authors(&self, record: &Record) -> bool {
        let (log, author) = (record.seal().log, record.statement().author);
        let is_its = |chain: Arc<Chain>| chain.machine_key() == author;
        self.shared.is_own(&log)
            || match record.author_signature() {
                None => self.foreign(&log).is_some_and(is_its),
                Some(_) => ledger_core::chain::verify_author(record).is_ok(),
            }
    }

    /// Says something as this machine. A draft with an id of its own that was said before with the same content gives the
    /// first receipt again.
    ///
    /// # Errors
    /// [`LedgerError::IdTaken`] for other content under the same id; [`LedgerError::Statement`] for a broken bound.
    pub fn append(&mut self, stream: Stream, draft: Draft) -> Result<Appended, LedgerError> {
        let author = self.shared.keyring.machine.public();
        if let Some(id) = draft.id
            && let Some(before) = self.find(&author, &id)?
        {
            let same = self.same_content(&before, &draft)?;
            return if same {
                Ok(Appended::Before(before))
            } else {
                Err(taken(&before))
            };
        }
        let fresh_id = ReceiptId::v7(clock::unix_ms(self.now_us), self.pool.take());
        let salt = if draft.content.is_some() {
            self.pool.take()
        } else {
            [0; 32]
        };
        let fleet = self.shared.context.fleet;
        let authored = draft.into_statement(fleet, author, fresh_id, self.now_us, salt)?;
        let seal_of = authored.digest;
        self.put(stream, authored.payload, |seal| {
            let seal = Seal {
                statement: seal_of,
                ..seal
            };
            Record::assemble(authored.statement, &authored.bytes, None, seal, UNSIGNED)
        })
    }

    /// Seals what somebody else said and signed. The same statement again gives the first receipt.
    ///
    /// # Errors
    /// [`LedgerError::OtherFleet`]; [`LedgerError::IdTaken`] for another statement under the same id.
    pub fn append_signed(
        &mut self,
        stream: Stream,
        said: &VerifiedStatement,
    ) -> Result<Appended, LedgerError> {
        let statement = said.statement();
        if statement.fleet != self.shared.context.fleet {
            return Err(LedgerError::OtherFleet(statement.id));
        }
        if let Some(before) = self.find(&statement.author, &statement.id)? {
            if before.record.statement_digest() == said.digest() {
                return Ok(Appended::Before(before));
            }
            return Err(taken(&before));
        }
        let machine_says = statement.author == self.shared.keyring.machine.public();
        self.put(stream, said.signed().payload.clone(), |seal| {
            if !machine_says {
                return Record::of_verified(said, seal, UNSIGNED);
            }
            let seal = Seal {
                statement: said.digest(),
                ..seal
            };
            Record::assemble(statement.clone(), &said.signed().bytes, None, seal, UNSIGNED)
        })
    }

    fn put(
        &mut self,
        stream: Stream,
        payload: Option<ledger_core::Payload>,
        assemble: impl FnOnce(Seal) -> Record,
    ) -> Result<Appended, LedgerError> {
        let log = self.own_log(stream)?;
        let (seq, prev) = self.tip(&log)?;
        let time = self.overlay.clock.tick(clock::unix_ms(self.now_us));
        self.overlay.clock = time;
        let statement = ledger_core::StatementDigest([0; 32]);
        let record = Arc::new(assemble(Seal {
            version: 1,
            log,
            seq,
            prev,
            time,
            statement,
        }));
        let tip = Tip::Own {
            seq: seq + 1,
            prev: record.seal_digest(),
        };
        let taken = self.take(record, payload, true, true)?;
        self.overlay.set_tip(log, tip);
        Ok(Appended::New(taken))
    }

    /// Takes in a run of another machine's log, exactly as it is. What is here already is skipped; a gap is an error.
    ///
    /// # Errors
    /// [`LedgerError::Chain`] when the run does not continue the log; [`LedgerError::Fork`] when another record stands at
    /// a place of the run; [`LedgerError::NotOwn`]'s opposite: our own logs are never taken in ([`LedgerError::Fork`] if
    /// they differ).
    pub fn intake(&mut self, run: &VerifiedRun) -> Result<Intake, LedgerError> {
        // A command may go on after an error; what it then commits must be whole.
        let mark = self.overlay.mark();
        let outcome = self.take_in(run);
        if outcome.is_err() {
            self.overlay.go_back(mark);
        }
        outcome
    }

    fn take_in(&mut self, run: &VerifiedRun) -> Result<Intake, LedgerError> {
        let log = run.log();
        if run.fleet() != self.shared.context.fleet {
            return Err(LedgerError::OtherFleet(run.records()[0].0.statement().id));
        }
        let own = self.shared.is_own(&log);
        let mut chain = match self.overlay.tip(&log) {
            Some(Tip::Foreign(chain)) => Some((**chain).clone()),
            _ => self.shared.chain(&log).map(|chain| (*chain).clone()),
        };
        // What is here already is read along with the run, which has no gaps.
        let durable = self.shared.chain(&log).map(|chain| chain.tip());
        let mut stored = None;
        let mut intake = Intake {
            new: Vec::new(),
            known: 0,
            head_seq: 0,
        };
        for (record, payload) in run.records() {
            let seq = record.seal().seq;
            match &mut chain {
                None => chain = Some(Chain::start(record)?),
                Some(_) if self.is_pruned(&log, seq, record)? => {
                    stored = None;
                    intake.known += 1;
                    continue;
                }
                Some(known) if seq <= known.tip().0 => {
                    let stands = if let Some((last, _)) = durable.filter(|(last, _)| seq <= *last) {
                        let stored = stored.get_or_insert_with(|| self.shared.range(&log, seq, last));
                        stored.next().transpose()?.map(|receipt| receipt.record)
                    } else {
                        self.pending_at(&log, seq).cloned()
                    };
                    // Byte for byte: whoever holds the key can sign one seal in many ways, and each is another leaf of the tree.
                    if stands.is_none_or(|stands| stands.bytes() != record.bytes()) {
                        return Err(LedgerError::Fork { log, seq });
                    }
                    intake.known += 1;
                    continue;
                }
                Some(_) if own => return Err(LedgerError::Fork { log, seq }),
                Some(known) => {
                    if let Some(floor) = self.shared.pruned.floor(&log)
                        && floor.place(known.tip().0.saturating_add(1), seq) == Place::First
                    {
                        // The copy begins behind what went elsewhere.
                        known.advance_to(&floor.snapshot())?;
                    }
                    known.follow(record)?;
                }
            }
            let wall_ms = clock::unix_ms(self.now_us);
            self.overlay.clock = self
                .overlay
                .clock
                .merge(record.seal().time, wall_ms, DRIFT_MS_MAX);
            let counts = !run.inadmissible().contains(&seq) && !self.shared.is_beyond_end(&log, seq);
            let taken = self.take(Arc::clone(record), payload.clone(), false, counts)?;
            intake.new.push(taken);
        }
        if let Some(chain) = chain {
            intake.head_seq = chain.tip().0;
            if !own {
                self.overlay.set_tip(log, Tip::Foreign(Box::new(chain)));
            }
        }
        Ok(intake)
    }

    // Drafts of the machine itself are compared by content: time and salt differ between two tries.
    fn same_content(&self, before: &Receipt, draft: &Draft) -> Result<bool, LedgerError> {
        let stands = before.statement();
        let said = stands.kind == draft.kind
            && stands.schema == draft.schema
            && stands.subject == draft.subject
            && stands.detail == draft.detail;
        let (Some(wanted), Some((media, bytes))) = (&stands.payload, &draft.content) else {
            return Ok(said && stands.payload.is_none() && draft.content.is_none());
        };
        if !said || wanted.media != *media {
            return Ok(false);
        }
        let mut pending = self.overlay.layers().flat_map(|said| &said.pending);
        let here = pending.find(|p| Arc::ptr_eq(&p.record, &before.record));
        let stored = match here {
            Some(pending) => pending.payload.clone(),
            None => self.shared.payload(before)?.present(),
        };
        // An erased payload cannot be compared; the id then decides.
        Ok(stored.is_none_or(|payload| payload.bytes == *bytes))
    }

    // Whether the record at a place was pruned here; of the last one the seal is known still.
    fn is_pruned(&self, log: &LogId, seq: u64, record: &Record) -> Result<bool, LedgerError> {
        let floor = self.shared.pruned.floor(log);
        match floor.filter(|floor| floor.covers(seq)) {
            Some(floor) if floor.said.last == seq && floor.said.seal != record.seal_digest() => {
                Err(LedgerError::Fork { log: *log, seq })
            }
            Some(_) => Ok(true),
            None => Ok(false),
        }
    }

    // The record at a place that is not in the store yet.
    fn pending_at(&self, log: &LogId, seq: u64) -> Option<&Arc<Record>> {
        self.overlay.layers().find_map(|said| said.at(log, seq))
    }

    // `counts`: whether the author it names said it. An error leaves nothing behind: whatever can fail comes first.
    pub(crate) fn take(
        &mut self,
        record: Arc<Record>,
        payload: Option<ledger_core::Payload>,
        own: bool,
        counts: bool,
    ) -> Result<Receipt, LedgerError> {
        let receipt = provisional(&record);
        // What is erased stays so, whoever brings it again.
        let payload = match payload {
            Some(_) if !own && self.is_erased(&receipt.evidence())? => None,
            payload => payload,
        };
        let erased = if counts {
            erase::named(&receipt, |log, seq| self.get(log, seq))?
        } else {
            None
        };
        let overlay = &mut *self.overlay;
        let at = overlay.said.pending.len();
        if counts {
            let statement = record.statement();
            // The first statement under an id is the one that counts.
            let ids = &mut overlay.said.ids;
            ids.entry((statement.author, statement.id)).or_insert(at);
        }
        overlay.bytes += record.bytes().len() + payload.as_ref().map_or(0, |p| p.bytes.len() + 32);
        overlay.state.fold(&receipt, &mut overlay.changes);
        let destroyed = erased.and_then(|erased| erased.destroys(&overlay.state, &receipt, own));
        let erasing = &mut overlay.said.erasing;
        erasing.extend(destroyed.map(|destroyed| (at, destroyed)));
        overlay.said.pending.push(Pending { record, payload, own });
        Ok(receipt)
    }

    fn pending_erased(&self, record: &Evidence) -> Option<&Arc<Record>> {
        self.overlay.layers().find_map(|said| said.erased_by(record))
    }

    fn is_erased(&self, record: &Evidence) -> Result<bool, LedgerError> {
        let here = self.pending_erased(record).is_some();
        Ok(here || self.shared.is_erased(record)?)
    }

    /// The `erased` receipt that destroys a record's payload, of this batch or before.
    ///
    /// # Errors
    /// [`LedgerError`] when the store cannot be read.
    pub fn erased_by(&self, record: &Evidence) -> Result<Option<Receipt>, LedgerError> {
        if let Some(record) = self.pending_erased(record) {
            return Ok(Some(provisional(record)));
        }
        match self.shared.index.erased_by(record)? {
            Some(by) => receipt_of(&self.shared.reader.read_record(by)?).map(Some),
            None => Ok(None),
        }
    }

    /// The hybrid clock of this batch.
    pub fn clock(&self) -> Hlc {
        self.overlay.clock
    }
}

/// The place of a record that is not known durable yet; none has it for good.
const PROVISIONAL: Position = Position::START;

const UNSIGNED: Signature = Signature([0; 64]);

fn provisional(record: &Arc<Record>) -> Receipt {
    Receipt {
        position: PROVISIONAL,
        record: Arc::clone(record),
    }
}

fn taken(before: &Receipt) -> LedgerError {
    LedgerError::IdTaken {
        id: before.id(),
        log: before.log(),
        seq: before.seq(),
    }
}
