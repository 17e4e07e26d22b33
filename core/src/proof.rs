//! One receipt with its proof in one file: C2SP `tlog-proof`, verified offline, years later, with pinned keys only.
//!
//! The file is text: a header line, the `extra` line, the index, the audit path, an empty line, and the log's signed
//! checkpoint. Our `extra` carries what a reader needs besides: the log's genesis record (its LogId, which the origin
//! names, is the digest of that genesis; it holds the keys of machine and checkpoints), the record, and the payload with its
//! salt. Nothing of it is trusted: [`check`] holds every byte to the pinned key. Any other program that reads
//! `tlog-proof` can verify the record, too: the record's bytes are the entry.
//!
//! It does no I/O and does not decide whom to trust.

use crate::chain::{self, Chain};
use crate::checkpoint::{self, Checkpoint};
use crate::error::{ChainError, NoteError, RecordError};
use crate::note::VerifierKey;
use crate::record::{Payload, Record, Salt};
use crate::tree::{self, Hash};
use data_encoding::BASE64;

/// The first line of every proof.
pub const HEADER: &str = "c2sp.org/tlog-proof@v1";
/// Bytes of a whole file: two records and a payload in base64, 64 hashes, and room for cosignatures.
pub const PROOF_BYTES_MAX: usize = 512 * 1024;
/// Hashes of an audit path: one for each level of a tree whose size has 64 bits.
pub const PATH_HASHES_MAX: usize = 64;
/// The first byte of our `extra`.
const EXTRA_VERSION: u8 = 1;

/// A proof that does not read, or does not prove.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProofError {
    /// Not the form of C2SP `tlog-proof`.
    #[error("proof: {0}")]
    Malformed(&'static str),
    /// A checkpoint of a log for which no key was pinned.
    #[error("proof: it is of {0:?}, and no key of that name is pinned; ask the log's owner for it")]
    NotPinned(String),
    /// The checkpoint.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// The audit path does not lead from the record to the root.
    #[error(
        "proof: the record is not the entry {index} of the tree of {tree_size} that the checkpoint signs: record, index, \
         path or checkpoint are not those of one proof"
    )]
    NotIncluded {
        /// The entry.
        index: u64,
        /// Entries in the tree.
        tree_size: u64,
    },
    /// The proof has no `extra` of ours.
    #[error(
        "proof: it carries no record (an `extra` of version 1); hold the record's bytes against it yourself"
    )]
    NoRecord,
    /// The record does not read.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// Genesis or signatures.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The genesis that is carried has another checkpoint key than the one that is pinned.
    #[error("proof: the genesis names another checkpoint key than the one that is pinned")]
    CheckpointKey,
    /// The record stands elsewhere than the proof says.
    #[error("proof: the record says that it stands at seq {found}, the proof that it is entry {index}")]
    Seq {
        /// What the proof says.
        index: u64,
        /// What the seal says.
        found: u64,
    },
    /// The payload is not what the statement committed to.
    #[error("proof: the payload is not what the statement committed to")]
    Payload,
}

impl ProofError {
    /// The stable code of this error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "proof.malformed",
            Self::NotPinned(_) => "proof.not-pinned",
            Self::Note(e) => e.code(),
            Self::NotIncluded { .. } => "proof.not-included",
            Self::NoRecord => "proof.no-record",
            Self::Record(e) => e.code(),
            Self::Chain(e) => e.code(),
            Self::CheckpointKey => "proof.checkpoint-key",
            Self::Seq { .. } => "proof.seq",
            Self::Payload => "proof.payload",
        }
    }
}

/// A proof as its file says it. Nothing of it is verified by parsing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Proof {
    /// Opaque bytes that nothing authenticates; ours are an [`Extra`].
    pub extra: Option<Vec<u8>>,
    /// Which entry of the log; our seq.
    pub index: u64,
    /// The audit path, from the leaf up.
    pub path: Vec<Hash>,
    /// The signed checkpoint, verbatim.
    pub checkpoint: String,
}

impl Proof {
    /// The file.
    pub fn to_text(&self) -> String {
        let mut text = format!("{HEADER}\n");
        if let Some(extra) = &self.extra {
            text.push_str(&format!("extra {}\n", BASE64.encode(extra)));
        }
        text.push_str(&format!("index {}\n", self.index));
        for hash in &self.path {
            text.push_str(&BASE64.encode(hash));
            text.push('\n');
        }
        text.push('\n');
        text.push_str(&self.checkpoint);
        text
    }

