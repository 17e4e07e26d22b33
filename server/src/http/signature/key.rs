//! The keys of `ledger-core` as signers and verifiers of HTTP messages.
//!
//! Owns: nothing; it hands a signature base to core, which alone signs and verifies. Contract: strict verification, weak
//! and non-canonical keys refused. Does not: touch receipts; their signatures carry context strings and these do not.

use ledger_core::key::{PublicKey, SigningKey};
use ledger_core::signature::Signature;

use super::RequestSigner;

impl RequestSigner for SigningKey {
    fn public_key(&self) -> [u8; 32] {
        self.public().0
    }

    fn sign(&self, base: &[u8]) -> [u8; 64] {
        self.sign_http_base(base).0
    }
}

/// Whether `signature` over `base` is `key`'s, strictly: what [`verify_request`](super::verify_request) and
/// [`verify_response`](super::verify_response) are given outside tests.
#[must_use]
pub fn verify_base(key: &[u8; 32], base: &[u8], signature: &[u8; 64]) -> bool {
    PublicKey(*key)
        .verifier()
        .is_ok_and(|key| key.verify_http_base(base, &Signature(*signature)))
}
