//! One log during a verification: its chain, its tree, and how it goes on after records that could not be read.
//!
//! Holds no records. Of the newest records of a log that may be pinned or cited it keeps leaf hash and seal digest, since a pin
//! comes a little later than what it pins.

use super::report::{Aspect, LogReport};
use super::window::{WINDOW_PULSES, WINDOW_RECORDS, Window};
use crate::prune::book::{Floor, Place};
use ledger_core::chain::Run;
use ledger_core::error::ChainError;
use ledger_core::tree::{Hash, Tree};
use ledger_core::{Chain, Hlc, LogId, PublicKey, Record, SealDigest, Stream, TreeRoot, VerifyKey};
use std::sync::Arc;

/// How far a record's seq may lie past the expected one to be taken for the log's continuation after a gap.
const GAP_MAX: u64 = 1 << 32;

/// What is wrong with a record's place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Fault {
    pub(super) code: &'static str,
    pub(super) aspect: Aspect,
    pub(super) seq: u64,
    pub(super) text: String,
}

impl Fault {
    fn of(error: &ChainError, seq: u64) -> Self {
        let aspect = if error.is_signature() {
            Aspect::Signatures
        } else {
            Aspect::Integrity
        };
        Self {
            code: error.code(),
            aspect,
            seq,
            text: error.to_string(),
        }
    }
}

/// What a comparison with a head that somebody else has seen came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Compared {
    Same,
    OtherSeal,
    OtherRoot,
    /// It lies too far back, or records before it could not be read: only a second reading can tell.
    NotNow,
}

/// One log, as far as it was read.
#[derive(Debug)]
pub(super) struct LogState {
    log: LogId,
    // Absent when the genesis could not be read.
    chain: Option<Chain>,
    next: u64,
    last_seal: SealDigest,
    last_time: Hlc,
    receipts: u64,
    // Whether every record from 0 on was read, so that the tree is the log's.
    whole: bool,
    // Damaged records behind the newest good one that were named already.
    named: u64,
    window: Option<Window>,
    // Below what it is pruned.
    floor: Option<Arc<Floor>>,
}

impl LogState {
    /// Begins with the first record of a log that was met.
    pub(super) fn begin(record: &Record, leaf: Hash) -> (Self, Option<Fault>) {
        let seal = record.seal();
        let mut state = Self {
            log: seal.log,
            chain: None,
            next: seal.seq.saturating_add(1),
            last_seal: record.seal_digest(),
            last_time: seal.time,
            receipts: 1,
            whole: false,
            named: 0,
            window: None,
            floor: None,
        };
        if seal.seq != 0 {
            let fault = Fault {
                code: "chain.genesis",
                aspect: Aspect::Completeness,
                seq: 0,
                text: format!(
                    "records 0 to {} of this log are missing or damaged; without its genesis no signature can be checked",
                    seal.seq - 1
                ),
            };
            return (state, Some(fault));
        }
        match Chain::start(record) {
            Ok(chain) => {
                state.whole = true;
                let keeps = match chain.genesis().stream {
                    Stream::Work | Stream::Facts => Some(WINDOW_RECORDS),
                    Stream::Pulse => Some(WINDOW_PULSES),
                    // Nobody pins an order, and only an orphan branch of one is cited: that is read a second time.
                    Stream::Order => None,
                };
                state.window = keeps.map(|keeps| Window::behind(Tree::new(), keeps));
                if let Some(window) = &mut state.window {
                    window.push(leaf, record.seal_digest());
                }
                state.chain = Some(chain);
                (state, None)
            }
            Err(error) => (state, Some(Fault::of(&error, 0))),
        }
    }

    /// Says below what the log is pruned.
    pub(super) fn set_floor(&mut self, floor: Option<Arc<Floor>>) {
        self.floor = floor;
    }

