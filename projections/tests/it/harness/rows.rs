//! Stores of rows: the fleet's state from its changes, and rows of projections in memory.

use super::World;
use ledger::{Change, Receipt, Row, State, StateContext};
use ledger_core::LogId;
use ledger_projections::FleetState;
use ledger_projections::projection::{Kept, ReceiptSource, RowStore, SourceError};
use std::collections::BTreeMap;
use std::sync::Mutex;

pub(crate) fn apply(rows: &mut BTreeMap<(u16, Vec<u8>), Vec<u8>>, changes: &[Change]) {
    for change in changes {
        let key = (change.table, change.key.clone());
        let before = match &change.new {
            Some(new) => rows.insert(key, new.clone()),
            None => rows.remove(&key),
        };
        assert_eq!(before, change.old, "a change tells what was there before");
    }
}

pub(crate) fn load(context: &StateContext, rows: &BTreeMap<(u16, Vec<u8>), Vec<u8>>) -> FleetState {
    let mut state = FleetState::empty(context);
    for ((table, key), value) in rows {
        state
            .load(&Row {
                table: *table,
                key: key.clone(),
                value: value.clone(),
            })
            .unwrap();
    }
    state
}

impl ReceiptSource for World {
    fn range(&self, log: &LogId, first: u64, last: u64) -> Result<Vec<Receipt>, SourceError> {
        let mut found: Vec<Receipt> = self
            .journal
            .iter()
            .filter(|r| r.log() == *log && (first..=last).contains(&r.seq()))
            .cloned()
            .collect();
        found.sort_by_key(Receipt::seq);
        Ok(found)
    }
}

/// Rows of projections in memory; can be told to fail.
#[derive(Default)]
pub(crate) struct MemoryRows {
    kept: Mutex<BTreeMap<String, (u32, Kept)>>,
    pub(crate) fails: Mutex<bool>,
}

impl RowStore for MemoryRows {
    fn load(&self, name: &str, version: u32) -> Result<Option<Kept>, SourceError> {
        let kept = self.kept.lock().unwrap();
        Ok(kept
            .get(name)
            .filter(|(of, _)| *of == version)
            .map(|(_, kept)| kept.clone()))
    }

    fn commit(
        &self,
        name: &str,
        version: u32,
        changes: &[Change],
        cursor: &[u8],
        digest: &[u8; 32],
    ) -> Result<(), SourceError> {
        if *self.fails.lock().unwrap() {
            return Err(SourceError("the disk says no".into()));
        }
        let mut all = self.kept.lock().unwrap();
        let (_, kept) = all
            .entry(name.to_owned())
            .or_insert_with(|| (version, Kept::default()));
        for change in changes {
            kept.rows
                .retain(|row| (row.table, &row.key) != (change.table, &change.key));
            if let Some(new) = &change.new {
                kept.rows.push(Row {
                    table: change.table,
                    key: change.key.clone(),
                    value: new.clone(),
                });
            }
        }
        kept.cursor = cursor.to_vec();
        kept.digest = *digest;
        Ok(())
    }

    fn clear(&self, name: &str) -> Result<(), SourceError> {
        self.kept.lock().unwrap().remove(name);
        Ok(())
    }
}
