//! Proofs from tiles: what a few of them say about a tree, however many leaves it has.
//!
//! Owns which tiles a root, an audit path or a consistency proof takes, and how these follow from their hashes. Reads by the
//! caller's function, keeps what it has read, and trusts none of it: a proof is verified against a root.

use super::{TILE_HEIGHT, TILE_WIDTH, Tile, TilesError};
use crate::digest::TreeRoot;
use crate::tree::{Hash, Tree, node_hash, root_of};
use std::collections::BTreeMap;

/// A tree that is read from tiles as far as a proof needs it: a few for each level, however many leaves there are.
pub struct TileTree<R> {
    size: u64,
    read: R,
    seen: BTreeMap<Tile, Vec<Hash>>,
}

impl<R, E> TileTree<R>
where
    R: FnMut(Tile) -> Result<Vec<Hash>, E>,
    E: From<TilesError>,
{
    /// A tree of `size` leaves whose tiles `read` brings.
    pub fn new(size: u64, read: R) -> Self {
        Self {
            size,
            read,
            seen: BTreeMap::new(),
        }
    }

    /// The root.
    ///
    /// # Errors
    /// What `read` says.
    pub fn root(&mut self) -> Result<TreeRoot, E> {
        if self.size == 0 {
            return Ok(Tree::new().root());
        }
        Ok(TreeRoot(self.range_root(0, self.size)?))
    }

    /// The audit path of a leaf, from the leaf up (RFC 6962 section 2.1.1).
    ///
    /// # Errors
    /// [`TilesError::OutOfRange`] when there is no such leaf; what `read` says.
    pub fn inclusion_proof(&mut self, index: u64) -> Result<Vec<Hash>, E> {
        if index >= self.size {
            return Err(self.out_of_range(index));
        }
        let (mut first, mut end) = (0, self.size);
        let mut path = Vec::new();
        while end - first > 1 {
            let middle = first + split(end - first);
            if index < middle {
                path.push(self.range_root(middle, end)?);
                end = middle;
            } else {
                path.push(self.range_root(first, middle)?);
                first = middle;
            }
        }
        path.reverse();
        Ok(path)
    }

    /// The proof that the tree of the first `old_size` leaves is a prefix (RFC 6962 section 2.1.2).
    ///
    /// # Errors
    /// [`TilesError::OutOfRange`] when there are fewer leaves; what `read` says.
    pub fn consistency_proof(&mut self, old_size: u64) -> Result<Vec<Hash>, E> {
        if old_size > self.size {
            return Err(self.out_of_range(old_size));
        }
        if old_size == 0 || old_size == self.size {
            return Ok(Vec::new());
        }
        let (mut first, mut end) = (0, self.size);
        let mut proof = Vec::new();
        while old_size != end {
            let middle = first + split(end - first);
            if old_size <= middle {
                proof.push(self.range_root(middle, end)?);
                end = middle;
            } else {
                proof.push(self.range_root(first, middle)?);
                first = middle;
            }
        }
        // The verifier knows the older root itself when that is a node of this tree.
        if first > 0 {
            proof.push(self.range_root(first, end)?);
        }
        proof.reverse();
        Ok(proof)
    }

    /// The roots of the perfect subtrees over the first `size` leaves, largest first: what [`Tree::from_peaks`] takes.
    ///
    /// # Errors
    /// [`TilesError::OutOfRange`] when there are fewer leaves; what `read` says.
    pub fn peaks(&mut self, size: u64) -> Result<Vec<Hash>, E> {
        if size > self.size {
            return Err(self.out_of_range(size));
        }
        let (mut peaks, mut at) = (Vec::new(), 0);
        while at < size {
            let height = (size - at).ilog2();
            peaks.push(self.subtree(at, height)?);
            at += 1 << height;
        }
        Ok(peaks)
    }

    /// The audit path of leaf 0 within the tree of the first 2^`height` leaves.
    ///
    /// # Errors
    /// [`TilesError::OutOfRange`] when there are fewer leaves; what `read` says.
    pub fn path_of_first(&mut self, height: u32) -> Result<Vec<Hash>, E> {
        let leaves = 1_u64.checked_shl(height).unwrap_or(u64::MAX);
        if leaves > self.size {
            return Err(self.out_of_range(leaves));
        }
        (0..height).map(|level| self.subtree(1 << level, level)).collect()
    }

    fn out_of_range(&self, wanted: u64) -> E {
        let size = self.size;
        TilesError::OutOfRange { size, wanted }.into()
    }

    // The root over the leaves from `first` to before `end`: perfect subtrees from left to right, folded from the right.
    fn range_root(&mut self, first: u64, end: u64) -> Result<Hash, E> {
        let mut peaks = Vec::new();
        let mut at = first;
        while at < end {
            let height = (end - at).ilog2();
            peaks.push(self.subtree(at, height)?);
            at += 1 << height;
        }
        let mut peaks = peaks.into_iter().rev();
        let last = peaks.next().expect("a range has leaves");
        Ok(peaks.fold(last, |right, left| node_hash(&left, &right)))
    }

    // The root of the perfect subtree of 2^height leaves that begins at a leaf.
    fn subtree(&mut self, first: u64, height: u32) -> Result<Hash, E> {
        let level = u8::try_from(height / TILE_HEIGHT).expect("at most 7");
        let hash = first >> (TILE_HEIGHT * u32::from(level));
        let tile = Tile::at(level, hash / TILE_WIDTH, self.size).expect("a subtree within the tree");
        if !self.seen.contains_key(&tile) {
            let hashes = (self.read)(tile)?;
            if hashes.len() != usize::from(tile.width()) {
                return Err(TilesError::TileBytes {
                    path: tile.path(),
                    expected: usize::from(tile.width()) * size_of::<Hash>(),
                    found: hashes.len() * size_of::<Hash>(),
                }
                .into());
            }
            self.seen.insert(tile, hashes);
        }
        let from = usize::try_from(hash % TILE_WIDTH).expect("below 256");
        let count = 1 << (height % TILE_HEIGHT);
        Ok(root_of(&self.seen[&tile][from..from + count]))
    }
}

// The largest power of two below n, for n > 1.
fn split(n: u64) -> u64 {
    1 << (n - 1).ilog2()
}
