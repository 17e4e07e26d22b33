//! C2SP `tlog-tiles`: a log's tree as static files of 256 hashes, and its records as files of 256 entries.
//!
//! Owns the names of these files ([`Tile::path`], [`entries_path`]), their bytes, the builder that makes the tiles of a
//! growing tree in one pass while holding fewer than 256 hashes a level ([`TileBuilder`]); the proofs that are made
//! from a few tiles instead of all leaves are [`TileTree`]'s. It does no I/O; what a tile holds is never trusted, since a proof
//! made from it is verified against a root.
//!
//! ```
//! use ledger_core::tiles::Tile;
//! let tile = Tile::at(0, 1_234_067, 316_000_000).unwrap();
//! assert_eq!(tile.path(), "tile/0/x001/x234/067");
//! // A tree of 70,000 ends with partial tiles.
//! assert_eq!(Tile::at(0, 273, 70_000).unwrap().path(), "tile/0/273.p/112");
//! ```

mod tree;

pub use tree::TileTree;

use crate::digest::TreeRoot;
use crate::tree::{Hash, Tree, root_of};

/// Hashes in a full tile, and entries in a full bundle.
pub const TILE_WIDTH: u64 = 256;
/// Levels of the tree that one tile spans.
const TILE_HEIGHT: u32 = 8;
/// Levels of tiles that a size of 64 bits can have.
const LEVELS: u8 = 8;
const HASHES_MAX: usize = 256;
/// Bytes of a full tile.
pub const TILE_BYTES_MAX: usize = 8192;
/// Bytes of a full entry bundle: 256 records of 65,535 bytes and their lengths.
pub const ENTRIES_BYTES_MAX: usize = 256 * (2 + crate::limits::RECORD_BYTES_MAX);
/// Where the signed checkpoint stands.
pub const CHECKPOINT_PATH: &str = "checkpoint";

/// A tile or bundle that is not what its place demands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TilesError {
    /// Not as many bytes as its width demands.
    #[error("{path}: a tile of its width has {expected} bytes, {found} are here")]
    TileBytes {
        /// The tile.
        path: String,
        /// Bytes that it should have.
        expected: usize,
        /// Bytes that it has.
        found: usize,
    },
    /// Not the entries that its width demands.
    #[error("{path}: the file does not hold exactly {expected} length-prefixed entries")]
    Entries {
        /// The bundle.
        path: String,
        /// Entries that it should have.
        expected: u16,
    },
    /// Tiles that do not belong together.
    #[error("the tiles of a tree of {size} leaves do not give its root; remove them, and they are made anew")]
    Root {
        /// Leaves.
        size: u64,
    },
    /// A proof of something that the tree does not have.
    #[error("the tree has {size} leaves, so there is no proof for {wanted}")]
    OutOfRange {
        /// Leaves.
        size: u64,
        /// The leaf, or the older size.
        wanted: u64,
    },
}

impl TilesError {
    /// The stable code of this error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TileBytes { .. } => "tiles.bytes",
            Self::Entries { .. } => "tiles.entries",
            Self::Root { .. } => "tiles.root",
            Self::OutOfRange { .. } => "tiles.range",
        }
    }
}

/// The name of one tile: level, index within the level, and how many hashes it holds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Tile {
    level: u8,
    index: u64,
    width: u16,
}

impl Tile {
    /// The tile at a place in a tree of `tree_size` leaves; `None` when it would be empty.
    pub fn at(level: u8, index: u64, tree_size: u64) -> Option<Self> {
        let hashes = hashes_at(level, tree_size);
        let before = index.checked_mul(TILE_WIDTH)?;
        let width = hashes.checked_sub(before)?.min(TILE_WIDTH);
        (width > 0).then(|| Self {
            level,
            index,
            width: u16::try_from(width).expect("at most 256"),
        })
    }

    /// Every tile of a tree, level by level.
    pub fn all(tree_size: u64) -> impl Iterator<Item = Self> {
        let levels = (0..LEVELS).take_while(move |level| hashes_at(*level, tree_size) > 0);
        levels.flat_map(move |level| {
            let count = hashes_at(level, tree_size).div_ceil(TILE_WIDTH);
            (0..count).filter_map(move |index| Self::at(level, index, tree_size))
        })
    }

