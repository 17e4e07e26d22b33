//! Other logs' records, verbatim: parsed and strictly verified before they reach the committer.
//!
//! Only structure and the log's own signature can keep a record out. An author signature that does not verify is a verdict
//! ([`VerifiedRun::inadmissible`]): the record is kept, since a dense log must never be wedged by one bad record.

use crate::error::LedgerError;
use ledger_core::error::ChainError;
use ledger_core::signature::verify_seals;
use ledger_core::{Chain, FleetId, LogId, Payload, Record, VerifyKey, chain};
use rayon::prelude::*;
use std::sync::Arc;

/// Below so many records the work is not spread over threads.
const PARALLEL_MIN: usize = 16;
/// Records whose log signatures are verified together, on one thread.
const PIECE_RECORDS: usize = 32;

/// A contiguous run of one log whose signatures were verified strictly. [`crate::sync`] makes these by itself; whoever has a
/// transport with chunks of its own hands them to [`crate::Tx::intake`].
///
/// ```
/// use ledger::VerifiedRun;
/// use ledger::core::Stream;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// let ledger = ledger::Ledger::lone(dir.path().join("log"), "my-agent")?;
/// let log = ledger.own_log(Stream::Facts).ok_or("a lone log has facts")?;
/// let mut raw = Vec::new();
/// for receipt in ledger.range(&log, 0, u64::MAX) {
///     let receipt = receipt?;
///     raw.push((receipt.record.bytes().to_vec(), ledger.payload(&receipt)?.present()));
/// }
/// let run = VerifiedRun::verify(raw, None)?.ok_or("a log has its genesis")?;
/// assert_eq!((run.log(), run.inadmissible()), (log, &[][..]));
///
/// // What is here already is compared and skipped.
/// let intake = ledger.commit(move |tx| tx.intake(&run))?.value;
/// assert_eq!((intake.new.len(), intake.known), (0, 1));
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct VerifiedRun {
    log: LogId,
    fleet: FleetId,
    records: Vec<(Arc<Record>, Option<Payload>)>,
    inadmissible: Vec<u64>,
}

/// A record's exact bytes and, when the sender has it, its payload.
pub type RawRecord = (Vec<u8>, Option<Payload>);

impl VerifiedRun {
    /// Parses and verifies a run. `known` is the chain of this log as far as the store has it; without it the run must
    /// begin with the genesis.
    ///
    /// # Errors
    /// [`LedgerError::Record`] or [`LedgerError::Chain`] naming the first record that cannot be taken in: broken framing,
    /// another log, a gap within the run or before it, a log signature that is not valid, a payload that does not match.
    pub fn verify(raw: Vec<RawRecord>, known: Option<&Chain>) -> Result<Option<Self>, LedgerError> {
        let parse = |(bytes, payload): RawRecord| Ok((Arc::new(Record::parse(&bytes)?), payload));
        let parallel = raw.len() >= PARALLEL_MIN;
        let records: Vec<(Arc<Record>, Option<Payload>)> = if parallel {
            raw.into_par_iter()
                .map(parse)
                .collect::<Result<_, LedgerError>>()?
        } else {
            raw.into_iter().map(parse).collect::<Result<_, LedgerError>>()?
        };
        let Some((first, _)) = records.first() else {
            return Ok(None);
        };
        let log = first.seal().log;
        let fleet = first.statement().fleet;
        let key = match known {
            Some(chain) => chain.machine_verifier().clone(),
            // What came before, on its way as well perhaps: nobody did wrong.
            None if first.seal().seq > 0 => {
                return Err(ChainError::Seq {
                    log,
                    expected: 0,
                    found: first.seal().seq,
                }
                .into());
            }
            None => Chain::start(first)?.machine_verifier().clone(),
        };
        for pair in records.windows(2) {
            let (before, record) = (&pair[0].0, &pair[1].0);
            let seq = record.seal().seq;
            if record.seal().log != log {
                return Err(ChainError::OtherLog {
                    expected: log,
                    found: record.seal().log,
                }
                .into());
            }
            let expected = before.seal().seq.saturating_add(1);
            if seq != expected {
                return Err(ChainError::Seq {
                    log,
                    expected,
                    found: seq,
                }
                .into());
            }
            if record.seal().prev != before.seal_digest() {
                let (expected, found) = (before.seal_digest(), record.seal().prev);
                return Err(ChainError::Prev {
                    log,
                    seq,
                    expected,
                    found,
                }
                .into());
            }
        }
        let check = |piece: &[(Arc<Record>, Option<Payload>)]| check(piece, &key);
        let verdicts: Vec<Vec<u64>> = if parallel {
            let pieces = records.par_chunks(PIECE_RECORDS).map(check);
            pieces.collect::<Result<_, _>>()?
        } else {
            vec![check(&records)?]
        };
        Ok(Some(Self {
            log,
            fleet,
            records,
            inadmissible: verdicts.concat(),
        }))
    }

    /// The log.
    pub fn log(&self) -> LogId {
        self.log
    }

    /// The fleet that its first record names; the chain check holds the others to it.
    pub fn fleet(&self) -> FleetId {
        self.fleet
    }

    /// The records with their payloads, in order.
    pub fn records(&self) -> &[(Arc<Record>, Option<Payload>)] {
        &self.records
    }

    /// The seqs whose author signature is not valid.
    pub fn inadmissible(&self) -> &[u64] {
        &self.inadmissible
    }
}

// The seqs of the records that are to be kept but inert.
fn check(records: &[(Arc<Record>, Option<Payload>)], key: &VerifyKey) -> Result<Vec<u64>, LedgerError> {
    let sealed = |(record, _): &(Arc<Record>, _)| (record.seal_digest(), *record.log_signature());
    let sealed: Vec<_> = records.iter().map(sealed).collect();
    let is_sealed = verify_seals(key, &sealed);
    let mut inert = Vec::new();
    for ((record, payload), is_sealed) in records.iter().zip(is_sealed) {
        check_payload(record, payload.as_ref())?;
        let (log, seq) = (record.seal().log, record.seal().seq);
        if !is_sealed {
            return Err(ChainError::LogSignature { log, seq }.into());
        }
        if chain::verify_author(record).is_err() {
            inert.push(seq);
        }
    }
    Ok(inert)
}

fn check_payload(record: &Record, payload: Option<&Payload>) -> Result<(), LedgerError> {
    let matches = match (&record.statement().payload, payload) {
        (Some(wanted), Some(payload)) => payload.matches(wanted),
        (None, Some(_)) => false,
        (_, None) => true,
    };
    if matches {
        return Ok(());
    }
    let id = record.statement().id.to_string();
    Err(ledger_core::StatementError::Payload { id }.into())
}
