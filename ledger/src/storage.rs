//! The trait through which every byte of a store reaches the disk, and its one real implementation.
//!
//! Owns: opening, reading, writing, syncing, renaming and removing of the journal's and the anchor's files. It is the one
//! place with fsync and rename, so that a test can put a failing, tearing or forgetting disk in its place.
//! Contract: `write_at` writes all bytes or errs (some may then have been written); what was written is durable only
//! after `sync_data` succeeded; a created, renamed or removed name is durable only after `sync_dir` of its folder.
//! Assumption about disks: overwriting a part of a block never damages the bytes beside it that are already durable.
//! Deliberately not here: retries. A failed sync is never repeated, by anybody: the kernel may have dropped the pages.

use std::fmt::Debug;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

/// Mode of files made here: the payloads in them are private.
const FILE_MODE: u32 = 0o600;
/// Mode of folders made here.
const DIR_MODE: u32 = 0o700;

/// What a file is opened for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Reading only.
    Read,
    /// Reading and writing in place.
    Write,
}

/// An open file.
#[allow(clippy::len_without_is_empty)] // the length is asked of the disk and can fail
pub trait StorageFile: Send + Sync + Debug {
    /// Reads into the whole buffer, and returns how many bytes there were: fewer only at the end of the file.
    ///
    /// # Errors
    /// What the operating system says.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize>;

    /// Writes all bytes at an offset; the file grows if need be.
    ///
    /// # Errors
    /// What the operating system says; some of the bytes may have been written.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Makes everything written so far durable (`fdatasync`; `F_FULLFSYNC` on macOS).
    ///
    /// # Errors
    /// What the operating system says; what was written since the last success is then in an unknown state for ever.
    fn sync_data(&self) -> io::Result<()>;

    /// Cuts or extends (by zeros) the file to a length in bytes.
    ///
    /// # Errors
    /// What the operating system says.
    fn set_len(&self, bytes: u64) -> io::Result<()>;

    /// The file's length in bytes.
    ///
    /// # Errors
    /// What the operating system says.
    fn len(&self) -> io::Result<u64>;
}

/// A disk. Paths are absolute, or relative to the process.
pub trait Storage: Send + Sync + Debug + 'static {
    /// Opens a file that exists.
    ///
    /// # Errors
    /// What the operating system says; `NotFound` when there is none.
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn StorageFile>>;

    /// Makes an empty file for writing, readable by its owner alone.
    ///
    /// # Errors
    /// What the operating system says; `AlreadyExists` when the name is taken.
    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>>;

    /// Gives a file another name, in one step, replacing what had that name.
    ///
    /// # Errors
    /// What the operating system says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// What the operating system says.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// The names in a folder, sorted. Names that are not UTF-8 are none of ours and left out.
    ///
    /// # Errors
    /// What the operating system says; `NotFound` when the folder does not exist.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Whether a path exists.
    ///
    /// # Errors
    /// What the operating system says when it cannot tell.
    fn exists(&self, path: &Path) -> io::Result<bool>;

    /// Makes a folder and those above it, for the owner alone; those that exist stay as they are.
    ///
    /// # Errors
    /// What the operating system says.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;

    /// Makes the names in a folder durable.
    ///
    /// # Errors
    /// What the operating system says.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
}

/// The real disk.
#[derive(Clone, Copy, Debug, Default)]
pub struct DiskStorage;

#[derive(Debug)]
struct DiskFile(File);

impl StorageFile for DiskFile {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let mut done = 0;
        while done < into.len() {
            let at = offset.saturating_add(done as u64);
            match self.0.read_at(&mut into[done..], at) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.0.set_len(bytes)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}

impl Storage for DiskStorage {
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn StorageFile>> {
        let file = OpenOptions::new()
            .read(true)
            .write(access == Access::Write)
            .open(path)?;
        Ok(Arc::new(DiskFile(file)))
    }

    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(FILE_MODE)
            .open(path)?;
        Ok(Arc::new(DiskFile(file)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(dir)? {
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        path.try_exists()
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(DIR_MODE).create(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }
}
