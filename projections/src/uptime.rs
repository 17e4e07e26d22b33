//! How long machines were heard, and when and why they were not.
//!
//! Folds what the order says of machines: `node.lost` (from the last time it was heard), `node.back` (to the first), the sleep
//! that a machine announces, its starts, and the spans in which Central itself was down, when nobody's silence was heard.
//! Contract: no clock; whoever asks names the window, its end, and how far the order is known. Resolution is the silence
//! after which a machine counts as lost (a minute by default): shorter silences are no outages. It decides nothing and keeps
//! no pulse.

use crate::members::Members;
use crate::table::Table;
use ledger::{Changes, Row};
use ledger_core::MachineId;
use ledger_core::kinds::{AnyDetail, Boot, KeyJoined, NodeAwake, RestReason};
use ledger_core::limits::DRIFT_MS_MAX;
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
    absences: Table<i64, Absence>,
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
                self.change(&d.machine, members, changes, |it, row| {
                    it.open(row, &d.machine, SpanKind::Outage, d.last_heard, Cause::Unknown)
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
                it.open(row, &d.machine, SpanKind::Asleep, d.since.min(at), cause)
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

    fn spans_of<'a>(&'a self, machine: &MachineId) -> impl Iterator<Item = &'a Span> {
        self.spans
            .range((machine.clone(), 0)..=(machine.clone(), u64::MAX))
            .map(|(_, span)| span)
    }
}

fn held(since: i64, reason: &str) -> Held {
    let reason = reason.to_owned();
    Held { since, reason }
}

/// What is asked. All times are microseconds since 1970.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Window {
    /// From here on, included.
    pub from: i64,
    /// Up to here, excluded.
    pub until: i64,
    /// How far the order is known to tell everything: now at Central, the last exchange with it elsewhere. What lies behind is
    /// unknown.
    pub known_until: i64,
}

/// A time in which a machine was not there, as it counts in a window.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Away {
    /// Outage or announced sleep.
    pub kind: SpanKind,
    /// Its begin, microseconds since 1970; may lie before the window.
    pub from: i64,
    /// Its end; absent while it goes on; may lie behind the window.
    pub until: Option<i64>,
    /// Its whole length so far, in microseconds.
    pub length_us: i64,
    /// How much of it counts in the window, in microseconds: without what nobody watched, and for an outage without sleep.
    pub counted_us: i64,
    /// Why, where it is known.
    pub cause: Cause,
}

/// How much of a window a machine was there.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Uptime {
    /// The machine.
    pub machine: MachineId,
    /// Begin of what is told: the window's, or when the machine came in; microseconds since 1970.
    pub from: i64,
    /// End of the window.
    pub until: i64,
    /// How long it was there, in microseconds.
    pub up_us: i64,
    /// How long it was not and should have been.
    pub outage_us: i64,
    /// How long it was away by its own word.
    pub asleep_us: i64,
    /// How long nobody watched.
    pub unknown_us: i64,
    /// How long it was retired.
    pub retired_us: i64,
    /// Each outage and announced sleep that touches the window, oldest first.
    pub away: Vec<Away>,
    /// When nobody watched, within the window: begin and end.
    pub unknown: Vec<(i64, i64)>,
}

impl Uptime {
    /// Hundredths of a per cent of the time in which it should have been there and somebody watched; `None` when there is no
    /// such time. Rounded to the nearest, but never to 100 % when there was an outage.
    pub fn per_cent_hundredths(&self) -> Option<u32> {
        let (up, all) = (
            i128::from(self.up_us),
            i128::from(self.up_us) + i128::from(self.outage_us),
        );
        if all <= 0 {
            return None;
        }
        let rounded = (up * 10_000 * 2 + all) / (all * 2);
        let most = if self.outage_us > 0 { 9_999 } else { 10_000 };
        u32::try_from(rounded.min(most)).ok()
    }

    /// The same as people read it: `99.79 %`, or `unknown`.
    pub fn per_cent(&self) -> String {
        self.per_cent_hundredths()
            .map_or("unknown".to_owned(), |h| format!("{}.{:02} %", h / 100, h % 100))
    }
}

// What an instant is when several things are said of it: the greatest wins.
const OUTAGE: usize = 0;
const ASLEEP: usize = 1;
const UNKNOWN: usize = 2;
const RETIRED: usize = 3;

