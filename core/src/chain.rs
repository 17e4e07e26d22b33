//! The chain rule of one log, checked one record after another.
//!
//! Two duties stay apart: [`Chain::follow`] checks structure (framing, log, fleet, dense seq, links, rising time, the
//! presence rule of the author signature), [`verify_signatures`] checks the two signatures. Only structure decides
//! whether a record can stand in a log at all.

use crate::digest::{self, FleetId, LogId, SealDigest, TreeRoot};
use crate::error::ChainError;
use crate::hlc::Hlc;
use crate::key::{PublicKey, VerifyKey};
use crate::kinds::{Detail, LogGenesis};
use crate::limits::SEQ_MAX;
use crate::record::Record;
use crate::signature;
use crate::tree::{self, Tree};
use serde::{Deserialize, Serialize};

mod run;

pub use run::Run;

/// A log's newest record and the root of the tree that ends with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Head {
    /// Its seq.
    pub seq: u64,
    /// The digest of its seal.
    pub seal: SealDigest,
    /// The root over the records 0 to seq.
    pub root: TreeRoot,
}

/// The state of a [`Chain`] without its genesis.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ChainSnapshot {
    /// The newest record's seq.
    pub seq: u64,
    /// The digest of its seal.
    pub seal: SealDigest,
    /// Its time.
    pub time: Hlc,
    /// Roots of the tree's perfect subtrees, largest first.
    pub peaks: Vec<TreeRoot>,
}

impl ChainSnapshot {
    // The tree that ends with its record.
    fn tree(&self, log: LogId) -> Result<Tree, ChainError> {
        let peaks = self.peaks.iter().map(|root| root.0).collect();
        let size = self.seq.checked_add(1);
        let tree = size.and_then(|size| Tree::from_peaks(size, peaks));
        tree.ok_or(ChainError::Genesis {
            log,
            why: "its snapshot does not fit its size",
        })
    }
}

/// The state of a check after some records of one log; holds no records, at most 64 hashes.
#[derive(Clone, Debug)]
pub struct Chain {
    log: LogId,
    fleet: FleetId,
    genesis: LogGenesis,
    machine: VerifyKey,
    // At most SEQ_MAX, so that the next one is a number.
    last_seq: u64,
    last_seal: SealDigest,
    last_time: Hlc,
    tree: Tree,
}

impl Chain {
    /// Starts with a log's genesis (seq 0).
    ///
    /// # Errors
    /// [`ChainError::Genesis`] when the record is not the genesis of the log that its seal names.
    pub fn start(record: &Record) -> Result<Self, ChainError> {
        let (seal, statement) = (record.seal(), record.statement());
        let log = seal.log;
        let wrong = |why| ChainError::Genesis { log, why };
        if statement.kind.as_str() != LogGenesis::KIND || statement.schema != LogGenesis::SCHEMA {
            return Err(wrong("its first record is not a log.genesis of schema 1"));
        }
        if seal.seq != 0 || seal.prev != SealDigest::ZERO {
            return Err(wrong(
                "its genesis does not stand at seq 0 with an empty previous seal",
            ));
        }
        if digest::log_id(record.statement_bytes()) != log {
            return Err(wrong("its LogId is not the digest of its genesis"));
        }
        let genesis = LogGenesis::decode(&statement.detail)
            .map_err(|_| wrong("the detail of its genesis is malformed"))?;
        if genesis.machine_key != statement.author {
            return Err(wrong("its genesis is not authored by its machine key"));
        }
        let machine = genesis
            .machine_key
            .verifier()
            .map_err(|_| wrong("its machine key is not usable"))?;
        if genesis.checkpoint_key.verifier().is_err() || genesis.checkpoint_key == genesis.machine_key {
            return Err(wrong(
                "its checkpoint key is not usable or not distinct from the machine key",
            ));
        }
        if let Some(founding) = &genesis.founding
            && digest::fleet_id(&founding.root_key.0, &founding.recovery_key.0, &founding.nonce)
                != statement.fleet
        {
            return Err(wrong(
                "the fleet is not founded by the keys that its genesis names",
            ));
        }
        if record.author_signature().is_some() {
            return Err(ChainError::AuthorSignatureSuperfluous { log, seq: 0 });
        }
        let mut tree = Tree::new();
        tree.push(tree::leaf_hash(record.bytes()));
        Ok(Self {
            log,
            fleet: statement.fleet,
            genesis,
            machine,
            last_seq: 0,
            last_seal: record.seal_digest(),
            last_time: seal.time,
            tree,
        })
    }

    /// Checks that the record continues the log, and takes it in.
    ///
    /// # Errors
    /// [`ChainError`]; the state is then as before.
    pub fn follow(&mut self, record: &Record) -> Result<(), ChainError> {
        self.follow_prepared(record, tree::leaf_hash(record.bytes()))
    }

