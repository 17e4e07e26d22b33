//! Signing and hashing a batch on all cores, while it is still being decided: helper threads that sleep while there is
//! nothing to do.
//!
//! Owns the helpers and the pieces of the batch in work. Contract: whoever decides gives records away in pieces with
//! [`Signers::add`] as soon as they are final; [`Signers::finish`] works along and returns all of them when the last is done.
//! A piece is signed together, which costs a fifth less than one record at a time. Between two batches the helpers
//! sleep on a condition and burn nothing: a pool that spins for more work cost a tenth of each append. There is one
//! batch at a time. Nothing here outlives a crash.

use ledger_core::tree::{self, Hash};
use ledger_core::{Record, SealDigest, SigningKey, signature};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// Records in one piece: some 160 µs of work. Fewer share an inversion among fewer and wake helpers more often; more leave
/// cores idle at the end of a batch.
pub(crate) const PIECE_RECORDS: usize = 16;
/// Helpers at most; more cores than that gain nothing beside one disk.
const HELPERS_MAX: usize = 31;

/// A record of ours with its place in the batch.
pub(crate) type Placed = (usize, Arc<Record>);
/// The same, signed, with its leaf hash.
pub(crate) type Signed = (usize, Arc<Record>, Hash);
/// How a piece is signed and hashed.
pub(crate) type Finish = Box<dyn Fn(Vec<Placed>) -> Vec<Signed> + Send + Sync>;

#[derive(Default)]
struct Work {
    todo: Vec<Vec<Placed>>,
    done: Vec<Signed>,
    // Pieces that were taken or wait to be, and whether one was lost to a panic.
    open: usize,
    lost: bool,
    // Helpers that sleep.
    asleep: usize,
    stop: bool,
}

struct Bench {
    work: Mutex<Work>,
    more: Condvar,
    all_done: Condvar,
    finish: Finish,
}

/// The helpers of one committer; they end with it.
pub(crate) struct Signers {
    bench: Arc<Bench>,
    helpers: Vec<JoinHandle<()>>,
}

/// Signs seals with a machine's key and hashes the records' leaves.
pub(crate) fn with_key(key: &SigningKey, piece: Vec<Placed>) -> Vec<Signed> {
    let digests: Vec<SealDigest> = piece.iter().map(|(_, record)| record.seal_digest()).collect();
    let signatures = signature::sign_seals(key, &digests);
    let put = |((at, mut record), signature): (Placed, _)| {
        Arc::make_mut(&mut record).set_log_signature(signature);
        let leaf = tree::leaf_hash(record.bytes());
        (at, record, leaf)
    };
    piece.into_iter().zip(signatures).map(put).collect()
}

impl Signers {
    /// Starts a helper for each core but one.
    pub(crate) fn start(finish: Finish) -> Self {
        let bench = Arc::new(Bench {
            work: Mutex::default(),
            more: Condvar::new(),
            all_done: Condvar::new(),
            finish,
        });
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let helper = |n| {
            let bench = Arc::clone(&bench);
            std::thread::Builder::new()
                .name(format!("ledger-sign-{n}"))
                .spawn(move || bench.help())
                .expect("the operating system starts a thread")
        };
        let helpers = (1..cores.min(HELPERS_MAX + 1)).map(helper).collect();
        Self { bench, helpers }
    }

    /// Gives a piece away.
    pub(crate) fn add(&self, piece: Vec<Placed>) {
        let mut work = self.bench.lock();
        work.todo.push(piece);
        work.open += 1;
        if work.asleep > 0 {
            work.asleep -= 1;
            drop(work);
            self.bench.more.notify_one();
        }
    }

    /// Signs one piece that waits, on this thread; `false` when none does.
    pub(crate) fn work_along(&self) -> bool {
        let piece = self.bench.lock().todo.pop();
        piece.map(|piece| self.bench.work_on(piece)).is_some()
    }

    /// Signs the rest of a batch, helps with what is left, and returns all that was given away; in no order.
    pub(crate) fn finish(&self, rest: Vec<Placed>) -> Vec<Signed> {
        let mut signed = if rest.is_empty() {
            Vec::new()
        } else {
            (self.bench.finish)(rest)
        };
        while self.work_along() {}
        let mut work = self.bench.lock();
        while work.open > 0 {
            work = self
                .bench
                .all_done
                .wait(work)
                .unwrap_or_else(PoisonError::into_inner);
        }
        let lost = work.lost;
        signed.append(&mut work.done);
        drop(work);
        assert!(!lost, "a helper that signs does not panic");
        signed
    }
}

