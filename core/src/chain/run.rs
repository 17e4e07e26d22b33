//! A run of consecutive records of one log, checked among themselves before the log's state is at hand.
//!
//! This lets several threads check several parts of a log at once: each checks its own part, and only the borders are
//! compared in order, by [`Chain::is_followed_by`] and [`Chain::extend_run`]. Contract: these accept a run when, and only when,
//! [`Chain::follow`] accepts each of its records; a property holds both to it. What they refuse is told by `follow`.

#[cfg(doc)]
use super::Chain;
use crate::digest::{FleetId, LogId, SealDigest};
use crate::hlc::Hlc;
use crate::key::PublicKey;
use crate::record::RecordRef;
use crate::tree::Hash;

/// Authors in one run at most: more make it end.
const AUTHORS_MAX: usize = 64;

/// See the module. Holds no records, 64 bytes for each.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Run {
    pub(super) log: LogId,
    pub(super) fleet: FleetId,
    pub(super) first_seq: u64,
    pub(super) prev: SealDigest,
    pub(super) first_time: Hlc,
    pub(super) last_time: Hlc,
    // Who said something, and whether with a signature of its own.
    pub(super) authors: Vec<(PublicKey, bool)>,
    // Leaf hash and seal digest of each.
    pub(super) records: Vec<(Hash, SealDigest)>,
}

impl Run {
    /// Begins with a record, its leaf hash and its seal's digest.
    pub fn begin(record: &RecordRef<'_>, leaf: Hash, seal: SealDigest) -> Self {
        Self {
            log: record.seal.log,
            fleet: record.statement.fleet,
            first_seq: record.seal.seq,
            prev: record.seal.prev,
            first_time: record.seal.time,
            last_time: record.seal.time,
            authors: vec![said_by(record)],
            records: vec![(leaf, seal)],
        }
    }

    /// Takes in the next record of the log; `false`, and nothing else, when it does not continue this run.
    #[must_use]
    pub fn push(&mut self, record: &RecordRef<'_>, leaf: Hash, seal: SealDigest) -> bool {
        let place = &record.seal;
        let follows = place.log == self.log
            && Some(place.seq) == self.last_seq().checked_add(1)
            && self.records.last().is_some_and(|(_, last)| place.prev == *last)
            && place.time > self.last_time
            && record.statement.fleet == self.fleet;
        let by = said_by(record);
        let known = self.authors.last() == Some(&by) || self.authors.contains(&by);
        if !follows || (!known && self.authors.len() == AUTHORS_MAX) {
            return false;
        }
        if !known {
            self.authors.push(by);
        }
        self.last_time = place.time;
        self.records.push((leaf, seal));
        true
    }

    /// The log.
    pub fn log(&self) -> LogId {
        self.log
    }

    /// The first record's seq.
    pub fn first_seq(&self) -> u64 {
        self.first_seq
    }

    /// The last record's seq.
    pub fn last_seq(&self) -> u64 {
        let more = self.records.len().saturating_sub(1);
        self.first_seq
            .saturating_add(u64::try_from(more).unwrap_or(u64::MAX))
    }

    /// The first record's time and the last one's.
    pub fn times(&self) -> (Hlc, Hlc) {
        (self.first_time, self.last_time)
    }

    /// Leaf hash and seal digest of each record.
    pub fn records(&self) -> &[(Hash, SealDigest)] {
        &self.records
    }

    /// The same, without the rest.
    pub fn into_records(self) -> Vec<(Hash, SealDigest)> {
        self.records
    }
}

