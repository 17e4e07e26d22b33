//! Where a store lies: keys and anchor apart from the data, so that a restored copy of the data cannot sign.

use std::path::{Path, PathBuf};

/// The directories of one machine's store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Paths {
    /// The directory that holds everything.
    pub dir: PathBuf,
}

impl Paths {
    /// The store in a directory.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// Private keys and the anchor, 0700.
    pub fn keys(&self) -> PathBuf {
        self.dir.join("keys")
    }

    /// The root and recovery keys until the operator takes them away, 0700.
    pub fn root(&self) -> PathBuf {
        self.dir.join("root")
    }

    /// Everything else of the store, 0700.
    pub fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// The journal's segments.
    pub fn journal(&self) -> PathBuf {
        self.data().join("journal")
    }

    /// Rows that can be deleted.
    pub fn derived(&self) -> PathBuf {
        self.data().join("derived")
    }

    /// Tiles of own logs of which something was proven; they can be deleted.
    pub fn tiles(&self) -> PathBuf {
        self.data().join("tiles")
    }

    /// The lock of the one process that has the store open.
    pub fn lock(&self) -> PathBuf {
        self.data().join("lock")
    }

    /// The anchor.
    pub fn anchor(&self) -> PathBuf {
        self.keys().join("anchor")
    }

    /// The directory itself.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}