impl Drop for Signers {
    fn drop(&mut self) {
        self.bench.lock().stop = true;
        self.bench.more.notify_all();
        for helper in self.helpers.drain(..) {
            // One that panicked has nothing more to say; its batch was given up.
            drop(helper.join());
        }
    }
}

impl Bench {
    fn lock(&self) -> MutexGuard<'_, Work> {
        // Nothing is left half done under it.
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn help(&self) {
        loop {
            let mut work = self.lock();
            let piece = loop {
                if work.stop {
                    return;
                }
                if let Some(piece) = work.todo.pop() {
                    break piece;
                }
                work.asleep += 1;
                work = self.more.wait(work).unwrap_or_else(PoisonError::into_inner);
            };
            drop(work);
            self.work_on(piece);
        }
    }

    fn work_on(&self, piece: Vec<Placed>) {
        // Counts the piece off even if signing panics, so that nobody waits for it for ever.
        struct Counted<'a>(&'a Bench, Option<Vec<Signed>>);
        impl Drop for Counted<'_> {
            fn drop(&mut self) {
                let mut work = self.0.lock();
                match self.1.take() {
                    Some(mut signed) => work.done.append(&mut signed),
                    None => work.lost = true,
                }
                work.open -= 1;
                if work.open == 0 {
                    self.0.all_done.notify_one();
                }
            }
        }
        let mut counted = Counted(self, None);
        counted.1 = Some((self.finish)(piece));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use ledger_core::record::Seal;
    use ledger_core::{Draft, FleetId, Hlc, Kind, LogId, ReceiptId, Signature, Subject};

    fn record(seq: u64) -> Arc<Record> {
        let key = SigningKey::from_seed([1; 32]);
        let draft = Draft::custom(Kind::new("x.test").unwrap(), Subject::new("").unwrap());
        let id = ReceiptId::v7(seq, [0; 10]);
        let said = draft
            .into_statement(FleetId([2; 32]), key.public(), id, 0, [0; 32])
            .unwrap();
        let seal = Seal {
            version: 1,
            log: LogId([3; 32]),
            seq,
            prev: SealDigest::ZERO,
            time: Hlc::default(),
            statement: said.digest,
        };
        Arc::new(Record::assemble(
            said.statement,
            &said.bytes,
            None,
            seal,
            Signature([0; 64]),
        ))
    }

    #[test]
    fn every_record_of_every_batch_is_signed_once_and_at_its_place() {
        let key = SigningKey::from_seed([1; 32]);
        let signers = Signers::start(Box::new(|piece| with_key(&SigningKey::from_seed([1; 32]), piece)));
        for count in [0, 1, 4, 16, 17, 64, 100] {
            let batch: Vec<Arc<Record>> = (0..count).map(record).collect();
            let mut placed = batch.iter().cloned().enumerate().peekable();
            let mut piece = Vec::new();
            while let Some(record) = placed.next() {
                piece.push(record);
                if piece.len() == PIECE_RECORDS && placed.peek().is_some() {
                    signers.add(std::mem::take(&mut piece));
                }
            }
            let mut signed = signers.finish(piece);
            signed.sort_by_key(|(at, ..)| *at);
            assert_eq!(signed.len(), batch.len());
            for ((at, signed, leaf), plain) in signed.iter().zip(&batch) {
                assert_eq!(signed.seal(), batch[*at].seal());
                assert_eq!(*leaf, tree::leaf_hash(signed.bytes()));
                let signature = Signature::from_slice(&signed.bytes()[signed.bytes().len() - 64..]).unwrap();
                assert!(signature::verify_seal(
                    &key.verifier(),
                    &plain.seal_digest(),
                    &signature
                ));
            }
        }
    }

    #[test]
    fn a_panic_while_signing_reaches_the_caller_and_nobody_waits_for_ever() {
        let finish = |piece: Vec<Placed>| {
            let all_good = piece.iter().all(|(_, record)| record.seal().seq != 30);
            assert!(all_good, "the one that cannot be signed");
            with_key(&SigningKey::from_seed([1; 32]), piece)
        };
        let signers = Signers::start(Box::new(finish));
        for n in 0..8 {
            signers.add((n * 8..n * 8 + 8).map(|seq| (0, record(seq))).collect());
        }
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| signers.finish(Vec::new())));
        assert!(outcome.is_err());
    }
}
