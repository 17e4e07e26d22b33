//! Notices: what a person should know, raised once, and who has been told; and the machines' silence that leads to them.
//!
//! A notice's id derives from its cause, so that raising it twice is raising it once. Delivery is at least once: the
//! server tells a sink and writes `notice.delivered` or `notice.undelivered`. A notice is open until the log has it and every
//! sink that was tried took it, or until somebody acknowledges it. What is due when is decided in `due`.

mod due;

pub use due::{Condition, Standing, Watch, conditions_due, notices_due, queued_for, told_by};

use crate::FleetState;
use crate::members::{MachineStatus, Members};
use crate::table::Table;
use ledger::{Changes, Row};
use ledger_core::digest::derived_id;
use ledger_core::kinds::{
    NodeBack, NodeLost, NoticeDelivered, NoticeRaised, NoticeTopic, NoticeUndelivered, PinnedRange,
};
use ledger_core::limits::NOTE_BYTES_MAX;
use ledger_core::{Draft, MachineId, ReceiptId, Subject};
use serde::{Deserialize, Serialize};

/// A sink and what came of telling it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Delivery {
    /// The sink.
    pub destination: String,
    /// How often it was tried.
    pub attempts: u16,
    /// Whether it took it.
    pub delivered: bool,
    /// What the last try that failed met.
    pub error: Option<String>,
}

/// A notice that was raised.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Notice {
    /// About what.
    pub topic: NoticeTopic,
    /// The machine, when it is about one.
    pub machine: Option<MachineId>,
    /// The sentence.
    pub text: String,
    /// When, microseconds since 1970.
    pub raised_at: i64,
    /// Who was told.
    pub deliveries: Vec<Delivery>,
    /// When somebody had seen it, microseconds since 1970.
    pub acknowledged_at: Option<i64>,
}

impl Notice {
    /// What came of telling one sink.
    pub fn delivery(&self, destination: &str) -> Option<&Delivery> {
        self.deliveries
            .iter()
            .find(|delivery| delivery.destination == destination)
    }

    /// Whether a sink was tried and did not take it, and nobody has seen it since.
    pub fn is_undelivered(&self) -> bool {
        self.acknowledged_at.is_none() && self.deliveries.iter().any(|delivery| !delivery.delivered)
    }

    // Whether nobody is to be told any more.
    fn is_settled(&self) -> bool {
        let told = self.delivery(LOG).is_some_and(|log| log.delivered);
        self.acknowledged_at.is_some() || told && self.deliveries.iter().all(|delivery| delivery.delivered)
    }
}

/// Sinks that one notice keeps track of; more are a fault of the configuration.
pub const DELIVERIES_MAX: usize = 16;

/// What the receipts call the log, the sink that is always there.
pub const LOG: &str = "log";

/// What a machine that was told to be offline has brought in since.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Brought {
    /// Receipts of its own logs.
    pub receipts: u64,
    /// Ends of runs that were judged.
    pub results: u64,
}

/// Numbers of the tables; fixed for the life of the fold's version.
const NOTICES: u16 = 18;
const OPEN: u16 = 60;
const LATEST: u16 = 61;
const OFFLINE: u16 = 62;

/// The tables of notices.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Notices {
    pub(crate) notices: Table<ReceiptId, Notice>,
    // Those that somebody is still to be told of, or was not told of and has not seen.
    open: Table<ReceiptId, ()>,
    // When a machine was last told of under a topic, for those that are told once in a while.
    latest: Table<(MachineId, String), i64>,
    // The machines that were told to be offline, and what they have brought in since.
    offline: Table<MachineId, Brought>,
}

impl Notices {
    pub(crate) fn new() -> Self {
        Self {
            notices: Table::new(NOTICES),
            open: Table::new(OPEN),
            latest: Table::new(LATEST),
            offline: Table::new(OFFLINE),
        }
    }

