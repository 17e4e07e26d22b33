//! HTTP message signatures (RFC 9421, Ed25519) over Content-Digest (RFC 9530), in one fixed profile.
//!
//! Owns: how a request and its answer are signed and verified between machines. Contract: pure; clock, nonces, keys and
//! the Ed25519 operation come in as arguments; one profile, everything else refused. A crash loses the nonce cache, which
//! is safe, because the boot id changes with it. Does not: decide what a key may do, allow-list hosts, or answer.
//!
//! A request with a body, and the base that is signed:
//!
//! ```text
//! POST /v1/requests?wait=1 HTTP/1.1
//! Host: studio:7878
//! Content-Type: application/json
//! Content-Digest: sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:
//! Ledger-Boot: 0190a7c4
//! Signature-Input: sig1=("@method" "@authority" "@path" "@query" "content-digest" "content-type" "ledger-boot");created=1700000000;expires=1700000060;nonce="...";keyid="...";tag="ledger-v1";alg="ed25519"
//! Signature: sig1=:...:
//!
//! "@method": POST
//! "@authority": studio:7878
//! "@path": /v1/requests
//! "@query": ?wait=1
//! "content-digest": sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:
//! "content-type": application/json
//! "ledger-boot": 0190a7c4
//! "@signature-params": ("@method" "@authority" ... "ledger-boot");created=1700000000;...;alg="ed25519"
//! ```
//!
//! An empty body is signed with its digest and without `content-type`. An answer covers `"@status"`,
//! `"content-digest"`, `"content-type"` with a body, and `"signature";req;key="sig1"`, which is the signature of its
//! request; parameters `created`, `keyid`, `tag="ledger-v1-answer"`. Headers are in canonical structured-field form.

mod base;
mod digest;
mod error;
mod field;
mod key;
mod nonce;
mod profile;
mod sign;
mod verify;

#[cfg(test)]
mod tests;

pub use base::normal_authority;
pub use digest::{check_content_digest, content_digest};
pub use error::SignatureError;
pub use key::verify_base;
pub use nonce::{NONCE_BYTES, NONCES_MAX, NONCES_PER_KEY_MAX, NonceCache, NonceError};
pub use profile::{
    ALGORITHM, BODY_S_MAX, BOOT_BYTES_MAX, CONTENT_DIGEST, CONTENT_DIGEST_BYTES_MAX, CONTENT_TYPE_BYTES_MAX,
    HOST_BYTES_MAX, LABEL, LEDGER_BOOT, LIFETIME_S_MAX, SIGNATURE, SIGNATURE_BYTES_MAX, SIGNATURE_INPUT,
    SIGNATURE_INPUT_BYTES_MAX, SKEW_S, TAG_ANSWER, TAG_REQUEST, TARGET_BYTES_MAX,
};
pub use sign::{sign_request, sign_response};
pub use verify::{Claim, Verified, Window, check_head, verify_request, verify_response};

/// Whoever can sign requests or answers with one Ed25519 key.
pub trait RequestSigner {
    /// The public half of the key.
    fn public_key(&self) -> [u8; 32];

    /// The plain Ed25519 signature over a signature base, as RFC 9421 section 3.3.6 demands.
    fn sign(&self, base: &[u8]) -> [u8; 64];
}

/// The signature that a message bore; an answer is bound to its request's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestSignature(pub [u8; 64]);
