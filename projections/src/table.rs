//! Typed tables over persistent maps, whose every change can be noted as bytes.
//!
//! Owns how a row becomes bytes and comes back (canonical postcard of key and value). Values lie behind `Arc`, so that
//! cloning a table costs nothing and changing one row copies no neighbour. A value that does not change is no change.

use imbl::OrdMap;
use ledger::{Change, Changes, Row};
use ledger_core::canonical;
use serde::{Serialize, de::DeserializeOwned};
use std::ops::RangeBounds;
use std::sync::Arc;

/// One table of a fold. Its number is fixed for the life of the fold's version.
#[derive(Clone)]
pub struct Table<K, V> {
    number: u16,
    rows: OrdMap<K, Arc<V>>,
}

impl<K: Ord + Clone + std::fmt::Debug, V: std::fmt::Debug> std::fmt::Debug for Table<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.rows.iter()).finish()
    }
}

impl<K: Ord + Clone, V: PartialEq> PartialEq for Table<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number && self.rows == other.rows
    }
}

impl<K, V> Table<K, V>
where
    K: Ord + Clone + Serialize + DeserializeOwned,
    V: PartialEq + Serialize + DeserializeOwned,
{
    /// An empty table.
    pub fn new(number: u16) -> Self {
        Self {
            number,
            rows: OrdMap::new(),
        }
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// How many rows it has.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The row of a key.
    pub fn get(&self, key: &K) -> Option<&V> {
        self.rows.get(key).map(Arc::as_ref)
    }

    /// The row of a key, with the key as the table keeps it.
    pub(crate) fn get_key_value(&self, key: &K) -> Option<(&K, &V)> {
        let (key, row) = self.rows.get_key_value(key)?;
        Some((key, row.as_ref()))
    }

    /// The row of a key, to be kept while the table changes.
    pub(crate) fn shared(&self, key: &K) -> Option<Arc<V>> {
        self.rows.get(key).cloned()
    }

    /// All rows, in the order of their keys.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&K, &V)> {
        self.rows.iter().map(|(key, value)| (key, value.as_ref()))
    }

    /// The rows of a range of keys, in their order.
    pub fn range<R: RangeBounds<K>>(&self, range: R) -> impl DoubleEndedIterator<Item = (&K, &V)> {
        self.rows.range(range).map(|(key, value)| (key, value.as_ref()))
    }

    /// Sets a row of which is known that it is new, in one step down the tree; where there was one after all, it notes both.
    pub(crate) fn set_new(&mut self, key: K, value: V, changes: &mut Changes) {
        let noted = changes
            .collects()
            .then(|| (canonical::encode(&key), canonical::encode(&value)));
        let before = self.rows.insert(key, Arc::new(value));
        if let Some((key, new)) = noted {
            let table = self.number;
            changes.note(|| Change {
                table,
                key,
                old: before.map(|row| canonical::encode(row.as_ref())),
                new: Some(new),
            });
        }
    }

    /// Sets a row and notes the change, if it is one.
    pub fn set(&mut self, key: K, value: V, changes: &mut Changes) {
        let number = self.number;
        if let Some(row) = self.rows.get_mut(&key) {
            if **row == value {
                return;
            }
            changes.note(|| Change {
                table: number,
                key: canonical::encode(&key),
                old: Some(canonical::encode(row.as_ref())),
                new: Some(canonical::encode(&value)),
            });
            match Arc::get_mut(row) {
                Some(own) => *own = value,
                None => *row = Arc::new(value),
            }
            return;
        }
        changes.note(|| Change {
            table: number,
            key: canonical::encode(&key),
            old: None,
            new: Some(canonical::encode(&value)),
        });
        self.rows.insert(key, Arc::new(value));
    }

    /// Changes a row where it is and notes that, if it is a change; `false` when there is no such row.
    pub(crate) fn change(&mut self, key: &K, changes: &mut Changes, change: impl FnOnce(&mut V)) -> bool
    where
        V: Clone,
    {
        let Some(row) = self.rows.get_mut(key) else {
            return false;
        };
        let old = changes.collects().then(|| canonical::encode(row.as_ref()));
        change(Arc::make_mut(row));
        if let Some(old) = old {
            let new = canonical::encode(row.as_ref());
            if new != old {
                let number = self.number;
                changes.note(|| Change {
                    table: number,
                    key: canonical::encode(key),
                    old: Some(old),
                    new: Some(new),
                });
            }
        }
        true
    }

    /// Takes a row away and notes the change, if there was one.
    pub fn remove(&mut self, key: &K, changes: &mut Changes) {
        if let Some(old) = self.rows.remove(key) {
            let number = self.number;
            changes.note(|| Change {
                table: number,
                key: canonical::encode(key),
                old: Some(canonical::encode(old.as_ref())),
                new: None,
            });
        }
    }

    /// Takes back a row that was kept; returns its key.
    ///
    /// # Errors
    /// A sentence when the bytes do not decode.
    pub fn load(&mut self, row: &Row) -> Result<K, String> {
        let (key, value): (K, V) = decoded(row)?;
        self.rows.insert(key.clone(), Arc::new(value));
        Ok(key)
    }
}

/// The key and the value of a row that was kept.
///
/// # Errors
/// A sentence when the bytes do not decode.
pub(crate) fn decoded<K, V>(row: &Row) -> Result<(K, V), String>
where
    K: Serialize + DeserializeOwned,
    V: Serialize + DeserializeOwned,
{
    let told = |what, error: ledger_core::DecodeError| format!("table {} {what}: {error}", row.table);
    let key = canonical::decode("a row's key", &row.key).map_err(|e| told("key", e))?;
    let value = canonical::decode("a row's value", &row.value).map_err(|e| told("value", e))?;
    Ok((key, value))
}

/// A digest over all changes so far: two folds that did the same have the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RunningDigest(pub [u8; 32]);

impl RunningDigest {
    /// Takes in what a fold did, in its order.
    pub fn absorb(&mut self, changes: &[Change]) {
        for change in changes {
            let (tag, new): (&[u8], &[u8]) = change.new.as_deref().map_or((&[0], &[]), |new| (&[1], new));
            self.0 = ledger_core::digest::fold_digest(
                &self.0,
                &[&change.table.to_be_bytes(), &change.key, tag, new],
            );
        }
    }
}
