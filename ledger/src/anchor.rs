//! The anchor: the small file beside the keys that remembers what the store has promised.
//!
//! It lies apart from the data, so that a lost or rolled-back disk is noticed: store, epoch, boot, how far the journal is
//! durable, and the head of each own log. Two slots of [`SLOT_BYTES`], written in turn and synced; reading takes the
//! newest sound one. What a crash leaves: the slot before, whole. It does not decide anything; the opener does.
//!
//! ```text
//! slot = magic "LANCHOR\n", u32 version = 1, u64 generation, u32 length, postcard of Anchor, zeros, 32 checksum
//! ```
//! Numbers are big-endian; the checksum is a digest of all bytes of the slot before it, under a context of its own.

use crate::Position;
use crate::journal::StoreId;
use crate::journal::error::is_no_space;
use crate::storage::{Access, Storage, StorageFile};
use ledger_core::{DecodeError, Head, LogId, canonical};
use serde::{Deserialize, Serialize};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes of one slot: a block of most disks, so that writing one never touches the other.
pub const SLOT_BYTES: usize = 4096;
/// Own logs that an anchor remembers: four streams, and room for what ROADMAP may bring.
pub const ANCHOR_LOGS_MAX: usize = 16;
/// Bytes of the operating system's boot id.
pub const BOOT_BYTES_MAX: usize = 64;

const MAGIC: [u8; 8] = *b"LANCHOR\n";
const VERSION: u32 = 1;
const CONTEXT: &str = "ledger v1 anchor slot";
const HEADER_BYTES: usize = 8 + 4 + 8 + 4;
const BODY_BYTES_MAX: usize = SLOT_BYTES - HEADER_BYTES - 32;
// store, state, epoch, boot, clean, durable, count; then log, incarnation, head (seq, seal, root), checkpoint size each.
const _: () = assert!(
    16 + 1 + 10 + 1 + BOOT_BYTES_MAX + 1 + 10 + 2 + ANCHOR_LOGS_MAX * (32 + 5 + 10 + 32 + 32 + 10)
        <= BODY_BYTES_MAX
);

/// Whether the store is there yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum AnchorState {
    /// The store is being made; without one, creation starts anew.
    Creating,
    /// The store exists; without one, the disk was lost.
    Live,
}

/// One of the store's own logs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AnchorLog {
    /// The log.
    pub log: LogId,
    /// Of the machine's set of logs, from 1.
    pub incarnation: u32,
    /// Its newest durable record.
    pub head: Head,
    /// Records under its last released checkpoint; 0 when there is none.
    pub checkpoint_size: u64,
}

/// What the anchor says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Anchor {
    /// The store.
    pub store: StoreId,
    /// Whether it is there yet.
    pub state: AnchorState,
    /// The highest epoch that this machine knows of.
    pub epoch: u64,
    /// The operating system's id of this boot, at most [`BOOT_BYTES_MAX`] bytes; empty when unknown.
    pub boot: String,
    /// Whether the store was closed.
    pub clean: bool,
    /// Behind what is durable in the journal.
    pub durable: Position,
    /// The store's own logs, at most [`ANCHOR_LOGS_MAX`].
    pub logs: Vec<AnchorLog>,
}

/// Why an anchor cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AnchorError {
    /// Neither slot is sound.
    #[error(
        "anchor {path}: neither of its two slots is sound; restore it from a backup of the keys, or open the store \
         read-only"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// Written by a newer program.
    #[error("anchor {path}: format version {found}; this program knows version 1; upgrade it")]
    Version {
        /// The file.
        path: PathBuf,
        /// The version found.
        found: u32,
    },
    /// A sound slot whose content does not decode.
    #[error("anchor {path}: {source}")]
    Decode {
        /// The file.
        path: PathBuf,
        /// Why.
        source: DecodeError,
    },
    /// More than an anchor may hold.
    #[error("anchor: {what} of {found} is over the limit of {limit}")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// How large it is.
        found: usize,
        /// How large it may be.
        limit: usize,
    },
    /// The disk refused.
    #[error(
        "anchor: cannot {doing} {path}: {source}; the anchor falls behind: on a full disk until there is room, otherwise until \
         the store is opened again"
    )]
    Io {
        /// What was tried.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// An earlier write failed.
    #[error("anchor {path}: an earlier write failed; open the store again")]
    Poisoned {
        /// The file.
        path: PathBuf,
    },
}

