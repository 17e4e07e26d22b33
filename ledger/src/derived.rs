//! Derived data: rows in fjall that can be deleted and are rebuilt from the journal. The only file that knows fjall.
//!
//! A batch is atomic and not synced: what a crash loses here is folded again. If the directory cannot be opened it is set
//! aside and begun anew; nothing in it is a truth.

use crate::error::LedgerError;
use fjall::{Database, Keyspace, KeyspaceCreateOptions};
use std::ops::RangeBounds;
use std::path::Path;

/// Bytes of fjall's block cache: the working set of a studio's queries.
const CACHE_BYTES: u64 = 16 << 20;
/// Bytes of one table's write buffer before it is flushed.
const MEMTABLE_BYTES: u64 = 16 << 20;

/// The derived store of one ledger.
#[derive(Clone)]
pub struct Derived {
    db: Database,
}

/// One keyspace of it.
#[derive(Clone)]
pub struct Table {
    keyspace: Keyspace,
}

/// Rows that become visible together.
pub struct Batch {
    batch: fjall::OwnedWriteBatch,
}

/// Key and value of a row.
pub type Pair = (Vec<u8>, Vec<u8>);

fn failed(what: &'static str) -> impl Fn(fjall::Error) -> LedgerError {
    move |e| LedgerError::Derived {
        what,
        why: e.to_string(),
    }
}

impl Derived {
    /// Opens or creates the derived store. One that cannot be opened is renamed to `derived.broken` and begun anew.
    ///
    /// # Errors
    /// [`LedgerError::Derived`] when a new one cannot be made either.
    pub fn open(path: &Path) -> Result<Self, LedgerError> {
        let open = || {
            Database::builder(path)
                .cache_size(CACHE_BYTES)
                .worker_threads(1)
                .open()
        };
        let db = match open() {
            Ok(db) => db,
            // There is nothing to set aside, so the disk is at fault.
            Err(e) if !path.exists() => return Err(failed("opening the derived store")(e)),
            Err(e) => {
                let aside = path.with_extension("broken");
                tracing::warn!(error = %e, "the derived store does not open; it is set aside and rebuilt from the journal");
                let io = |source| LedgerError::Io {
                    what: "setting the derived store aside",
                    path: path.into(),
                    source,
                };
                if aside.exists() {
                    std::fs::remove_dir_all(&aside).map_err(io)?;
                }
                std::fs::rename(path, &aside).map_err(io)?;
                open().map_err(failed("opening the derived store"))?
            }
        };
        Ok(Self { db })
    }

    /// A table by name; created when it is not there.
    ///
    /// # Errors
    /// [`LedgerError::Derived`].
    pub fn table(&self, name: &str) -> Result<Table, LedgerError> {
        let options = || {
            KeyspaceCreateOptions::default()
                .max_memtable_size(MEMTABLE_BYTES)
                .data_block_compression_policy(fjall::config::CompressionPolicy::all(
                    fjall::CompressionType::Lz4,
                ))
        };
        let keyspace = self
            .db
            .keyspace(name, options)
            .map_err(failed("opening a table"))?;
        Ok(Table { keyspace })
    }

    /// Begins a batch.
    pub fn batch(&self) -> Batch {
        Batch {
            batch: self.db.batch(),
        }
    }
}

impl Batch {
    /// Sets a row.
    pub fn put(&mut self, table: &Table, key: &[u8], value: &[u8]) {
        self.batch.insert(&table.keyspace, key, value);
    }

    /// Removes a row.
    pub fn remove(&mut self, table: &Table, key: &[u8]) {
        self.batch.remove(&table.keyspace, key);
    }

    /// Makes all of it visible at once.
    ///
    /// # Errors
    /// [`LedgerError::Derived`]; nothing of it is visible then.
    pub fn commit(self) -> Result<(), LedgerError> {
        self.batch.commit().map_err(failed("writing derived rows"))
    }
}

impl Table {
    /// A row's value.
    ///
    /// # Errors
    /// [`LedgerError::Derived`].
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, LedgerError> {
        Ok(self
            .keyspace
            .get(key)
            .map_err(failed("reading a derived row"))?
            .map(|value| value.to_vec()))
    }

    /// The rows whose keys begin with a prefix, in the order of their keys.
    pub fn prefix(
        &self,
        prefix: &[u8],
    ) -> impl DoubleEndedIterator<Item = Result<Pair, LedgerError>> + use<> {
        self.keyspace.prefix(prefix).map(pair)
    }

    /// The rows in a range of keys, in their order.
    pub fn range<R: RangeBounds<Vec<u8>>>(
        &self,
        range: R,
    ) -> impl DoubleEndedIterator<Item = Result<Pair, LedgerError>> + use<R> {
        self.keyspace.range::<Vec<u8>, R>(range).map(pair)
    }

    /// Removes every row.
    ///
    /// # Errors
    /// [`LedgerError::Derived`].
    pub fn clear(&self) -> Result<(), LedgerError> {
        self.keyspace.clear().map_err(failed("clearing a derived table"))
    }
}

fn pair(guard: fjall::Guard) -> Result<Pair, LedgerError> {
    let (key, value) = guard.into_inner().map_err(failed("reading derived rows"))?;
    Ok((key.to_vec(), value.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_it_cannot_be_made_the_disks_own_error_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        let refused = Derived::open(&file.join("derived")).err().unwrap();
        assert_eq!(refused.code(), "ledger.derived");
        assert!(
            refused.to_string().contains("opening the derived store"),
            "{refused}"
        );
    }
}
