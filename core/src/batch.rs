//! The randomised batch equation over signatures of one key (`docs/adr/0015-batch-of-one-key.md`).
//!
//! Holds for signatures R, s over messages M under the key A when
//! `(-sum z s) B + sum (z R) + (sum z h) A = 0`, h being `SHA-512(R || A || M)` as RFC 8032 says. Every signature brings
//! one point, R; a batch that knows nothing of equal keys brings A for each as well. The weights z, 128 bits each, are
//! drawn from a digest of all h and s, so that whoever makes a signature cannot know them; nothing random is needed.
//!
//! It proves nothing that strict verification would not have to repeat for a stranger's signatures; see
//! [`crate::signature::verify_seals_batch`].

use crate::key::VerifyKey;
use crate::signature::Signature;
use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsPoint};
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::{IsIdentity, VartimeMultiscalarMul};
use sha2::{Digest, Sha512};

const CONTEXT_WEIGHTS: &str = "ledger v1 weights of a signature batch";

/// Whether the equation holds. True for no signatures at all.
pub(crate) fn holds<'a>(
    key: &VerifyKey,
    signed: impl ExactSizeIterator<Item = (impl AsRef<[u8]>, &'a Signature)>,
) -> bool {
    let public = key.public().0;
    let count = signed.len();
    let mut challenges = Vec::with_capacity(count);
    let mut points = Vec::with_capacity(count + 2);
    let mut answers = Vec::with_capacity(count);
    let mut transcript = blake3::Hasher::new_derive_key(CONTEXT_WEIGHTS);
    for (message, signature) in signed {
        let (r, s) = signature.0.split_at(32);
        let challenge = Sha512::new()
            .chain_update(r)
            .chain_update(public)
            .chain_update(message.as_ref())
            .finalize();
        transcript.update(&challenge).update(s);
        challenges.push(Scalar::from_bytes_mod_order_wide(&challenge.into()));
        let s: [u8; 32] = s.try_into().expect("half of 64 bytes");
        let Some(s) = Option::<Scalar>::from(Scalar::from_canonical_bytes(s)) else {
            return false;
        };
        answers.push(s);
        points.push(
            CompressedEdwardsY::from_slice(r)
                .ok()
                .and_then(|r| r.decompress()),
        );
    }
    let mut weights = transcript.finalize_xof();
    let mut scalars = Vec::with_capacity(count + 2);
    let (mut of_base, mut of_key) = (Scalar::ZERO, Scalar::ZERO);
    for (challenge, answer) in challenges.iter().zip(&answers) {
        let mut weight = [0; 16];
        weights.fill(&mut weight);
        let weight = Scalar::from(u128::from_le_bytes(weight));
        of_base -= weight * answer;
        of_key += weight * challenge;
        scalars.push(weight);
    }
    scalars.extend([of_base, of_key]);
    points.push(Some(curve25519_dalek::constants::ED25519_BASEPOINT_POINT));
    points.push(Some(key.dalek().to_edwards()));
    EdwardsPoint::optional_multiscalar_mul(scalars, points).is_some_and(|sum| sum.is_identity())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use crate::digest::SealDigest;
    use crate::key::SigningKey;
    use crate::signature::{Signature, sign_seal, verify_seal, verify_seals_batch};
    use proptest::prelude::*;

    fn signed(key: &SigningKey, count: u8) -> Vec<(SealDigest, Signature)> {
        (0..count)
            .map(|n| SealDigest([n; 32]))
            .map(|digest| (digest, sign_seal(key, &digest)))
            .collect()
    }

    #[test]
    fn every_flipped_bit_of_a_signature_or_a_digest_fails_the_batch() {
        let key = SigningKey::from_seed([9; 32]);
        let good = signed(&key, 3);
        assert!(verify_seals_batch(&key.verifier(), &good));
        for bit in 0..(64 + 32) * 8 {
            let mut bad = good.clone();
            let (digest, signature) = &mut bad[1];
            match bit / 8 {
                at @ 0..64 => signature.0[at] ^= 1 << (bit % 8),
                at => digest.0[at - 64] ^= 1 << (bit % 8),
            }
            assert!(!verify_seals_batch(&key.verifier(), &bad), "bit {bit}");
        }
    }

    #[test]
    fn an_answer_past_the_group_order_is_refused_as_strictly() {
        // s + l is the same number to whoever does not look.
        let order: [u8; 32] = [
            0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14,
            0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
        ];
        let key = SigningKey::from_seed([9; 32]);
        let mut items = signed(&key, 2);
        let mut carry = 0_u16;
        for (byte, order) in items[1].1.0[32..].iter_mut().zip(order) {
            let sum = u16::from(*byte) + u16::from(order) + carry;
            [*byte, _] = sum.to_le_bytes();
            carry = sum >> 8;
        }
        assert!(!verify_seals_batch(&key.verifier(), &items));
        assert!(!verify_seal(&key.verifier(), &items[1].0, &items[1].1));
    }

    #[test]
    fn two_faults_that_would_cancel_out_without_weights_do_not_pass() {
        use curve25519_dalek::scalar::Scalar;
        let key = SigningKey::from_seed([9; 32]);
        let mut items = signed(&key, 2);
        for (item, change) in items.iter_mut().zip([Scalar::ONE, -Scalar::ONE]) {
            let s: [u8; 32] = item.1.0[32..].try_into().unwrap();
            let changed = Scalar::from_canonical_bytes(s).unwrap() + change;
            item.1.0[32..].copy_from_slice(changed.as_bytes());
        }
        assert!(!verify_seals_batch(&key.verifier(), &items));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn the_batch_says_what_strict_verification_says_of_each(
            seed in any::<[u8; 32]>(),
            count in 0_u8..40,
            wrong in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..4), 0..3),
        ) {
            let key = SigningKey::from_seed(seed);
            let other = SigningKey::from_seed([1; 32]);
            let mut items = signed(&key, count);
            for (at, how) in wrong.iter().filter(|_| count > 0) {
                let (digest, signature) = &mut items[at.index(count.into())];
                match how {
                    0 => *signature = sign_seal(&other, digest),
                    1 => *signature = sign_seal(&key, &SealDigest([77; 32])),
                    2 => signature.0[..32].fill(0xff),
                    _ => digest.0[5] ^= 4,
                }
            }
            let strict = items.iter().all(|(digest, s)| verify_seal(&key.verifier(), digest, s));
            prop_assert_eq!(verify_seals_batch(&key.verifier(), &items), strict);
        }
    }
}
