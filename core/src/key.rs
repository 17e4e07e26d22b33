//! Ed25519 keys. Seeds are zeroized and never printed; weak keys are refused where they enter.

use crate::comb;
use crate::error::KeyError;
use crate::signature::Signature;
use ed25519_dalek::Signer;
use ed25519_dalek::hazmat::ExpandedSecretKey;
use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};
use zeroize::Zeroizing;

crate::digest::bytes32! {
    /// An Ed25519 public key as its 32 bytes (RFC 8032).
    PublicKey
}

/// Keys that are kept decompressed: some 100 KiB.
const READY_MAX: usize = 256;

// Making a key ready costs a third of a verification, and the same few keys sign again and again.
static READY: RwLock<BTreeMap<PublicKey, VerifyKey>> = RwLock::new(BTreeMap::new());

impl PublicKey {
    /// Decompresses the key for verification.
    ///
    /// # Errors
    /// [`KeyError::NotAPoint`] unless the bytes are the canonical encoding of a point; [`KeyError::Weak`] for a key of
    /// small order.
    pub fn verifier(&self) -> Result<VerifyKey, KeyError> {
        let known = READY
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(self)
            .cloned();
        if let Some(key) = known {
            return Ok(key);
        }
        let key = self.decompress()?;
        let mut ready = READY.write().unwrap_or_else(PoisonError::into_inner);
        if ready.len() >= READY_MAX {
            ready.clear();
        }
        ready.insert(*self, key.clone());
        Ok(key)
    }

    fn decompress(&self) -> Result<VerifyKey, KeyError> {
        let key = ed25519_dalek::VerifyingKey::from_bytes(&self.0)
            .map_err(|_| KeyError::NotAPoint(self.to_hex()))?;
        // dalek decompresses y >= p as well; the canonical encoding is the only one we take.
        if key.to_edwards().compress().to_bytes() != self.0 {
            return Err(KeyError::NotAPoint(self.to_hex()));
        }
        if key.is_weak() {
            return Err(KeyError::Weak(self.to_hex()));
        }
        Ok(VerifyKey { bytes: *self, key })
    }
}

/// A public key made ready for verification, once for many signatures.
#[derive(Clone, Debug)]
pub struct VerifyKey {
    bytes: PublicKey,
    key: ed25519_dalek::VerifyingKey,
}

impl VerifyKey {
    /// The key's 32 bytes.
    pub fn public(&self) -> PublicKey {
        self.bytes
    }

    /// Strict verification (`verify_strict` of ed25519-dalek; the predicate is spelled out in `docs/FORMAT.md`).
    pub(crate) fn verify_strict(&self, message: &[u8], signature: &Signature) -> bool {
        self.verify_all_strict(&[(message, *signature)]) == [true]
    }

    /// As [`Self::verify_strict`] for each, in order, and some cheaper together.
    pub(crate) fn verify_all_strict(&self, signed: &[(impl AsRef<[u8]>, Signature)]) -> Vec<bool> {
        if let Some(comb) = comb::kept(&self.bytes, signed.len(), || self.key.to_edwards()) {
            return comb::verifies(&comb, &self.bytes.0, signed);
        }
        let strict = |(message, signature): &(_, Signature)| {
            let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
            self.key.verify_strict(AsRef::as_ref(message), &signature).is_ok()
        };
        signed.iter().map(strict).collect()
    }

    /// Strictly verifies a signature over an HTTP signature base (RFC 9421). Never used for receipts.
    pub fn verify_http_base(&self, base: &[u8], signature: &Signature) -> bool {
        self.verify_strict(base, signature)
    }

    pub(crate) fn dalek(&self) -> &ed25519_dalek::VerifyingKey {
        &self.key
    }
}

/// A private key. Has no `Debug` and no `Clone` on purpose; its memory is wiped when it goes.
///
/// ```
/// use ledger_core::{PublicKey, SigningKey};
/// let key = SigningKey::from_seed([7; 32]); // 32 bytes from the operating system's random generator
/// assert_eq!(PublicKey::from_hex(&key.public().to_hex()), Some(key.public()));
/// assert!(PublicKey([0; 32]).verifier().is_err()); // of small order: anybody could sign for it
/// ```
pub struct SigningKey {
    key: ed25519_dalek::SigningKey,
    expanded: ExpandedSecretKey,
    public: PublicKey,
}

impl SigningKey {
    /// The key of a 32-byte seed (RFC 8032 private key).
    pub fn from_seed(seed: [u8; 32]) -> Self {
        let seed = Zeroizing::new(seed);
        let key = ed25519_dalek::SigningKey::from_bytes(&seed);
        let public = PublicKey(key.verifying_key().to_bytes());
        let expanded = ExpandedSecretKey::from(&*seed);
        Self {
            key,
            expanded,
            public,
        }
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        self.public
    }

    /// The public half, ready for verification.
    pub fn verifier(&self) -> VerifyKey {
        VerifyKey {
            bytes: self.public,
            key: self.key.verifying_key(),
        }
    }

    pub(crate) fn sign_message(&self, message: &[u8]) -> Signature {
        Signature(self.key.sign(message).to_bytes())
    }

    /// As [`Self::sign_message`] for each, in order, and some cheaper together.
    pub(crate) fn sign_messages(&self, messages: &[impl AsRef<[u8]>]) -> Vec<Signature> {
        crate::sign::sign_all(&self.expanded, &self.public.0, messages)
    }

    /// Signs an HTTP signature base (RFC 9421). A base begins with a double quote, which no context string of
    /// receipts does, so neither signature can pass for the other.
    pub fn sign_http_base(&self, base: &[u8]) -> Signature {
        debug_assert!(
            base.first() == Some(&b'"'),
            "an RFC 9421 signature base begins with a component name"
        );
        self.sign_message(base)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_order_keys_are_refused() {
        // The eight points of small order in canonical form that dalek decompresses; the identity first.
        let mut identity = [0; 32];
        identity[0] = 1;
        assert!(matches!(PublicKey(identity).verifier(), Err(KeyError::Weak(_))));
        assert!(matches!(PublicKey([0; 32]).verifier(), Err(KeyError::Weak(_))));
    }

    #[test]
    fn a_non_canonical_point_is_refused() {
        // y = p + 1, another spelling of the identity.
        let mut bytes = [0xff; 32];
        bytes[0] = 0xee;
        bytes[31] = 0x7f;
        assert!(matches!(PublicKey(bytes).verifier(), Err(KeyError::NotAPoint(_))));
    }
}