    /// Takes back a row that was kept; `None` when it is of none of these tables.
    pub(crate) fn load(&mut self, row: &Row) -> Option<Result<(), String>> {
        Some(match row.table {
            NOTICES => self.notices.load(row).map(drop),
            OPEN => self.open.load(row).map(drop),
            LATEST => self.latest.load(row).map(drop),
            OFFLINE => self.offline.load(row).map(drop),
            _ => return None,
        })
    }

    /// Takes a notice in; `false` when its id stands already.
    pub(crate) fn raised(&mut self, id: ReceiptId, d: NoticeRaised, at: i64, changes: &mut Changes) -> bool {
        if self.notices.get(&id).is_some() {
            return false;
        }
        let NoticeRaised { topic, machine, text } = d;
        if let Some(machine) = &machine {
            match topic {
                NoticeTopic::NodeOffline => self.offline.set(machine.clone(), Brought::default(), changes),
                NoticeTopic::NodeOnline => self.offline.remove(machine, changes),
                _ => {}
            }
            self.latest.set((machine.clone(), word(topic)), at, changes);
        }
        let notice = Notice {
            topic,
            machine,
            text,
            raised_at: at,
            deliveries: Vec::new(),
            acknowledged_at: None,
        };
        self.notices.set(id, notice, changes);
        self.open.set(id, (), changes);
        true
    }

    pub(crate) fn delivered(&mut self, d: NoticeDelivered, changes: &mut Changes) -> bool {
        self.told(&d.notice, &d.destination, d.attempt, None, changes)
    }

    pub(crate) fn undelivered(&mut self, d: NoticeUndelivered, changes: &mut Changes) -> bool {
        self.told(&d.notice, &d.destination, d.attempt, Some(d.error), changes)
    }

    fn told(
        &mut self,
        notice: &ReceiptId,
        destination: &str,
        attempt: u16,
        error: Option<String>,
        changes: &mut Changes,
    ) -> bool {
        let Some(mut row) = self.notices.get(notice).cloned() else {
            return false;
        };
        let full = row.deliveries.len() >= DELIVERIES_MAX;
        match row
            .deliveries
            .iter_mut()
            .find(|delivery| delivery.destination == destination)
        {
            Some(delivery) => {
                delivery.attempts = delivery.attempts.max(attempt);
                delivery.delivered |= error.is_none();
                delivery.error = error.filter(|_| !delivery.delivered);
            }
            None if !full => row.deliveries.push(Delivery {
                destination: destination.to_owned(),
                attempts: attempt,
                delivered: error.is_none(),
                error,
            }),
            None => return false,
        }
        self.settle(notice, row, changes);
        true
    }

    /// Somebody has seen it.
    pub(crate) fn acknowledged(&mut self, notice: &ReceiptId, at: i64, changes: &mut Changes) -> bool {
        match self.notices.get(notice).cloned() {
            Some(mut row) if row.acknowledged_at.is_none() => {
                row.acknowledged_at = Some(at);
                self.settle(notice, row, changes);
                true
            }
            _ => false,
        }
    }

    fn settle(&mut self, notice: &ReceiptId, row: Notice, changes: &mut Changes) {
        if row.is_settled() {
            self.open.remove(notice, changes);
        }
        self.notices.set(*notice, row, changes);
    }

    /// Records of machines that were told to be offline were taken in.
    pub(crate) fn pinned(&mut self, ranges: &[PinnedRange], members: &Members, changes: &mut Changes) {
        if self.offline.is_empty() {
            return;
        }
        for range in ranges {
            let of = |machine: &&MachineId| {
                let logs = members.machines.get(*machine).and_then(|row| row.logs);
                logs.is_some_and(|logs| logs.contains(&range.log))
            };
            let found = self.offline.iter().map(|(machine, _)| machine).find(of).cloned();
            if let Some(machine) = found {
                let count = range.last.saturating_sub(range.first).saturating_add(1);
                self.offline.change(&machine, changes, |brought| {
                    brought.receipts = brought.receipts.saturating_add(count);
                });
            }
        }
    }