    /// The same, with the record's leaf hash computed elsewhere.
    ///
    /// # Errors
    /// As [`Chain::follow`].
    pub fn follow_prepared(&mut self, record: &Record, leaf: tree::Hash) -> Result<(), ChainError> {
        self.check_follows(record)?;
        self.extend_prepared(record, leaf);
        Ok(())
    }

    fn check_follows(&self, record: &Record) -> Result<(), ChainError> {
        let seal = record.seal();
        let (log, seq) = (self.log, seal.seq);
        if seal.log != log {
            return Err(ChainError::OtherLog {
                expected: log,
                found: seal.log,
            });
        }
        let expected = self.last_seq + 1;
        if seq != expected {
            return Err(ChainError::Seq {
                log,
                expected,
                found: seq,
            });
        }
        if seal.prev != self.last_seal {
            return Err(ChainError::Prev {
                log,
                seq,
                expected: self.last_seal,
                found: seal.prev,
            });
        }
        self.check_unlinked(record)
    }

    /// Goes on after records that could not be read: checks that this is the record at `seq`, and everything but its
    /// link, and takes it in. From here on [`Chain::head`] and [`Chain::tree`] do not cover the whole log.
    ///
    /// # Errors
    /// [`ChainError`]; the state is then as before.
    pub fn resume(&mut self, record: &Record, seq: u64) -> Result<(), ChainError> {
        self.resume_prepared(record, seq, tree::leaf_hash(record.bytes()))
    }

    pub(crate) fn resume_prepared(
        &mut self,
        record: &Record,
        seq: u64,
        leaf: tree::Hash,
    ) -> Result<(), ChainError> {
        let (log, found) = (self.log, record.seal().seq);
        if record.seal().log != log {
            return Err(ChainError::OtherLog {
                expected: log,
                found: record.seal().log,
            });
        }
        if found != seq {
            return Err(ChainError::Seq {
                log,
                expected: seq,
                found,
            });
        }
        self.check_unlinked(record)?;
        self.extend_prepared(record, leaf);
        Ok(())
    }

    fn check_unlinked(&self, record: &Record) -> Result<(), ChainError> {
        let (seal, statement) = (record.seal(), record.statement());
        let (log, seq) = (self.log, seal.seq);
        if seq > SEQ_MAX {
            return Err(ChainError::Seq {
                log,
                expected: SEQ_MAX,
                found: seq,
            });
        }
        if statement.fleet != self.fleet {
            return Err(ChainError::OtherFleet { log, seq });
        }
        if seal.time <= self.last_time {
            return Err(ChainError::Time { log, seq });
        }
        self.check_presence(record)
    }

    // The author signature is absent if and only if the author is the log's machine.
    fn check_presence(&self, record: &Record) -> Result<(), ChainError> {
        let (log, seq) = (self.log, record.seal().seq);
        match (
            record.statement().author == self.machine_key(),
            record.author_signature().is_some(),
        ) {
            (true, true) => Err(ChainError::AuthorSignatureSuperfluous { log, seq }),
            (false, false) => Err(ChainError::AuthorSignatureMissing { log, seq }),
            _ => Ok(()),
        }
    }

    /// Checks a record of this log by itself, wherever it stands: its fleet, the presence rule of the author signature, and
    /// both signatures, strictly. That it has its place in the log is proven otherwise.
    ///
    /// # Errors
    /// [`ChainError`].
    pub fn check_signed(&self, record: &Record) -> Result<(), ChainError> {
        if record.statement().fleet != self.fleet {
            let (log, seq) = (self.log, record.seal().seq);
            return Err(ChainError::OtherFleet { log, seq });
        }
        self.check_presence(record)?;
        verify_signatures(record, &self.machine)
    }

    /// Takes in a record that this process itself just sealed after [`Chain::next_place`].
    pub fn extend(&mut self, record: &Record) {
        self.extend_prepared(record, tree::leaf_hash(record.bytes()));
    }

    /// Takes in a record that this process itself just sealed, with its leaf hash computed elsewhere.
    pub fn extend_prepared(&mut self, record: &Record, leaf: tree::Hash) {
        self.last_seq = record.seal().seq;
        self.last_seal = record.seal_digest();
        self.last_time = record.seal().time;
        self.tree.push(leaf);
    }

    /// Whether [`Chain::follow`] would take every record of a run, one after another.
    pub fn is_followed_by(&self, run: &Run) -> bool {
        let machine = self.machine_key();
        run.log == self.log
            && Some(run.first_seq) == self.last_seq.checked_add(1)
            && run.last_seq() <= SEQ_MAX
            && run.prev == self.last_seal
            && run.fleet == self.fleet
            && run.first_time > self.last_time
            && run
                .authors
                .iter()
                .all(|(author, signed)| (*author != machine) == *signed)
    }