fn said_by(record: &RecordRef<'_>) -> (PublicKey, bool) {
    (record.statement.author, record.author_signature.is_some())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::chain::Chain;
    use crate::kinds::{Detail, LogGenesis};
    use crate::record::{Record, Seal};
    use crate::signature::Signature;
    use crate::{Draft, Kind, MachineId, ReceiptId, SigningKey, Stream, Subject, tree};
    use proptest::prelude::*;

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_seed([seed; 32])
    }

    fn sealed(draft: Draft, author: u8, signed: bool, fleet: u8, seal: Seal) -> Record {
        let mut id = [7; 16];
        (id[6], id[8]) = (0x70, 0x80);
        let said = draft
            .into_statement(
                FleetId([fleet; 32]),
                key(author).public(),
                ReceiptId(id),
                0,
                [0; 32],
            )
            .unwrap();
        let mut seal = Seal {
            statement: said.digest,
            ..seal
        };
        if seal.seq == 0 {
            seal.log = crate::digest::log_id(&said.bytes);
        }
        let author = signed.then_some(Signature([1; 64]));
        Record::assemble(said.statement, &said.bytes, author, seal, Signature([2; 64]))
    }

    // What is wrong with one record of a log.
    #[derive(Clone, Copy, Debug)]
    enum Fault {
        Nothing,
        Seq,
        Prev,
        Time,
        Fleet,
        Log,
        Author,
        Signed,
    }

    fn log_of(faults: &[Fault]) -> Vec<Record> {
        let genesis = LogGenesis {
            machine: MachineId::new("m").unwrap(),
            stream: Stream::Facts,
            incarnation: 1,
            machine_key: key(1).public(),
            checkpoint_key: key(2).public(),
            predecessor: None,
            founding: None,
            nonce: [0; 16],
        };
        let place = Seal {
            version: 1,
            log: LogId([0; 32]),
            seq: 0,
            prev: SealDigest::ZERO,
            time: Hlc(10),
            statement: crate::StatementDigest([0; 32]),
        };
        let subject = Subject::new("").unwrap();
        let mut records = vec![sealed(Draft::of(&genesis, subject.clone()), 1, false, 1, place)];
        for fault in faults {
            let last = records.last().unwrap();
            let mut seal = Seal {
                seq: last.seal().seq + 1,
                prev: last.seal_digest(),
                time: Hlc(last.seal().time.0 + 1),
                ..*last.seal()
            };
            let (mut author, mut signed, mut fleet) = (1, false, 1);
            match fault {
                Fault::Nothing => {}
                Fault::Seq => seal.seq += 1,
                Fault::Prev => seal.prev.0[0] ^= 1,
                Fault::Time => seal.time = last.seal().time,
                Fault::Fleet => fleet = 2,
                Fault::Log => seal.log.0[0] ^= 1,
                Fault::Author => author = 3,
                Fault::Signed => signed = true,
            }
            let draft = Draft::custom(Kind::new("x.n").unwrap(), subject.clone());
            records.push(sealed(draft, author, signed, fleet, seal));
        }
        records
    }

    fn faults() -> impl Strategy<Value = Vec<Fault>> {
        let any = prop_oneof![
            12 => Just(Fault::Nothing),
            1 => Just(Fault::Seq),
            1 => Just(Fault::Prev),
            1 => Just(Fault::Time),
            1 => Just(Fault::Fleet),
            1 => Just(Fault::Log),
            1 => Just(Fault::Author),
            1 => Just(Fault::Signed),
        ];
        prop::collection::vec(any, 1..8)
    }

    proptest! {
        #[test]
        fn a_run_is_taken_exactly_when_each_of_its_records_is(faults in faults(), begin in any::<prop::sample::Index>()) {
            let records = log_of(&faults);
            let mut one_by_one = Chain::start(&records[0]).unwrap();
            let begin = 1 + begin.index(records.len() - 1);
            for record in &records[1..begin] {
                prop_assume!(one_by_one.follow(record).is_ok());
            }
            let mut at_once = one_by_one.clone();
            let each = records[begin..].iter().all(|record| one_by_one.follow(record).is_ok());
            let read = |record: &'static Record| RecordRef::read(record.bytes()).unwrap();
            let rest: &'static [Record] = records[begin..].to_vec().leak();
            let mut run: Option<Run> = None;
            let whole = rest.iter().all(|record| {
                let (leaf, seal) = (tree::leaf_hash(record.bytes()), record.seal_digest());
                match &mut run {
                    None => {
                        run = Some(Run::begin(&read(record), leaf, seal));
                        true
                    }
                    Some(run) => run.push(&read(record), leaf, seal),
                }
            });
            let run = run.unwrap();
            let taken = whole && at_once.is_followed_by(&run);
            prop_assert_eq!(taken, each);
            if taken {
                at_once.extend_run(&run);
                prop_assert_eq!(at_once.snapshot(), one_by_one.snapshot());
                prop_assert_eq!(run.last_seq(), at_once.tip().0);
            }
        }
    }

    #[test]
    fn every_fault_alone_is_refused() {
        use Fault::{Author, Fleet, Log, Prev, Seq, Signed, Time};
        for fault in [Author, Fleet, Log, Prev, Seq, Signed, Time] {
            for at in 0..2 {
                let mut faults = [Fault::Nothing; 2];
                faults[at] = fault;
                let records = log_of(&faults);
                let chain = Chain::start(&records[0]).unwrap();
                let views: Vec<_> = records[1..]
                    .iter()
                    .map(|record| RecordRef::read(record.bytes()).unwrap())
                    .collect();
                let leaf = |n: usize| (tree::leaf_hash(views[n].bytes), views[n].seal_digest());
                let mut run = Run::begin(&views[0], leaf(0).0, leaf(0).1);
                let pushed = run.push(&views[1], leaf(1).0, leaf(1).1);
                assert!(!(pushed && chain.is_followed_by(&run)), "{fault:?} at {at}");
            }
        }
        assert_eq!(LogGenesis::SCHEMA, 1);
    }
}
