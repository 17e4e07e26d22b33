//! Records: a statement, its author's signature, its seal and the log's signature, as bytes that are never re-encoded.

use crate::canonical;
use crate::digest::{self, LogId, SealDigest, StatementDigest};
use crate::error::{DecodeError, RecordError};
use crate::hlc::Hlc;
use crate::limits::RECORD_BYTES_MAX;
use crate::signature::Signature;
use crate::statement::{PayloadRef, Statement, VerifiedStatement};
use crate::wire;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub mod view;

pub use view::RecordRef;

/// The 32 random bytes that hide a payload behind its commitment; they die with it.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Salt(pub [u8; 32]);

impl std::fmt::Debug for Salt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Salt(..)")
    }
}

/// The free, erasable part of a receipt, beside its record.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Payload {
    /// Its salt.
    pub salt: Salt,
    /// Its bytes, at most 65,536.
    pub bytes: Vec<u8>,
}

impl Payload {
    /// Whether these bytes are what the statement committed to.
    pub fn matches(&self, wanted: &PayloadRef) -> bool {
        u32::try_from(self.bytes.len()) == Ok(wanted.bytes)
            && digest::commitment(&self.salt.0, &self.bytes) == wanted.commitment
    }
}

/// Where a log put a statement. The order of the fields is the format; it never changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Seal {
    /// 1.
    pub version: u8,
    /// The log.
    pub log: LogId,
    /// Dense, from 0.
    pub seq: u64,
    /// Digest of the seal before; zeros at seq 0.
    pub prev: SealDigest,
    /// When, by the log's hybrid clock.
    pub time: Hlc,
    /// Digest of the statement's bytes.
    pub statement: StatementDigest,
}

impl Seal {
    /// The canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        wire::encode_seal(self)
    }

    /// A seal from exactly its canonical bytes.
    ///
    /// # Errors
    /// [`DecodeError`] for any other bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        // Not canonical: the slow way tells why.
        wire::decode_seal(bytes).map_or_else(|| canonical::decode("seal", bytes), Ok)
    }

    /// The digest of the canonical bytes.
    pub fn digest(&self) -> SealDigest {
        digest::seal_digest(&self.encode())
    }
}

/// A parsed record together with its exact bytes. Signatures are not verified by parsing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    bytes: Vec<u8>,
    // Shared, so that a copy of a record that is about to be signed costs little.
    statement: Arc<Statement>,
    seal: Seal,
    statement_bytes_len: usize,
    seal_digest: SealDigest,
    author_signature: Option<Signature>,
    log_signature: Signature,
    author_proven: Proven,
}

/// Whether the author's signature was found valid. What it covers never changes in a record, so once is enough; it says
/// nothing of what the record is, and takes no part in comparing records.
#[derive(Default, Debug)]
struct Proven(AtomicBool);

impl Clone for Proven {
    fn clone(&self) -> Self {
        Self(AtomicBool::new(self.0.load(Ordering::Relaxed)))
    }
}

impl PartialEq for Proven {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Proven {}

impl Record {
    /// The record of what an actor said and signed, as [`Record::assemble`] makes it. The seal names the statement, whatever it
    /// named before, and the author's signature, which was verified, is not verified again.
    ///
    /// # Panics
    /// As [`Record::assemble`].
    pub fn of_verified(said: &VerifiedStatement, seal: Seal, log_signature: Signature) -> Self {
        let signed = said.signed();
        let seal = Seal {
            statement: said.digest(),
            ..seal
        };
        let author = Some(signed.signature);
        let record = Self::assemble(
            said.statement().clone(),
            &signed.bytes,
            author,
            seal,
            log_signature,
        );
        record.note_author_proven();
        record
    }

    pub(crate) fn author_is_proven(&self) -> bool {
        self.author_proven.0.load(Ordering::Relaxed)
    }

    pub(crate) fn note_author_proven(&self) {
        self.author_proven.0.store(true, Ordering::Relaxed);
    }

