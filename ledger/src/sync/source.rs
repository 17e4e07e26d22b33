//! The side that has a log: answers wants with chunks.
//!
//! Contract: hands out durable records alone, exactly as they lie on disk, and no payload that is erased. Remembers nothing
//! between two answers, so that one source serves any number of replicas. Takes nobody's word for anything: a mark
//! that does not fit is refused with our own record, which proves the fork to whoever asks.

use super::error::{Fork, SyncError};
use super::message::{
    CHUNK_BYTES, CHUNK_RECORDS_MAX, Chunk, Mark, Message, RECORD_OVERHEAD_BYTES, Reason, Refusal, Want,
};
use crate::error::LedgerError;
use crate::ledger::Ledger;
use crate::state::State;
use ledger_core::SealDigest;

/// Answers requests about the logs of a store. Cheap to clone; see [`crate::sync`] for an example.
#[derive(Clone)]
pub struct Source<S: State = ()> {
    ledger: Ledger<S>,
    chunk_records: usize,
}

impl<S: State> Source<S> {
    /// Answers for every log of a store, its own ones and those that it took in.
    pub fn new(ledger: Ledger<S>) -> Self {
        Self {
            ledger,
            chunk_records: CHUNK_RECORDS_MAX,
        }
    }

    /// The same with chunks of at most so many records (1 to [`CHUNK_RECORDS_MAX`]; what lies outside is brought inside), for
    /// transports that lose long messages.
    #[must_use]
    pub fn chunk_records(mut self, records: usize) -> Self {
        self.chunk_records = records.clamp(1, CHUNK_RECORDS_MAX);
        self
    }

    /// The records behind a replica's mark, as many as fit a chunk. None and `complete` when there is nothing new. A payload
    /// that is erased, absent or damaged here is left out.
    ///
    /// # Errors
    /// [`SyncError::Pruned`] when the replica lacks records that went here; [`SyncError::Fork`] when another record stands at the mark here; [`SyncError::Behind`] when the replica has more than
    /// this store; [`SyncError::Unknown`] when the log is not here; [`SyncError::Ledger`] when the store cannot be read.
    ///
    /// ```
    /// use ledger::core::Stream;
    /// use ledger::sync::{Source, Want};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// let ledger = ledger::Ledger::lone(dir.path().join("log"), "my-agent")?;
    /// let log = ledger.own_log(Stream::Facts).ok_or("an agent has facts")?;
    /// let chunk = Source::new(ledger).answer(&Want { log, after: None })?;
    /// assert_eq!((chunk.records.len(), chunk.complete), (1, true)); // the genesis
    /// # Ok(()) }
    /// ```
    pub fn answer(&self, want: &Want) -> Result<Chunk, SyncError> {
        let log = want.log;
        let tip = self.ledger.snapshot().logs.get(&log).map(|chain| chain.tip().0);
        let next = match (want.after, tip) {
            (None, None) => return Err(SyncError::Unknown(log)),
            (None, Some(_)) => 0,
            (Some(mark), Some(tip)) if mark.seq <= tip => {
                self.check_mark(want, &mark)?;
                mark.seq + 1
            }
            (Some(mark), source_newest) => {
                return Err(SyncError::Behind {
                    log,
                    source_newest,
                    replica: mark.seq,
                });
            }
        };
        let end = tip.unwrap_or_default();
        // A replica that lacks any of what went cannot be brought further from here, also not to the genesis alone.
        if let Some(floor) = self.ledger.shared().pruned.floor(&log)
            && next < floor.first_kept()
        {
            let first = floor.first_kept();
            return Err(SyncError::Pruned { log, first });
        }
        let (mut records, mut bytes, mut last) = (Vec::new(), 0, None);
        for receipt in self.ledger.range(&log, next, end) {
            let receipt = receipt?;
            let payload = self.ledger.payload(&receipt)?.present();
            let record = receipt.record.bytes().to_vec();
            bytes += record.len() + payload.as_ref().map_or(0, |p| p.bytes.len()) + RECORD_OVERHEAD_BYTES;
            last = Some(receipt.seq());
            records.push((record, payload));
            if bytes >= CHUNK_BYTES || records.len() >= self.chunk_records {
                break;
            }
        }
        if last.is_none() && next <= end {
            return Err(LedgerError::UnknownReceipt {
                log,
                seq: next,
                newest: end,
            }
            .into());
        }
        Ok(Chunk {
            log,
            after: want.after,
            complete: last.is_none_or(|last| last == end),
            records,
        })
    }

    /// Bytes in, bytes out: a want as it came over the transport, and the chunk or refusal to send back.
    ///
    /// # Errors
    /// As [`Want::decode`], in which case there is nothing to answer: the replica asks again. [`SyncError::Ledger`] when the
    /// store cannot be read.
    pub fn reply(&self, bytes: &[u8]) -> Result<Vec<u8>, SyncError> {
        let want = Want::decode(bytes)?;
        let reason = match self.answer(&want) {
            Ok(chunk) => return Ok(chunk.encode()),
            Err(SyncError::Fork(fork)) => {
                let stands = self.ledger.get(&fork.log, fork.seq)?;
                let record = stands.map(|r| r.record.bytes().to_vec()).unwrap_or_default();
                Reason::Fork {
                    seq: fork.seq,
                    record,
                }
            }
            Err(SyncError::Behind { source_newest, .. }) => Reason::Behind {
                newest: source_newest,
            },
            Err(SyncError::Unknown(_)) => Reason::Behind { newest: None },
            Err(SyncError::Pruned { first, .. }) => Reason::Pruned { first },
            Err(other) => return Err(other),
        };
        let log = want.log;
        Ok(Message::Refusal(Refusal { log, reason }).encode())
    }

    // Whether the replica's log is a prefix of ours.
    fn check_mark(&self, want: &Want, mark: &Mark) -> Result<(), SyncError> {
        let stands = match self.ledger.get(&want.log, mark.seq) {
            Err(LedgerError::Pruned { .. }) => return self.check_pruned_mark(want, mark),
            stands => stands?,
        };
        let ours = stands.ok_or(SyncError::Unknown(want.log))?.seal_digest();
        Self::compare(want, mark, ours)
    }

    // Of what went, the last seal is known.
    fn check_pruned_mark(&self, want: &Want, mark: &Mark) -> Result<(), SyncError> {
        let floor = self.ledger.shared().pruned.floor(&want.log);
        match floor.filter(|floor| floor.said.last == mark.seq) {
            Some(floor) => Self::compare(want, mark, floor.said.seal),
            None => Ok(()),
        }
    }

    fn compare(want: &Want, mark: &Mark, ours: SealDigest) -> Result<(), SyncError> {
        if ours == mark.seal {
            return Ok(());
        }
        Err(SyncError::Fork(Box::new(Fork {
            log: want.log,
            seq: mark.seq,
            ours,
            theirs: mark.seal,
            evidence: None,
        })))
    }
}
