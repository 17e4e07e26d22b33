//! What the profile promises: the standards' own bytes, and that nothing changed, repeated or swapped passes.

mod answer;
mod request;
mod vectors;

use std::sync::Mutex;

use data_encoding::BASE64URL_NOPAD;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use http::request::Parts;
use http::{Method, Request, header};

use super::*;

const NOW_S: i64 = 1_700_000_000;
const BOOT: &str = "0190a7c4";
const BODY: &[u8] = b"{\"hello\": \"world\"}";
const WINDOW: Window = Window {
    now_s: NOW_S,
    skew_s: SKEW_S,
};

/// `test-key-ed25519` of RFC 9421 appendix B.1.4.
struct TestKey(SigningKey);

impl TestKey {
    fn rfc() -> Self {
        Self::from_base64url(b"n4Ni-HpISpVObnQMW0wOhCKROaIKqKtW_2ZYb2p9KcU")
    }

    fn from_base64url(seed: &[u8]) -> Self {
        let seed = BASE64URL_NOPAD.decode(seed).expect("base64url");
        Self(SigningKey::from_bytes(&seed.try_into().expect("32 bytes")))
    }

    fn other() -> Self {
        Self(SigningKey::from_bytes(&[9; 32]))
    }
}

impl RequestSigner for TestKey {
    fn public_key(&self) -> [u8; 32] {
        self.0.verifying_key().to_bytes()
    }

    fn sign(&self, base: &[u8]) -> [u8; 64] {
        self.0.sign(base).to_bytes()
    }
}

fn strict(key: &[u8; 32], base: &[u8], signature: &[u8; 64]) -> bool {
    VerifyingKey::from_bytes(key)
        .is_ok_and(|key| key.verify_strict(base, &Signature::from_bytes(signature)).is_ok())
}

fn known(key: &[u8; 32]) -> Option<&'static str> {
    (*key == TestKey::rfc().public_key()).then_some("studio")
}

fn cache() -> Mutex<NonceCache> {
    Mutex::new(NonceCache::default())
}

fn request_to(target: &str, body: &[u8]) -> Parts {
    let mut request = Request::builder().method(Method::POST).uri(target);
    if !body.is_empty() {
        request = request.header(header::CONTENT_TYPE, "application/json");
    }
    request.body(()).expect("a request").into_parts().0
}

fn signed(body: &[u8], nonce: [u8; NONCE_BYTES]) -> (Parts, RequestSignature) {
    let mut parts = request_to("/v1/requests?wait=1", body);
    let signature = sign_request(
        &TestKey::rfc(),
        &mut parts,
        "Studio:7878",
        body,
        BOOT,
        NOW_S,
        nonce,
    )
    .expect("signs");
    (parts, signature)
}

fn verify(parts: &Parts, body: &[u8]) -> Result<Verified<&'static str>, SignatureError> {
    verify_request(parts, body, BOOT, WINDOW, &cache(), known, strict)
}

/// Every value of `bytes` with one bit flipped.
fn flips(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    (0..bytes.len() * 8).map(|bit| {
        let mut flipped = bytes.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        flipped
    })
}
