//! Who came and went, and when: the fold behind uptime and health.
//!
//! Folds what the order says of machines: `node.lost` (from the last time it was heard), `node.back` (to the first), the sleep
//! that a machine announces, its starts, the operator's wishes, and the spans in which Central itself was down. Contract: no
//! clock; one row a receipt of the order at most, so the tables are bounded by it. Decides nothing but how a machine's own word
//! becomes Central's.

use crate::fleet::micros_of;
use crate::members::Members;
use crate::table::Table;
use ledger::{Changes, Receipt, Row};
use ledger_core::kinds::{
    AnyDetail, Boot, CentralAbsent, Detail, KeyJoined, NodeAsleep, NodeAwake, NodeBooted, NodeSleeping,
    NodeWaking, RestReason,
};
use ledger_core::limits::DRIFT_MS_MAX;
use ledger_core::{Draft, MachineId, Subject};
use serde::{Deserialize, Serialize};

/// How far a machine's clock may be off when its start is looked for in one of its outages, microseconds.
const SLACK_US: i64 = 60_000_000;
const _: () = assert!(SLACK_US.unsigned_abs() == DRIFT_MS_MAX * 1000);

/// Why a machine was not heard.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// Nothing tells.
    Unknown,
    /// Its operating system started anew.
    Reboot,
    /// Its daemon started anew, the system went on.
    Restart,
    /// It slept without saying so before.
    Slept,
    /// It said that it goes to sleep.
    SleepAnnounced,
    /// Its daemon said that it stops.
    StopAnnounced,
    /// Its daemon ran on and did not reach Central.
    Unreachable,
    /// It is Central, and did not run.
    CentralDown,
}

impl Cause {
    /// Its stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Reboot => "reboot",
            Self::Restart => "restart",
            Self::Slept => "slept",
            Self::SleepAnnounced => "sleep-announced",
            Self::StopAnnounced => "stop-announced",
            Self::Unreachable => "unreachable",
            Self::CentralDown => "central-down",
        }
    }
}

/// What a span is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SpanKind {
    /// It was not heard, and had not said why.
    Outage,
    /// It had said that it goes away.
    Asleep,
    /// It was retired: nobody waited for it.
    Retired,
}

impl SpanKind {
    /// Its stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Outage => "outage",
            Self::Asleep => "asleep",
            Self::Retired => "retired",
        }
    }
}

/// A span of a machine's life in which it was not there.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Span {
    /// What it is.
    pub kind: SpanKind,
    /// Its begin, microseconds since 1970.
    pub from: i64,
    /// Its end; absent while it goes on.
    pub until: Option<i64>,
    /// Why, where it is known.
    pub cause: Cause,
}

impl Span {
    // Whether a machine's own time lies in it, as far as clocks agree.
    fn holds(&self, at: i64) -> bool {
        at >= self.from.saturating_sub(SLACK_US)
            && self
                .until
                .is_none_or(|until| at <= until.saturating_add(SLACK_US))
    }
}

/// A wish of the operator about a machine, in force.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Held {
    /// Since when, microseconds since 1970.
    pub since: i64,
    /// Why.
    pub reason: String,
}

/// What the order told of a machine's coming and going.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Watched {
    /// When it first came in, microseconds since 1970.
    pub since: i64,
    /// Gets no further work.
    pub draining: Option<Held>,
    /// Not trusted with work.
    pub quarantined: Option<Held>,
    /// The boot of its operating system, as last told.
    pub boot: Option<Boot>,
    // How many spans it has, and which of them go on.
    spans: u64,
    outage: Option<u64>,
    asleep: Option<u64>,
    retired: Option<u64>,
    // Its newest outage, going on or not.
    newest: Option<u64>,
}

/// A span in which Central was down.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Absence {
    /// Its end, microseconds since 1970.
    pub until: i64,
    /// The machine that was Central.
    pub central: MachineId,
}