/// The uptime of a machine of the fleet; `None` when the order knows no such machine.
pub fn uptime(state: &crate::FleetState, machine: &MachineId, window: Window) -> Option<Uptime> {
    let presence = state.presence();
    let joined_at = state.machine(machine)?.joined_at;
    let since = presence.of(machine).map_or(joined_at, |row| row.since);
    let (from, until) = (window.from.max(since), window.until);
    let told_boot = presence.of(machine).is_some_and(|row| row.boot.is_some());
    let mut away: Vec<Away> = Vec::new();
    let mut edges: Vec<(i64, usize, i32)> = Vec::new();
    let mut cover = |class: usize, begin: i64, end: i64| {
        let (begin, end) = (
            begin.clamp(from, until.max(from)),
            end.clamp(from, until.max(from)),
        );
        if begin < end {
            edges.extend([(begin, class, 1), (end, class, -1)]);
        }
        begin < end
    };
    for span in presence.spans_of(machine) {
        let end = span.until.unwrap_or(i64::MAX);
        let class = match span.kind {
            SpanKind::Outage => OUTAGE,
            SpanKind::Asleep => ASLEEP,
            SpanKind::Retired => RETIRED,
        };
        if cover(class, span.from, end) && span.kind != SpanKind::Retired {
            // Whoever tells its starts and told none of this outage ran on through it.
            let ran_on = told_boot && span.until.is_some() && span.cause == Cause::Unknown;
            away.push(Away {
                kind: span.kind,
                from: span.from,
                until: span.until,
                length_us: span.until.unwrap_or(until).max(span.from) - span.from,
                counted_us: 0,
                cause: if ran_on { Cause::Unreachable } else { span.cause },
            });
        }
    }
    for (begin, absence) in presence.absences.range(..until) {
        let own = absence.central == *machine;
        if cover(if own { OUTAGE } else { UNKNOWN }, *begin, absence.until) && own {
            away.push(Away {
                kind: SpanKind::Outage,
                from: *begin,
                until: Some(absence.until),
                length_us: absence.until.saturating_sub(*begin),
                counted_us: 0,
                cause: Cause::CentralDown,
            });
        }
    }
    cover(UNKNOWN, window.known_until.max(from), until);
    away.sort_by_key(|span| span.from);
    let mut sums = [0i64; 5];
    let mut unknown: Vec<(i64, i64)> = Vec::new();
    for (begin, end, class) in segments(edges, from, until) {
        sums[class.unwrap_or(4)] += end - begin;
        let kind = match class {
            Some(OUTAGE) => SpanKind::Outage,
            Some(ASLEEP) => SpanKind::Asleep,
            Some(UNKNOWN) => {
                match unknown.last_mut() {
                    Some(last) if last.1 == begin => last.1 = end,
                    _ => unknown.push((begin, end)),
                }
                continue;
            }
            _ => continue,
        };
        let holder = away
            .iter_mut()
            .rfind(|span| span.kind == kind && span.from <= begin && span.until.is_none_or(|u| u > begin));
        if let Some(holder) = holder {
            holder.counted_us += end - begin;
        }
    }
    Some(Uptime {
        machine: machine.clone(),
        from,
        until,
        up_us: sums[4],
        outage_us: sums[OUTAGE],
        asleep_us: sums[ASLEEP],
        unknown_us: sums[UNKNOWN],
        retired_us: sums[RETIRED],
        away,
        unknown,
    })
}

// Cuts a window at the edges; each piece with the greatest class that covers it.
fn segments(mut edges: Vec<(i64, usize, i32)>, from: i64, until: i64) -> Vec<(i64, i64, Option<usize>)> {
    edges.sort_unstable();
    let mut depth = [0i32; 4];
    let (mut at, mut pieces) = (from, Vec::new());
    let class_of = |depth: &[i32; 4]| depth.iter().rposition(|d| *d > 0);
    for (time, class, step) in edges {
        if time > at {
            pieces.push((at, time, class_of(&depth)));
            at = time;
        }
        depth[class] += step;
    }
    if at < until {
        pieces.push((at, until, class_of(&depth)));
    }
    pieces
}
