//! Where a store lies, keys and anchor apart from the data, so that a restored copy of the data cannot sign; and how
//! it is opened.

use crate::clock::{Clock, Entropy, SystemClock, SystemEntropy};
use crate::commit::BatchHook;
use crate::state::State;
use crate::storage::{DiskStorage, Storage};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How an open ledger behaves. [`OpenOptions::default`] suits most; its methods change what does not.
#[non_exhaustive]
pub struct OpenOptions<S: State = ()> {
    /// Commands that may wait for the committer before callers are told that it is busy.
    pub queue_commands_max: usize,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// The source of keys, ids and salts.
    pub entropy: Arc<dyn Entropy>,
    /// The disk under journal and anchor.
    pub storage: Arc<dyn Storage>,
    /// Bytes after which a segment of the journal is sealed.
    pub segment_bytes: Option<u32>,
    /// Called at the end of each batch that has records; what it appends is part of the batch.
    pub batch_hook: Option<BatchHook<S>>,
}

impl<S: State> Default for OpenOptions<S> {
    fn default() -> Self {
        Self {
            queue_commands_max: 1024,
            clock: Arc::new(SystemClock),
            entropy: Arc::new(SystemEntropy),
            storage: Arc::new(DiskStorage),
            segment_bytes: None,
            batch_hook: None,
        }
    }
}

/// Built up from [`OpenOptions::default`].
///
/// ```
/// use ledger::core::Stream;
/// use ledger::{Ledger, NewStore, OpenOptions, Paths};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// let new = NewStore::lone("my-agent")?.streams([Stream::Work, Stream::Facts]);
/// let options = OpenOptions::default().queue_commands_max(64).segment_bytes(8 << 20);
/// let ledger: Ledger = Ledger::open_or_create(&Paths::new(dir.path().join("log")), &new, options)?;
/// assert!(ledger.own_log(Stream::Work).is_some());
/// # Ok(()) }
/// ```
impl<S: State> OpenOptions<S> {
    /// Commands that may wait for the committer; further ones wait for a place ([`crate::Ledger::submit`]) or are told so
    /// ([`crate::Ledger::try_submit`]). 1024 unless told otherwise.
    #[must_use]
    pub fn queue_commands_max(mut self, commands: usize) -> Self {
        self.queue_commands_max = commands;
        self
    }

    /// The wall clock, for tests and simulations. Time in the ledger rises whatever it says.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// The source of keys, ids and salts. Whoever can guess it can forge: anything but the operating system's is for tests.
    #[must_use]
    pub fn entropy(mut self, entropy: impl Entropy) -> Self {
        self.entropy = Arc::new(entropy);
        self
    }

    /// The disk under journal and anchor.
    #[must_use]
    pub fn storage(mut self, storage: impl Storage) -> Self {
        self.storage = Arc::new(storage);
        self
    }

    /// Bytes after which a segment of the journal is sealed: 64 MiB unless told otherwise.
    #[must_use]
    pub fn segment_bytes(mut self, bytes: u32) -> Self {
        self.segment_bytes = Some(bytes);
        self
    }

    /// What is called at the end of each batch that has records; what it appends is part of the batch.
    #[must_use]
    pub fn batch_hook(mut self, hook: BatchHook<S>) -> Self {
        self.batch_hook = Some(hook);
        self
    }
}

/// The folder of the cosigned checkpoints in a store's data.
pub(crate) const COSIGNED_DIR: &str = "cosigned";
/// What follows a log's name there, of an older one that more witnesses cosigned than the newest.
pub(crate) const COSIGNED_BY_MOST: &str = ".most";

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

    /// The newest checkpoint of each log that others cosigned; they come again.
    pub(crate) fn cosigned(&self) -> PathBuf {
        self.data().join(COSIGNED_DIR)
    }

    /// Proofs that a machine's key was used in two places.
    pub fn evidence(&self) -> PathBuf {
        self.dir.join("evidence")
    }

    /// The mark of a store that takes its lost tail back.
    pub(crate) fn behind(&self) -> PathBuf {
        self.keys().join("behind")
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