/// Numbers of the tables; fixed for the life of the fold's version.
const WATCHED: u16 = 40;
const SPANS: u16 = 41;
const ABSENCES: u16 = 42;

/// The tables of coming and going. One row a receipt of the order at most, so they are bounded by it.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Presence {
    watched: Table<MachineId, Watched>,
    spans: Table<(MachineId, u64), Span>,
    pub(crate) absences: Table<i64, Absence>,
}

impl Presence {
    pub(crate) fn new() -> Self {
        Self {
            watched: Table::new(WATCHED),
            spans: Table::new(SPANS),
            absences: Table::new(ABSENCES),
        }
    }

    /// Takes back a row that was kept; `None` when it is of none of these tables.
    pub(crate) fn load(&mut self, row: &Row) -> Option<Result<(), String>> {
        Some(match row.table {
            WATCHED => self.watched.load(row).map(drop),
            SPANS => self.spans.load(row).map(drop),
            ABSENCES => self.absences.load(row).map(drop),
            _ => return None,
        })
    }

    /// The machine's row, when anything was told of it beside its joining.
    pub(crate) fn of(&self, machine: &MachineId) -> Option<&Watched> {
        self.watched.get(machine)
    }

    /// The span of an announced sleep that goes on.
    pub(crate) fn asleep(&self, machine: &MachineId) -> Option<&Span> {
        let number = self.watched.get(machine)?.asleep?;
        self.spans.get(&(machine.clone(), number))
    }

    /// When it was retired, while it is.
    pub(crate) fn retired(&self, machine: &MachineId) -> Option<&Span> {
        let number = self.watched.get(machine)?.retired?;
        self.spans.get(&(machine.clone(), number))
    }

    /// Folds one permitted decision. `Some(effect)` for the kinds that nobody else folds, `None` for all others.
    pub(crate) fn fold(
        &mut self,
        detail: &AnyDetail,
        at: i64,
        central: Option<&MachineId>,
        members: &Members,
        changes: &mut Changes,
    ) -> Option<bool> {
        match detail {
            AnyDetail::NodeLost(d) => {
                self.change(&d.machine, members, changes, |it, row| match row.asleep {
                    // It had said so.
                    Some(_) => Vec::new(),
                    None => it.open(row, &d.machine, SpanKind::Outage, d.last_heard, Cause::Unknown),
                });
                None
            }
            AnyDetail::NodeBack(d) => {
                self.change(&d.machine, members, changes, |it, row| {
                    [row.outage.take(), row.asleep.take()]
                        .into_iter()
                        .filter_map(|open| it.close(&d.machine, open, d.first_heard))
                        .collect()
                });
                None
            }
            AnyDetail::NodeRetired(d) => {
                self.change(&d.machine, members, changes, |it, row| {
                    let ended = [row.outage.take(), row.asleep.take()]
                        .into_iter()
                        .filter_map(|open| it.close(&d.machine, open, at));
                    let ended: Vec<_> = ended.collect();
                    let begun = it.open(row, &d.machine, SpanKind::Retired, at, Cause::Unknown);
                    [ended, begun].concat()
                });
                None
            }
            AnyDetail::KeyJoined(d) => {
                self.joined(d, at, members, changes);
                None
            }
            AnyDetail::CentralAbsent(d) => Some(central.is_some_and(|central| {
                let absence = Absence {
                    until: d.until,
                    central: central.clone(),
                };
                let forward = d.from < d.until;
                if forward {
                    self.absences.set(d.from, absence, changes);
                }
                forward
            })),
            AnyDetail::NodeDraining(d) => Some(self.hold(&d.machine, members, changes, |row| {
                row.draining = Some(held(at, &d.reason));
            })),
            AnyDetail::NodeQuarantined(d) => Some(self.hold(&d.machine, members, changes, |row| {
                row.quarantined = Some(held(at, &d.reason));
            })),
            AnyDetail::NodeResumed(d) => Some(self.hold(&d.machine, members, changes, |row| {
                (row.draining, row.quarantined) = (None, None);
            })),
            AnyDetail::NodeAsleep(d) => Some(self.change(&d.machine, members, changes, |it, row| {
                let cause = match d.reason {
                    RestReason::Sleep => Cause::SleepAnnounced,
                    RestReason::Stop => Cause::StopAnnounced,
                };
                it.rest(row, &d.machine, d.since.min(at), cause)
            })),
            AnyDetail::NodeAwake(d) => {
                Some(self.change(&d.machine, members, changes, |it, row| it.awake(row, d)))
            }
            _ => None,
        }
    }

