//! Verification of a closed store from disk, beside batch verification of as many signatures in memory.

use crate::Failed;
use crate::measure::{Cost, cost};
use crate::sign;
use ledger::core::{SealDigest, Signature, VerifyKey, signature};
use ledger::verify::{Options, verify_store};
use rayon::prelude::*;
use std::path::Path;

/// Signatures in one batch equation of the floor; larger ones gain nothing that can be measured.
pub const BATCH: usize = 256;

/// Verifies signatures of one key by dalek's batch equation and does nothing else, on all cores.
///
/// # Errors
/// When one of them is not valid.
pub fn dalek_alone(key: &VerifyKey, signed: &[(SealDigest, Signature)]) -> Result<Cost, Failed> {
    let key = ed25519_dalek::VerifyingKey::from_bytes(&key.public().0)?;
    batches(signed, |chunk| {
        let messages: Vec<Vec<u8>> = chunk.iter().map(|(digest, _)| sign::message(digest)).collect();
        let messages: Vec<&[u8]> = messages.iter().map(Vec::as_slice).collect();
        let of = |(_, s): &(_, Signature)| ed25519_dalek::Signature::from_bytes(&s.0);
        let signatures: Vec<_> = chunk.iter().map(of).collect();
        ed25519_dalek::verify_batch(&messages, &signatures, &vec![key; chunk.len()]).is_ok()
    })
}

/// The same by the ledger's own, which knows that all have one key.
///
/// # Errors
/// When one of them is not valid.
pub fn one_key_alone(key: &VerifyKey, signed: &[(SealDigest, Signature)]) -> Result<Cost, Failed> {
    batches(signed, |chunk| signature::verify_seals_batch(key, chunk))
}

fn batches(
    signed: &[(SealDigest, Signature)],
    check: impl Fn(&[(SealDigest, Signature)]) -> bool + Sync,
) -> Result<Cost, Failed> {
    let (cost, valid) = cost(signed.len(), || signed.par_chunks(BATCH).all(&check));
    valid
        .then_some(cost)
        .ok_or_else(|| "a signature is not valid".into())
}

/// Verifies a store: journal, payloads, chain, tree, and, when `full`, every signature. `receipts` is what it must find.
///
/// # Errors
/// When the store cannot be read or is not clean.
pub fn store(dir: &Path, full: bool, receipts: usize) -> Result<Cost, Failed> {
    let options = Options {
        full,
        ..Options::default()
    };
    let (cost, report) = cost(receipts, || verify_store(dir, &options, &mut |_| {}));
    let report = report?;
    if report.is_clean() && report.counts.receipts == u64::try_from(receipts)? {
        Ok(cost)
    } else {
        Err(format!("the store does not verify: {report}").into())
    }
}
