//! Signatures: of this store's own logs in batches, all others strictly.
//!
//! Batches only accelerate what this store admitted strictly before and whose bytes the tree covers; which logs these are the
//! caller knows from the anchor. A batch that fails is checked one by one, to name the culprit.

use super::chunk::Chunk;
use super::entry::{Prepared, finding};
use super::report::{Aspect, Finding};
use ledger_core::error::ChainError;
use ledger_core::{Record, SealDigest, Signature, VerifyKey, chain, signature};
use rayon::prelude::*;
use std::ops::Range;
use std::sync::Arc;

/// Signatures in one batch equation; larger ones gain nothing that can be measured.
const BATCH_MAX: usize = 384;
/// Signatures that are checked one by one in one job.
const STRICT_MAX: usize = 64;

/// Signatures of a chunk that one thread checks at once.
pub(super) struct Job {
    /// Of the chunk, for the order of the findings.
    pub(super) ticket: u64,
    chunk: Arc<Chunk>,
    part: usize,
    what: What,
}

enum What {
    // A range of the part's log signatures, in one equation or strictly.
    Batch(Range<usize>, VerifyKey),
    Strict(Range<usize>, VerifyKey),
    // A range of the part's author signatures.
    Authors(Range<usize>),
}

// Parts of about the same size.
fn split(count: usize, most: usize) -> impl Iterator<Item = Range<usize>> {
    let parts = count.div_ceil(most).max(1);
    (0..parts).map(move |n| count * n / parts..count * (n + 1) / parts)
}

impl Job {
    /// The jobs for a part of a chunk; `trusted`: see the module.
    pub(super) fn of(
        ticket: u64,
        chunk: &Arc<Chunk>,
        part: usize,
        key: &VerifyKey,
        trusted: bool,
    ) -> Vec<Self> {
        let signed = &chunk.parts[part];
        let job = |what| Self {
            ticket,
            chunk: Arc::clone(chunk),
            part,
            what,
        };
        let most = if trusted { BATCH_MAX } else { STRICT_MAX };
        let logs = split(signed.signatures.len(), most).map(|range| {
            if trusted {
                What::Batch(range, key.clone())
            } else {
                What::Strict(range, key.clone())
            }
        });
        let authors = split(signed.authored.len(), STRICT_MAX).map(What::Authors);
        let (has_any, has_authors) = (!signed.signatures.is_empty(), !signed.authored.is_empty());
        let logs = logs.filter(|_| has_any);
        logs.chain(authors.filter(|_| has_authors)).map(job).collect()
    }

    /// Checks them: what is wrong, with its place in the journal for the order.
    pub(super) fn run(&self) -> Vec<(u32, Finding)> {
        let part = &self.chunk.parts[self.part];
        let strictly = |range: &Range<usize>, key: &VerifyKey| {
            let bad = |n: &usize| {
                let (digest, signature) = &part.signatures[*n];
                !signature::verify_seal(key, digest, signature)
            };
            range.clone().filter(bad).collect::<Vec<_>>()
        };
        let of_log = |n: usize| {
            self.tell(part.at[n], |record| {
                let (log, seq) = (record.seal().log, record.seal().seq);
                Some(ChainError::LogSignature { log, seq })
            })
        };
        match &self.what {
            What::Batch(range, key)
                if signature::verify_seals_batch(key, &part.signatures[range.clone()]) =>
            {
                Vec::new()
            }
            What::Batch(range, key) | What::Strict(range, key) => {
                strictly(range, key).into_iter().filter_map(of_log).collect()
            }
            What::Authors(range) => {
                let check = |at: &u32| self.tell(*at, |record| chain::verify_author(record).err());
                part.authored[range.clone()].iter().filter_map(check).collect()
            }
        }
    }

    fn tell(&self, at: u32, judge: impl Fn(&Record) -> Option<ChainError>) -> Option<(u32, Finding)> {
        let (position, record) = self.chunk.record_at(at)?;
        let error = judge(&record)?;
        let text = error.to_string();
        Some((
            at,
            finding(error.code(), Aspect::Signatures, position, &record, text),
        ))
    }
}

/// Checks the signatures of careful entries: those at these indexes, each with its log's key and whether that is trusted.
pub(super) fn check(prepared: &[Prepared], signed: &[(usize, VerifyKey, bool)]) -> Vec<(usize, ChainError)> {
    let record = |index: usize| {
        prepared[index]
            .record
            .as_ref()
            .expect("only parsed records are checked")
    };
    let (own, others): (Vec<_>, Vec<_>) = signed.iter().partition(|(_, _, trusted)| *trusted);
    let strictly = |(index, key, _): &(usize, VerifyKey, bool)| {
        let (seal, record) = (record(*index).seal(), record(*index));
        let valid = signature::verify_seal(key, &record.seal_digest(), record.log_signature());
        let (log, seq) = (seal.log, seal.seq);
        (!valid).then_some((*index, ChainError::LogSignature { log, seq }))
    };
    let items: Vec<(SealDigest, Signature)> = own
        .iter()
        .map(|(index, _, _)| (record(*index).seal_digest(), *record(*index).log_signature()))
        .collect();
    // All trusted keys are the one machine key of this store.
    let passes = own
        .first()
        .is_none_or(|(_, key, _)| signature::verify_seals_batch(key, &items));
    let doubtful = own.into_iter().filter(|_| !passes);
    let mut bad: Vec<_> = doubtful.chain(others).filter_map(strictly).collect();
    bad.extend(signed.iter().filter_map(|(index, _, _)| {
        let error = chain::verify_author(record(*index)).err()?;
        Some((*index, error))
    }));
    bad
}

/// The same on all threads of the pool that this runs on.
pub(super) fn check_spread(
    prepared: &[Prepared],
    signed: &[(usize, VerifyKey, bool)],
) -> Vec<(usize, ChainError)> {
    signed
        .par_chunks(BATCH_MAX)
        .flat_map_iter(|part| check(prepared, part))
        .collect()
}
