//! The floors of signing: Ed25519 and nothing else, on all cores.

use crate::Failed;
use crate::measure::{Cost, cost};
use ed25519_dalek::{Signer, SigningKey as Dalek};
use ledger::core::{SealDigest, Signature, SigningKey, signature};
use rayon::prelude::*;

/// Seed of the key that signs in all floors.
pub const SEED: [u8; 32] = [7; 32];
/// Seals that the ledger's own batch signing gets at a time, as a committer hands them to its signing threads.
const BATCH: usize = 16;

// Digests as varied as those of real seals.
fn digests(count: usize) -> Vec<SealDigest> {
    let digest = |n: usize| ledger::core::digest::content_digest(&n.to_be_bytes()).0;
    (0..count).map(|n| SealDigest(digest(n))).collect()
}

// What is signed of a digest, as FORMAT says.
pub(crate) fn message(digest: &SealDigest) -> Vec<u8> {
    [signature::CONTEXT_LOG.as_bytes(), &[0], &digest.0].concat()
}

/// Signs so many messages by `SigningKey::sign` of ed25519-dalek, on all cores.
pub fn dalek_alone(count: usize) -> Cost {
    let key = Dalek::from_bytes(&SEED);
    let messages: Vec<Vec<u8>> = digests(count).iter().map(message).collect();
    let sign = || {
        messages
            .par_iter()
            .map(|message| key.sign(message))
            .collect::<Vec<_>>()
    };
    let (cost, signatures) = cost(count, sign);
    std::hint::black_box(signatures);
    cost
}

/// Signs so many seal digests in batches as the ledger does, on all cores.
pub fn batches_alone(key: &SigningKey, count: usize) -> Cost {
    let digests = digests(count);
    let sign = || -> Vec<Vec<Signature>> {
        digests
            .par_chunks(BATCH)
            .map(|digests| signature::sign_seals(key, digests))
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

/// One signature and one strict verification each by ed25519-dalek, on all cores: what an append of a statement that came
/// signed cannot do without.
///
/// # Errors
/// When a signature is not valid.
pub fn signed_and_checked(count: usize) -> Result<Cost, Failed> {
    let key = Dalek::from_bytes(&SEED);
    let verifier = key.verifying_key();
    let messages: Vec<Vec<u8>> = digests(count).iter().map(message).collect();
    let work = |message: &Vec<u8>| verifier.verify_strict(message, &key.sign(message)).is_ok();
    let (cost, valid) = cost(count, || messages.par_iter().all(work));
    valid
        .then_some(cost)
        .ok_or_else(|| "a signature is not valid".into())
}