    // Whether a record is one that is to go, behind one that went; goes on behind them all at the first that stays.
    fn is_left(&mut self, seq: u64) -> bool {
        let Some(floor) = &self.floor else {
            return false;
        };
        match floor.place(self.next, seq) {
            Place::Left => return true,
            Place::Follows => return false,
            Place::First => {}
        }
        if let Some(chain) = &mut self.chain
            && chain.advance_to(&floor.snapshot()).is_ok()
        {
            (self.next, self.named) = (floor.first_kept(), 0);
            (self.last_seal, self.last_time) = (floor.said.seal, floor.said.time);
            if let Some(window) = &mut self.window {
                window.jump(floor.tree());
            }
        }
        false
    }

    // What the receipt about what was pruned says of the newest record, when it says something else.
    fn differs(&self) -> Option<Fault> {
        let (floor, chain) = (self.floor.as_ref()?, self.chain.as_ref()?);
        let (seq, seal) = chain.tip();
        let same = if seq == floor.said.last {
            seal == floor.said.seal && *chain.tree() == floor.tree()
        } else if seq == floor.said.head.seq {
            seal == floor.said.head.seal && chain.tree().root() == floor.said.head.root
        } else {
            true
        };
        (self.whole && !same).then(|| Fault {
            code: "prune.differs",
            aspect: Aspect::Integrity,
            seq,
            text: "the receipt about what was pruned says another seal or root here".to_owned(),
        })
    }

    // Whether the receipt about what was pruned says something of a record in a run.
    fn is_watched(&self, run: &Run) -> bool {
        let within = |seq| (run.first_seq()..=run.last_seq()).contains(&seq);
        let floor = self.floor.as_ref();
        floor.is_some_and(|floor| within(floor.said.last) || within(floor.said.head.seq))
    }

    /// Takes in the next record of the log, whatever is wrong with its place.
    pub(super) fn take(&mut self, record: &Record, leaf: Hash) -> Vec<Fault> {
        let seq = record.seal().seq;
        if self.is_left(seq) {
            return Vec::new();
        }
        if seq < self.next || seq - self.next > GAP_MAX {
            // A repeated or far record takes no place of its own.
            let error = ChainError::Seq {
                log: self.log,
                expected: self.next,
                found: seq,
            };
            return vec![Fault::of(&error, seq)];
        }
        let mut faults = Vec::new();
        let gap = seq - self.next;
        if gap > self.named {
            let first = self.expects();
            let text = if first + 1 == seq {
                format!("record {first} of this log is missing or damaged")
            } else {
                format!(
                    "records {first} to {} of this log are missing or damaged",
                    seq - 1
                )
            };
            faults.push(Fault {
                code: "chain.gap",
                aspect: Aspect::Completeness,
                seq: first,
                text,
            });
        }
        if gap > 0 {
            self.whole = false;
            self.window = None;
        }
        let placed = match &mut self.chain {
            Some(chain) if gap == 0 => chain.follow_prepared(record, leaf),
            Some(chain) => chain.resume(record, seq),
            None => self.follow_loosely(record, gap == 0),
        };
        if let Err(error) = placed {
            faults.push(Fault::of(&error, seq));
            if let Some(chain) = &mut self.chain {
                chain.extend_prepared(record, leaf);
            }
        }
        self.named = 0;
        self.next = seq.saturating_add(1);
        self.last_seal = record.seal_digest();
        self.last_time = record.seal().time;
        self.receipts += 1;
        if let Some(window) = &mut self.window {
            window.push(leaf, self.last_seal);
        }
        faults.extend(self.differs());
        faults
    }

    /// Whether [`LogState::take`] would find nothing about any record of a run.
    pub(super) fn fits(&self, run: &Run) -> bool {
        let follows =
            |chain: &Chain| chain.tip() == (self.next - 1, self.last_seal) && chain.is_followed_by(run);
        self.named == 0 && self.next > 0 && !self.is_watched(run) && self.chain.as_ref().is_some_and(follows)
    }

