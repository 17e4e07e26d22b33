//! Fork evidence: one file that proves to anybody that a machine's key was used in two places, or that its owner went back in
//! time and denied it.
//!
//! The file is text: a header line, then the log's genesis and two records (version 1) or two checkpoints (version 2), each
//! `name base64` on a line of its own. Two records prove a fork when the log's key sealed both and they cannot both be: two at one
//! seq, one seal signed in two ways, or one that stands behind the head at which the genesis of a later log says that the log
//! ended. Two checkpoints prove one when the log's checkpoint key signed both and they give one size two roots. Nothing in the
//! file is trusted: the log must be one whose key the reader pinned, and every signature is checked strictly. It does no I/O.

use data_encoding::BASE64;
use ledger_core::checkpoint::Checkpoint;
use ledger_core::error::{ChainError, RecordError};
use ledger_core::kinds::{AnyDetail, Predecessor};
use ledger_core::note::VerifierKey;
use ledger_core::{Chain, LogId, MachineId, NoteError, Record, Stream, chain, checkpoint};

/// The first line of a file with two records.
pub const HEADER: &str = "ledger-fork-evidence/v1";
/// The first line of a file with two checkpoints.
pub const HEADER_ROOTS: &str = "ledger-fork-evidence/v2";
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
    /// A checkpoint that the log's key did not sign.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// Both records, or both checkpoints, can be.
    #[error("fork evidence: the two do not contradict each other; nothing is proven")]
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
            Self::Note(e) => e.code(),
            Self::NoFork => "evidence.no-fork",
        }
    }
}

/// What contradicts each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ForkKind {
    /// Two records that the log's machine key sealed.
    Records,
    /// Two checkpoints over equally many records, which the log's checkpoint key signed.
    Roots,
}

impl ForkKind {
    fn header(self) -> &'static str {
        match self {
            Self::Records => HEADER,
            Self::Roots => HEADER_ROOTS,
        }
    }

    fn line(self) -> &'static str {
        match self {
            Self::Records => "record",
            Self::Roots => "checkpoint",
        }
    }
}

/// Two records that one machine key sealed, or two checkpoints that its checkpoint key signed, and that cannot both be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ForkEvidence {
    /// Which of both.
    pub kind: ForkKind,
    /// The exact bytes of the log's genesis.
    pub genesis: Vec<u8>,
    /// The one record's; of a checkpoint the signed note, as text.
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
    /// What contradicts each other.
    pub kind: ForkKind,
    /// The seq that two records claim, or that stands behind the log's end; of two roots, the last seq under both.
    pub seq: u64,
    /// The name under which readers pin the log's key.
    pub origin: String,
}

impl ProvenFork {
    /// What was proven, in words that follow a machine's name.
    pub fn what(&self) -> String {
        let (stream, seq) = (self.stream, self.seq);
        match self.kind {
            ForkKind::Records => format!("sealed two records of its {stream} log that cannot both be"),
            ForkKind::Roots => format!(
                "signed two roots of its {stream} log over the same {} receipts",
                seq.saturating_add(1)
            ),
        }
    }
}

impl ForkEvidence {
    /// Whether a text claims to be such a file.
    pub fn is_one(text: &str) -> bool {
        let first = text.lines().next();
        first == Some(HEADER) || first == Some(HEADER_ROOTS)
    }

    /// The file's text.
    pub fn to_text(&self) -> String {
        let line = |name: &str, bytes: &[u8]| format!("{name} {}\n", BASE64.encode(bytes));
        [
            format!("{}\n", self.kind.header()),
            line("genesis", &self.genesis),
            line(self.kind.line(), &self.one),
            line(self.kind.line(), &self.other),
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
        let kind = match lines.next() {
            Some(HEADER) => ForkKind::Records,
            Some(HEADER_ROOTS) => ForkKind::Roots,
            _ => return Err(bad("its first line is not ledger-fork-evidence/v1 or v2")),
        };
        let mut next = |name: &'static str| {
            let line = lines
                .next()
                .and_then(|line| line.strip_prefix(name)?.strip_prefix(' '));
            let line = line.ok_or(bad(
                "a genesis and two records or checkpoints are expected, one a line",
            ))?;
            BASE64
                .decode(line.as_bytes())
                .map_err(|_| bad("a line is not base64"))
        };
        let read = Self {
            kind,
            genesis: next("genesis")?,
            one: next(kind.line())?,
            other: next(kind.line())?,
        };
        if lines.next().is_some() {
            return Err(bad("there is more behind the second of both"));
        }
        Ok(read)
    }

