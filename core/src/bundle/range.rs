//! What a bundle of a range carries of the records before it: the genesis, and the hashes that stand for all of them.
//!
//! Contract: how many hashes there are follows from the range's first seq alone, so the bytes have one reading. The hashes
//! are covered by the checkpoint at the bundle's end, through the tree that goes on from them.

use crate::digest::TreeRoot;
use crate::limits::RECORD_BYTES_MAX;
use crate::tree::{self, Hash, Tree};

/// Bytes of the frame's content: a record and its length, at most 63 hashes of the path and 64 peaks.
pub(super) const START_BYTES_MAX: usize = 2 + RECORD_BYTES_MAX + (63 + 64) * size_of::<Hash>();

/// What stands before the first record of a range that does not begin at seq 0.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Start {
    /// The exact bytes of the log's genesis record, which names the keys.
    pub genesis: Vec<u8>,
    /// The audit path from the genesis, leaf 0, to the first peak.
    pub path: Vec<Hash>,
    /// The roots of the perfect subtrees over all records before the range, largest first.
    pub peaks: Vec<Hash>,
}

impl Start {
    /// The frame's content.
    ///
    /// # Panics
    /// When the genesis is longer than [`RECORD_BYTES_MAX`], which a record never is.
    pub fn encode(&self) -> Vec<u8> {
        let length = u16::try_from(self.genesis.len()).expect("a record has at most 65,535 bytes");
        let mut bytes = length.to_be_bytes().to_vec();
        bytes.extend_from_slice(&self.genesis);
        bytes.extend_from_slice(self.path.as_flattened());
        bytes.extend_from_slice(self.peaks.as_flattened());
        bytes
    }

    /// Reads the content of the frame of a range that begins at `first`; `None` unless it has exactly the hashes that
    /// `first` demands.
    pub fn decode(first: u64, bytes: &[u8]) -> Option<Self> {
        let (length, rest) = bytes.split_first_chunk::<2>()?;
        let (genesis, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        let (hashes, []) = rest.as_chunks::<32>() else {
            return None;
        };
        let (path, peaks) = hashes.split_at_checked(path_hashes(first)?)?;
        (u32::try_from(peaks.len()) == Ok(first.count_ones())).then(|| Self {
            genesis: genesis.to_vec(),
            path: path.to_vec(),
            peaks: peaks.to_vec(),
        })
    }

    /// The tree over all records before `first`; `None` when the peaks are not as many as that demands.
    pub fn tree(&self, first: u64) -> Option<Tree> {
        Tree::from_peaks(first, self.peaks.clone())
    }

    /// Whether the genesis is the first leaf under the first peak of a tree of `first` records.
    pub fn proves_genesis(&self, first: u64) -> bool {
        let (Some(height), Some(peak)) = (first.checked_ilog2(), self.peaks.first()) else {
            return false;
        };
        let leaf = tree::leaf_hash(&self.genesis);
        tree::verify_inclusion(leaf, 0, 1 << height, &self.path, TreeRoot(*peak))
    }
}

// The height of the largest perfect subtree before `first`, which holds leaf 0.
fn path_hashes(first: u64) -> Option<usize> {
    usize::try_from(first.checked_ilog2()?).ok()
}
