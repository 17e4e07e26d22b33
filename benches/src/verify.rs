//! Verification of a closed store from disk, beside batch verification of as many signatures in memory.

use crate::Failed;
use crate::measure::{Cost, cost};
use ledger::core::{SealDigest, Signature, VerifyKey, signature};
use ledger::verify::{Options, verify_store};
use rayon::prelude::*;
use std::path::Path;

/// Signatures in one batch equation of the floor; larger ones gain nothing that can be measured.
pub const BATCH: usize = 256;

/// Verifies signatures of one key by the batch equation and does nothing else, on all cores.
///
/// # Errors
/// When one of them is not valid.
pub fn batch_alone(key: &VerifyKey, signed: &[(SealDigest, Signature)]) -> Result<Cost, Failed> {
    let check = || {
        signed
            .par_chunks(BATCH)
            .all(|chunk| signature::verify_seals_batch(key, chunk))
    };
    let (cost, valid) = cost(signed.len(), check);
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
