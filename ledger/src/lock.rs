//! One process per store: an exclusive lock on the file `lock` in the store's data folder.
//!
//! Contract: as long as a [`StoreLock`] lives, no other process gets one for the same file. The operating system frees
//! it when the process ends, however it ends; the file itself stays and means nothing. It holds the process id of
//! whoever locked it last, only to be named to a person. It does not protect against copies of the folder.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Bytes of the lock file that are read to name its holder: a process id has at most 20 digits.
const HOLDER_BYTES_MAX: u64 = 32;

/// Why the lock was not to be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// Another process has it.
    #[error(
        "store {path}: in use by process {holder}; ask that daemon (the commands do so by themselves over its socket), \
         or stop it first"
    )]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// The process id that it names, or "unknown".
        holder: String,
    },
    /// The file cannot be made or locked.
    #[error(
        "lock file {path}: {source}; check that the store's folder exists, belongs to you and can be written"
    )]
    Io {
        /// The lock file.
        path: PathBuf,
        /// What the operating system says.
        source: std::io::Error,
    },
}

impl LockError {
    /// The stable code of this error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Locked { .. } => "store.locked",
            Self::Io { .. } => "store.lock-io",
        }
    }
}

/// The right to write one store. Released when dropped.
#[derive(Debug)]
pub struct StoreLock {
    file: File,
}

impl Drop for StoreLock {
    // Closing the file would release it too, but not while a process that is being started by another thread still has a copy
    // of what was open here.
    fn drop(&mut self) {
        if let Err(error) = self.file.unlock() {
            tracing::debug!(%error, "the lock goes with its file");
        }
    }
}

impl StoreLock {
    /// Takes the lock, without waiting.
    ///
    /// # Errors
    /// [`LockError::Locked`] when another process, or this one, has it already; [`LockError::Io`] when the file cannot be
    /// made.
    pub fn acquire(path: &Path) -> Result<Self, LockError> {
        let io = |source| LockError::Io {
            path: path.to_owned(),
            source,
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(LockError::Locked {
                    path: path.to_owned(),
                    holder: holder(&mut file),
                });
            }
            Err(TryLockError::Error(source)) => return Err(io(source)),
        }
        // A full disk must not keep a store from being opened for reading: the name is a courtesy.
        let named = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| file.write_all(std::process::id().to_string().as_bytes()));
        if let Err(error) = named {
            tracing::debug!(path = %path.display(), %error, "the lock is held, but its file does not name us");
        }
        Ok(Self { file })
    }
}

fn holder(file: &mut File) -> String {
    let mut text = String::new();
    match file.take(HOLDER_BYTES_MAX).read_to_string(&mut text) {
        Ok(_) if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) => text,
        _ => "unknown".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_is_refused_and_told_who_has_it_until_the_first_lets_go() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let first = StoreLock::acquire(&path).unwrap();
        let refused = StoreLock::acquire(&path).unwrap_err();
        assert_eq!(refused.code(), "store.locked");
        assert!(refused.to_string().contains(&std::process::id().to_string()));
        drop(first);
        StoreLock::acquire(&path).unwrap();
    }

    #[test]
    fn it_is_let_go_though_a_process_that_is_being_started_has_a_copy_of_the_open_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let first = StoreLock::acquire(&path).unwrap();
        // What a fork makes of it: another descriptor of the same open file.
        let copy = first.file.try_clone().unwrap();
        drop(first);
        StoreLock::acquire(&path).unwrap();
        drop(copy);
    }
}