    /// Checks every signature, and that the two contradict each other.
    ///
    /// # Errors
    /// [`EvidenceError`].
    pub fn check(&self) -> Result<ProvenFork, EvidenceError> {
        let log = Chain::start(&Record::parse(&self.genesis)?)?;
        let seq = match self.kind {
            ForkKind::Records => self.records_at(&log)?,
            ForkKind::Roots => self.roots_at(&log)?,
        };
        Ok(ProvenFork {
            log: log.log(),
            machine: log.genesis().machine.clone(),
            stream: log.genesis().stream,
            kind: self.kind,
            seq,
            origin: checkpoint::origin(&log.log()),
        })
    }

    fn records_at(&self, log: &Chain) -> Result<u64, EvidenceError> {
        let records = [Record::parse(&self.one)?, Record::parse(&self.other)?];
        for record in &records {
            match chain::verify_signatures(record, log.machine_verifier()) {
                // Whoever is named as author: the log's own key sealed it.
                Ok(()) | Err(ChainError::AuthorSignature { .. }) => {}
                Err(e) => return Err(e.into()),
            }
        }
        let [one, other] = &records;
        contradiction(log, one, other)
            .or_else(|| contradiction(log, other, one))
            .ok_or(EvidenceError::NoFork)
    }

    fn roots_at(&self, log: &Chain) -> Result<u64, EvidenceError> {
        let key = log.genesis().checkpoint_key.verifier();
        let key = key.map_err(|_| EvidenceError::Malformed("the genesis names no usable checkpoint key"))?;
        let open = |note: &[u8]| {
            let text = std::str::from_utf8(note);
            let text = text.map_err(|_| EvidenceError::Malformed("a checkpoint is not UTF-8"))?;
            Ok::<_, EvidenceError>(Checkpoint::open(text, &log.log(), &key)?)
        };
        let (one, other) = (open(&self.one)?, open(&self.other)?);
        let last = one.tree_size.checked_sub(1);
        let last = last.filter(|_| one.tree_size == other.tree_size && one.root != other.root);
        last.ok_or(EvidenceError::NoFork)
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
fn contradiction(chain: &Chain, record: &Record, other: &Record) -> Option<u64> {
    let log = chain.log();
    let (seal, beside) = (record.seal(), other.seal());
    if seal.log != log {
        return None;
    }
    // Whoever holds the key can sign one seal in many ways; each is another leaf of the tree.
    let differ =
        record.seal_digest() != other.seal_digest() || record.log_signature() != other.log_signature();
    if beside.log == log && beside.seq == seal.seq && differ {
        return Some(seal.seq);
    }
    // A machine that took its tail back may lack heartbeats that were pruned elsewhere: the next log names what it has. What an
    // order had behind the cut of the next epoch is kept beside it, by an honest Central as well.
    let strict = matches!(chain.genesis().stream, Stream::Work | Stream::Facts);
    let ends = beside.seq == 0 && strict;
    let ended = match other.statement().any_detail() {
        Ok(AnyDetail::LogGenesis(genesis)) if ends => genesis.predecessor,
        _ => None,
    };
    let ended = ended.filter(|Predecessor { log: before, head }| *before == log && seal.seq > head.seq);
    // The later log is named by its genesis, as any.
    ended.filter(|_| Chain::start(other).is_ok()).map(|_| seal.seq)
}