    /// Reads a file. There is one spelling of a proof; any other is refused.
    ///
    /// # Errors
    /// [`ProofError::Malformed`] naming the first fault.
    pub fn parse(text: &str) -> Result<Self, ProofError> {
        let wrong = ProofError::Malformed;
        if text.len() > PROOF_BYTES_MAX {
            return Err(wrong("a proof has at most 512 KiB"));
        }
        let line = |rest: &mut &str, why| -> Result<String, ProofError> {
            let (line, after) = rest.split_once('\n').ok_or(wrong(why))?;
            *rest = after;
            Ok(line.to_owned())
        };
        let mut rest = text;
        if line(&mut rest, "the file ends in its first line")? != HEADER {
            return Err(wrong("the first line is not \"c2sp.org/tlog-proof@v1\""));
        }
        let mut next = line(&mut rest, "the file ends before the index")?;
        let extra = match next.strip_prefix("extra ") {
            Some(extra) => {
                let extra = BASE64.decode(extra.as_bytes());
                let extra = extra.map_err(|_| wrong("the extra data are not base64"))?;
                next = line(&mut rest, "the file ends before the index")?;
                Some(extra)
            }
            None => None,
        };
        let index = next
            .strip_prefix("index ")
            .ok_or(wrong("no line begins with \"index \""))?;
        let number = index
            .parse::<u64>()
            .map_err(|_| wrong("the index is not a number of 64 bits"))?;
        if number.to_string() != index {
            return Err(wrong("the index is a decimal number without leading zeros"));
        }
        let mut path = Vec::new();
        loop {
            let hash = line(&mut rest, "the file ends before the checkpoint")?;
            if hash.is_empty() {
                break;
            }
            let hash = BASE64
                .decode(hash.as_bytes())
                .ok()
                .and_then(|h| h.try_into().ok());
            path.push(hash.ok_or(wrong("a hash of the path is not 32 bytes in base64"))?);
            if path.len() > PATH_HASHES_MAX {
                return Err(wrong("the path has more than 64 hashes"));
            }
        }
        Ok(Self {
            extra,
            index: number,
            path,
            checkpoint: rest.to_owned(),
        })
    }

    /// Verifies that an entry is at the index, in the tree that the pinned key signed; the checkpoint.
    ///
    /// # Errors
    /// [`ProofError::NotPinned`], [`ProofError::Note`] or [`ProofError::NotIncluded`].
    pub fn verify_entry(&self, entry: &[u8], pinned: &[VerifierKey]) -> Result<Checkpoint, ProofError> {
        let (checkpoint, _) = self.open(pinned)?;
        self.verify_path(entry, &checkpoint)?;
        Ok(checkpoint)
    }

    fn open<'a>(&self, pinned: &'a [VerifierKey]) -> Result<(Checkpoint, &'a VerifierKey), ProofError> {
        let origin = self.checkpoint.lines().next().unwrap_or_default();
        let not_pinned = || ProofError::NotPinned(origin.to_owned());
        let log = checkpoint::log_of_origin(origin).ok_or_else(not_pinned)?;
        let mut first_error = None;
        for key in pinned
            .iter()
            .filter(|key| key.name() == origin && !key.is_witness())
        {
            match Checkpoint::open(&self.checkpoint, &log, key.key()) {
                Ok(checkpoint) => return Ok((checkpoint, key)),
                Err(error) => {
                    first_error.get_or_insert(error);
                }
            }
        }
        Err(first_error.map_or_else(not_pinned, ProofError::Note))
    }

    fn verify_path(&self, entry: &[u8], checkpoint: &Checkpoint) -> Result<(), ProofError> {
        let leaf = tree::leaf_hash(entry);
        let (tree_size, root) = (checkpoint.tree_size, checkpoint.root);
        if tree::verify_inclusion(leaf, self.index, tree_size, &self.path, root) {
            Ok(())
        } else {
            let index = self.index;
            Err(ProofError::NotIncluded { index, tree_size })
        }
    }
}

/// What our proofs carry beside the proof itself (`docs/FORMAT.md`, "Proof").
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Extra {
    /// The bytes of the log's record at seq 0.
    pub genesis: Vec<u8>,
    /// The bytes of the record.
    pub record: Vec<u8>,
    /// Its payload, when it has one and it is given away.
    pub payload: Option<Payload>,
}