    /// Puts the four parts together.
    ///
    /// The caller made the parts by this crate's own functions; a record that arrives as bytes goes through
    /// [`Record::parse`].
    ///
    /// # Panics
    /// When the parts are larger than a record may be, which their own limits exclude.
    pub fn assemble(
        statement: Statement,
        statement_bytes: &[u8],
        author_signature: Option<Signature>,
        seal: Seal,
        log_signature: Signature,
    ) -> Self {
        let seal_bytes = seal.encode();
        let seal_digest = digest::seal_digest(&seal_bytes);
        let length = |part: &[u8]| {
            u16::try_from(part.len())
                .expect("parts are far below 64 KiB")
                .to_be_bytes()
        };
        let author: &[u8] = author_signature.as_ref().map_or(&[], |s| &s.0);
        let mut bytes = Vec::with_capacity(statement_bytes.len() + seal_bytes.len() + author.len() + 5 + 64);
        bytes.extend_from_slice(&length(statement_bytes));
        bytes.extend_from_slice(statement_bytes);
        bytes.push(if author.is_empty() { 0 } else { 64 });
        bytes.extend_from_slice(author);
        bytes.extend_from_slice(&length(&seal_bytes));
        bytes.extend_from_slice(&seal_bytes);
        bytes.extend_from_slice(&log_signature.0);
        assert!(bytes.len() <= RECORD_BYTES_MAX, "a record is below 64 KiB");
        let statement_bytes_len = statement_bytes.len();
        Self {
            bytes,
            statement: Arc::new(statement),
            seal,
            statement_bytes_len,
            seal_digest,
            author_signature,
            log_signature,
            author_proven: Proven::default(),
        }
    }

    /// Takes a record apart: framing, canonical statement and seal, and that the seal names the statement.
    ///
    /// # Errors
    /// [`RecordError`] naming the first fault. Signatures and the chain are checked by [`crate::chain::Chain`].
    pub fn parse(bytes: &[u8]) -> Result<Self, RecordError> {
        Ok(Self {
            bytes: bytes.to_vec(),
            ..Self::take_apart(bytes)?
        })
    }

    /// The same without a copy of the bytes.
    ///
    /// # Errors
    /// As [`Record::parse`], with the bytes given back.
    pub fn parse_owned(bytes: Vec<u8>) -> Result<Self, (RecordError, Vec<u8>)> {
        match Self::take_apart(&bytes) {
            Ok(record) => Ok(Self { bytes, ..record }),
            Err(error) => Err((error, bytes)),
        }
    }

    // Everything but the bytes.
    fn take_apart(bytes: &[u8]) -> Result<Self, RecordError> {
        if bytes.len() > RECORD_BYTES_MAX {
            return Err(RecordError::Framing("longer than 65,535 bytes"));
        }
        let Parts {
            statement: statement_bytes,
            author,
            seal: seal_bytes,
            log: log_signature,
        } = Parts::split(bytes)?;
        let author_signature = author.map(|bytes| Signature(*bytes));
        let log_signature = Signature(*log_signature);
        let statement = Statement::decode(statement_bytes)?;
        if let Some(version) = seal_bytes.first().filter(|version| **version != 1) {
            return Err(RecordError::SealVersion(*version));
        }
        let seal = Seal::decode(seal_bytes)?;
        if seal.statement != digest::statement_digest(statement_bytes) {
            return Err(RecordError::StatementMismatch);
        }
        Ok(Self {
            statement: Arc::new(statement),
            seal,
            statement_bytes_len: statement_bytes.len(),
            seal_digest: digest::seal_digest(seal_bytes),
            author_signature,
            log_signature,
            author_proven: Proven::default(),
            bytes: Vec::new(),
        })
    }

    /// Puts the log's signature in its place, for a record that was assembled before it was signed.
    pub fn set_log_signature(&mut self, signature: Signature) {
        let at = self.bytes.len() - signature.0.len();
        self.bytes[at..].copy_from_slice(&signature.0);
        self.log_signature = signature;
    }

    /// The exact bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The exact bytes of the statement.
    pub fn statement_bytes(&self) -> &[u8] {
        &self.bytes[2..2 + self.statement_bytes_len]
    }

