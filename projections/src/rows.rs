//! Where projections keep their rows: one table each in the engine's derived store.
//!
//! Everything of a step becomes visible at once. Nothing is synced: what a crash loses is folded again. Key layout: `m` for
//! version, cursor and digest; `r`, the row's table (u16 be) and its key for a row.

use crate::projection::{Kept, RowStore, SourceError};
use ledger::derived::{Batch, Derived, Table};
use ledger::{Change, Row};
use ledger_core::canonical;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Rows of projections in a derived store.
#[derive(Clone)]
pub struct DerivedRows {
    derived: Derived,
}

#[derive(Serialize, Deserialize)]
struct Meta {
    version: u32,
    cursor: Vec<u8>,
    digest: [u8; 32],
}

const META: &[u8] = b"m";
const ROW: u8 = b'r';

fn failed(error: impl std::fmt::Display) -> SourceError {
    SourceError(error.to_string())
}

impl DerivedRows {
    /// Keeps rows in this derived store.
    pub fn new(derived: Derived) -> Self {
        Self { derived }
    }

    fn table(&self, name: &str) -> Result<Table, SourceError> {
        self.derived.table(&format!("projection-{name}")).map_err(failed)
    }

    fn batch(&self) -> Batch {
        self.derived.batch()
    }
}

fn row_key(table: u16, key: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(3 + key.len());
    bytes.push(ROW);
    bytes.extend_from_slice(&table.to_be_bytes());
    bytes.extend_from_slice(key);
    bytes
}

impl RowStore for DerivedRows {
    fn load(&self, name: &str, version: u32) -> Result<Option<Kept>, SourceError> {
        let table = self.table(name)?;
        let Some(meta) = table.get(META).map_err(failed)? else {
            return Ok(None);
        };
        let meta = canonical::decode::<Meta>("a projection's cursor", &meta);
        let Some(meta) = meta.ok().filter(|meta| meta.version == version) else {
            self.clear(name)?;
            return Ok(None);
        };
        let mut rows = Vec::new();
        for pair in table.prefix(&[ROW]) {
            let (key, value) = pair.map_err(failed)?;
            let [_, high, low, key @ ..] = key.as_slice() else {
                return Err(SourceError("a row's key is too short".to_owned()));
            };
            rows.push(Row {
                table: u16::from_be_bytes([*high, *low]),
                key: key.to_vec(),
                value,
            });
        }
        Ok(Some(Kept {
            cursor: meta.cursor,
            digest: meta.digest,
            rows,
        }))
    }

    fn commit(
        &self,
        name: &str,
        version: u32,
        changes: &[Change],
        cursor: &[u8],
        digest: &[u8; 32],
    ) -> Result<(), SourceError> {
        let table = self.table(name)?;
        // All rows of a batch have one sequence number, so that a key may stand in it only once: the last change counts.
        let last: BTreeMap<Vec<u8>, &Option<Vec<u8>>> = changes
            .iter()
            .map(|change| (row_key(change.table, &change.key), &change.new))
            .collect();
        let mut batch = self.batch();
        for (key, new) in last {
            match new {
                Some(value) => batch.put(&table, &key, value),
                None => batch.remove(&table, &key),
            }
        }
        let meta = Meta {
            version,
            cursor: cursor.to_vec(),
            digest: *digest,
        };
        batch.put(&table, META, &canonical::encode(&meta));
        batch.commit().map_err(failed)
    }

    fn clear(&self, name: &str) -> Result<(), SourceError> {
        self.table(name)?.clear().map_err(failed)
    }
}