    // The row of a machine that is in the fleet, and the spans that change with it.
    fn change(
        &mut self,
        machine: &MachineId,
        members: &Members,
        changes: &mut Changes,
        change: impl FnOnce(&Self, &mut Watched) -> Vec<(u64, Span)>,
    ) -> bool {
        let joined_at = members.machines.get(machine).map(|row| row.joined_at);
        let row = self.watched.get(machine).cloned();
        let Some(mut row) = row.or_else(|| {
            joined_at.map(|since| Watched {
                since,
                ..Watched::default()
            })
        }) else {
            return false;
        };
        for (number, span) in change(self, &mut row) {
            self.spans.set((machine.clone(), number), span, changes);
        }
        self.watched.set(machine.clone(), row, changes);
        true
    }

    fn hold(
        &mut self,
        machine: &MachineId,
        members: &Members,
        changes: &mut Changes,
        hold: impl FnOnce(&mut Watched),
    ) -> bool {
        let waited_for = members.machines.get(machine).is_some_and(|row| !row.retired);
        waited_for
            && self.change(machine, members, changes, |_, row| {
                hold(row);
                Vec::new()
            })
    }

    fn open(
        &self,
        row: &mut Watched,
        machine: &MachineId,
        kind: SpanKind,
        from: i64,
        cause: Cause,
    ) -> Vec<(u64, Span)> {
        let slot = match kind {
            SpanKind::Outage => &mut row.outage,
            SpanKind::Asleep => &mut row.asleep,
            SpanKind::Retired => &mut row.retired,
        };
        if slot.is_some() {
            return Vec::new();
        }
        let number = row.spans;
        *slot = Some(number);
        let mut from = from.max(row.since);
        if kind == SpanKind::Outage {
            // Two outages of one machine never overlap, whatever clocks say.
            let before = row.newest.and_then(|n| self.spans.get(&(machine.clone(), n)));
            from = from.max(before.and_then(|span| span.until).unwrap_or(from));
            row.newest = Some(number);
        }
        row.spans = row.spans.saturating_add(1);
        let span = Span {
            kind,
            from,
            until: None,
            cause,
        };
        vec![(number, span)]
    }

    fn close(&self, machine: &MachineId, open: Option<u64>, until: i64) -> Option<(u64, Span)> {
        let number = open?;
        let span = self.spans.get(&(machine.clone(), number))?.clone();
        let until = Some(until.max(span.from));
        Some((number, Span { until, ..span }))
    }

    // A machine comes in anew under its name: whatever was said about the one before is over.
    fn joined(&mut self, d: &KeyJoined, at: i64, members: &Members, changes: &mut Changes) {
        let admitted = members.admits(d, at.saturating_sub(SLACK_US)).is_ok();
        if !admitted || members.machines.get(&d.machine).is_none() {
            return;
        }
        self.change(&d.machine, members, changes, |it, row| {
            (row.draining, row.quarantined, row.boot) = (None, None, None);
            [row.outage.take(), row.asleep.take(), row.retired.take()]
                .into_iter()
                .filter_map(|open| it.close(&d.machine, open, at))
                .collect()
        });
    }

