//! The side that lacks a log: asks for what is missing, verifies what comes, takes it in.
//!
//! Contract: the store's copy is at every moment a byte-exact prefix of a log that its own key sealed. Chunks may come twice,
//! overlap, come late or never. A fork that is proven stops the replica, and nothing of it is taken in. What is durable
//! is in the store; this holds nothing that a crash could lose.

use super::error::{Fork, SyncError};
use super::message::{Chunk, Mark, Message, Reason, Refusal, Want};
use crate::Receipt;
use crate::commit::CommitError;
use crate::error::LedgerError;
use crate::intake::VerifiedRun;
use crate::ledger::Ledger;
use crate::state::State;
use ledger_core::error::ChainError;
use ledger_core::{Chain, LogId, Record, chain};
use std::sync::Arc;

/// What became of an answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Progress {
    /// Records that were taken in; they are durable.
    pub new: u64,
    /// Records that were here already.
    pub known: u64,
    /// The seqs in this answer whose author signature is not valid: kept, since the log sealed them, and inert.
    pub inadmissible: Vec<u64>,
    /// How much of the log is here now.
    pub head: Option<Mark>,
    /// Whether the source had nothing behind that.
    pub complete: bool,
}

/// Keeps a store's copy of one log up to date. See [`crate::sync`] for an example.
pub struct Replica<S: State = ()> {
    ledger: Ledger<S>,
    log: LogId,
    complete: bool,
    forked: Option<Box<Fork>>,
}

impl<S: State> Replica<S> {
    /// Goes on where the store's copy ends; begins with the genesis when there is none.
    ///
    /// # Errors
    /// [`SyncError::OwnLog`] for a log that this store writes itself.
    pub fn new(ledger: Ledger<S>, log: LogId) -> Result<Self, SyncError> {
        if ledger.shared().is_own(&log) {
            return Err(SyncError::OwnLog(log));
        }
        Ok(Self {
            ledger,
            log,
            complete: false,
            forked: None,
        })
    }

    /// The log.
    pub fn log(&self) -> LogId {
        self.log
    }

    /// How much of the log is here, durably.
    pub fn mark(&self) -> Option<Mark> {
        self.chain().map(|chain| Mark::of(&chain))
    }

    /// Whether the source had nothing more, as of its last answer. It may have by now: ask again to follow.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// What is missing. May be asked for as often as the transport needs.
    ///
    /// # Errors
    /// [`SyncError::Fork`] when a fork was proven: from then on there is nothing to ask for.
    pub fn want(&self) -> Result<Want, SyncError> {
        match &self.forked {
            Some(fork) => Err(SyncError::Fork(fork.clone())),
            None => Ok(Want {
                log: self.log,
                after: self.mark(),
            }),
        }
    }

    /// The bytes of [`Replica::want`].
    ///
    /// # Errors
    /// As [`Replica::want`].
    pub fn ask(&self) -> Result<Vec<u8>, SyncError> {
        self.want().map(Want::encode)
    }

    /// Takes an answer as it came over the transport.
    ///
    /// # Errors
    /// As [`Message::decode`], [`Replica::take`] and [`Replica::refused`]; nothing of the answer is then kept.
    pub fn hear(&mut self, bytes: &[u8]) -> Result<Progress, SyncError> {
        match Message::decode(bytes)? {
            Message::Chunk(chunk) => self.take(chunk),
            Message::Refusal(refusal) => Err(self.refused(&refusal)),
            other @ Message::Want(_) => Err(other.unexpected("a chunk or a refusal")),
        }
    }

    /// Verifies a chunk and takes it in; blocks until it is durable. What is here already is skipped.
    ///
    /// # Errors
    /// [`SyncError::Gap`] when it begins behind what is here; [`SyncError::Fork`] when another record stands here at one of its
    /// places; [`SyncError::OtherLog`], [`SyncError::Empty`], [`SyncError::TooLarge`]; [`SyncError::Ledger`] when a record
    /// does not verify, is of another fleet than this store, or the store cannot be written. Nothing of the chunk is then
    /// taken in.
    pub fn take(&mut self, chunk: Chunk) -> Result<Progress, SyncError> {
        self.want()?;
        self.expect_log(chunk.log)?;
        chunk.check_bounds()?;
        let known = self.chain();
        let mark = known.as_deref().map(Mark::of);
        let Some((first, _)) = chunk.records.first() else {
            return self.nothing_new(&chunk, mark);
        };
        let found = Record::parse(first).map_err(LedgerError::from)?.seal().seq;
        let expected = mark.map_or(0, |mark| mark.seq.saturating_add(1));
        if found > expected {
            return Err(SyncError::Gap {
                log: self.log,
                expected,
                found,
            });
        }
        let Some(run) = VerifiedRun::verify(chunk.records, known.as_deref())? else {
            return Err(SyncError::Empty(self.log));
        };
        self.expect_log(run.log())?;
        let last = run.records().last().map(|(record, _)| record.seal_digest());
        let inadmissible = run.inadmissible().to_vec();
        let run = Arc::new(run);
        let taking = Arc::clone(&run);
        let committed = self
            .ledger
            .commit(move |tx| tx.intake(&taking))
            .map_err(CommitError::into_ledger);
        let intake = match committed {
            Ok(committed) => committed.value,
            Err(e) => return Err(self.failed(&run, e)),
        };
        let head = self.mark();
        // An old answer says nothing about the end.
        if head.map(|head| head.seal) == last {
            self.complete = chunk.complete;
        }
        Ok(Progress {
            new: u64::try_from(intake.new.len()).unwrap_or(u64::MAX),
            known: intake.known,
            inadmissible,
            head,
            complete: self.complete,
        })
    }

