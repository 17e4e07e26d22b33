//! How long machines were there, and when and why they were not: questions about a window, answered from the fold.
//!
//! Contract: no clock; whoever asks names the window, its end, and how far the order is known. Resolution is the silence after
//! which a machine counts as lost (a minute by default): shorter silences are no outages. No pulse takes part in it.

pub(crate) use crate::presence::Presence;
pub use crate::presence::{Absence, Cause, Held, Span, SpanKind, Watched, absent, tells, told};
use ledger_core::MachineId;
use serde::Serialize;

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