    /// The end of a run on a machine was judged.
    pub(crate) fn judged(&mut self, machine: &MachineId, changes: &mut Changes) {
        self.offline.change(machine, changes, |brought| {
            brought.results = brought.results.saturating_add(1);
        });
    }

    /// The notices that are open, in no order of time.
    pub(crate) fn open(&self) -> impl Iterator<Item = (&ReceiptId, &Notice)> {
        let row = |(id, ()): (&ReceiptId, &())| self.notices.get_key_value(id);
        self.open.iter().filter_map(row)
    }

    /// Whether a notice is one of these.
    pub(crate) fn is_open(&self, notice: &ReceiptId) -> bool {
        self.open.get(notice).is_some()
    }

    /// What a machine that was told to be offline, and not back yet, has brought in since.
    pub(crate) fn offline(&self, machine: &MachineId) -> Option<&Brought> {
        self.offline.get(machine)
    }

    /// When a machine was last told of under a topic, microseconds since 1970.
    pub(crate) fn latest(&self, machine: &MachineId, topic: NoticeTopic) -> Option<i64> {
        self.latest.get(&(machine.clone(), word(topic))).copied()
    }
}

// The stable word of a topic, by which its ids and rows are made.
fn word(topic: NoticeTopic) -> String {
    format!("{topic:?}")
}

/// Raises a notice whose id derives from `key`; nothing when it was raised before. Longer texts are cut to 200 bytes.
pub fn raise(
    state: &FleetState,
    topic: NoticeTopic,
    machine: Option<&MachineId>,
    text: &str,
    key: &[&[u8]],
) -> Vec<Draft> {
    let name = word(topic);
    let mut parts: Vec<&[u8]> = vec![b"notice", name.as_bytes()];
    parts.extend_from_slice(key);
    let id = derived_id(&parts);
    if state.notices.notices.get(&id).is_some() {
        return Vec::new();
    }
    let end = (0..=NOTE_BYTES_MAX.min(text.len()))
        .rev()
        .find(|end| text.is_char_boundary(*end))
        .unwrap_or(0);
    let raised = NoticeRaised {
        topic,
        machine: machine.cloned(),
        text: text[..end].to_owned(),
    };
    let subject = machine.map_or_else(|| "notice".to_owned(), |machine| format!("node/{machine}"));
    vec![Draft::of(&raised, Subject::new(&subject).expect("short and printable")).id(id)]
}

/// A machine is silent for too long: `node.lost`, unless it is lost, retired or unknown already. `last_heard` is in
/// microseconds since 1970.
pub fn node_lost(state: &FleetState, machine: &MachineId, last_heard: i64) -> Vec<Draft> {
    match state.machine(machine) {
        Some(row) if row.is_online() => {
            let lost = NodeLost {
                machine: machine.clone(),
                last_heard,
            };
            vec![Draft::of(&lost, node_subject(machine))]
        }
        _ => Vec::new(),
    }
}

/// A machine is heard again: `node.back`, if it was lost. `first_heard` is in microseconds since 1970.
pub fn node_back(state: &FleetState, machine: &MachineId, first_heard: i64) -> Vec<Draft> {
    match state.machine(machine) {
        Some(row) if !row.retired && matches!(row.status, MachineStatus::Lost { .. }) => {
            let back = NodeBack {
                machine: machine.clone(),
                first_heard,
            };
            vec![Draft::of(&back, node_subject(machine))]
        }
        _ => Vec::new(),
    }
}

fn node_subject(machine: &MachineId) -> Subject {
    Subject::new(&format!("node/{machine}")).expect("short and printable")
}

/// Hours and minutes of a time in microseconds since 1970, in UTC.
pub(crate) fn clock_text(micros: i64) -> String {
    let minutes = micros.div_euclid(60_000_000).rem_euclid(24 * 60);
    format!("{:02}:{:02} UTC", minutes / 60, minutes % 60)
}