    /// What was said.
    pub fn statement(&self) -> &Statement {
        &self.statement
    }

    /// Where it was put.
    pub fn seal(&self) -> &Seal {
        &self.seal
    }

    /// The digest of the seal's bytes.
    pub fn seal_digest(&self) -> SealDigest {
        self.seal_digest
    }

    /// The digest of the statement's bytes.
    pub fn statement_digest(&self) -> StatementDigest {
        self.seal.statement
    }

    /// The author's signature; absent when the author is the log's own machine.
    pub fn author_signature(&self) -> Option<&Signature> {
        self.author_signature.as_ref()
    }

    /// The log's signature over the seal digest.
    pub fn log_signature(&self) -> &Signature {
        &self.log_signature
    }
}

// The four parts of a record's bytes, by their framing alone.
struct Parts<'a> {
    statement: &'a [u8],
    author: Option<&'a [u8; 64]>,
    seal: &'a [u8],
    log: &'a [u8; 64],
}

impl<'a> Parts<'a> {
    fn split(bytes: &'a [u8]) -> Result<Self, RecordError> {
        let mut rest = bytes;
        let statement = take_u16_prefixed(&mut rest)?;
        let author = match take(&mut rest, 1)?[0] {
            0 => None,
            64 => Some(take_64(&mut rest)?),
            _ => return Err(RecordError::Framing("an author signature has 0 or 64 bytes")),
        };
        let seal = take_u16_prefixed(&mut rest)?;
        let log = take_64(&mut rest)?;
        if !rest.is_empty() {
            return Err(RecordError::Framing("bytes remain after the log signature"));
        }
        Ok(Self {
            statement,
            author,
            seal,
            log,
        })
    }
}

fn take_64<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8; 64], RecordError> {
    let (head, tail) = rest
        .split_first_chunk()
        .ok_or(RecordError::Framing("ends early"))?;
    *rest = tail;
    Ok(head)
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Result<&'a [u8], RecordError> {
    let (head, tail) = rest
        .split_at_checked(count)
        .ok_or(RecordError::Framing("ends early"))?;
    *rest = tail;
    Ok(head)
}

fn take_u16_prefixed<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], RecordError> {
    let length = take(rest, 2)?;
    take(rest, usize::from(u16::from_be_bytes([length[0], length[1]])))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{Draft, FleetId, Kind, LogId, ReceiptId, SigningKey, Subject, chain};

    #[test]
    fn an_author_who_was_proven_in_one_record_is_not_in_another_with_another_signature() {
        let author = SigningKey::from_seed([3; 32]);
        let draft = Draft::custom(Kind::new("x.note").unwrap(), Subject::new("note/1").unwrap());
        let id = ReceiptId::v7(1_700_000_000_000, [5; 10]);
        let said = draft.into_statement(
            FleetId([1; 32]),
            author.public(),
            id,
            1_700_000_000_000_000,
            [0; 32],
        );
        let said = said.unwrap().sign(&author).verify().unwrap();
        let seal = Seal {
            version: 1,
            log: LogId([2; 32]),
            seq: 1,
            prev: SealDigest([4; 32]),
            time: Hlc::default(),
            statement: StatementDigest([0; 32]),
        };
        let record = Record::of_verified(&said, seal, Signature([0; 64]));
        assert!(record.author_is_proven() && chain::verify_author(&record).is_ok());
        let parsed = Record::parse(record.bytes()).unwrap();
        assert!(
            parsed == record && !parsed.author_is_proven(),
            "bytes prove nothing by themselves"
        );
        assert!(chain::verify_author(&parsed).is_ok() && parsed.author_is_proven());
        let mut bytes = record.bytes().to_vec();
        let at = 2 + record.statement_bytes().len() + 1 + 40;
        bytes[at] ^= 1;
        let forged = Record::parse(&bytes).unwrap();
        for _ in 0..2 {
            assert!(chain::verify_author(&forged).is_err() && !forged.author_is_proven());
        }
    }
}
