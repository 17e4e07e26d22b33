//! Records read in place: the fields of statement and seal, borrowed from the record's bytes, without an allocation.
//!
//! Contract: [`RecordRef::read`] takes exactly the bytes that [`Record::parse`] takes and gives the same fields, except that it
//! leaves out the digests: whoever relies on the record asks [`RecordRef::is_bound`] whether the seal names this statement.
//! `None` means only that the bytes are no record; [`Record::parse`] tells why. A property holds both to it.

use super::{Parts, Record, Seal};
use crate::digest::{self, Commitment, FleetId, SealDigest};
use crate::id::ReceiptId;
use crate::key::PublicKey;
use crate::kind::{Kind, Subject};
use crate::limits::RECORD_BYTES_MAX;
use crate::statement::{Grade, PayloadRef, Statement, Trace, check_bounds};
use crate::wire;

/// The commitment to a payload, in place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PayloadWanted<'a> {
    /// Digest of salt and payload.
    pub commitment: Commitment,
    /// Size of the payload in bytes.
    pub bytes: u32,
    /// Media type.
    pub media: &'a str,
}

impl PayloadWanted<'_> {
    /// Whether these bytes, 32 of salt and then the payload, are what the statement committed to.
    pub fn is_matched_by(&self, salted: &[u8]) -> bool {
        let Some((salt, payload)) = salted.split_first_chunk::<32>() else {
            return false;
        };
        u32::try_from(payload.len()) == Ok(self.bytes) && digest::commitment(salt, payload) == self.commitment
    }
}

/// A [`Statement`] in place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StatementRef<'a> {
    /// 1.
    pub version: u8,
    /// The fleet it is said in.
    pub fleet: FleetId,
    /// The author's id for it.
    pub id: ReceiptId,
    /// What it says.
    pub kind: &'a str,
    /// Revision of this kind's detail.
    pub schema: u16,
    /// How the ledger knows.
    pub grade: Grade,
    /// Who says it.
    pub author: PublicKey,
    /// What it is about.
    pub subject: &'a str,
    /// Microseconds since 1970 by the author's clock.
    pub authored_at: i64,
    /// The receipt that led here.
    pub cause: Option<ReceiptId>,
    /// Trace context.
    pub trace: Option<Trace>,
    /// Encoded detail.
    pub detail: &'a [u8],
    /// Commitment to the free part.
    pub payload: Option<PayloadWanted<'a>>,
}

impl StatementRef<'_> {
    /// An owned copy.
    pub fn to_statement(&self) -> Statement {
        Statement {
            version: self.version,
            fleet: self.fleet,
            id: self.id,
            kind: Kind::of_checked(self.kind),
            schema: self.schema,
            grade: self.grade,
            author: self.author,
            subject: Subject::of_checked(self.subject),
            authored_at: self.authored_at,
            cause: self.cause,
            trace: self.trace,
            detail: self.detail.to_vec(),
            payload: self.payload.map(|wanted| PayloadRef {
                commitment: wanted.commitment,
                bytes: wanted.bytes,
                media: wanted.media.to_owned(),
            }),
        }
    }
}

/// A [`Record`] in place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecordRef<'a> {
    /// Its exact bytes.
    pub bytes: &'a [u8],
    /// The exact bytes of the statement.
    pub statement_bytes: &'a [u8],
    /// What was said.
    pub statement: StatementRef<'a>,
    /// The exact bytes of the seal.
    pub seal_bytes: &'a [u8],
    /// Where it was put.
    pub seal: Seal,
    /// The author's signature.
    pub author_signature: Option<&'a [u8; 64]>,
    /// The log's signature.
    pub log_signature: &'a [u8; 64],
}

impl<'a> RecordRef<'a> {
    /// Takes a record apart; `None` when the bytes are none. Hashes nothing.
    ///
    /// ```
    /// use ledger_core::record::RecordRef;
    /// assert!(RecordRef::read(b"no record").is_none());
    /// ```
    pub fn read(bytes: &'a [u8]) -> Option<Self> {
        let parts = Parts::split(bytes).ok()?;
        let statement = wire::read_statement(parts.statement)?;
        let seal = wire::decode_seal(parts.seal)?;
        let payload = statement.payload.map(|wanted| (wanted.bytes, wanted.media));
        let sound = bytes.len() <= RECORD_BYTES_MAX
            && (statement.version, seal.version) == (1, 1)
            && check_bounds(&statement.id, statement.detail, payload).is_ok();
        sound.then_some(Self {
            bytes,
            statement_bytes: parts.statement,
            statement,
            seal_bytes: parts.seal,
            seal,
            author_signature: parts.author,
            log_signature: parts.log,
        })
    }

