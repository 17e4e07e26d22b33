//! Strict, canonical postcard: one value, one encoding.
//!
//! postcard by itself accepts overlong varints and ignores bytes after the value. Everything signed or hashed here is
//! bytes as stored, so two encodings of one value would be two digests of one statement. Decoding therefore demands
//! that nothing remains and that encoding the value again gives the same bytes.

use crate::error::DecodeError;
use postcard::ser_flavors::Flavor;
use serde::{Serialize, de::DeserializeOwned};

/// Bytes within which most values lie: they are encoded here first, and then allocated once, in their exact size.
const SMALL_BYTES: usize = 512;

/// Encodes a value. The types of this crate cannot fail to encode.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let mut small = [0; SMALL_BYTES];
    if let Ok(bytes) = postcard::to_slice(value, &mut small) {
        return bytes.to_vec();
    }
    postcard::to_allocvec(value).expect("frozen structs hold nothing that postcard cannot encode")
}

/// Decodes a value from exactly these bytes.
///
/// # Errors
/// [`DecodeError`] when the bytes do not decode, when bytes remain, or when they are not the canonical encoding.
pub fn decode<T: Serialize + DeserializeOwned>(what: &'static str, bytes: &[u8]) -> Result<T, DecodeError> {
    let (value, rest) = postcard::take_from_bytes::<T>(bytes).map_err(|e| DecodeError::Malformed {
        what,
        why: e.to_string(),
    })?;
    if !rest.is_empty() {
        return Err(DecodeError::Trailing {
            what,
            count: rest.len(),
        });
    }
    match postcard::serialize_with_flavor(&value, Same { rest: bytes }) {
        Ok(true) => Ok(value),
        _ => Err(DecodeError::NotCanonical { what }),
    }
}

/// Compares an encoding with bytes while it is made, and gives up at the first that differs.
struct Same<'a> {
    rest: &'a [u8],
}

impl Flavor for Same<'_> {
    /// Whether no byte was left.
    type Output = bool;

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        // Bytes come one at a time where serde knows no better; a call to compare each would cost more than the rest.
        match self.rest.split_first() {
            Some((first, rest)) if *first == byte => {
                self.rest = rest;
                Ok(())
            }
            _ => Err(postcard::Error::SerializeBufferFull),
        }
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        let rest = self.rest.strip_prefix(bytes);
        self.rest = rest.ok_or(postcard::Error::SerializeBufferFull)?;
        Ok(())
    }

    fn finalize(self) -> postcard::Result<bool> {
        Ok(self.rest.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overlong_varint_is_refused() {
        assert_eq!(
            decode::<u64>("n", &[0x81, 0x00]),
            Err(DecodeError::NotCanonical { what: "n" })
        );
        assert_eq!(decode::<u64>("n", &[0x01]), Ok(1));
    }

    #[test]
    fn a_trailing_byte_is_refused() {
        assert_eq!(
            decode::<u64>("n", &[1, 0]),
            Err(DecodeError::Trailing { what: "n", count: 1 })
        );
    }
}
