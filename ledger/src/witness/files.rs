//! What a witness keeps: of each log how far it was compared, beside the keys; and the cosigned checkpoints, with the data.
//!
//! `DIR/keys/witness/LOG` holds the tree over what was compared; without it nothing keeps the machine from cosigning another
//! history, so it is synced before a cosignature leaves. `DIR/data/cosigned/LOG` is a C2SP signed note. Both are written beside
//! their name, synced and renamed; a crash leaves the older file or the newer one. A newer one may be there and its name not durable, so
//! the first is written anew before a cosignature relies on it. `LOG.most` is an older one that more witnesses cosigned than the newest:
//! a log that grows would otherwise lose its quorum whenever the first of them signs anew.
//!
//! ```text
//! witness file = magic "LWITNESS", u32 version = 1, 32 log, postcard (u64 size, list 32 peaks), 32 checksum
//! ```

use crate::error::LedgerError;
use crate::options::COSIGNED_BY_MOST;
use crate::storage::{Access, Storage};
use ledger_core::tree::{Hash, Tree};
use ledger_core::{LogId, canonical};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const MAGIC: [u8; 8] = *b"LWITNESS";
const VERSION: u32 = 1;
const CONTEXT: &str = "ledger v1 witness file";
const HEAD_BYTES: usize = 8 + 4 + 32;
/// Bytes of a file of either kind at most: 64 peaks, or a checkpoint with many cosignatures.
const FILE_BYTES_MAX: u64 = 128 * 1024;

fn io(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> LedgerError {
    let path = path.to_owned();
    move |source| LedgerError::Io { what, path, source }
}

fn read(storage: &dyn Storage, path: &Path) -> Result<Option<Vec<u8>>, LedgerError> {
    if !storage.exists(path).map_err(io("looking for", path))? {
        return Ok(None);
    }
    let file = storage.open(path, Access::Read).map_err(io("opening", path))?;
    let length = file.len().map_err(io("measuring", path))?.min(FILE_BYTES_MAX);
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
    let found = file.read_at(0, &mut bytes).map_err(io("reading", path))?;
    bytes.truncate(found);
    Ok(Some(bytes))
}

fn write(storage: &dyn Storage, dir: &Path, path: &Path, bytes: &[u8]) -> Result<(), LedgerError> {
    let new = path.with_extension("new");
    let write = || -> std::io::Result<()> {
        if !storage.exists(dir)? {
            storage.create_dir_all(dir)?;
        }
        // The folder's own name; another process may have been killed before it was on the disk.
        dir.parent().map_or(Ok(()), |above| storage.sync_dir(above))?;
        if storage.exists(&new)? {
            storage.remove(&new)?;
        }
        let file = storage.create_new(&new)?;
        file.write_at(0, bytes)?;
        file.sync_data()?;
        storage.rename(&new, path)?;
        storage.sync_dir(dir)
    };
    write().map_err(io("writing", path))
}

/// Which cosigned checkpoint of a log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kept {
    /// The newest that anybody cosigned.
    Newest,
    /// An older one that most witnesses cosigned.
    Most,
}

/// Where the files of one log lie.
pub(super) struct Places {
    storage: Arc<dyn Storage>,
    seen_dir: PathBuf,
    cosigned_dir: PathBuf,
    log: LogId,
}

impl Places {
    pub(super) fn new(storage: &Arc<dyn Storage>, paths: &crate::options::Paths, log: LogId) -> Self {
        Self {
            storage: Arc::clone(storage),
            seen_dir: paths.keys().join("witness"),
            cosigned_dir: paths.cosigned(),
            log,
        }
    }

    fn seen_path(&self) -> PathBuf {
        self.seen_dir.join(self.log.to_hex())
    }

    fn cosigned_path(&self, which: Kept) -> PathBuf {
        let name = self.log.to_hex();
        self.cosigned_dir.join(match which {
            Kept::Newest => name,
            Kept::Most => name + COSIGNED_BY_MOST,
        })
    }

    /// The tree over what was compared.
    ///
    /// # Errors
    /// [`LedgerError::KeyFile`] when the file is damaged; [`LedgerError::Io`].
    pub(super) fn seen(&self) -> Result<Option<Tree>, LedgerError> {
        let path = self.seen_path();
        let Some(bytes) = read(&*self.storage, &path)? else {
            return Ok(None);
        };
        let tree = self.decode(&bytes).ok_or_else(|| LedgerError::KeyFile {
            path,
            why: "it says how far a log was compared before its checkpoints were cosigned, and is damaged; restore it from a \
                  copy of the keys"
                .into(),
        })?;
        Ok(Some(tree))
    }

    fn decode(&self, bytes: &[u8]) -> Option<Tree> {
        let (body, checksum) = bytes.split_at_checked(bytes.len().checked_sub(32)?)?;
        let (head, tree) = body.split_at_checked(HEAD_BYTES)?;
        let sound = head[..8] == MAGIC
            && head[8..12] == VERSION.to_be_bytes()
            && head[12..] == self.log.0
            && blake3::derive_key(CONTEXT, body) == *checksum;
        if !sound {
            return None;
        }
        let (size, peaks): (u64, Vec<Hash>) = canonical::decode("witness file", tree).ok()?;
        Tree::from_peaks(size, peaks)
    }

    /// Keeps it; durable when it returns.
    ///
    /// # Errors
    /// [`LedgerError::Io`].
    pub(super) fn keep_seen(&self, tree: &Tree) -> Result<(), LedgerError> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&VERSION.to_be_bytes());
        bytes.extend_from_slice(&self.log.0);
        bytes.extend_from_slice(&canonical::encode(&(tree.size(), tree.peaks().to_vec())));
        let checksum = blake3::derive_key(CONTEXT, &bytes);
        bytes.extend_from_slice(&checksum);
        write(&*self.storage, &self.seen_dir, &self.seen_path(), &bytes)
    }

    /// The cosigned checkpoint as it lies there, unchecked; what is no text counts as none.
    ///
    /// # Errors
    /// [`LedgerError::Io`].
    pub(super) fn cosigned(&self, which: Kept) -> Result<Option<String>, LedgerError> {
        let bytes = read(&*self.storage, &self.cosigned_path(which))?;
        Ok(bytes.and_then(|bytes| String::from_utf8(bytes).ok()))
    }

    /// Keeps it; durable when it returns.
    ///
    /// # Errors
    /// [`LedgerError::Io`].
    pub(super) fn keep_cosigned(&self, which: Kept, note: &str) -> Result<(), LedgerError> {
        let path = self.cosigned_path(which);
        write(&*self.storage, &self.cosigned_dir, &path, note.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_was_compared_is_read_back_and_no_flipped_bit_of_it_passes() {
        let dir = tempfile::tempdir().unwrap();
        let storage: Arc<dyn Storage> = Arc::new(crate::storage::DiskStorage);
        let paths = crate::options::Paths::new(dir.path());
        let places = Places::new(&storage, &paths, LogId([7; 32]));
        assert!(places.seen().unwrap().is_none());
        let mut tree = Tree::new();
        for n in 0..7 {
            tree.push([n; 32]);
        }
        places.keep_seen(&tree).unwrap();
        assert_eq!(places.seen().unwrap(), Some(tree));
        let whole = std::fs::read(places.seen_path()).unwrap();
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(places.seen_path(), bytes).unwrap();
            assert_eq!(places.seen().unwrap_err().code(), "ledger.key-file", "bit {bit}");
        }
    }
}
