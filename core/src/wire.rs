//! The canonical bytes of seals and statements, written and read by hand: what [`crate::canonical`] does for every type,
//! without a second encoding to compare with.
//!
//! Contract: writing gives the bytes that postcard gives. Reading takes exactly the bytes that [`crate::canonical::decode`]
//! takes, and `None` means only that these are not canonical bytes: the caller asks [`crate::canonical::decode`] for the
//! reason. Properties hold both to it, on values, on random bytes and on mutated ones.

use crate::digest::{Commitment, FleetId, LogId, SealDigest, StatementDigest};
use crate::hlc::Hlc;
use crate::id::ReceiptId;
use crate::key::PublicKey;
use crate::kind::{Kind, Subject};
use crate::record::Seal;
use crate::record::view::{PayloadWanted, StatementRef};
use crate::statement::{Grade, Statement, Trace};

/// Bytes of a seal at most: one of version, three digests, two varints.
const SEAL_BYTES_MAX: usize = 1 + 3 * 32 + 2 * 10;
/// Bytes of a statement without its texts and its detail at most, rounded up.
const STATEMENT_BYTES: usize = 256;

/// The canonical bytes of a seal.
pub(crate) fn encode_seal(seal: &Seal) -> Vec<u8> {
    let mut out = Vec::with_capacity(SEAL_BYTES_MAX);
    out.push(seal.version);
    out.extend_from_slice(&seal.log.0);
    varint(&mut out, seal.seq);
    out.extend_from_slice(&seal.prev.0);
    varint(&mut out, seal.time.0);
    out.extend_from_slice(&seal.statement.0);
    out
}

/// A seal from exactly its canonical bytes.
pub(crate) fn decode_seal(bytes: &[u8]) -> Option<Seal> {
    let mut from = Bytes(bytes);
    let seal = Seal {
        version: from.byte()?,
        log: LogId(from.array()?),
        seq: from.varint(64)?,
        prev: SealDigest(from.array()?),
        time: Hlc(from.varint(64)?),
        statement: StatementDigest(from.array()?),
    };
    from.0.is_empty().then_some(seal)
}

/// The canonical bytes of a statement.
pub(crate) fn encode_statement(said: &Statement) -> Vec<u8> {
    let texts = said.kind.as_str().len() + said.subject.as_str().len() + said.detail.len();
    let mut out = Vec::with_capacity(STATEMENT_BYTES + texts);
    out.push(said.version);
    out.extend_from_slice(&said.fleet.0);
    out.extend_from_slice(&said.id.0);
    bytes(&mut out, said.kind.as_str().as_bytes());
    varint(&mut out, u64::from(said.schema));
    out.push(said.grade.into());
    out.extend_from_slice(&said.author.0);
    bytes(&mut out, said.subject.as_str().as_bytes());
    varint(&mut out, zigzag(said.authored_at));
    option(&mut out, said.cause.as_ref().map(|cause| &cause.0[..]));
    option(&mut out, said.trace.as_ref().map(|trace| &trace.0[..]));
    bytes(&mut out, &said.detail);
    option(&mut out, said.payload.as_ref().map(|p| &p.commitment.0[..]));
    if let Some(payload) = &said.payload {
        varint(&mut out, u64::from(payload.bytes));
        bytes(&mut out, payload.media.as_bytes());
    }
    out
}

/// A statement from exactly its canonical bytes. Its bounds are not checked.
pub(crate) fn decode_statement(bytes: &[u8]) -> Option<Statement> {
    read_statement(bytes).map(|read| read.to_statement())
}

/// The same in place.
pub(crate) fn read_statement(bytes: &[u8]) -> Option<StatementRef<'_>> {
    let mut from = Bytes(bytes);
    let statement = StatementRef {
        version: from.byte()?,
        fleet: FleetId(from.array()?),
        id: ReceiptId(from.array()?),
        kind: from.text().filter(|text| Kind::check(text).is_ok())?,
        schema: u16::try_from(from.varint(16)?).ok()?,
        grade: Grade::try_from(from.byte()?).ok()?,
        author: PublicKey(from.array()?),
        subject: from.text().filter(|text| Subject::check(text).is_ok())?,
        authored_at: unzigzag(from.varint(64)?),
        cause: from.option(|from| from.array().map(ReceiptId))?,
        trace: from.option(|from| from.array().map(Trace))?,
        detail: from.bytes()?,
        payload: from.option(|from| {
            Some(PayloadWanted {
                commitment: Commitment(from.array()?),
                bytes: u32::try_from(from.varint(32)?).ok()?,
                media: from.text()?,
            })
        })?,
    };
    from.0.is_empty().then_some(statement)
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

fn bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    varint(out, u64::try_from(bytes.len()).expect("a length fits 64 bits"));
    out.extend_from_slice(bytes);
}

fn option(out: &mut Vec<u8>, value: Option<&[u8]>) {
    out.push(u8::from(value.is_some()));
    out.extend_from_slice(value.unwrap_or_default());
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

pub(crate) fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

/// What is still to be read.
pub(crate) struct Bytes<'a>(pub(crate) &'a [u8]);

