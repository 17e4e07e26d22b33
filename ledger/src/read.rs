//! Reading: by (log, seq), by id, by subject, by time, by range; payloads with their commitment checked.

use crate::error::LedgerError;
use crate::index::{Index, SUBJECT_POSITIONS_MAX};
use crate::journal::{JournalError, JournalReader, StoredEntry};
use crate::ledger::Ledger;
use crate::shared::Shared;
use crate::state::State;
use crate::{Position, Receipt};
use ledger_core::{Hlc, LogId, Payload, ReceiptId, Record, Subject};
use std::sync::Arc;

/// Bytes read at a time when few receipts are wanted: about a run of records.
const RUN_BLOCK_BYTES: usize = 64 * 1024;
/// Bytes that a range rather reads over than beginning to read anew.
const NEAR_BYTES: u32 = 256 * 1024;

/// What became of a receipt's payload in this store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PayloadState {
    /// The statement commits to none.
    None,
    /// It is here, and matches its commitment.
    Present(Payload),
    /// The statement commits to one that was erased, as a receipt says; see [`Ledger::erased_by`].
    Erased,
    /// The statement commits to one that this store does not have.
    Absent,
    /// It is here and does not match its commitment: damage, named by `ledger verify`.
    Damaged,
}

impl PayloadState {
    /// The payload when it is here and whole.
    pub fn present(self) -> Option<Payload> {
        match self {
            Self::Present(payload) => Some(payload),
            _ => None,
        }
    }
}

pub(crate) fn receipt_of(entry: &StoredEntry) -> Result<Receipt, LedgerError> {
    let record = Record::parse(&entry.record).map_err(|source| LedgerError::Corrupt {
        position: entry.position,
        source: source.into(),
    })?;
    Ok(Receipt {
        position: entry.position,
        record: Arc::new(record),
    })
}

fn payload_of(receipt: &Receipt, entry: StoredEntry) -> PayloadState {
    let erased = entry.is_erased();
    match (&receipt.statement().payload, entry.payload) {
        (None, _) => PayloadState::None,
        (Some(wanted), Some(payload)) if payload.matches(wanted) => PayloadState::Present(payload),
        // Overwritten, and nothing says why.
        (Some(_), Some(_)) if erased => PayloadState::Absent,
        (Some(_), Some(_)) => PayloadState::Damaged,
        (Some(_), None) => PayloadState::Absent,
    }
}

/// A receipt of a log, when the store has it.
pub(crate) fn get(
    index: &Index,
    reader: &JournalReader,
    log: &LogId,
    seq: u64,
) -> Result<Option<Receipt>, LedgerError> {
    let Some(run) = index.run_at(log, seq)? else {
        return Ok(None);
    };
    let receipt = receipt_of(&reader.read_record(run.wanted)?)?;
    if receipt.log() == *log && receipt.seq() == seq {
        Ok(Some(receipt))
    } else {
        Err(misled())
    }
}

impl<S: State> Shared<S> {
    pub(crate) fn get(&self, log: &LogId, seq: u64) -> Result<Option<Receipt>, LedgerError> {
        if self.chain(log).is_none_or(|chain| chain.tip().0 < seq) {
            return Ok(None);
        }
        self.check_kept(log, seq)?;
        get(&self.index, &self.reader, log, seq)
    }

