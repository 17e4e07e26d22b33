//! The floor of appending: making log signatures and nothing else, on all cores.

use crate::measure::{Cost, cost};
use ledger::core::{SealDigest, Signature, SigningKey, signature};
use rayon::prelude::*;

// Digests as varied as those of real seals.
fn digests(count: usize) -> Vec<SealDigest> {
    let digest = |n: usize| ledger::core::digest::content_digest(&n.to_be_bytes()).0;
    (0..count).map(|n| SealDigest(digest(n))).collect()
}

/// Signs so many seal digests as the ledger does, on all cores.
pub fn all_cores(key: &SigningKey, count: usize) -> Cost {
    let digests = digests(count);
    let sign = || -> Vec<Signature> {
        digests
            .par_iter()
            .map(|digest| signature::sign_seal(key, digest))
            .collect()
    };
    let (cost, signatures) = cost(count, sign);
    std::hint::black_box(signatures);
    cost
}

/// Seal digests with their signatures, for the floor of verifying.
pub fn signed(key: &SigningKey, count: usize) -> Vec<(SealDigest, Signature)> {
    digests(count)
        .into_par_iter()
        .map(|digest| (digest, signature::sign_seal(key, &digest)))
        .collect()
}

/// Two signatures and one strict verification each, on all cores: what a statement signed by an actor cannot do without.
pub fn signed_and_checked(key: &SigningKey, count: usize) -> Cost {
    let (digests, verifier) = (digests(count), key.verifier());
    let work = |digest: &SealDigest| {
        let said = signature::sign_seal(key, digest);
        (
            said,
            signature::verify_seal(&verifier, digest, &said),
            signature::sign_seal(key, digest),
        )
    };
    let (cost, done) = cost(count, || digests.par_iter().map(work).collect::<Vec<_>>());
    std::hint::black_box(done);
    cost
}