impl<'a> Bytes<'a> {
    pub(crate) fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*byte)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*array)
    }

    /// The shortest form alone: its last byte is zero only when it is the only one, and no bit goes past the width.
    #[inline]
    pub(crate) fn varint(&mut self, bits: u32) -> Option<u64> {
        let (mut value, mut shift) = (0, 0);
        loop {
            let byte = self.byte()?;
            let part = u64::from(byte & 0x7f);
            if shift >= bits || (bits - shift < 7 && part >> (bits - shift) != 0) {
                return None;
            }
            value |= part << shift;
            if byte & 0x80 == 0 {
                return (byte != 0 || shift == 0).then_some(value);
            }
            shift += 7;
        }
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.varint(64)?).ok()?;
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }

    pub(crate) fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    pub(crate) fn option<T>(&mut self, some: impl FnOnce(&mut Self) -> Option<T>) -> Option<Option<T>> {
        match self.byte()? {
            0 => Some(None),
            1 => some(self).map(Some),
            _ => None,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::canonical;
    use crate::statement::PayloadRef;
    use proptest::prelude::*;

    // Numbers at the edges of their varints, and any.
    fn number() -> impl Strategy<Value = u64> {
        (any::<u64>(), 0_u32..64).prop_map(|(n, shift)| n >> shift)
    }

    fn seals() -> impl Strategy<Value = Seal> {
        let parts = (
            any::<u8>(),
            any::<[u8; 32]>(),
            number(),
            any::<[u8; 32]>(),
            number(),
        );
        (parts, any::<[u8; 32]>()).prop_map(|((version, log, seq, prev, time), statement)| Seal {
            version,
            log: LogId(log),
            seq,
            prev: SealDigest(prev),
            time: Hlc(time),
            statement: StatementDigest(statement),
        })
    }

    fn statements() -> impl Strategy<Value = Statement> {
        let who = (
            any::<u8>(),
            any::<[u8; 32]>(),
            any::<[u8; 16]>(),
            any::<[u8; 32]>(),
        );
        let what = ("[a-z.-]{1,64}", any::<u16>(), 0_u8..3, "\\PC{0,60}");
        let when = (number(), any::<bool>(), any::<Option<[u8; 16]>>(), any::<bool>());
        let detail = prop::collection::vec(any::<u8>(), 0..300);
        let payload = prop::option::of((any::<[u8; 32]>(), any::<u32>(), "\\PC{0,70}"));
        (who, what, when, detail, payload).prop_map(|(who, what, when, detail, payload)| {
            let authored_at = i64::from_le_bytes(when.0.to_le_bytes());
            Statement {
                version: who.0,
                fleet: FleetId(who.1),
                id: ReceiptId(who.2),
                kind: Kind::new(&what.0).unwrap(),
                schema: what.1,
                grade: Grade::try_from(what.2).unwrap(),
                author: PublicKey(who.3),
                subject: Subject::new(&what.3).unwrap(),
                authored_at: if when.1 { authored_at } else { !authored_at },
                cause: when.2.map(ReceiptId),
                trace: when.3.then_some(Trace([7; 24])),
                detail,
                payload: payload.map(|(commitment, bytes, media)| PayloadRef {
                    commitment: Commitment(commitment),
                    bytes,
                    media,
                }),
            }
        })
    }

    // Bytes changed, put in and taken out.
    pub(crate) fn mutated(mut bytes: Vec<u8>, edits: &[(prop::sample::Index, u8, u8)]) -> Vec<u8> {
        for (at, how, value) in edits {
            let at = at.index(bytes.len() + 1);
            match how % 5 {
                0 => bytes.insert(at, *value),
                1 if at < bytes.len() => drop(bytes.remove(at)),
                2 => bytes.truncate(at),
                // Makes varints overlong.
                3 if at < bytes.len() => {
                    bytes[at] |= 0x80;
                    bytes.insert(at + 1, value & 1);
                }
                _ if at < bytes.len() => bytes[at] ^= 1 << (value % 8),
                _ => bytes.push(*value),
            }
        }
        bytes
    }

    fn edits() -> impl Strategy<Value = Vec<(prop::sample::Index, u8, u8)>> {
        prop::collection::vec(any::<(prop::sample::Index, u8, u8)>(), 0..4)
    }

    fn same(bytes: &[u8]) {
        assert_eq!(decode_seal(bytes), canonical::decode("seal", bytes).ok());
        assert_eq!(
            decode_statement(bytes),
            canonical::decode("statement", bytes).ok()
        );
    }

    #[test]
    fn every_varint_of_up_to_three_bytes_is_read_as_postcard_reads_it() {
        for first in 0..=u8::MAX {
            for second in [0, 1, 2, 3, 4, 0x7f, 0x80, 0x81, 0x83, 0x84, 0xff] {
                for third in [0, 1, 3, 4, 0x7f, 0x80] {
                    let bytes = [first, second, third];
                    for length in 0..=3 {
                        let read = Bytes(&bytes[..length]).varint(16);
                        let whole = |v: &u64| {
                            let mut out = Vec::new();
                            varint(&mut out, *v);
                            out.len() == length
                        };
                        let expected = canonical::decode::<u16>("n", &bytes[..length]).ok();
                        assert_eq!(read.filter(whole), expected.map(u64::from), "{bytes:?}");
                    }
                }
            }
        }
    }

    proptest! {
        #[test]
        fn a_seal_is_written_and_read_as_by_postcard(seal in seals(), edits in edits()) {
            let bytes = encode_seal(&seal);
            prop_assert_eq!(&bytes, &canonical::encode(&seal));
            prop_assert_eq!(decode_seal(&bytes), Some(seal));
            same(&mutated(bytes, &edits));
        }

        #[test]
        fn a_statement_is_written_and_read_as_by_postcard(said in statements(), edits in edits()) {
            let bytes = encode_statement(&said);
            prop_assert_eq!(&bytes, &canonical::encode(&said));
            let read = decode_statement(&bytes);
            prop_assert_eq!(read.as_ref(), Some(&said));
            same(&mutated(bytes, &edits));
        }

        #[test]
        fn random_bytes_are_read_as_by_postcard(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            same(&bytes);
        }
    }
}
