//! Content-Digest (RFC 9530), SHA-256 alone.
//!
//! Owns: the one form of the header that is sent and accepted, `sha-256=:BASE64:`. Contract: compared as text before
//! anything in the body is parsed; a further algorithm, a parameter or other spacing is another form and refused.
//! Does not: hash receipts; those digests are `ledger-core`'s.

use data_encoding::BASE64;
use http::HeaderMap;
use sha2::{Digest, Sha256};

use super::error::SignatureError;
use super::field::header;
use super::profile::{CONTENT_DIGEST, CONTENT_DIGEST_BYTES_MAX};

/// The header's value for `body`, an empty one included.
#[must_use]
pub fn content_digest(body: &[u8]) -> String {
    format!("sha-256=:{}:", BASE64.encode(&Sha256::digest(body)))
}

/// That the header names `body`'s digest.
///
/// # Errors
/// When the header is absent, repeated, too long, or not exactly [`content_digest`] of `body`.
pub fn check_content_digest(headers: &HeaderMap, body: &[u8]) -> Result<(), SignatureError> {
    let found = header(headers, &CONTENT_DIGEST, CONTENT_DIGEST_BYTES_MAX)?;
    if found != content_digest(body) {
        return Err(SignatureError::DigestMismatch);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_those_that_the_rfcs_print() {
        // RFC 9530 appendix B.1 (body with its line feed) and RFC 9421 appendix B.2 (without).
        assert_eq!(
            content_digest(b"{\"hello\": \"world\"}\n"),
            "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:"
        );
        assert_eq!(
            content_digest(b"{\"hello\": \"world\"}"),
            "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:"
        );
        assert_eq!(
            content_digest(b""),
            "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:"
        );
    }

    #[test]
    fn another_algorithm_beside_sha_256_is_refused() {
        let mut headers = HeaderMap::new();
        let both = format!("{}, md5=:AAAA:", content_digest(b"x"));
        headers.insert(&CONTENT_DIGEST, both.parse().expect("ASCII"));
        assert_eq!(
            check_content_digest(&headers, b"x"),
            Err(SignatureError::DigestMismatch)
        );
    }
}
