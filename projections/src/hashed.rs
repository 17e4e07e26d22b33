//! Rows found by ids that come in no order: a persistent hash map, whose every addition can be noted as bytes.
//!
//! Owns the hash. Ids are written by others, so that it is seeded anew for each table: nobody outside can choose ids that collide.
//! The seed shows nowhere: rows are found by their keys alone, and tables with the same rows are equal.

use imbl::GenericHashMap;
use imbl::shared_ptr::DefaultSharedPtr;
use ledger::{Change, Changes, Row};
use ledger_core::canonical;
use serde::{Serialize, de::DeserializeOwned};
use std::hash::{BuildHasher, Hash, Hasher, RandomState};

/// A persistent map with such a hash.
pub(crate) type SeededMap<K, V> = GenericHashMap<K, V, Seeded, DefaultSharedPtr>;

/// Rows by their ids, which are only ever added. As bytes they are what [`Table`](crate::table::Table) makes of them.
#[derive(Clone)]
pub(crate) struct Hashed<K, V> {
    number: u16,
    rows: SeededMap<K, V>,
}

impl<K: std::fmt::Debug, V: std::fmt::Debug> std::fmt::Debug for Hashed<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.rows.iter()).finish()
    }
}

impl<K: Hash + Eq, V: PartialEq> PartialEq for Hashed<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
            && self.rows.len() == other.rows.len()
            && self
                .rows
                .iter()
                .all(|(key, row)| other.rows.get(key) == Some(row))
    }
}

impl<K, V> Hashed<K, V>
where
    K: Hash + Eq + Clone + Serialize + DeserializeOwned,
    V: Clone + Serialize + DeserializeOwned,
{
    /// An empty table.
    pub(crate) fn new(number: u16) -> Self {
        Self {
            number,
            rows: SeededMap::with_hasher(Seeded::default()),
        }
    }

    /// The row of a key.
    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        self.rows.get(key)
    }

    /// Adds a row and notes that; `false` when there is one already, which stays.
    pub(crate) fn add(&mut self, key: K, value: V, changes: &mut Changes) -> bool {
        let noted = changes
            .collects()
            .then(|| (canonical::encode(&key), canonical::encode(&value)));
        if let Some(before) = self.rows.insert(key.clone(), value) {
            self.rows.insert(key, before);
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

    /// Takes back a row that was kept.
    ///
    /// # Errors
    /// A sentence when the bytes do not decode.
    pub(crate) fn load(&mut self, row: &Row) -> Result<(), String> {
        let (key, value) = crate::table::decoded(row)?;
        self.rows.insert(key, value);
        Ok(())
    }
}

/// Makes hashers for ids, with a seed of its own.
#[derive(Clone, Copy)]
pub(crate) struct Seeded(u64);

impl Default for Seeded {
    fn default() -> Self {
        Self(RandomState::new().hash_one(0_u64))
    }
}

impl BuildHasher for Seeded {
    type Hasher = Mixed;

    fn build_hasher(&self) -> Mixed {
        Mixed(self.0)
    }
}

/// What was hashed so far: each eight bytes are multiplied in, both halves of the product folded together.
pub(crate) struct Mixed(u64);

/// An odd number without a pattern: the fraction of the golden ratio.
const ODD: u64 = 0x9e37_79b9_7f4a_7c15;

impl Hasher for Mixed {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.write_u64(u64::from_le_bytes(*word));
        }
        if !rest.is_empty() {
            let mut last = [0; 8];
            last[..rest.len()].copy_from_slice(rest);
            self.write_u64(u64::from_le_bytes(last));
        }
    }

    fn write_u8(&mut self, byte: u8) {
        self.write_u64(u64::from(byte));
    }

    // The length of an array; all of one table are equal, and a text ends by a byte of its own.
    fn write_usize(&mut self, _: usize) {}

    fn write_u64(&mut self, word: u64) {
        let product = u128::from(self.0 ^ word) * u128::from(ODD);
        let [low, high] = [product, product >> 64].map(|half| half & u128::from(u64::MAX));
        self.0 = u64::try_from(low ^ high).expect("64 bits");
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_differ_anywhere_hash_apart() {
        let seeded = Seeded(7);
        let zeros = seeded.hash_one([0_u8; 16]);
        for at in 0..16 {
            for bit in 0..8 {
                let mut id = [0; 16];
                id[at] = 1 << bit;
                assert_ne!(seeded.hash_one(id), zeros, "byte {at}, bit {bit}");
            }
        }
        assert_ne!(Seeded(8).hash_one([0_u8; 16]), zeros);
    }
}