    pub(crate) fn range(&self, log: &LogId, first: u64, last: u64) -> Range<'_, S> {
        let end = self.chain(log).map_or(0, |chain| chain.tip().0.saturating_add(1));
        Range {
            shared: self,
            log: *log,
            next: first,
            end: last.saturating_add(1).min(end),
            scan: None,
            run: Position::START,
            left: 0,
        }
    }

    pub(crate) fn find(&self, id: &ReceiptId) -> Result<Vec<Receipt>, LedgerError> {
        let positions = self.index.by_id(id)?;
        let wanted = positions.len();
        let mut found = self.read_all(positions)?;
        if found.is_empty() && wanted > 0 {
            return Err(LedgerError::PrunedId(*id));
        }
        found.retain(|receipt| receipt.id() == *id);
        Ok(found)
    }

    fn read_all(&self, positions: Vec<Position>) -> Result<Vec<Receipt>, LedgerError> {
        // What was pruned is left out, whether its bytes went already or not.
        let read = |at| match self.reader.read_record(at) {
            Err(JournalError::Pruned { .. }) => None,
            entry => Some(
                entry
                    .map_err(LedgerError::from)
                    .and_then(|entry| receipt_of(&entry)),
            ),
        };
        let kept = |receipt: &Result<Receipt, LedgerError>| match receipt {
            Ok(receipt) => self.pruned.at(&receipt.log(), receipt.seq()).is_none(),
            Err(_) => true,
        };
        positions.into_iter().filter_map(read).filter(kept).collect()
    }

    pub(crate) fn payload(&self, receipt: &Receipt) -> Result<PayloadState, LedgerError> {
        if receipt.statement().payload.is_none() {
            return Ok(PayloadState::None);
        }
        let record = receipt.evidence();
        if self.is_erased(&record)? {
            return Ok(PayloadState::Erased);
        }
        match payload_of(receipt, self.reader.read(receipt.position)?) {
            // It may have been erased while it was read.
            PayloadState::Absent | PayloadState::Damaged if self.is_erased(&record)? => {
                Ok(PayloadState::Erased)
            }
            state => Ok(state),
        }
    }
}

impl<S: State> Ledger<S> {
    /// The receipt at a place of a log; `None` when the store does not have it.
    ///
    /// # Errors
    /// [`LedgerError::Pruned`] when it went, and the first that is there; [`LedgerError`] when the store cannot be read.
    ///
    /// ```
    /// use ledger::core::{Draft, Kind, Subject};
    /// use ledger::{LedgerError, PayloadState};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// let ledger = ledger::Ledger::lone(dir.path().join("log"), "my-agent")?;
    /// let (kind, chat) = (Kind::new("x.note")?, Subject::new("chat/1")?);
    /// let said = ledger.append(Draft::custom(kind, chat.clone()).payload("text/plain", b"hello".to_vec())?)?;
    ///
    /// assert_eq!(ledger.get(&said.log(), said.seq())?, Some(said.clone())); // by place
    /// assert_eq!(ledger.find(&said.id())?, [said.clone()]); // by the author's id
    /// assert_eq!(ledger.by_subject(&chat)?, [said.clone()]); // by what it is about
    /// assert_eq!(ledger.seq_at(&said.log(), said.time())?, said.seq()); // by time
    /// let kind = |r: Result<ledger::Receipt, LedgerError>| r.map(|receipt| receipt.kind().to_owned());
    /// let kinds: Vec<String> = ledger.range(&said.log(), 0, 9).map(kind).collect::<Result<_, _>>()?;
    /// assert_eq!(kinds, ["log.genesis", "x.note"]);
    /// let PayloadState::Present(payload) = ledger.payload(&said)? else { return Err("it is here".into()) };
    /// assert_eq!(payload.bytes, b"hello");
    /// # Ok(()) }
    /// ```
    pub fn get(&self, log: &LogId, seq: u64) -> Result<Option<Receipt>, LedgerError> {
        self.shared().get(log, seq)
    }

    /// Every receipt with an id, oldest first. Several are possible: ids are the authors' own.
    ///
    /// # Errors
    /// [`LedgerError`] when the store cannot be read.
    pub fn find(&self, id: &ReceiptId) -> Result<Vec<Receipt>, LedgerError> {
        self.shared().find(id)
    }

    /// The receipts about a subject, oldest first, at most 10,000.
    ///
    /// # Errors
    /// [`LedgerError`] when the store cannot be read.
    pub fn by_subject(&self, subject: &Subject) -> Result<Vec<Receipt>, LedgerError> {
        let mut limit = SUBJECT_POSITIONS_MAX;
        loop {
            let positions = self.shared().index.by_subject(subject, limit)?;
            let wanted = positions.len();
            let mut found = self.shared().read_all(positions)?;
            found.retain(|receipt| receipt.statement().subject == *subject);
            // The oldest of a machine's receipts may all be pruned: then those behind them are looked for.
            if wanted < limit || found.len() >= SUBJECT_POSITIONS_MAX {
                found.truncate(SUBJECT_POSITIONS_MAX);
                return Ok(found);
            }
            limit = limit.saturating_mul(4);
        }
    }

    /// A receipt's payload, read from disk and checked against its commitment.
    ///
    /// # Errors
    /// [`LedgerError`] when the store cannot be read.
    pub fn payload(&self, receipt: &Receipt) -> Result<PayloadState, LedgerError> {
        self.shared().payload(receipt)
    }