impl AnchorError {
    /// The stable code of this error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Damaged { .. } => "anchor.damaged",
            Self::Version { .. } => "anchor.version",
            Self::Decode { .. } => "anchor.decode",
            Self::TooLarge { .. } => "anchor.too-large",
            Self::Io { .. } => "anchor.io",
            Self::Poisoned { .. } => "anchor.poisoned",
        }
    }

    fn io(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { doing, path, source }
    }
}

impl Anchor {
    /// Reads the newest sound slot; `None` when there is no anchor.
    ///
    /// # Errors
    /// [`AnchorError::Damaged`] when the file is there and neither slot is sound.
    pub fn load(storage: &dyn Storage, path: &Path) -> Result<Option<Anchor>, AnchorError> {
        let file = match storage.open(path, Access::Read) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(AnchorError::io("open", path)(error)),
        };
        newest(file.as_ref(), path).map(|found| Some(found.anchor))
    }

    /// What is wrong with the slot that does not count, in words; `None` when nothing is, or when there is no anchor. A
    /// write that a crash interrupted leaves such a slot, and so does damage: the anchor may then say less than it did.
    ///
    /// # Errors
    /// As [`Anchor::load`].
    pub fn oddity(storage: &dyn Storage, path: &Path) -> Result<Option<&'static str>, AnchorError> {
        match storage.open(path, Access::Read) {
            Ok(file) => newest(file.as_ref(), path).map(|found| found.oddity),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(AnchorError::io("open", path)(error)),
        }
    }

    fn encode_slot(&self, generation: u64) -> Result<Vec<u8>, AnchorError> {
        let too_large = |what, found, limit| Err(AnchorError::TooLarge { what, found, limit });
        if self.logs.len() > ANCHOR_LOGS_MAX {
            return too_large("number of logs", self.logs.len(), ANCHOR_LOGS_MAX);
        }
        if self.boot.len() > BOOT_BYTES_MAX {
            return too_large("boot id's length", self.boot.len(), BOOT_BYTES_MAX);
        }
        let body = canonical::encode(self);
        assert!(
            body.len() <= BODY_BYTES_MAX,
            "the bounds above keep an anchor within its slot"
        );
        let length = u32::try_from(body.len()).expect("less than a slot");
        let mut slot = Vec::with_capacity(SLOT_BYTES);
        slot.extend_from_slice(&MAGIC);
        slot.extend_from_slice(&VERSION.to_be_bytes());
        slot.extend_from_slice(&generation.to_be_bytes());
        slot.extend_from_slice(&length.to_be_bytes());
        slot.extend_from_slice(&body);
        slot.resize(SLOT_BYTES - 32, 0);
        let checksum = blake3::derive_key(CONTEXT, &slot);
        slot.extend_from_slice(&checksum);
        Ok(slot)
    }
}

// Generation and content of a sound slot; `None` when its checksum does not hold.
fn decode_slot(slot: &[u8], path: &Path) -> Result<Option<(u64, Anchor)>, AnchorError> {
    let Some((checked, checksum)) = slot.split_at_checked(SLOT_BYTES - 32) else {
        return Ok(None);
    };
    if checked[..8] != MAGIC || blake3::derive_key(CONTEXT, checked) != *checksum {
        return Ok(None);
    }
    let word =
        |at: usize| u32::from_be_bytes([checked[at], checked[at + 1], checked[at + 2], checked[at + 3]]);
    let version = word(8);
    if version != VERSION {
        return Err(AnchorError::Version {
            path: path.to_owned(),
            found: version,
        });
    }
    let generation = (u64::from(word(12)) << 32) | u64::from(word(16));
    let length = word(20) as usize;
    let Some(body) = checked[HEADER_BYTES..].get(..length) else {
        return Ok(None);
    };
    let anchor = canonical::decode("anchor", body).map_err(|source| AnchorError::Decode {
        path: path.to_owned(),
        source,
    })?;
    Ok(Some((generation, anchor)))
}

