//! The one state that the committer folds: the order, the members, the queue, the notices, and this store's own runs.
//!
//! Everything but `logs` and `runs` is a fold of the order alone, so that every store that has the order has the same.
//! A receipt without authority, or one that is not possible in the state that it meets, is counted and changes nothing.

use crate::costs::{Charge, CostTables};
use crate::members::{MachineStatus, Members};
use crate::notices::Notices;
use crate::one::One;
use crate::order::{LogRow, OrderTables, Place};
use crate::queue::Queue;
use crate::retention::Retention;
use crate::runs::Runs;
use crate::schedules::Schedules;
use crate::table::Table;
use crate::uptime::Presence;
use ledger::{Changes, Erasing, Receipt, Row, State, StateContext};
use ledger_core::kinds::{AnyDetail, Author, Detail, LogGenesis, info};
use ledger_core::{PublicKey, ReceiptId, Stream, chain};
use std::collections::BTreeMap;

mod tables {
    pub(super) const ORDER: u16 = 1;
    pub(super) const EPOCHS: u16 = 2;
    pub(super) const DESIGNATIONS: u16 = 3;
    pub(super) const PINS: u16 = 4;
    pub(super) const LOGS: u16 = 5;
    pub(super) const STREAMS: u16 = 6;
    pub(super) const EFFECTIVE: u16 = 7;
    pub(super) const CREDENTIALS: u16 = 8;
    pub(super) const MACHINES: u16 = 9;
    pub(super) const BY_KEY: u16 = 10;
    pub(super) const INVITATIONS: u16 = 11;
    pub(super) const JOBS: u16 = 12;
    pub(super) const CLAIMS: u16 = 13;
    pub(super) const CLAIM_IDS: u16 = 14;
    pub(super) const HANDLERS: u16 = 15;
    pub(super) const RUNS: u16 = 16;
    pub(super) const STAGED: u16 = 17;
    pub(super) const PAUSES: u16 = 30;
    pub(super) const LIMITS: u16 = 31;
    pub(super) const RETENTION: u16 = 45;
    pub(super) const SCHEDULES: u16 = 50;
    pub(super) const COSTS: u16 = 51;
    pub(super) const PROJECTS: u16 = 52;
}

/// The fleet as this store knows it.
#[derive(Clone, PartialEq, Debug)]
pub struct FleetState {
    pub(crate) context: StateContext,
    pub(crate) order: OrderTables,
    /// Statements of others than Central that took effect in the order: the first sealing counts, later ones are inert.
    effective: Table<(PublicKey, ReceiptId), Place>,
    pub(crate) members: Members,
    pub(crate) queue: Queue,
    pub(crate) runs: Runs,
    pub(crate) notices: Notices,
    pub(crate) presence: Presence,
    retention: One<Retention>,
    pub(crate) schedules: Schedules,
    pub(crate) costs: CostTables,
}

impl State for FleetState {
    const NAME: &'static str = "fleet";
    const VERSION: u32 = 10;

    fn empty(context: &StateContext) -> Self {
        Self {
            context: context.clone(),
            order: OrderTables {
                order: One::new(tables::ORDER),
                epochs: Table::new(tables::EPOCHS),
                designations: Table::new(tables::DESIGNATIONS),
                pins: Table::new(tables::PINS),
                logs: Table::new(tables::LOGS),
                streams: Table::new(tables::STREAMS),
                ends: BTreeMap::new(),
            },
            effective: Table::new(tables::EFFECTIVE),
            members: Members {
                credentials: Table::new(tables::CREDENTIALS),
                machines: Table::new(tables::MACHINES),
                by_key: Table::new(tables::BY_KEY),
                invitations: Table::new(tables::INVITATIONS),
            },
            queue: Queue::new(
                tables::JOBS,
                tables::CLAIMS,
                tables::CLAIM_IDS,
                tables::HANDLERS,
                [tables::PAUSES, tables::LIMITS],
            ),
            runs: Runs {
                runs: Table::new(tables::RUNS),
                staged: Table::new(tables::STAGED),
            },
            notices: Notices::new(),
            presence: Presence::new(),
            retention: One::new(tables::RETENTION),
            schedules: Schedules {
                rows: Table::new(tables::SCHEDULES),
            },
            costs: CostTables::new(tables::COSTS, tables::PROJECTS),
        }
    }

