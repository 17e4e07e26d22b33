//! Ed25519 signatures of one key over many messages, some cheaper than one at a time (`docs/adr/0017-signing-in-batches.md`).
//!
//! The steps of RFC 8032 section 5.1.6 over `curve25519-dalek`, in another order: all points `R = r B` first, so that one
//! field inversion compresses them together. Signing is deterministic, so each signature equals, byte for byte, the one that
//! `ed25519-dalek` makes alone; a property holds it to that. Everything that depends on a secret runs in constant
//! time: the base point's table, the scalar arithmetic and the shared inversion are dalek's own. Nonces and their points are wiped.

use crate::signature::Signature;
use curve25519_dalek::edwards::EdwardsPoint;
use curve25519_dalek::scalar::Scalar;
use ed25519_dalek::hazmat::ExpandedSecretKey;
use sha2::{Digest, Sha512};
use zeroize::Zeroizing;

/// Signs each message, in order.
pub(crate) fn sign_all(
    secret: &ExpandedSecretKey,
    public: &[u8; 32],
    messages: &[impl AsRef<[u8]>],
) -> Vec<Signature> {
    let scalar_of = |hash: Sha512| {
        let wide = Zeroizing::new(<[u8; 64]>::from(hash.finalize()));
        Scalar::from_bytes_mod_order_wide(&wide)
    };
    // Of its final size at once: a vector that grows leaves copies behind.
    let mut nonces = Zeroizing::new(Vec::with_capacity(messages.len()));
    for message in messages {
        let hash = Sha512::new_with_prefix(secret.hash_prefix).chain_update(message);
        nonces.push(scalar_of(hash));
    }
    // The coordinates of a point tell more of its nonce than its encoding does.
    let points: Zeroizing<Vec<EdwardsPoint>> =
        Zeroizing::new(nonces.iter().map(EdwardsPoint::mul_base).collect());
    let compressed = EdwardsPoint::compress_batch_alloc(&points);
    let sign = |((message, nonce), r): ((_, &Scalar), &[u8; 32])| {
        let challenge = Sha512::new_with_prefix(r)
            .chain_update(public)
            .chain_update(message);
        let s = scalar_of(challenge) * secret.scalar + nonce;
        let mut signature = [0; 64];
        signature[..32].copy_from_slice(r);
        signature[32..].copy_from_slice(s.as_bytes());
        Signature(signature)
    };
    let points = compressed.iter().map(|r| r.as_bytes());
    messages.iter().zip(nonces.iter()).zip(points).map(sign).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use crate::digest::SealDigest;
    use crate::key::SigningKey;
    use crate::signature::{sign_seal, sign_seals, verify_seal};
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn signing_many_gives_the_very_bytes_that_signing_each_gives(
            seed in any::<[u8; 32]>(),
            digests in prop::collection::vec(any::<[u8; 32]>(), 0..40),
        ) {
            let key = SigningKey::from_seed(seed);
            let digests: Vec<SealDigest> = digests.into_iter().map(SealDigest).collect();
            let together = sign_seals(&key, &digests);
            let alone: Vec<_> = digests.iter().map(|digest| sign_seal(&key, digest)).collect();
            prop_assert_eq!(&together, &alone);
            for (digest, signature) in digests.iter().zip(&together) {
                prop_assert!(verify_seal(&key.verifier(), digest, signature));
            }
        }
    }

    #[test]
    fn equal_messages_have_equal_signatures_and_no_message_none() {
        let key = SigningKey::from_seed([5; 32]);
        let twice = sign_seals(&key, &[SealDigest([1; 32]); 2]);
        assert_eq!(twice[0], twice[1]);
        assert!(sign_seals(&key, &[]).is_empty());
    }
}