    /// 0 for leaf hashes; above, each hash is the root of a full tile of the level below.
    pub fn level(&self) -> u8 {
        self.level
    }

    /// Its index within the level.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// How many hashes it holds, 1 to 256.
    pub fn width(&self) -> u16 {
        self.width
    }

    /// Whether it holds all 256, so that it never changes.
    pub fn is_full(&self) -> bool {
        u64::from(self.width) == TILE_WIDTH
    }

    /// `tile/<level>/<index>`, and `.p/<width>` when it is partial.
    pub fn path(&self) -> String {
        format!("tile/{}/{}", self.level, index_path(self.index, self.width))
    }

    /// Its hashes from its bytes.
    ///
    /// # Errors
    /// [`TilesError::TileBytes`] unless there are exactly as many as the width says.
    pub fn decode(&self, bytes: &[u8]) -> Result<Vec<Hash>, TilesError> {
        let expected = usize::from(self.width) * size_of::<Hash>();
        if bytes.len() != expected {
            return Err(TilesError::TileBytes {
                path: self.path(),
                expected,
                found: bytes.len(),
            });
        }
        let (hashes, _) = bytes.as_chunks::<32>();
        Ok(hashes.to_vec())
    }
}

/// A file below `tile/`, by its name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Resource {
    /// A tile of hashes.
    Tile(Tile),
    /// A bundle of entries.
    Entries {
        /// Its index.
        index: u64,
        /// How many entries it holds, 1 to 256.
        width: u16,
    },
}

impl Resource {
    /// Reads a name, such as `tile/0/x001/x234/067` or `tile/entries/000.p/3`; `None` for any that is not written so.
    ///
    /// ```
    /// use ledger_core::tiles::Resource;
    /// let entries = Resource::Entries { index: 1_234_067, width: 3 };
    /// assert_eq!(Resource::parse("tile/entries/x001/x234/067.p/3"), Some(entries));
    /// assert_eq!(Resource::parse("tile/entries/x000/067"), None);
    /// ```
    pub fn parse(path: &str) -> Option<Self> {
        let (level, name) = path.strip_prefix("tile/")?.split_once('/')?;
        let (name, width) = match name.split_once(".p/") {
            Some((name, width)) => (name, width.parse().ok()?),
            None => (name, u16::try_from(TILE_WIDTH).expect("256 fits")),
        };
        let mut index = 0_u64;
        for group in name.split('/') {
            let digits = group.strip_prefix('x').unwrap_or(group);
            index = index.checked_mul(1000)?.checked_add(digits.parse().ok()?)?;
        }
        if width == 0 {
            return None;
        }
        let resource = match level {
            "entries" => Self::Entries { index, width },
            level => Self::Tile(Tile {
                level: level.parse().ok().filter(|level| *level < LEVELS)?,
                index,
                width,
            }),
        };
        // One name has one spelling.
        (resource.path() == path).then_some(resource)
    }

    /// Its name.
    pub fn path(&self) -> String {
        match self {
            Self::Tile(tile) => tile.path(),
            Self::Entries { index, width } => entries_path(*index, *width),
        }
    }
}

/// How many hashes of a level a tree has.
fn hashes_at(level: u8, tree_size: u64) -> u64 {
    tree_size.checked_shr(TILE_HEIGHT * u32::from(level)).unwrap_or(0)
}

// The index in groups of three digits, all but the last behind an `x`, and the width of what is partial.
fn index_path(index: u64, width: u16) -> String {
    let mut path = format!("{:03}", index % 1000);
    let mut rest = index / 1000;
    while rest > 0 {
        path = format!("x{:03}/{path}", rest % 1000);
        rest /= 1000;
    }
    if u64::from(width) < TILE_WIDTH {
        path.push_str(&format!(".p/{width}"));
    }
    path
}

/// `tile/entries/<index>`, and `.p/<width>` when fewer than 256 entries are there.
pub fn entries_path(index: u64, width: u16) -> String {
    format!("tile/entries/{}", index_path(index, width))
}

/// The bytes of a tile: its hashes, one after another.
pub fn encode_tile(hashes: &[Hash]) -> Vec<u8> {
    hashes.concat()
}