    fn fold(&mut self, receipt: &Receipt, changes: &mut Changes) {
        if receipt.statement().fleet != self.context.fleet {
            return;
        }
        if receipt.seq() == 0 {
            if let Some(genesis) = detail_of::<LogGenesis>(receipt) {
                self.order.note_genesis(receipt, genesis, changes);
            }
            return;
        }
        if let Some(next) = self.order.advance(receipt, changes) {
            if let Some((writes, place)) = next
                && !self.decide_fold(receipt, &writes, place, changes)
            {
                self.order.count_inert(changes);
            }
            return;
        }
        let Some(log) = self.order.logs.shared(&receipt.log()) else {
            return;
        };
        match log.stream {
            Stream::Order => self.begin_order(receipt, &log, changes),
            Stream::Work if log.machine_key == self.context.machine_key => {
                self.runs.fold(receipt, &self.queue, changes);
            }
            _ => {}
        }
    }

    fn erases(&self, erasing: &Erasing<'_>) -> bool {
        self.heeds(erasing)
    }

    fn begin_again(&self) -> Option<Self> {
        let ends = self.order.ends_to_begin_with()?;
        let mut again = Self::empty(&self.context);
        again.order.ends = ends;
        Some(again)
    }

    fn load(&mut self, row: &Row) -> Result<(), String> {
        match row.table {
            tables::ORDER => self.order.order.load(row),
            tables::EPOCHS => self.order.epochs.load(row).map(drop),
            tables::DESIGNATIONS => self.order.designations.load(row).map(drop),
            tables::PINS => self.order.pins.load(row).map(drop),
            tables::LOGS => self.order.logs.load(row).map(drop),
            tables::STREAMS => self.order.streams.load(row).map(drop),
            tables::EFFECTIVE => self.effective.load(row).map(drop),
            tables::CREDENTIALS => self.members.credentials.load(row).map(drop),
            tables::MACHINES => self.members.machines.load(row).map(drop),
            tables::BY_KEY => self.members.by_key.load(row).map(drop),
            tables::INVITATIONS => self.members.invitations.load(row).map(drop),
            tables::JOBS => self.queue.load_job(row),
            tables::CLAIMS => self.queue.claims.load(row).map(drop),
            tables::CLAIM_IDS => self.queue.claim_ids.load(row),
            tables::HANDLERS => self.queue.load_handler(row),
            tables::PAUSES => self.queue.pauses.load(row).map(drop),
            tables::LIMITS => self.queue.limits.load(row).map(drop),
            tables::RUNS => self.runs.runs.load(row).map(drop),
            tables::STAGED => self.runs.staged.load(row).map(drop),
            tables::RETENTION => self.retention.load(row),
            tables::SCHEDULES => self.schedules.rows.load(row).map(drop),
            tables::COSTS => self.costs.sums.load(row).map(drop),
            tables::PROJECTS => self.costs.projects.load(row).map(drop),
            other => (self.presence.load(row))
                .or_else(|| self.notices.load(row))
                .unwrap_or_else(|| Err(format!("table {other} is not one of this state's"))),
        }
    }
}

impl FleetState {
    /// For how long the fleet keeps its pulses; `None` as long as nobody said anything, which is for ever.
    pub fn retention(&self) -> Option<&Retention> {
        self.retention.get()
    }

    fn begin_order(&mut self, receipt: &Receipt, log: &LogRow, changes: &mut Changes) {
        let author = receipt.statement().author;
        if self.order.begin(receipt, log, changes) && author != log.machine_key {
            let place = Place {
                epoch: self.order.order.get().map_or(0, |order| order.epoch),
                seq: receipt.seq(),
            };
            self.effective.set((author, receipt.id()), place, changes);
        }
    }

    /// Folds one decision of the order, which the key `writes` writes; `false` when it took no effect though its kind is one that
    /// this fold reads.
    fn decide_fold(
        &mut self,
        receipt: &Receipt,
        writes: &PublicKey,
        place: Place,
        changes: &mut Changes,
    ) -> bool {
        let statement = receipt.statement();
        let Some(kind) = info(statement.kind.as_str()) else {
            // Custom kinds are nobody's business here; an unknown one of the order's families is.
            return statement.kind.is_custom();
        };
        let own = statement.author == *writes;
        let at = micros_of(receipt);
        if matches!(kind.author, Author::Root | Author::Operator | Author::Actor) {
            let key = (statement.author, receipt.id());
            if self.effective.get(&key).is_some() {
                return false;
            }
            let permitted = self.authorise(statement, Stream::Order, own, at).is_ok();
            if !permitted || !(own || author_is_proven(receipt)) {
                return false;
            }
            if !own {
                self.effective.set(key, place, changes);
            }
        } else if !own {
            return false;
        }
        match statement.any_detail() {
            Ok(detail) => {
                let told = (self.presence).fold(&detail, at, self.order.central(), &self.members, changes);
                told.unwrap_or_else(|| self.take_in(receipt, detail, place, changes))
            }
            Err(_) => false,
        }
    }