impl Extra {
    /// Its bytes.
    ///
    /// # Panics
    /// When a record is longer than a record can be.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![EXTRA_VERSION];
        for record in [&self.genesis, &self.record] {
            let length = u16::try_from(record.len()).expect("a record has at most 65,535 bytes");
            bytes.extend_from_slice(&length.to_be_bytes());
            bytes.extend_from_slice(record);
        }
        match &self.payload {
            None => bytes.push(0),
            Some(payload) => {
                bytes.push(1);
                bytes.extend_from_slice(&payload.salt.0);
                bytes.extend_from_slice(&payload.bytes);
            }
        }
        bytes
    }

    /// Reads its bytes.
    ///
    /// # Errors
    /// [`ProofError::NoRecord`] for another version, [`ProofError::Malformed`] for any other form.
    pub fn decode(bytes: &[u8]) -> Result<Self, ProofError> {
        let short = || ProofError::Malformed("the extra data end early");
        let Some((&EXTRA_VERSION, mut rest)) = bytes.split_first() else {
            return Err(ProofError::NoRecord);
        };
        let mut record = || -> Result<Vec<u8>, ProofError> {
            let (length, after) = rest.split_first_chunk::<2>().ok_or_else(short)?;
            let length = usize::from(u16::from_be_bytes(*length));
            let (record, after) = after.split_at_checked(length).ok_or_else(short)?;
            rest = after;
            Ok(record.to_vec())
        };
        let (genesis, record) = (record()?, record()?);
        let payload = match rest.split_first().ok_or_else(short)? {
            (0, []) => None,
            (1, payload) => {
                let (salt, bytes) = payload.split_first_chunk::<32>().ok_or_else(short)?;
                let (salt, bytes) = (Salt(*salt), bytes.to_vec());
                Some(Payload { salt, bytes })
            }
            _ => return Err(ProofError::Malformed("the extra data do not end as they should")),
        };
        Ok(Self {
            genesis,
            record,
            payload,
        })
    }
}

/// What a proof proves.
#[derive(Clone, Debug)]
pub struct Proven {
    /// The head that the log signed, and under which the record lies.
    pub checkpoint: Checkpoint,
    /// The record.
    pub record: Record,
    /// Its payload; `None` when the statement has none, or the proof does not give it away.
    pub payload: Option<Payload>,
    /// The log's genesis: which machine, which stream.
    pub chain: Chain,
}

/// Verifies a proof file offline with pinned checkpoint keys (and no other knowledge): the checkpoint's signature, the
/// audit path, that the genesis is the one that the log's name is the digest of and names the pinned key, the signature of
/// the machine that the genesis names, the author's own if there is one, and the payload against its commitment.
///
/// # Errors
/// [`ProofError`] naming the first fault.
pub fn check(text: &str, pinned: &[VerifierKey]) -> Result<Proven, ProofError> {
    let proof = Proof::parse(text)?;
    let (checkpoint, pin) = proof.open(pinned)?;
    let extra = Extra::decode(proof.extra.as_deref().ok_or(ProofError::NoRecord)?)?;
    proof.verify_path(&extra.record, &checkpoint)?;
    let genesis = Record::parse(&extra.genesis)?;
    let chain = Chain::start(&genesis)?;
    let log = checkpoint.log;
    if chain.log() != log {
        return Err(other_log(log, chain.log()));
    }
    if chain.genesis().checkpoint_key != pin.key().public() {
        return Err(ProofError::CheckpointKey);
    }
    chain::verify_signatures(&genesis, chain.machine_verifier())?;
    let record = Record::parse(&extra.record)?;
    if record.seal().log != log {
        return Err(other_log(log, record.seal().log));
    }
    if record.seal().seq != proof.index {
        return Err(ProofError::Seq {
            index: proof.index,
            found: record.seal().seq,
        });
    }
    chain.check_signed(&record)?;
    let payload = match (&record.statement().payload, extra.payload) {
        (_, None) => None,
        (Some(wanted), Some(payload)) if payload.matches(wanted) => Some(payload),
        _ => return Err(ProofError::Payload),
    };
    Ok(Proven {
        checkpoint,
        record,
        payload,
        chain,
    })
}

fn other_log(expected: crate::LogId, found: crate::LogId) -> ProofError {
    ChainError::OtherLog { expected, found }.into()
}
