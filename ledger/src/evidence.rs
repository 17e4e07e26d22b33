//! Fork evidence: one file that proves to anybody that a machine's key was used in two places, or that its owner went back in
//! time and denied it.
//!
//! The file is text: a header line, then the log's genesis and two records, each `name base64` on a line of its own. Two records
//! prove a fork when the log's key sealed both and they cannot both be: two at one seq; or one that stands behind the head at
//! which the genesis of a later log says that the log ended. Nothing in the file is trusted: the log must be one whose key the
//! reader pinned, and every signature is checked strictly. It does no I/O.

use data_encoding::BASE64;
use ledger_core::error::{ChainError, RecordError};
use ledger_core::kinds::{AnyDetail, Predecessor};
use ledger_core::note::VerifierKey;
use ledger_core::{Chain, LogId, MachineId, Record, Stream, chain, checkpoint};

/// The first line of every file.
pub const HEADER: &str = "ledger-fork-evidence/v1";
/// What such a file is called behind its name.
pub const EXTENSION: &str = "fork";
/// Bytes of a whole file: three records in base64, and room.
pub const EVIDENCE_BYTES_MAX: usize = 512 * 1024;

/// What does not read, or does not prove a fork.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvidenceError {
    /// Not the form of such a file.
    #[error("fork evidence: {0}; ask for the file again")]
    Malformed(&'static str),
    /// A log whose key is not pinned.
    #[error("fork evidence: it is of {0:?}, and no key of that name is pinned; ask the log's owner for it")]
    NotPinned(String),
    /// A record that does not read.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A signature or genesis that does not hold.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// Both records can be.
    #[error("fork evidence: the two records do not contradict each other; nothing is proven")]
    NoFork,
}

impl EvidenceError {
    /// The stable code of this error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "evidence.malformed",
            Self::NotPinned(_) => "evidence.not-pinned",
            Self::Record(e) => e.code(),
            Self::Chain(e) => e.code(),
            Self::NoFork => "evidence.no-fork",
        }
    }
}

/// Two records that one machine key sealed and that cannot both be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ForkEvidence {
    /// The exact bytes of the log's genesis.
    pub genesis: Vec<u8>,
    /// The one record's.
    pub one: Vec<u8>,
    /// The other's.
    pub other: Vec<u8>,
}

/// What is proven.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProvenFork {
    /// The log.
    pub log: LogId,
    /// Whose it is.
    pub machine: MachineId,
    /// Which of its logs.
    pub stream: Stream,
    /// The seq that two records claim, or that stands behind the log's end.
    pub seq: u64,
    /// The name under which readers pin the log's key.
    pub origin: String,
}

impl ForkEvidence {
    /// The file's text.
    pub fn to_text(&self) -> String {
        let line = |name: &str, bytes: &[u8]| format!("{name} {}\n", BASE64.encode(bytes));
        [
            format!("{HEADER}\n"),
            line("genesis", &self.genesis),
            line("record", &self.one),
            line("record", &self.other),
        ]
        .concat()
    }

    /// Reads a file's text.
    ///
    /// # Errors
    /// [`EvidenceError::Malformed`].
    pub fn parse(text: &str) -> Result<Self, EvidenceError> {
        let bad = EvidenceError::Malformed;
        if text.len() > EVIDENCE_BYTES_MAX {
            return Err(bad("it is longer than 512 KiB"));
        }
        let mut lines = text.lines();
        if lines.next() != Some(HEADER) {
            return Err(bad("its first line is not ledger-fork-evidence/v1"));
        }
        let mut next = |name: &'static str| {
            let line = lines
                .next()
                .and_then(|line| line.strip_prefix(name)?.strip_prefix(' '));
            let line = line.ok_or(bad("a genesis and two records are expected, one a line"))?;
            BASE64
                .decode(line.as_bytes())
                .map_err(|_| bad("a line is not base64"))
        };
        let read = Self {
            genesis: next("genesis")?,
            one: next("record")?,
            other: next("record")?,
        };
        if lines.next().is_some() {
            return Err(bad("there is more behind the second record"));
        }
        Ok(read)
    }

    /// Checks every signature, and that the records contradict each other.
    ///
    /// # Errors
    /// [`EvidenceError`].
    pub fn check(&self) -> Result<ProvenFork, EvidenceError> {
        let log = Chain::start(&Record::parse(&self.genesis)?)?;
        let records = [Record::parse(&self.one)?, Record::parse(&self.other)?];
        for record in &records {
            match chain::verify_signatures(record, log.machine_verifier()) {
                // Whoever is named as author: the log's own key sealed it.
                Ok(()) | Err(ChainError::AuthorSignature { .. }) => {}
                Err(e) => return Err(e.into()),
            }
        }
        let [one, other] = &records;
        let seq = contradiction(log.log(), one, other)
            .or_else(|| contradiction(log.log(), other, one))
            .ok_or(EvidenceError::NoFork)?;
        Ok(ProvenFork {
            log: log.log(),
            machine: log.genesis().machine.clone(),
            stream: log.genesis().stream,
            seq,
            origin: checkpoint::origin(&log.log()),
        })
    }

    /// The same, when the log is one whose checkpoint key is pinned.
    ///
    /// # Errors
    /// [`EvidenceError`].
    pub fn check_pinned(&self, pinned: &[VerifierKey]) -> Result<ProvenFork, EvidenceError> {
        let proven = self.check()?;
        let key = Chain::start(&Record::parse(&self.genesis)?)?
            .genesis()
            .checkpoint_key;
        let is_pinned = |pin: &VerifierKey| pin.name() == proven.origin && pin.key().public() == key;
        if !pinned.iter().any(is_pinned) {
            return Err(EvidenceError::NotPinned(proven.origin));
        }
        Ok(proven)
    }
}

// The seq at which a record of this log cannot stand beside another.
fn contradiction(log: LogId, record: &Record, other: &Record) -> Option<u64> {
    let (seal, beside) = (record.seal(), other.seal());
    if seal.log != log {
        return None;
    }
    if beside.log == log && beside.seq == seal.seq && record.seal_digest() != other.seal_digest() {
        return Some(seal.seq);
    }
    let ended = match other.statement().any_detail() {
        Ok(AnyDetail::LogGenesis(genesis)) if beside.seq == 0 => genesis.predecessor,
        _ => None,
    };
    let ended = ended.filter(|Predecessor { log: before, head }| *before == log && seal.seq > head.seq);
    // The later log is named by its genesis, as any.
    ended.filter(|_| Chain::start(other).is_ok()).map(|_| seal.seq)
}