    fn take_in(&mut self, receipt: &Receipt, detail: AnyDetail, place: Place, changes: &mut Changes) -> bool {
        let at = micros_of(receipt);
        match detail {
            AnyDetail::CentralDesignated(d) => self.order.designate(receipt.id(), d, changes),
            AnyDetail::LogPinned(d) => {
                self.notices.pinned(&d.ranges, &self.members, changes);
                self.order.pin(&d, place, changes);
            }
            AnyDetail::KeyInvited(d) => self.members.invited(receipt.id(), d, changes),
            AnyDetail::KeyGranted(d) => self.members.granted(d, at, changes),
            AnyDetail::KeyJoined(d) => return self.members.joined(d, at, place, changes),
            AnyDetail::KeyRevoked(d) => self.members.revoked(&d, place, changes),
            AnyDetail::NodeLost(d) => {
                let status = MachineStatus::Lost {
                    last_heard: d.last_heard,
                };
                return self
                    .members
                    .change(&d.machine, changes, |machine| machine.status = status);
            }
            AnyDetail::NodeBack(d) => {
                let status = MachineStatus::Online { since: d.first_heard };
                return self
                    .members
                    .change(&d.machine, changes, |machine| machine.status = status);
            }
            AnyDetail::NodeRetired(d) => {
                return self
                    .members
                    .change(&d.machine, changes, |machine| machine.retired = true);
            }
            AnyDetail::NoticeRaised(d) => return self.notices.raised(receipt.id(), d, at, changes),
            AnyDetail::NoticeDelivered(d) => return self.notices.delivered(d, changes),
            AnyDetail::NoticeUndelivered(d) => return self.notices.undelivered(d, changes),
            AnyDetail::NoticeAcknowledged(d) => return self.notices.acknowledged(&d.notice, at, changes),
            AnyDetail::KeyAnnounced(d) => return self.members.announced(&d, changes),
            AnyDetail::RetentionSet(d) => {
                let retention = Retention {
                    pulse_days: d.pulse_days,
                    reason: d.reason,
                    said: receipt.id(),
                    author: receipt.statement().author,
                    at,
                };
                self.retention.set(retention, changes);
            }
            // A request alone changes nothing: `job.accepted` does. A verdict on a record is there to be read.
            AnyDetail::RequestReceived(_)
            | AnyDetail::ReceiptInadmissible(_)
            | AnyDetail::LogClosed(_)
            // No fold builds upon a pulse, so that pruning them changes nothing.
            | AnyDetail::LogPruned(_)
            | AnyDetail::LogCited(_)
            // No fold reads a payload, so that destroying one changes nothing.
            | AnyDetail::Erased(_) => {}
            AnyDetail::JobCharged(d) => return self.costs.charged(d, &self.queue, at, changes),
            AnyDetail::JobAssigned(d) => return self.costs.assigned(d.job, d.project, &self.queue, changes),
            detail => {
                use crate::queue::{At, Folded};
                if let Some(told) = (self.schedules).fold(receipt, &detail, at, &self.queue, changes) {
                    return told;
                }
                let cause = receipt.statement().cause;
                let charge = Charge::of(&detail, &self.queue);
                let folded = self.queue.fold(
                    receipt,
                    detail,
                    At {
                        place,
                        time: at,
                        cause,
                    },
                    changes,
                );
                if let Some(charge) = charge.filter(|_| folded != Folded::Inert) {
                    self.costs.add(charge, &self.queue, at, changes);
                }
                match folded {
                    Folded::Done => {}
                    Folded::Judged(fence, report) => {
                        if let Some(claim) = self.queue.claims.get(&fence) {
                            self.notices.judged(&claim.machine, changes);
                        }
                        self.runs.judged(&fence, &report, changes);
                    }
                    Folded::Inert => return false,
                }
            }
        }
        true
    }
}

/// The detail of a receipt when it is of this kind and readable.
pub(crate) fn detail_of<D: Detail>(receipt: &Receipt) -> Option<D> {
    let statement = receipt.statement();
    let right = statement.kind.as_str() == D::KIND && statement.schema == D::SCHEMA;
    right.then(|| D::decode(&statement.detail).ok()).flatten()
}

/// Whether the author's own signature stands and verifies; what a machine says in its own log carries none.
pub(crate) fn author_is_proven(receipt: &Receipt) -> bool {
    receipt.record.author_signature().is_some() && chain::verify_author(&receipt.record).is_ok()
}

/// The time of a receipt's seal in microseconds since 1970.
pub fn micros_of(receipt: &Receipt) -> i64 {
    i64::try_from(receipt.time().unix_ms().saturating_mul(1000)).unwrap_or(i64::MAX)
}
