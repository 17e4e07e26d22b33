//! The fleet's order over epochs: which log decides, how far it is folded, what it has taken in.
//!
//! An order log counts only when a root-signed designation in force names its machine key: the first by its own seq 1,
//! a later one by `epoch.started` at its seq 1. When a higher epoch has begun, the log before decides nothing any more.
//! Records of a new epoch are to be taken in after the log before is here up to the cut; an `epoch.started` whose cut is
//! not reached, or contradicts what was folded, is inert and counted. A store that has folded more of the log before than the
//! cut leaves (an orphan branch) goes on in the new epoch and says that it is to be folded again, cuts known.

use crate::one::One;
use crate::table::Table;
use ledger::{Changes, Receipt};
use ledger_core::kinds::{CentralDesignated, EpochStarted, Founding, LogGenesis, LogPinned, PinnedRange};
use ledger_core::limits::PINNED_RANGES_MAX;
use ledger_core::{Draft, LogId, MachineId, PublicKey, ReceiptId, SealDigest, Stream, Subject, TreeRoot};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A place in the fleet's order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Place {
    /// The epoch.
    pub epoch: u64,
    /// The seq in that epoch's order log.
    pub seq: u64,
}

impl Place {
    /// Before every place.
    pub const MIN: Place = Place { epoch: 0, seq: 0 };
    /// After every place.
    pub const MAX: Place = Place {
        epoch: u64::MAX,
        seq: u64::MAX,
    };
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}", self.epoch, self.seq)
    }
}

/// The order as folded so far.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Order {
    /// The current epoch.
    pub epoch: u64,
    /// Its order log.
    pub log: LogId,
    /// The newest folded seq of it.
    pub head_seq: u64,
    /// The seal digest there.
    pub head_seal: SealDigest,
    /// The machine that writes it.
    pub central: MachineId,
    /// That machine's key.
    pub central_key: PublicKey,
    /// What the fleet was founded with.
    pub founding: Founding,
    /// Receipts of the order that changed nothing though they should have: without authority, unreadable, or not
    /// possible in the state that they met.
    pub inert: u64,
}

impl Order {
    /// The place of the newest folded receipt.
    pub fn head(&self) -> Place {
        Place {
            epoch: self.epoch,
            seq: self.head_seq,
        }
    }
}

/// One epoch: its order log, and where that ends.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct EpochRow {
    /// The order log.
    pub log: LogId,
    /// The machine that writes it.
    pub central: MachineId,
    /// Its last seq and the seal digest there, once a later epoch began.
    pub cut: Option<(u64, SealDigest)>,
    /// How far its log was folded past the cut before the cut was known: what came of that is to be undone, by folding everything
    /// again.
    pub undone: Option<u64>,
}

/// A root-signed permission to write the order.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Designation {
    /// The machine.
    pub machine: MachineId,
    /// Its key.
    pub machine_key: PublicKey,
    /// The first epoch.
    pub epoch_first: u64,
    /// The last epoch.
    pub epoch_last: u64,
}

/// How far the order has taken in a log.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Pin {
    /// The last pinned seq.
    pub seq: u64,
    /// The seal digest there.
    pub seal: SealDigest,
    /// The tree root there, where it is told.
    pub root: Option<TreeRoot>,
    /// Where the order says so.
    pub at: Place,
}

/// What a log's genesis says, for every log of this store.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LogRow {
    /// The machine that it claims to be of.
    pub machine: MachineId,
    /// The key that signs it.
    pub machine_key: PublicKey,
    /// Which log of the machine.
    pub stream: Stream,
    /// Which set of logs.
    pub incarnation: u32,
    /// The log before it.
    pub predecessor: Option<LogId>,
    /// What the fleet was founded with, where it says so.
    pub founding: Option<Founding>,
}

impl From<LogGenesis> for LogRow {
    fn from(genesis: LogGenesis) -> Self {
        Self {
            machine: genesis.machine,
            machine_key: genesis.machine_key,
            stream: genesis.stream,
            incarnation: genesis.incarnation,
            predecessor: genesis.predecessor.map(|before| before.log),
            founding: genesis.founding,
        }
    }
}

/// The tables of the order itself.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct OrderTables {
    pub(crate) order: One<Order>,
    pub(crate) epochs: Table<u64, EpochRow>,
    pub(crate) designations: Table<ReceiptId, Designation>,
    pub(crate) pins: Table<LogId, Pin>,
    pub(crate) logs: Table<LogId, LogRow>,
    pub(crate) streams: Table<(PublicKey, Stream, u32), LogId>,
    /// Where order logs end whose successor is still to be folded; known only when all is folded again.
    pub(crate) ends: BTreeMap<LogId, u64>,
}

impl OrderTables {
    /// The machine that writes the order now.
    pub(crate) fn central(&self) -> Option<&MachineId> {
        self.order.get().map(|order| &order.central)
    }

    pub(crate) fn note_genesis(&mut self, receipt: &Receipt, genesis: LogGenesis, changes: &mut Changes) {
        let key = (genesis.machine_key, genesis.stream, genesis.incarnation);
        if self.streams.get(&key).is_none() {
            self.streams.set(key, receipt.log(), changes);
        }
        self.logs.set(receipt.log(), genesis.into(), changes);
    }