/// Adds an entry to a bundle: its length as u16 be, and its bytes.
///
/// # Panics
/// When it is longer than [`crate::limits::RECORD_BYTES_MAX`], which a record never is.
pub fn push_entry(bundle: &mut Vec<u8>, entry: &[u8]) {
    let length = u16::try_from(entry.len()).expect("a record has at most 65,535 bytes");
    bundle.extend_from_slice(&length.to_be_bytes());
    bundle.extend_from_slice(entry);
}

/// The entries of a bundle; `index` and `width` name it in the error.
///
/// # Errors
/// [`TilesError::Entries`] unless it holds exactly `width` whole entries.
pub fn decode_entries(index: u64, width: u16, bytes: &[u8]) -> Result<Vec<&[u8]>, TilesError> {
    let wrong = || TilesError::Entries {
        path: entries_path(index, width),
        expected: width,
    };
    let mut entries = Vec::with_capacity(usize::from(width));
    let mut rest = bytes;
    while !rest.is_empty() {
        let (length, after) = rest.split_first_chunk::<2>().ok_or_else(wrong)?;
        let length = usize::from(u16::from_be_bytes(*length));
        let (entry, after) = after.split_at_checked(length).ok_or_else(wrong)?;
        entries.push(entry);
        rest = after;
    }
    if entries.len() == usize::from(width) {
        Ok(entries)
    } else {
        Err(wrong())
    }
}

/// Makes the tiles of a tree while it grows; holds fewer than 256 hashes for each of at most eight levels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TileBuilder {
    size: u64,
    levels: Vec<Vec<Hash>>,
}

impl TileBuilder {
    /// The tree of no leaves.
    pub fn new() -> Self {
        Self::default()
    }

    /// Goes on behind the first `size` leaves, given the partial tile of each level from 0 up (empty where the level has
    /// none); `None` when one has not the width that the size demands.
    pub fn resume(size: u64, partials: Vec<Vec<Hash>>) -> Option<Self> {
        let fits = |(level, hashes): (u8, &Vec<Hash>)| {
            u64::try_from(hashes.len()) == Ok(hashes_at(level, size) % TILE_WIDTH)
        };
        let levels = u8::try_from(partials.len()).ok()?;
        (hashes_at(levels, size) == 0 && (0..levels).zip(&partials).all(fits)).then_some(Self {
            size,
            levels: partials,
        })
    }

    /// How many leaves it covers.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Appends a leaf; the tiles that became full by it, lowest level first: mostly none.
    pub fn push(&mut self, leaf: Hash) -> Vec<(Tile, Vec<Hash>)> {
        self.size += 1;
        let mut full = Vec::new();
        let mut hash = leaf;
        for level in 0..LEVELS {
            let at = usize::from(level);
            if self.levels.len() == at {
                self.levels.push(Vec::new());
            }
            self.levels[at].push(hash);
            if self.levels[at].len() < HASHES_MAX {
                break;
            }
            let hashes = std::mem::take(&mut self.levels[at]);
            hash = root_of(&hashes);
            let index = hashes_at(level, self.size) / TILE_WIDTH - 1;
            let tile = Tile::at(level, index, self.size).expect("the tile that just became full");
            full.push((tile, hashes));
        }
        full
    }

    /// The partial tiles of the tree as it is, lowest level first.
    pub fn partials(&self) -> Vec<(Tile, Vec<Hash>)> {
        let levels = (0..).zip(&self.levels).filter(|(_, hashes)| !hashes.is_empty());
        let partial = |(level, hashes): (u8, &Vec<Hash>)| {
            let index = hashes_at(level, self.size) / TILE_WIDTH;
            let tile = Tile::at(level, index, self.size).expect("a level that has hashes");
            (tile, hashes.clone())
        };
        levels.map(partial).collect()
    }

    /// The tree as it is.
    pub fn tree(&self) -> Tree {
        let mut peaks = Vec::new();
        for hashes in self.levels.iter().rev() {
            let mut rest = hashes.as_slice();
            while !rest.is_empty() {
                // The largest perfect subtree that still fits.
                let (subtree, after) = rest.split_at(1 << rest.len().ilog2());
                peaks.push(root_of(subtree));
                rest = after;
            }
        }
        Tree::from_peaks(self.size, peaks).expect("one peak for each bit of the size")
    }

    /// The root of the tree as it is.
    pub fn root(&self) -> TreeRoot {
        self.tree().root()
    }
}
