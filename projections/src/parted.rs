//! A table whose few rows in motion lie apart from the many at rest.
//!
//! Owns where a row lies, and notes changes as [`Table`](crate::table::Table) does: the same rows, keys and bytes. Most events are
//! about the few jobs that are open, so that the steps down a tree of all that ever were are taken when a row comes to rest, and
//! not at each event. Where a row lies says nothing: two tables with the same rows are equal.

use crate::hashed::{Seeded, SeededMap};
use ledger::{Change, Changes, Row};
use ledger_core::canonical;
use serde::{Serialize, de::DeserializeOwned};
use std::hash::Hash;
use std::sync::Arc;

/// See the module.
#[derive(Clone)]
pub(crate) struct Parted<K, V> {
    number: u16,
    moving: SeededMap<K, Arc<V>>,
    resting: SeededMap<K, Arc<V>>,
}

impl<K: Hash + Eq + Clone + std::fmt::Debug, V: std::fmt::Debug> std::fmt::Debug for Parted<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let all = self.moving.iter().chain(self.resting.iter());
        f.debug_map().entries(all).finish()
    }
}

impl<K: Hash + Eq + Clone, V: PartialEq> PartialEq for Parted<K, V> {
    fn eq(&self, other: &Self) -> bool {
        let len = |of: &Self| of.moving.len() + of.resting.len();
        self.number == other.number
            && len(self) == len(other)
            && self.moving.iter().chain(self.resting.iter()).all(|(key, row)| {
                let same = other.moving.get(key).or_else(|| other.resting.get(key));
                same == Some(row)
            })
    }
}

impl<K, V> Parted<K, V>
where
    K: Hash + Eq + Clone + Serialize + DeserializeOwned,
    V: Clone + PartialEq + Serialize + DeserializeOwned,
{
    /// An empty table.
    pub(crate) fn new(number: u16) -> Self {
        Self {
            number,
            moving: SeededMap::with_hasher(Seeded::default()),
            resting: SeededMap::with_hasher(Seeded::default()),
        }
    }

    /// The row of a key.
    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        let row = self.moving.get(key).or_else(|| self.resting.get(key));
        row.map(Arc::as_ref)
    }

    /// Adds a row, in motion, and notes that; `false` when there is one already, which stays.
    pub(crate) fn add(&mut self, key: K, value: V, changes: &mut Changes) -> bool {
        if self.resting.contains_key(&key) {
            return false;
        }
        let noted = changes
            .collects()
            .then(|| (canonical::encode(&key), canonical::encode(&value)));
        if let Some(before) = self.moving.insert(key.clone(), Arc::new(value)) {
            self.moving.insert(key, before);
            return false;
        }
        if let Some((key, new)) = noted {
            let table = self.number;
            changes.note(|| Change {
                table,
                key,
                old: None,
                new: Some(new),
            });
        }
        true
    }

    /// Lets `change` look at a row and change it where it is, and notes it when it is a change; `None` when there is no such row.
    pub(crate) fn change<R>(
        &mut self,
        key: &K,
        changes: &mut Changes,
        change: impl FnOnce(&mut Arc<V>, &mut Changes) -> R,
    ) -> Option<R> {
        let row = match self.moving.get_mut(key) {
            Some(row) => row,
            None => self.resting.get_mut(key)?,
        };
        let old = changes.collects().then(|| canonical::encode(row.as_ref()));
        let told = change(row, changes);
        if let Some(old) = old {
            let new = canonical::encode(row.as_ref());
            if new != old {
                let table = self.number;
                changes.note(|| Change {
                    table,
                    key: canonical::encode(key),
                    old: Some(old),
                    new: Some(new),
                });
            }
        }
        Some(told)
    }

    /// Nothing more is expected of a row. It may be changed still.
    pub(crate) fn rest(&mut self, key: &K) {
        if let Some((key, row)) = self.moving.remove_with_key(key) {
            self.resting.insert(key, row);
        }
    }

    /// Takes back a row that was kept; returns its key. It lies among those in motion until [`Self::rest`].
    ///
    /// # Errors
    /// A sentence when the bytes do not decode.
    pub(crate) fn load(&mut self, row: &Row) -> Result<K, String> {
        let (key, value): (K, V) = crate::table::decoded(row)?;
        self.moving.insert(key.clone(), Arc::new(value));
        Ok(key)
    }
}