    /// Takes the next receipt of the current order's log as its head; the key that writes the log, and its place. `None` when it
    /// is not of that log, and an inner `None` when it is not the next one.
    pub(crate) fn advance(
        &mut self,
        receipt: &Receipt,
        changes: &mut Changes,
    ) -> Option<Option<(PublicKey, Place)>> {
        let order = self.order.get().filter(|order| order.log == receipt.log())?;
        let ended = self.ends.get(&order.log).is_some_and(|end| receipt.seq() > *end);
        if receipt.seq() <= order.head_seq || ended {
            return Some(None);
        }
        let (writes, epoch) = (order.central_key, order.epoch);
        // The row is changed where it is when nobody else holds it.
        self.order.change(changes, |order| {
            order.head_seq = receipt.seq();
            order.head_seal = receipt.seal_digest();
        });
        let seq = receipt.seq();
        Some(Some((writes, Place { epoch, seq })))
    }

    /// Founds the order or begins an epoch; `false` for a receipt of an order log that is not the fleet's.
    pub(crate) fn begin(&mut self, receipt: &Receipt, log: &LogRow, changes: &mut Changes) -> bool {
        match self.order.get().cloned() {
            None => self.found(receipt, log, changes),
            Some(order) => self.begin_epoch(receipt, log, order, changes),
        }
    }

    /// Seq 1 of the first order log: the root designates the very key that writes it.
    fn found(&mut self, receipt: &Receipt, log: &LogRow, changes: &mut Changes) -> bool {
        let Some(founding) = log.founding.clone() else {
            return false;
        };
        let Some(designated) = crate::fleet::detail_of::<CentralDesignated>(receipt) else {
            return false;
        };
        let by_root =
            receipt.statement().author == founding.root_key && crate::fleet::author_is_proven(receipt);
        if receipt.seq() != 1 || !by_root || designated.machine_key != log.machine_key {
            return false;
        }
        let epoch = designated.epoch_first;
        let row = EpochRow {
            log: receipt.log(),
            central: designated.machine.clone(),
            cut: None,
            undone: None,
        };
        self.epochs.set(epoch, row, changes);
        let order = Order {
            epoch,
            log: receipt.log(),
            head_seq: receipt.seq(),
            head_seal: receipt.seal_digest(),
            central: designated.machine.clone(),
            central_key: log.machine_key,
            founding,
            inert: 0,
        };
        self.order.set(order, changes);
        self.designate(receipt.id(), designated, changes);
        true
    }

    pub(crate) fn designate(&mut self, id: ReceiptId, designated: CentralDesignated, changes: &mut Changes) {
        let CentralDesignated {
            machine,
            machine_key,
            epoch_first,
            epoch_last,
        } = designated;
        let row = Designation {
            machine,
            machine_key,
            epoch_first,
            epoch_last,
        };
        self.designations.set(id, row, changes);
    }

    fn begin_epoch(&mut self, receipt: &Receipt, log: &LogRow, before: Order, changes: &mut Changes) -> bool {
        let Some(started) = crate::fleet::detail_of::<EpochStarted>(receipt) else {
            return false;
        };
        let designated = self.designations.get(&started.designation).is_some_and(|d| {
            d.machine_key == log.machine_key && (d.epoch_first..=d.epoch_last).contains(&started.epoch)
        });
        let cut = (started.cut.seq, started.cut.seal);
        let reached = before.head_seq > cut.0 || (before.head_seq, before.head_seal) == cut;
        let follows =
            started.log == receipt.log() && started.previous == before.log && started.epoch > before.epoch;
        if receipt.seq() != 1 || receipt.statement().author != log.machine_key || !designated || !follows {
            return false;
        }
        if !reached {
            self.count_inert(changes);
            return false;
        }
        let closed = EpochRow {
            log: before.log,
            central: before.central.clone(),
            cut: Some(cut),
            undone: (before.head_seq > cut.0).then_some(before.head_seq),
        };
        self.epochs.set(before.epoch, closed, changes);
        self.ends.remove(&before.log);
        let row = EpochRow {
            log: started.log,
            central: log.machine.clone(),
            cut: None,
            undone: None,
        };
        self.epochs.set(started.epoch, row, changes);
        let order = Order {
            epoch: started.epoch,
            log: started.log,
            head_seq: receipt.seq(),
            head_seal: receipt.seal_digest(),
            central: log.machine.clone(),
            central_key: log.machine_key,
            ..before
        };
        self.order.set(order, changes);
        true
    }

    /// Where the order logs of all epochs that are over end, when one of them was folded past its end.
    pub(crate) fn ends_to_begin_with(&self) -> Option<BTreeMap<LogId, u64>> {
        let mut rows = self.epochs.iter().map(|(_, row)| row);
        rows.any(|row| row.undone.is_some()).then(|| {
            let over = self.epochs.iter();
            over.filter_map(|(_, row)| Some((row.log, row.cut?.0))).collect()
        })
    }

    pub(crate) fn count_inert(&mut self, changes: &mut Changes) {
        self.order.change(changes, |order| {
            order.inert = order.inert.saturating_add(1);
        });
    }

    pub(crate) fn pin(&mut self, pinned: &LogPinned, at: Place, changes: &mut Changes) {
        for range in &pinned.ranges {
            if self.pins.get(&range.log).is_some_and(|pin| pin.seq >= range.last) {
                continue;
            }
            let pin = Pin {
                seq: range.last,
                seal: range.seal,
                root: range.root,
                at,
            };
            self.pins.set(range.log, pin, changes);
        }
    }
}

/// Drafts that pin these ranges, each of at most [`PINNED_RANGES_MAX`].
pub fn pin(ranges: &[PinnedRange]) -> Vec<Draft> {
    let subject = Subject::new("order").expect("short and printable");
    ranges
        .chunks(PINNED_RANGES_MAX)
        .map(|chunk| {
            Draft::of(
                &LogPinned {
                    ranges: chunk.to_vec(),
                },
                subject.clone(),
            )
        })
        .collect()
}
