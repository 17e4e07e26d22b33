//! Signatures over digests, one context string for each use: Ed25519 over `context || 0x00 || digest`.

use crate::digest::{SealDigest, StatementDigest};
use crate::key::{SigningKey, VerifyKey};
use std::fmt;

/// Context of the author's signature over a statement digest.
pub const CONTEXT_AUTHOR: &str = "ledger v1 author signature";
/// Context of the log's signature over a seal digest.
pub const CONTEXT_LOG: &str = "ledger v1 log signature";
/// Context of a joiner's countersignature over the digest of what it joins with.
pub const CONTEXT_JOIN: &str = "ledger v1 join signature";

/// An Ed25519 signature, 64 bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature(pub [u8; 64]);

impl Signature {
    /// Takes exactly 64 bytes; `None` for any other length.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signature({})", data_encoding::HEXLOWER.encode(&self.0[..4]))
    }
}

impl serde::Serialize for Signature {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        if s.is_human_readable() {
            return s.serialize_str(&data_encoding::HEXLOWER.encode(&self.0));
        }
        let (a, b) = self.0.split_at(32);
        let halves: ([u8; 32], [u8; 32]) = (a.try_into().expect("32"), b.try_into().expect("32"));
        halves.serialize(s)
    }
}

impl<'de> serde::Deserialize<'de> for Signature {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        if d.is_human_readable() {
            let text = <std::borrow::Cow<'de, str>>::deserialize(d)?;
            let bytes = data_encoding::HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok();
            return bytes
                .and_then(|b| Self::from_slice(&b))
                .ok_or_else(|| serde::de::Error::custom("128 hex characters expected"));
        }
        let (a, b) = <([u8; 32], [u8; 32])>::deserialize(d)?;
        let mut bytes = [0; 64];
        bytes[..32].copy_from_slice(&a);
        bytes[32..].copy_from_slice(&b);
        Ok(Self(bytes))
    }
}

fn message(context: &str, digest: &[u8; 32]) -> Vec<u8> {
    let mut message = Vec::with_capacity(context.len() + 33);
    message.extend_from_slice(context.as_bytes());
    message.push(0);
    message.extend_from_slice(digest);
    message
}

const SEAL_MESSAGE_BYTES: usize = CONTEXT_LOG.len() + 1 + 32;

// What `message` gives for a seal, without an allocation: the seals of a busy log are many.
fn seal_message(digest: &SealDigest) -> [u8; SEAL_MESSAGE_BYTES] {
    let mut message = [0; SEAL_MESSAGE_BYTES];
    message[..CONTEXT_LOG.len()].copy_from_slice(CONTEXT_LOG.as_bytes());
    message[SEAL_MESSAGE_BYTES - 32..].copy_from_slice(&digest.0);
    message
}

/// Signs a statement digest as its author.
pub fn sign_statement(key: &SigningKey, digest: &StatementDigest) -> Signature {
    key.sign_message(&message(CONTEXT_AUTHOR, &digest.0))
}

/// Strictly verifies an author's signature.
pub fn verify_statement(key: &VerifyKey, digest: &StatementDigest, signature: &Signature) -> bool {
    key.verify_strict(&message(CONTEXT_AUTHOR, &digest.0), signature)
}

/// Signs a seal digest as the log's machine.
pub fn sign_seal(key: &SigningKey, digest: &SealDigest) -> Signature {
    key.sign_message(&seal_message(digest))
}

/// Signs seal digests as the log's machine: for each, in order, what [`sign_seal`] gives, at about four fifths of the cost.
pub fn sign_seals(key: &SigningKey, digests: &[SealDigest]) -> Vec<Signature> {
    let messages: Vec<[u8; SEAL_MESSAGE_BYTES]> = digests.iter().map(seal_message).collect();
    key.sign_messages(&messages)
}

/// Strictly verifies a log's signature.
pub fn verify_seal(key: &VerifyKey, digest: &SealDigest, signature: &Signature) -> bool {
    key.verify_strict(&seal_message(digest), signature)
}

/// Strictly verifies log signatures of one key: for each, in order, what [`verify_seal`] says, some cheaper together.
pub fn verify_seals(key: &VerifyKey, items: &[(SealDigest, Signature)]) -> Vec<bool> {
    let signed: Vec<_> = items
        .iter()
        .map(|(digest, signature)| (seal_message(digest), *signature))
        .collect();
    key.verify_all_strict(&signed)
}

/// Signs the digest of what a machine joins with (see [`crate::kinds::KeyJoined::proof_digest`]).
pub fn sign_join(key: &SigningKey, digest: &[u8; 32]) -> Signature {
    key.sign_message(&message(CONTEXT_JOIN, digest))
}

/// Strictly verifies a joiner's countersignature.
pub fn verify_join(key: &VerifyKey, digest: &[u8; 32], signature: &Signature) -> bool {
    key.verify_strict(&message(CONTEXT_JOIN, digest), signature)
}

/// Verifies many log signatures of one key at once, by the randomised batch equation.
///
/// This accepts some signatures that strict verification refuses, all made by a dishonest holder of the key. It only
/// accelerates the check of records that a store admitted strictly before; a stranger's records are checked one by one.
/// `false` means that at least one is bad: fall back to [`verify_seal`] to name it.
pub fn verify_seals_batch(key: &VerifyKey, items: &[(SealDigest, Signature)]) -> bool {
    let signed = items
        .iter()
        .map(|(digest, signature)| (seal_message(digest), signature));
    crate::batch::holds(key, signed)
}
