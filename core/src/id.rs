//! Receipt ids: UUIDv7 by the author, UUIDv8 when derived from a cause.

use std::fmt;

/// The id that an author gives a statement; with the author key it names the statement for ever.
///
/// ```
/// use ledger_core::{ReceiptId, digest};
/// let drawn = ReceiptId::v7(1_700_000_000_000, [7; 10]); // milliseconds since 1970, and ten random bytes
/// assert_eq!(ReceiptId::parse(&drawn.to_string()), Some(drawn));
/// // The same parts give the same id for ever: whoever says it again after a crash says it once.
/// let derived = digest::derived_id(&[b"conversation/42", b"step 7"]);
/// assert!(derived.is_admissible() && derived == digest::derived_id(&[b"conversation/42", b"step 7"]));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReceiptId(pub [u8; 16]);

impl ReceiptId {
    /// A UUIDv7 (RFC 9562) from Unix milliseconds and ten random bytes.
    pub fn v7(unix_ms: u64, random: [u8; 10]) -> Self {
        Self(
            *uuid::Builder::from_unix_timestamp_millis(unix_ms, &random)
                .into_uuid()
                .as_bytes(),
        )
    }

    pub(crate) fn as_uuid(&self) -> uuid::Uuid {
        uuid::Uuid::from_bytes(self.0)
    }

    /// Reads the hyphenated or simple text form; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        uuid::Uuid::try_parse(text).ok().map(|u| Self(*u.as_bytes()))
    }

    /// Whether it is a UUID of the RFC 9562 variant and of version 7 or 8.
    pub fn is_admissible(&self) -> bool {
        matches!(self.0[6] >> 4, 7 | 8) && self.0[8] & 0xc0 == 0x80
    }
}

impl fmt::Display for ReceiptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_uuid().fmt(f)
    }
}

impl fmt::Debug for ReceiptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReceiptId({self})")
    }
}

impl serde::Serialize for ReceiptId {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        if s.is_human_readable() {
            s.collect_str(self)
        } else {
            self.0.serialize(s)
        }
    }
}

impl<'de> serde::Deserialize<'de> for ReceiptId {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        if d.is_human_readable() {
            let text = <std::borrow::Cow<'de, str>>::deserialize(d)?;
            Self::parse(&text).ok_or_else(|| serde::de::Error::custom("a UUID expected"))
        } else {
            <[u8; 16]>::deserialize(d).map(Self)
        }
    }
}