fn newest(file: &dyn StorageFile, path: &Path) -> Result<Newest, AnchorError> {
    let mut bytes = vec![0; 2 * SLOT_BYTES];
    let read = file
        .read_at(0, &mut bytes)
        .map_err(AnchorError::io("read", path))?;
    bytes.truncate(read);
    let slot = |number: usize| {
        bytes
            .get(number * SLOT_BYTES..(number + 1) * SLOT_BYTES)
            .unwrap_or(&[])
    };
    let mut found = [decode_slot(slot(0), path)?, decode_slot(slot(1), path)?];
    let generations = [0, 1].map(|number: usize| found[number].as_ref().map(|(generation, _)| *generation));
    let at = usize::from(generations[1] > generations[0]);
    let Some((generation, anchor)) = found[at].take() else {
        return Err(AnchorError::Damaged {
            path: path.to_owned(),
        });
    };
    let never_written = generation == 0 && slot(1).iter().all(|byte| *byte == 0);
    let oddity = if generation % 2 != at as u64 {
        Some("its slots stand in each other's place")
    } else if never_written
        || generation
            .checked_sub(1)
            .is_some_and(|before| generations[1 - at] == Some(before))
    {
        None
    } else {
        Some("one of its two slots is not sound")
    };
    Ok(Newest {
        generation,
        anchor,
        oddity,
    })
}

// The slot that counts, and what is wrong with the other.
#[derive(Debug)]
struct Newest {
    generation: u64,
    anchor: Anchor,
    oddity: Option<&'static str>,
}

/// The anchor's file, open for writing. Whoever holds it holds the store's lock.
#[derive(Debug)]
pub struct AnchorFile {
    file: Arc<dyn StorageFile>,
    path: PathBuf,
    generation: u64,
    poisoned: bool,
}

impl AnchorFile {
    /// Makes the file with its first content; durable, name included, when it returns.
    ///
    /// # Errors
    /// [`AnchorError::Io`] when it exists already, or when the disk refuses.
    pub fn create(storage: Arc<dyn Storage>, path: &Path, anchor: &Anchor) -> Result<Self, AnchorError> {
        let io = |doing| AnchorError::io(doing, path);
        if storage.exists(path).map_err(io("look for"))? {
            return Err(io("make")(std::io::ErrorKind::AlreadyExists.into()));
        }
        let mut content = anchor.encode_slot(0)?;
        content.resize(2 * SLOT_BYTES, 0);
        // Under its name it is whole or not there: an anchor without a sound slot would be an alarm.
        let unfinished = path.with_extension("new");
        if storage.exists(&unfinished).map_err(io("look for"))? {
            storage.remove(&unfinished).map_err(io("make"))?;
        }
        let file = storage.create_new(&unfinished).map_err(io("make"))?;
        file.write_at(0, &content)
            .and_then(|()| file.sync_data())
            .map_err(io("write"))?;
        storage.rename(&unfinished, path).map_err(io("rename"))?;
        let dir = path.parent().unwrap_or(Path::new("."));
        storage.sync_dir(dir).map_err(io("sync the folder of"))?;
        Ok(Self {
            file,
            path: path.to_owned(),
            generation: 0,
            poisoned: false,
        })
    }

    /// Opens the file and reads it; `None` when there is no anchor.
    ///
    /// # Errors
    /// As [`Anchor::load`].
    pub fn open(storage: Arc<dyn Storage>, path: &Path) -> Result<Option<(Self, Anchor)>, AnchorError> {
        let file = match storage.open(path, Access::Write) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(AnchorError::io("open", path)(error)),
        };
        let found = newest(file.as_ref(), path)?;
        if let Some(oddity) = found.oddity {
            tracing::warn!(path = %path.display(), "anchor: {oddity}; the other counts, and the next write mends it");
        }
        let anchor_file = Self {
            file,
            path: path.to_owned(),
            generation: found.generation,
            poisoned: false,
        };
        Ok(Some((anchor_file, found.anchor)))
    }

    /// Writes the slot that is not the newest; durable when it returns.
    ///
    /// # Errors
    /// [`AnchorError::Io`] when the disk refuses; every later write is then refused, for nobody knows which slot counts,
    /// unless it was only full.
    pub fn write(&mut self, anchor: &Anchor) -> Result<(), AnchorError> {
        if self.poisoned {
            return Err(AnchorError::Poisoned {
                path: self.path.clone(),
            });
        }
        let generation = self.generation + 1;
        let slot = anchor.encode_slot(generation)?;
        let offset = (generation % 2) * SLOT_BYTES as u64;
        let io = |source| AnchorError::Io {
            doing: "write",
            path: self.path.clone(),
            source,
        };
        if let Err(source) = self.file.write_at(offset, &slot) {
            // A file system that copies on write may be full. The other slot counts still, and this one is written whole again.
            self.poisoned = !is_no_space(&source);
            return Err(io(source));
        }
        if let Err(source) = self.file.sync_data() {
            self.poisoned = true;
            return Err(io(source));
        }
        self.generation = generation;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
