//! The files of one published tree: read whole and bounded, written beside their name, synced, renamed.
//!
//! A crash leaves, besides whole files, at most one `.tmp` beside the name that it was meant for; the next write removes it.

use crate::error::LedgerError;
use crate::storage::{Access, DiskStorage, Storage, StorageFile};
use ledger_core::tiles::Tile;
use ledger_core::tree::Hash;
use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The real disk, for files that are meant for others: their mode is what the umask leaves, where a store's are private.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PublicStorage;

impl Storage for PublicStorage {
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn StorageFile>> {
        DiskStorage.open(path, access)
    }

    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>> {
        OpenOptions::new().write(true).create_new(true).open(path)?;
        DiskStorage.open(path, Access::Write)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        DiskStorage.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        DiskStorage.remove(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        DiskStorage.list(dir)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        DiskStorage.exists(path)
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        std::fs::create_dir_all(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        DiskStorage.sync_dir(dir)
    }
}

/// A directory of tiles.
pub(crate) struct Files {
    storage: Arc<dyn Storage>,
    dir: PathBuf,
    durable: bool,
    // Folders with names that are not durable yet.
    unsynced: BTreeSet<PathBuf>,
    /// Files that were there with other bytes.
    pub(crate) mended: u64,
    /// Bytes written.
    pub(crate) bytes: u64,
}

impl Files {
    /// The files in a directory, which need not exist yet. Unless `durable`, nothing is synced.
    pub(crate) fn new(storage: Arc<dyn Storage>, dir: &Path, durable: bool) -> Self {
        Self {
            storage,
            dir: dir.to_owned(),
            durable,
            unsynced: BTreeSet::new(),
            mended: 0,
            bytes: 0,
        }
    }

    /// A file's bytes; `None` when there is none, or when it has more than it may have.
    pub(crate) fn read(&self, path: &str, bytes_max: usize) -> Result<Option<Vec<u8>>, LedgerError> {
        read(&*self.storage, &self.dir.join(path), bytes_max)
    }

    /// A tile's hashes.
    pub(crate) fn read_tile(&self, tile: Tile) -> Result<Vec<Hash>, LedgerError> {
        let bytes = self.read(&tile.path(), ledger_core::tiles::TILE_BYTES_MAX)?;
        Ok(tile.decode(&bytes.unwrap_or_default())?)
    }

    /// Writes a file, unless it is there with these very bytes; how many files that were: 1 or 0.
    pub(crate) fn write(&mut self, path: &str, bytes: &[u8]) -> Result<u64, LedgerError> {
        let full = self.dir.join(path);
        match self.read(path, bytes.len())? {
            Some(found) if found == bytes => return Ok(0),
            Some(_) if path != ledger_core::tiles::CHECKPOINT_PATH => self.mended += 1,
            Some(_) => {}
            None => {}
        }
        let parent = full.parent().expect("a file lies in a folder").to_owned();
        let name = full
            .file_name()
            .expect("a file has a name")
            .to_string_lossy()
            .into_owned();
        let temporary = parent.join(format!(".{name}.tmp"));
        let io = |what: &'static str| {
            let path = full.clone();
            move |source| LedgerError::Io { what, path, source }
        };
        self.storage
            .create_dir_all(&parent)
            .map_err(io("making a folder for"))?;
        let exists = self.storage.exists(&temporary).map_err(io("looking for"))?;
        if exists {
            self.storage.remove(&temporary).map_err(io("making room for"))?;
        }
        let file = self.storage.create_new(&temporary).map_err(io("creating"))?;
        file.write_at(0, bytes).map_err(io("writing"))?;
        if self.durable {
            file.sync_data().map_err(io("syncing"))?;
        }
        self.storage.rename(&temporary, &full).map_err(io("renaming"))?;
        self.bytes += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        // New folders are names, too, up to the folder that holds the directory.
        let above = self.dir.parent().unwrap_or(&self.dir).to_owned();
        for folder in parent.ancestors().take_while(|folder| *folder != above) {
            self.unsynced.insert(folder.to_owned());
        }
        Ok(1)
    }

    /// Makes the names of what was written durable.
    pub(crate) fn sync_names(&mut self) -> Result<(), LedgerError> {
        let folders = std::mem::take(&mut self.unsynced);
        if !self.durable {
            return Ok(());
        }
        for folder in folders.iter().rev() {
            let io = |source| LedgerError::Io {
                what: "syncing the folder",
                path: folder.clone(),
                source,
            };
            self.storage.sync_dir(folder).map_err(io)?;
        }
        Ok(())
    }

    /// Removes the partial files of one that is full now.
    pub(crate) fn remove_partials(&self, full: &str) -> Result<(), LedgerError> {
        let folder = self.dir.join(format!("{full}.p"));
        let io = |source| LedgerError::Io {
            what: "removing what is superseded in",
            path: folder.clone(),
            source,
        };
        let names = match self.storage.list(&folder) {
            Ok(names) => names,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(io(error)),
        };
        for name in names {
            self.storage.remove(&folder.join(name)).map_err(io)?;
        }
        Ok(())
    }

    /// An error about the directory.
    pub(crate) fn refuse(&self, why: &str) -> LedgerError {
        LedgerError::Publish {
            path: self.dir.clone(),
            why: why.to_owned(),
        }
    }
}

/// A whole file, as far as it may be long; a longer one is cut, so that it differs from whatever it should be. `None` when
/// there is none.
pub(crate) fn read(
    storage: &dyn Storage,
    path: &Path,
    bytes_max: usize,
) -> Result<Option<Vec<u8>>, LedgerError> {
    let io = |source| LedgerError::Io {
        what: "reading",
        path: path.to_owned(),
        source,
    };
    let file = match storage.open(path, Access::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io(error)),
    };
    let length = usize::try_from(file.len().map_err(io)?).unwrap_or(usize::MAX);
    let mut bytes = vec![0; length.min(bytes_max.saturating_add(1))];
    let count = file.read_at(0, &mut bytes).map_err(io)?;
    bytes.truncate(count);
    Ok(Some(bytes))
}
