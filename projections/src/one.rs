//! A table of one row, without a tree around it: what every event of the order looks at.
//!
//! Notes changes as [`Table`](crate::table::Table) of `()` does: the same number, key and bytes.

use ledger::{Change, Changes, Row};
use ledger_core::canonical;
use serde::{Serialize, de::DeserializeOwned};
use std::sync::Arc;

/// See the module.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct One<V> {
    number: u16,
    row: Option<Arc<V>>,
}

impl<V: Clone + PartialEq + Serialize + DeserializeOwned> One<V> {
    /// Without its row.
    pub(crate) fn new(number: u16) -> Self {
        Self { number, row: None }
    }

    /// The row.
    pub(crate) fn get(&self) -> Option<&V> {
        self.row.as_deref()
    }

    /// Sets the row and notes the change, if it is one.
    pub(crate) fn set(&mut self, value: V, changes: &mut Changes) {
        if self.get() == Some(&value) {
            return;
        }
        if changes.collects() {
            let old = self.get().map(canonical::encode);
            self.note(old, canonical::encode(&value), changes);
        }
        self.row = Some(Arc::new(value));
    }

    /// Changes the row where it is and notes that, if it is a change; `false` when there is none.
    pub(crate) fn change(&mut self, changes: &mut Changes, change: impl FnOnce(&mut V)) -> bool {
        let Some(row) = &mut self.row else {
            return false;
        };
        let old = changes.collects().then(|| canonical::encode(row.as_ref()));
        change(Arc::make_mut(row));
        if let Some(old) = old {
            let new = canonical::encode(row.as_ref());
            if new != old {
                self.note(Some(old), new, changes);
            }
        }
        true
    }

    fn note(&self, old: Option<Vec<u8>>, new: Vec<u8>, changes: &mut Changes) {
        let table = self.number;
        changes.note(|| Change {
            table,
            key: canonical::encode(&()),
            old,
            new: Some(new),
        });
    }

    /// Takes back the row as it was kept.
    ///
    /// # Errors
    /// A sentence when the bytes do not decode.
    pub(crate) fn load(&mut self, row: &Row) -> Result<(), String> {
        let ((), value) = crate::table::decoded(row)?;
        self.row = Some(Arc::new(value));
        Ok(())
    }
}