    /// Takes in a run for which [`Chain::is_followed_by`] is true.
    pub fn extend_run(&mut self, run: &Run) {
        let Some((_, last_seal)) = run.records.last() else {
            return;
        };
        self.last_seq = run.last_seq();
        self.last_seal = *last_seal;
        self.last_time = run.last_time;
        run.records.iter().for_each(|(leaf, _)| self.tree.push(*leaf));
    }

    /// What must be kept to go on later with [`Chain::restore`].
    pub fn snapshot(&self) -> ChainSnapshot {
        ChainSnapshot {
            seq: self.last_seq,
            seal: self.last_seal,
            time: self.last_time,
            peaks: self.tree.peaks().iter().map(|hash| TreeRoot(*hash)).collect(),
        }
    }

    /// Goes on where a snapshot was taken.
    ///
    /// # Errors
    /// [`ChainError::Genesis`] when the genesis is not one, or the snapshot does not fit a tree of its size.
    pub fn restore(genesis: &Record, snapshot: &ChainSnapshot) -> Result<Self, ChainError> {
        let start = Self::start(genesis)?;
        let tree = snapshot.tree(start.log)?;
        Ok(Self {
            last_seq: snapshot.seq,
            last_seal: snapshot.seal,
            last_time: snapshot.time,
            tree,
            ..start
        })
    }

    /// What the next record's seal must name: seq, previous seal, and a time after this one.
    pub fn next_place(&self) -> (u64, SealDigest, Hlc) {
        (self.last_seq + 1, self.last_seal, self.last_time)
    }

    /// Goes on where a snapshot of this very log was taken, without the records up to there.
    ///
    /// # Errors
    /// [`ChainError::Genesis`] when the snapshot does not fit a tree of its size; [`ChainError::Seq`] when it lies behind; the
    /// state is then as before.
    pub fn advance_to(&mut self, snapshot: &ChainSnapshot) -> Result<(), ChainError> {
        let log = self.log;
        let tree = snapshot.tree(log)?;
        if snapshot.seq < self.last_seq {
            return Err(ChainError::Seq {
                log,
                expected: self.last_seq,
                found: snapshot.seq,
            });
        }
        self.last_seq = snapshot.seq;
        self.last_seal = snapshot.seal;
        self.last_time = snapshot.time;
        self.tree = tree;
        Ok(())
    }

    /// The log.
    pub fn log(&self) -> LogId {
        self.log
    }

    /// The fleet.
    pub fn fleet(&self) -> FleetId {
        self.fleet
    }

    /// What its genesis says.
    pub fn genesis(&self) -> &LogGenesis {
        &self.genesis
    }

    /// The key of the machine that writes it.
    pub fn machine_key(&self) -> PublicKey {
        self.machine.public()
    }

    /// That key, ready for verification.
    pub fn machine_verifier(&self) -> &VerifyKey {
        &self.machine
    }

    /// The newest record's time.
    pub fn time(&self) -> Hlc {
        self.last_time
    }

    /// The newest record. Costs one hash for each set bit of the size.
    pub fn head(&self) -> Head {
        Head {
            seq: self.last_seq,
            seal: self.last_seal,
            root: self.tree.root(),
        }
    }

    /// Seq and seal digest of the newest record, without the root.
    pub fn tip(&self) -> (u64, SealDigest) {
        (self.last_seq, self.last_seal)
    }

    /// The tree over all records so far.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }
}

/// Strictly verifies the log signature and, when there is one, the author signature.
///
/// # Errors
/// [`ChainError::LogSignature`] or [`ChainError::AuthorSignature`].
pub fn verify_signatures(record: &Record, machine: &VerifyKey) -> Result<(), ChainError> {
    let (log, seq) = (record.seal().log, record.seal().seq);
    if !signature::verify_seal(machine, &record.seal_digest(), record.log_signature()) {
        return Err(ChainError::LogSignature { log, seq });
    }
    verify_author(record)
}

/// Strictly verifies the author signature when there is one; a record whose author was proven is not proven again.
///
/// # Errors
/// [`ChainError::AuthorSignature`].
pub fn verify_author(record: &Record) -> Result<(), ChainError> {
    let (log, seq) = (record.seal().log, record.seal().seq);
    let Some(author_signature) = record.author_signature().filter(|_| !record.author_is_proven()) else {
        return Ok(());
    };
    let valid = record
        .statement()
        .author
        .verifier()
        .is_ok_and(|key| signature::verify_statement(&key, &record.seal().statement, author_signature));
    if valid {
        record.note_author_proven();
        Ok(())
    } else {
        Err(ChainError::AuthorSignature { log, seq })
    }
}