    /// What a source's refusal means here. Stops the replica when it proves a fork.
    ///
    /// ```
    /// use ledger::core::LogId;
    /// use ledger::sync::{Reason, Refusal, Replica};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// let store = ledger::Ledger::lone(dir.path().join("log"), "mirror")?;
    /// let log = LogId([7; 32]);
    /// let mut replica = Replica::new(store, log)?;
    /// let refusal = Refusal { log, reason: Reason::Behind { newest: None } };
    /// assert_eq!(replica.refused(&refusal).code(), "sync.unknown-log");
    /// # Ok(()) }
    /// ```
    pub fn refused(&mut self, refusal: &Refusal) -> SyncError {
        if let Err(e) = self.want().and_then(|_| self.expect_log(refusal.log)) {
            return e;
        }
        let log = self.log;
        match (&refusal.reason, self.mark()) {
            (Reason::Fork { seq, record }, _) => match self.prove(*seq, record) {
                Ok(Some(fork)) => self.stop(fork),
                Ok(None) => SyncError::Unproven { log, seq: *seq },
                Err(e) => e.into(),
            },
            (Reason::Behind { newest: Some(newest) }, Some(mark)) => SyncError::Behind {
                log,
                source_newest: Some(*newest),
                replica: mark.seq,
            },
            (Reason::Behind { .. }, _) => SyncError::Unknown(log),
            (Reason::Pruned { first }, _) => SyncError::Pruned { log, first: *first },
        }
    }

    fn chain(&self) -> Option<Arc<Chain>> {
        self.ledger.snapshot().logs.get(&self.log).cloned()
    }

    fn expect_log(&self, found: LogId) -> Result<(), SyncError> {
        if found == self.log {
            return Ok(());
        }
        Err(SyncError::OtherLog {
            expected: self.log,
            found,
        })
    }

    fn nothing_new(&mut self, chunk: &Chunk, head: Option<Mark>) -> Result<Progress, SyncError> {
        if !chunk.complete || head.is_none() {
            return Err(SyncError::Empty(self.log));
        }
        // An answer to an earlier want says nothing about the end.
        if chunk.after == head {
            self.complete = true;
        }
        Ok(Progress {
            new: 0,
            known: 0,
            inadmissible: Vec::new(),
            head,
            complete: self.complete,
        })
    }

    // Why a run was not taken in: a fork is told with what proves it.
    fn failed(&mut self, run: &VerifiedRun, error: LedgerError) -> SyncError {
        let (seq, stands_at) = match &error {
            LedgerError::Fork { seq, .. } => (*seq, Some(*seq)),
            LedgerError::Chain(ChainError::Prev { seq, .. }) => (*seq, seq.checked_sub(1)),
            _ => return error.into(),
        };
        let theirs = run.records().iter().find(|(record, _)| record.seal().seq == seq);
        let (Some((record, _)), Some(stands_at)) = (theirs, stands_at) else {
            return error.into();
        };
        match self.ledger.get(&self.log, stands_at) {
            Ok(Some(ours)) => {
                let fork = fork_of(&ours, record);
                self.stop(fork)
            }
            Ok(None) => error.into(),
            Err(e) => e.into(),
        }
    }

    // The fork that a source's record at a place proves: the log's own key sealed it, and we have another one there.
    fn prove(&self, seq: u64, bytes: &[u8]) -> Result<Option<Fork>, LedgerError> {
        let (Some(chain), Ok(record)) = (self.chain(), Record::parse(bytes)) else {
            return Ok(None);
        };
        let sealed = match chain::verify_signatures(&record, chain.machine_verifier()) {
            Ok(()) | Err(ChainError::AuthorSignature { .. }) => true,
            Err(_) => false,
        };
        if !sealed || record.seal().log != self.log || record.seal().seq != seq {
            return Ok(None);
        }
        let ours = self.ledger.get(&self.log, seq)?;
        let differs = ours.filter(|ours| ours.seal_digest() != record.seal_digest());
        Ok(differs.map(|ours| fork_of(&ours, &record)))
    }

    fn stop(&mut self, fork: Fork) -> SyncError {
        let fork = Box::new(fork);
        self.forked = Some(fork.clone());
        self.complete = false;
        SyncError::Fork(fork)
    }
}

// Ours, and a record of theirs at its place or right behind it.
fn fork_of(ours: &Receipt, record: &Record) -> Fork {
    let theirs = if record.seal().seq == ours.seq() {
        record.seal_digest()
    } else {
        record.seal().prev
    };
    Fork {
        log: ours.log(),
        seq: ours.seq(),
        ours: ours.seal_digest(),
        theirs,
        evidence: Some(record.bytes().to_vec()),
    }
}
