//! Signing and hashing a batch on all cores: helper threads that sleep while there is nothing to do.
//!
//! Owns the helpers and the pieces of the batch in work. Contract: [`Signers::finish`] returns the records in their order when
//! the last piece is done; the caller's thread works along, so that one core needs no helper. Between two batches the helpers
//! sleep on a condition and burn nothing: a pool that spins for more work cost a tenth of each append. There is one
//! batch at a time. Nothing here outlives a crash.

use super::batch::Pending;
use ledger_core::tree::Hash;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;

/// Records in one piece: some 50 µs of work, so that cores which are busy otherwise get fewer pieces.
const PIECE_RECORDS: usize = 4;
/// Helpers at most; more cores than that gain nothing beside one disk.
const HELPERS_MAX: usize = 31;

/// Signs what is ours and hashes the leaf of one record.
pub(crate) type Finish = Box<dyn Fn(&mut Pending) -> Hash + Send + Sync>;

struct Piece {
    at: usize,
    records: Vec<Pending>,
    leaves: Vec<Hash>,
}

#[derive(Default)]
struct Work {
    todo: Vec<Piece>,
    done: Vec<Piece>,
    // Pieces that were taken or wait to be.
    open: usize,
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

    /// Signs and hashes all records of a batch; their leaf hashes, in order.
    pub(crate) fn finish(&self, pending: &mut Vec<Pending>) -> Vec<Hash> {
        if self.helpers.is_empty() || pending.len() <= PIECE_RECORDS {
            return pending.iter_mut().map(&self.bench.finish).collect();
        }
        let mut records = std::mem::take(pending).into_iter();
        let pieces: Vec<Piece> = std::iter::from_fn(|| {
            let piece: Vec<Pending> = records.by_ref().take(PIECE_RECORDS).collect();
            (!piece.is_empty()).then_some(piece)
        })
        .enumerate()
        .map(|(at, records)| Piece {
            at,
            records,
            leaves: Vec::with_capacity(PIECE_RECORDS),
        })
        .collect();
        let count = pieces.len();
        {
            let mut work = self.bench.lock();
            work.todo = pieces;
            work.open = count;
        }
        for _ in 0..self.helpers.len().min(count - 1) {
            self.bench.more.notify_one();
        }
        loop {
            let piece = self.bench.lock().todo.pop();
            let Some(piece) = piece else { break };
            self.bench.work_on(piece);
        }
        let mut work = self.bench.lock();
        while work.open > 0 {
            work = self.bench.all_done.wait(work).expect("signers lock");
        }
        let mut done = std::mem::take(&mut work.done);
        drop(work);
        assert_eq!(done.len(), count, "a helper that signs does not panic");
        done.sort_unstable_by_key(|piece| piece.at);
        let mut leaves = Vec::with_capacity(count * PIECE_RECORDS);
        for piece in done {
            pending.extend(piece.records);
            leaves.extend(piece.leaves);
        }
        leaves
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
        self.work.lock().expect("signers lock")
    }

    fn help(&self) {
        loop {
            let mut work = self.lock();
            let piece = loop {
                if work.stop {
                    return;
                }
                match work.todo.pop() {
                    Some(piece) => break piece,
                    None => work = self.more.wait(work).expect("signers lock"),
                }
            };
            drop(work);
            self.work_on(piece);
        }
    }

    fn work_on(&self, mut piece: Piece) {
        // Counts the piece off even if signing panics, so that nobody waits for it for ever.
        struct Counted<'a>(&'a Bench, Option<Piece>);
        impl Drop for Counted<'_> {
            fn drop(&mut self) {
                let mut work = self.0.lock();
                work.done.extend(self.1.take());
                work.open -= 1;
                if work.open == 0 {
                    self.0.all_done.notify_one();
                }
            }
        }
        let mut counted = Counted(self, None);
        piece.leaves = piece.records.iter_mut().map(&self.finish).collect();
        counted.1 = Some(piece);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use ledger_core::record::Seal;
    use ledger_core::{
        Draft, FleetId, Hlc, Kind, LogId, ReceiptId, Record, SealDigest, Signature, SigningKey, Subject,
    };

    fn pending(seq: u64) -> Pending {
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
        let record = Record::assemble(said.statement, &said.bytes, None, seal, Signature([0; 64]));
        Pending {
            record: Arc::new(record),
            payload: None,
            own: true,
        }
    }

    fn number(pending: &mut Pending) -> Hash {
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&pending.record.seal().seq.to_be_bytes());
        hash
    }

    #[test]
    fn every_record_of_every_batch_is_finished_once_and_in_its_order() {
        let signers = Signers::start(Box::new(number));
        for count in [0, 1, 4, 5, 8, 63, 64, 257] {
            let mut batch: Vec<Pending> = (0..count).map(pending).collect();
            let leaves = signers.finish(&mut batch);
            let seqs: Vec<u64> = batch.iter().map(|p| p.record.seal().seq).collect();
            assert_eq!(seqs, (0..count).collect::<Vec<_>>());
            assert_eq!(leaves, batch.iter_mut().map(number).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_panic_while_signing_reaches_the_caller_and_nobody_waits_for_ever() {
        let finish = |p: &mut Pending| {
            assert!(p.record.seal().seq != 30, "the one that cannot be signed");
            number(p)
        };
        let signers = Signers::start(Box::new(finish));
        let mut batch: Vec<Pending> = (0..64).map(pending).collect();
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| signers.finish(&mut batch)));
        assert!(outcome.is_err());
    }
}
