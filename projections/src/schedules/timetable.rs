//! Which schedules are due, without reading every expression at every look.
//!
//! A cache of each schedule's next nominal time, by its definition and by how far it is decided. It holds no truth: made anew it
//! says the same.

use crate::FleetState;
use ledger_core::ReceiptId;
use std::collections::BTreeMap;

/// The next nominal times.
#[derive(Clone, Debug, Default)]
pub struct Timetable {
    rows: BTreeMap<String, Row>,
}

#[derive(Clone, Debug)]
struct Row {
    of: (ReceiptId, i64),
    next: Option<i64>,
}

impl Timetable {
    /// Follows the state: what changed is computed anew.
    pub fn follow(&mut self, state: &FleetState) {
        let rows = &mut self.rows;
        rows.retain(|name, _| state.schedule(name).is_some());
        for schedule in state.schedules() {
            let of = (schedule.defined, schedule.decided_until);
            let name = &schedule.definition.schedule;
            if rows.get(name).is_none_or(|row| row.of != of) {
                let next = schedule.next();
                rows.insert(name.clone(), Row { of, next });
            }
        }
    }

    /// The schedules with a nominal time at or before `now`, the longest due first.
    pub fn due(&self, now: i64) -> Vec<String> {
        let due = self.rows.iter().filter_map(|(name, row)| {
            let next = row.next.filter(|next| *next <= now)?;
            Some((next, name.clone()))
        });
        let mut due: Vec<(i64, String)> = due.collect();
        due.sort();
        due.into_iter().map(|(_, name)| name).collect()
    }

    /// The next nominal time of all, microseconds since 1970.
    pub fn next(&self) -> Option<i64> {
        self.rows.values().filter_map(|row| row.next).min()
    }
}