    /// The receipts of a log from one seq to another, both included, as far as the store has them. A place that is pruned is
    /// told as [`LedgerError::Pruned`], which ends it and says where to go on.
    pub fn range(&self, log: &LogId, first: u64, last: u64) -> Range<'_, S> {
        self.shared().range(log, first, last)
    }

    /// The first seq of a log whose time is not before `time`; the log's size when there is none.
    ///
    /// # Errors
    /// [`LedgerError`] when the store cannot be read.
    pub fn seq_at(&self, log: &LogId, time: Hlc) -> Result<u64, LedgerError> {
        let Some(chain) = self.shared().chain(log) else {
            return Ok(0);
        };
        let (mut low, mut high) = (0, chain.tip().0 + 1);
        if let Some(floor) = self.shared().pruned.floor(log) {
            low = floor.first_kept();
        }
        if chain.time() < time {
            return Ok(high);
        }
        while low < high {
            let middle = low + (high - low) / 2;
            let receipt = self.get(log, middle)?.ok_or(LedgerError::UnknownLog(*log))?;
            if receipt.time() < time {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    /// Every receipt behind a position, in the order in which the store learned them, up to now.
    pub fn scan(&self, after: Position) -> impl Iterator<Item = Result<Receipt, LedgerError>> + use<S> {
        self.shared().reader.scan(after).map(|entry| receipt_of(&entry?))
    }
}

/// Receipts of one log, in order.
pub struct Range<'a, S: State> {
    shared: &'a Shared<S>,
    log: LogId,
    next: u64,
    end: u64,
    // Where it reads, and the position of what it read last.
    scan: Option<(crate::journal::Scan, Position)>,
    // The run that is being read: from where on, and how many of its records are still to come.
    run: Position,
    left: u32,
}

impl<S: State> Range<'_, S> {
    fn step(&mut self) -> Result<Option<Receipt>, LedgerError> {
        while self.next < self.end {
            self.shared.check_kept(&self.log, self.next)?;
            if self.left == 0 && !self.enter_run()? {
                return Ok(None);
            }
            let Some((scan, at)) = &mut self.scan else {
                return Ok(None);
            };
            let Some(entry) = scan.next().transpose()? else {
                return Err(misled());
            };
            *at = entry.position;
            if entry.position < self.run {
                continue;
            }
            self.left -= 1;
            let receipt = receipt_of(&entry)?;
            if receipt.log() == self.log && receipt.seq() == self.next {
                self.next += 1;
                return Ok(Some(receipt));
            }
            return Err(misled());
        }
        Ok(None)
    }

    // Goes to the run that holds the next seq; false when the store does not have it.
    fn enter_run(&mut self) -> Result<bool, LedgerError> {
        let Some(run) = self.shared.index.run_at(&self.log, self.next)? else {
            return Ok(false);
        };
        let near = |at: Position| {
            at < run.wanted && at.segment == run.wanted.segment && run.wanted.offset - at.offset <= NEAR_BYTES
        };
        if !self.scan.as_ref().is_some_and(|(_, at)| near(*at)) {
            // A scan brings what lies behind a position.
            let before = Position {
                offset: run.wanted.offset - 1,
                ..run.wanted
            };
            let scan = self.shared.reader.scan(before);
            let wanted = self.end - self.next;
            let scan = if wanted <= u64::from(run.count) {
                scan.in_blocks_of(RUN_BLOCK_BYTES)
            } else {
                scan
            };
            self.scan = Some((scan, before));
        }
        // Those of the run before it may be gone.
        self.run = run.wanted;
        let before = u32::try_from(self.next - run.first).unwrap_or(run.count);
        self.left = run.count.saturating_sub(before);
        Ok(self.left > 0)
    }
}

fn misled() -> LedgerError {
    LedgerError::Derived {
        what: "reading the index",
        why: "a run does not hold the receipt that it says".into(),
    }
}

impl<S: State> Iterator for Range<'_, S> {
    type Item = Result<Receipt, LedgerError>;

    fn next(&mut self) -> Option<Self::Item> {
        let step = self.step();
        if step.is_err() {
            self.next = self.end;
        }
        step.transpose()
    }
}