    /// Whether the seal names the digest of this statement. One digest.
    pub fn is_bound(&self) -> bool {
        digest::statement_digest(self.statement_bytes) == self.seal.statement
    }

    /// The digest of the seal's bytes. One digest.
    pub fn seal_digest(&self) -> SealDigest {
        digest::seal_digest(self.seal_bytes)
    }

    /// An owned copy; `None` when the seal names another statement.
    pub fn to_record(&self) -> Option<Record> {
        Record::parse(self.bytes).ok()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::hlc::Hlc;
    use crate::signature::Signature;
    use crate::{Draft, LogId, SigningKey};
    use proptest::prelude::*;

    fn record(signed: bool, payload: Option<Vec<u8>>, subject: &str) -> Record {
        let key = SigningKey::from_seed([3; 32]);
        let mut id = [7; 16];
        (id[6], id[8]) = (0x70, 0x80);
        let mut draft = Draft::custom(Kind::new("x.note").unwrap(), Subject::new(subject).unwrap());
        if let Some(bytes) = payload {
            draft = draft.payload("text/plain", bytes).unwrap();
        }
        let said = draft
            .into_statement(FleetId([1; 32]), key.public(), ReceiptId(id), -5, [2; 32])
            .unwrap();
        let seal = Seal {
            version: 1,
            log: LogId([4; 32]),
            seq: 300,
            prev: SealDigest([5; 32]),
            time: Hlc(77),
            statement: said.digest,
        };
        let author = signed.then_some(Signature([6; 64]));
        Record::assemble(said.statement, &said.bytes, author, seal, Signature([8; 64]))
    }

    fn same(bytes: &[u8]) -> Result<(), TestCaseError> {
        let read = RecordRef::read(bytes).filter(RecordRef::is_bound);
        let parsed = Record::parse(bytes);
        prop_assert_eq!(read.is_some(), parsed.is_ok(), "{:?}", parsed);
        if let (Some(read), Ok(parsed)) = (read, parsed) {
            prop_assert_eq!(&read.statement.to_statement(), parsed.statement());
            prop_assert_eq!(&read.seal, parsed.seal());
            prop_assert_eq!(read.seal_digest(), parsed.seal_digest());
            prop_assert_eq!(read.statement_bytes, parsed.statement_bytes());
            prop_assert_eq!(read.author_signature, parsed.author_signature().map(|s| &s.0));
            prop_assert_eq!(read.log_signature, &parsed.log_signature().0);
            prop_assert_eq!(read.to_record(), Some(parsed));
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn a_record_is_read_in_place_as_it_is_parsed(
            signed in any::<bool>(),
            payload in prop::option::of(prop::collection::vec(any::<u8>(), 0..40)),
            subject in "[a-z/é]{0,12}",
            edits in prop::collection::vec(any::<(prop::sample::Index, u8)>(), 0..3),
            cut in prop::option::of(any::<prop::sample::Index>()),
        ) {
            let whole = record(signed, payload, &subject).bytes().to_vec();
            same(&whole)?;
            let mut bytes = whole;
            for (at, value) in edits {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            if let Some(cut) = cut {
                bytes.truncate(cut.index(bytes.len()));
            }
            same(&bytes)?;
        }
    }

    #[test]
    fn every_flipped_bit_is_judged_as_by_parsing() {
        let whole = record(true, Some(vec![1, 2, 3]), "a").bytes().to_vec();
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            same(&bytes).unwrap();
        }
        assert!(RecordRef::read(&whole).unwrap().is_bound());
    }

    #[test]
    fn a_payload_matches_only_whole_and_under_its_salt() {
        let record = record(false, Some(vec![9; 20]), "a");
        let read = RecordRef::read(record.bytes()).unwrap();
        let wanted = read.statement.payload.unwrap();
        let mut salted = [vec![2; 32], vec![9; 20]].concat();
        assert!(wanted.is_matched_by(&salted));
        assert!(!wanted.is_matched_by(&salted[..51]) && !wanted.is_matched_by(&salted[..31]));
        for at in [0, 31, 32, 51] {
            salted[at] ^= 1;
            assert!(!wanted.is_matched_by(&salted));
            salted[at] ^= 1;
        }
    }
}