    /// Takes in a run that fits.
    pub(super) fn take_run(&mut self, run: Run) {
        let Some(chain) = &mut self.chain else {
            return;
        };
        let before = self.window.as_ref().map(|_| chain.tree().clone());
        chain.extend_run(&run);
        (_, self.last_seal) = chain.tip();
        self.next = run.last_seq().saturating_add(1);
        self.last_time = chain.time();
        self.receipts += u64::try_from(run.records().len()).unwrap_or(u64::MAX);
        if let (Some(window), Some(before)) = (&mut self.window, before) {
            window.push_run(before, run.into_records());
        }
    }

    // Without the genesis only links and times can be checked.
    fn follow_loosely(&self, record: &Record, linked: bool) -> Result<(), ChainError> {
        let (log, seal) = (self.log, record.seal());
        if linked && seal.prev != self.last_seal {
            return Err(ChainError::Prev {
                log,
                seq: seal.seq,
                expected: self.last_seal,
                found: seal.prev,
            });
        }
        if seal.time <= self.last_time {
            return Err(ChainError::Time { log, seq: seal.seq });
        }
        Ok(())
    }

    /// The seq of the next record, damaged ones counted that were named.
    pub(super) fn expects(&self) -> u64 {
        self.next.saturating_add(self.named)
    }

    /// The seal digest that the next record names as the one before; unknown behind a damaged record.
    pub(super) fn link(&self) -> Option<&SealDigest> {
        (self.named == 0).then_some(&self.last_seal)
    }

    /// The next record of this log is damaged, and was named.
    pub(super) fn name_damaged(&mut self) {
        self.named += 1;
    }

    /// Whether it has a record at a seq.
    pub(super) fn reaches(&self, seq: u64) -> bool {
        seq < self.next
    }

    /// Compares the newest record with a head.
    pub(super) fn compare_newest(&self, seal: Option<&SealDigest>, root: Option<&TreeRoot>) -> Compared {
        if seal.is_some_and(|seal| self.last_seal != *seal) {
            return Compared::OtherSeal;
        }
        match (root, self.root()) {
            (Some(wanted), Some(found)) if *wanted != found => Compared::OtherRoot,
            (Some(_), None) => Compared::NotNow,
            _ => Compared::Same,
        }
    }

    /// Compares a record before the newest with a head.
    pub(super) fn compare(
        &mut self,
        seq: u64,
        seal: Option<&SealDigest>,
        root: Option<&TreeRoot>,
    ) -> Compared {
        self.window
            .as_mut()
            .map_or(Compared::NotNow, |window| window.compare(seq, seal, root))
    }

    /// The machine's key, for its log signatures.
    pub(super) fn key(&self) -> Option<&VerifyKey> {
        self.chain.as_ref().map(Chain::machine_verifier)
    }

    /// The machine's public key.
    pub(super) fn machine_key(&self) -> Option<PublicKey> {
        self.chain.as_ref().map(Chain::machine_key)
    }

    /// The chain, unless the genesis could not be read.
    pub(super) fn chain(&self) -> Option<&Chain> {
        self.chain.as_ref()
    }

    /// When the newest record was sealed.
    pub(super) fn time(&self) -> Hlc {
        self.last_time
    }

    fn root(&self) -> Option<TreeRoot> {
        self.chain
            .as_ref()
            .filter(|_| self.whole)
            .map(|chain| chain.tree().root())
    }

    /// What the report says of it.
    pub(super) fn report(&self, home: Option<PublicKey>) -> LogReport {
        let genesis = self.chain.as_ref().map(Chain::genesis);
        LogReport {
            log: self.log,
            machine: genesis.map(|genesis| genesis.machine.to_string()),
            stream: genesis.map(|genesis| genesis.stream),
            incarnation: genesis.map(|genesis| genesis.incarnation),
            own: home.is_some() && self.machine_key() == home,
            receipts: self.receipts,
            seq: self.next - 1,
            seal: Some(self.last_seal),
            root: self.root(),
            time: Some(self.last_time),
        }
    }
}