    // It said that it goes away. When the word came late, the silence that it explains is there already, and is no outage.
    fn rest(&self, row: &mut Watched, machine: &MachineId, since: i64, cause: Cause) -> Vec<(u64, Span)> {
        let newest = row
            .newest
            .and_then(|number| Some((number, self.spans.get(&(machine.clone(), number))?)));
        if let Some((number, silence)) = newest
            && row.asleep.is_none()
            && silence.kind == SpanKind::Outage
            && silence.holds(since)
            // A word after its return is about the next one.
            && silence.until.is_none_or(|until| since < until)
        {
            if row.outage == Some(number) {
                (row.outage, row.asleep) = (None, Some(number));
            }
            let kind = SpanKind::Asleep;
            let rest = Span {
                kind,
                cause,
                ..silence.clone()
            };
            return vec![(number, rest)];
        }
        self.open(row, machine, SpanKind::Asleep, since, cause)
    }

    fn awake(&self, row: &mut Watched, d: &NodeAwake) -> Vec<(u64, Span)> {
        let ended = self.close(&d.machine, row.asleep.take(), d.at);
        let mut changed: Vec<(u64, Span)> = ended.into_iter().collect();
        let cause = match (d.boot, row.boot) {
            (Some(boot), Some(before)) if boot == before => Cause::Restart,
            (Some(_), Some(_)) => Cause::Reboot,
            (Some(_), None) => Cause::Unknown,
            (None, _) => Cause::Slept,
        };
        row.boot = d.boot.or(row.boot);
        let newest = row.newest.and_then(|number| {
            let span = self.spans.get(&(d.machine.clone(), number))?;
            Some((number, span.clone()))
        });
        if let Some((number, span)) = newest {
            let within = d.at >= span.from.saturating_sub(SLACK_US)
                && span
                    .until
                    .is_none_or(|until| d.at <= until.saturating_add(SLACK_US));
            if within && span.cause == Cause::Unknown {
                changed.push((number, Span { cause, ..span }));
            }
        }
        changed
    }

    /// All spans of a machine, in the order in which they began.
    pub(crate) fn spans_of<'a>(&'a self, machine: &MachineId) -> impl DoubleEndedIterator<Item = &'a Span> {
        self.spans
            .range((machine.clone(), 0)..=(machine.clone(), u64::MAX))
            .map(|(_, span)| span)
    }
}

fn held(since: i64, reason: &str) -> Held {
    let reason = reason.to_owned();
    Held { since, reason }
}

/// Whether a receipt of a machine's facts tells of its coming or going.
pub fn tells(receipt: &Receipt) -> bool {
    [NodeBooted::KIND, NodeSleeping::KIND, NodeWaking::KIND].contains(&receipt.kind())
}

/// What Central writes when a machine's facts tell of its coming or going; nothing for any other receipt, and for a machine that
/// is not in the fleet.
pub fn told(state: &crate::FleetState, receipt: &Receipt, machine: &MachineId) -> Vec<Draft> {
    if state.machine(machine).is_none_or(|row| row.retired) {
        return Vec::new();
    }
    let (evidence, at) = (receipt.evidence(), micros_of(receipt));
    let awake = |boot, slept_ms| NodeAwake {
        machine: machine.clone(),
        at,
        boot,
        slept_ms,
        evidence,
    };
    let subject = Subject::new(&format!("node/{machine}")).expect("short and printable");
    let draft = match receipt.statement().any_detail() {
        Ok(AnyDetail::NodeBooted(d)) => Draft::of(&awake(Some(Boot::of(&d.os_boot_id)), 0), subject),
        Ok(AnyDetail::NodeWaking(d)) => Draft::of(&awake(None, d.slept_ms), subject),
        Ok(AnyDetail::NodeSleeping(d)) => Draft::of(
            &NodeAsleep {
                machine: machine.clone(),
                since: at,
                reason: d.reason,
                evidence,
            },
            subject,
        ),
        _ => return Vec::new(),
    };
    vec![draft.cause(receipt.id())]
}

/// That nobody watched between two times, microseconds since 1970.
pub fn absent(from: i64, until: i64) -> Draft {
    let subject = Subject::new("central").expect("short and printable");
    Draft::of(&CentralAbsent { from, until }, subject)
}
