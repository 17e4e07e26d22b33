//! The RFC 6962 Merkle tree over a log's records: SHA-256, leaf = `SHA-256(0x00 || record)`, node =
//! `SHA-256(0x01 || left || right)`.
//!
//! [`Tree`] keeps only the roots of the perfect subtrees (a compact range), so its size does not grow with the log.
//! Proofs are made from leaf hashes and verified as RFC 9162 sections 2.1.3.2 and 2.1.4.2 say.

use crate::digest::TreeRoot;
use sha2::{Digest, Sha256};

/// A node or leaf of the tree.
pub type Hash = [u8; 32];

/// The leaf hash of a record's bytes.
pub fn leaf_hash(record: &[u8]) -> Hash {
    Sha256::new()
        .chain_update([0])
        .chain_update(record)
        .finalize()
        .into()
}

pub(crate) fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Sha256::new()
        .chain_update([1])
        .chain_update(left)
        .chain_update(right)
        .finalize()
        .into()
}

/// A tree that only grows; holds at most 64 hashes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    size: u64,
    // Roots of the perfect subtrees, largest first: one for each set bit of `size`.
    peaks: Vec<Hash>,
}

impl Tree {
    /// The tree of no records.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts a tree together from its size and the roots of its perfect subtrees, largest first; `None` when their
    /// number does not fit the size.
    pub fn from_peaks(size: u64, peaks: Vec<Hash>) -> Option<Self> {
        (u32::try_from(peaks.len()) == Ok(size.count_ones())).then_some(Self { size, peaks })
    }

    /// How many records it covers.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Roots of the perfect subtrees, largest first.
    pub fn peaks(&self) -> &[Hash] {
        &self.peaks
    }

    // The peak that covers exactly this range.
    fn peak_over(&self, start: u64, end: u64) -> Option<Hash> {
        let (mut at, mut rest) = (0, self.size);
        for peak in &self.peaks {
            let width = 1 << rest.ilog2();
            if (at, at + width) == (start, end) {
                return Some(*peak);
            }
            (at, rest) = (at + width, rest - width);
        }
        None
    }

    /// Appends a leaf.
    pub fn push(&mut self, leaf: Hash) {
        let mut node = leaf;
        for _ in 0..self.size.trailing_ones() {
            let left = self.peaks.pop().expect("one peak for each set bit");
            node = node_hash(&left, &node);
        }
        self.peaks.push(node);
        self.size += 1;
    }

    /// The root. Of the empty tree it is SHA-256 of nothing.
    pub fn root(&self) -> TreeRoot {
        let mut peaks = self.peaks.iter().rev();
        let Some(last) = peaks.next() else {
            return TreeRoot(Sha256::digest([]).into());
        };
        TreeRoot(peaks.fold(*last, |right, left| node_hash(left, &right)))
    }
}

// The largest power of two below n, for n > 1.
fn split(n: usize) -> usize {
    n.next_power_of_two() >> 1
}

/// The root of leaf hashes (RFC 6962 section 2.1).
pub fn root_of(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => Sha256::digest([]).into(),
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(split(leaves.len()));
            node_hash(&root_of(left), &root_of(right))
        }
    }
}

/// The audit path of a leaf, from the leaf up; `None` when the index is not in the tree.
pub fn inclusion_proof(leaves: &[Hash], index: usize) -> Option<Vec<Hash>> {
    fn path(leaves: &[Hash], index: usize, out: &mut Vec<Hash>) {
        if leaves.len() > 1 {
            let k = split(leaves.len());
            let (left, right) = leaves.split_at(k);
            if index < k {
                path(left, index, out);
                out.push(root_of(right));
            } else {
                path(right, index - k, out);
                out.push(root_of(left));
            }
        }
    }
    let mut out = Vec::new();
    (index < leaves.len()).then(|| path(leaves, index, &mut out))?;
    Some(out)
}

/// The audit path of a leaf in the tree that goes on behind `before` with these leaves; `None` when the index is not among them.
/// What lies before is needed by its compact range alone.
pub fn inclusion_proof_behind(before: &Tree, leaves: &[Hash], index: u64) -> Option<Vec<Hash>> {
    let begin = before.size();
    let mut end = begin.checked_add(u64::try_from(leaves.len()).ok()?)?;
    if index < begin || index >= end {
        return None;
    }
    let mut start = 0;
    let mut path = Vec::new();
    while end - start > 1 {
        let middle = start + ((end - start).next_power_of_two() >> 1);
        let sibling = if index < middle {
            (middle, std::mem::replace(&mut end, middle))
        } else {
            (std::mem::replace(&mut start, middle), middle)
        };
        path.push(root_between(before, leaves, sibling.0, sibling.1)?);
    }
    path.reverse();
    Some(path)
}

// The root of the subtree over the records from `start` to before `end`.
fn root_between(before: &Tree, leaves: &[Hash], start: u64, end: u64) -> Option<Hash> {
    let begin = before.size();
    if start >= begin {
        let from = usize::try_from(start - begin).ok()?;
        let to = usize::try_from(end - begin).ok()?;
        return leaves.get(from..to).map(root_of);
    }
    if end <= begin {
        return before.peak_over(start, end);
    }
    let middle = start + ((end - start).next_power_of_two() >> 1);
    let left = root_between(before, leaves, start, middle)?;
    let right = root_between(before, leaves, middle, end)?;
    Some(node_hash(&left, &right))
}

/// The proof that the tree of the first `old_size` leaves is a prefix; `None` when there are fewer leaves.
pub fn consistency_proof(leaves: &[Hash], old_size: usize) -> Option<Vec<Hash>> {
    fn subproof(leaves: &[Hash], m: usize, complete: bool, out: &mut Vec<Hash>) {
        if m == leaves.len() {
            if !complete {
                out.push(root_of(leaves));
            }
            return;
        }
        let k = split(leaves.len());
        let (left, right) = leaves.split_at(k);
        if m <= k {
            subproof(left, m, complete, out);
            out.push(root_of(right));
        } else {
            subproof(right, m - k, false, out);
            out.push(root_of(left));
        }
    }
    let mut out = Vec::new();
    if old_size > leaves.len() {
        return None;
    }
    if old_size > 0 {
        subproof(leaves, old_size, true, &mut out);
    }
    Some(out)
}

/// The proof that `before` is a prefix of the tree that goes on behind it with these leaves. What lies before is needed by its
/// compact range alone; `None` when that is empty.
pub fn consistency_proof_behind(before: &Tree, leaves: &[Hash]) -> Option<Vec<Hash>> {
    let old_size = before.size();
    let mut end = old_size.checked_add(u64::try_from(leaves.len()).ok()?)?;
    let mut start = 0;
    let mut path = Vec::new();
    if old_size == 0 {
        return None;
    }
    while end != old_size {
        let middle = start + ((end - start).next_power_of_two() >> 1);
        let beside = if old_size <= middle {
            (middle, std::mem::replace(&mut end, middle))
        } else {
            (std::mem::replace(&mut start, middle), middle)
        };
        path.push(root_between(before, leaves, beside.0, beside.1)?);
    }
    if start > 0 {
        path.push(root_between(before, leaves, start, end)?);
    }
    path.reverse();
    Some(path)
}

/// Verifies an audit path (RFC 9162 section 2.1.3.2).
///
/// ```
/// use ledger_core::tree::{Tree, inclusion_proof, leaf_hash, verify_inclusion};
/// let leaves = [leaf_hash(b"record 0"), leaf_hash(b"record 1"), leaf_hash(b"record 2")];
/// let mut tree = Tree::new();
/// leaves.iter().for_each(|leaf| tree.push(*leaf));
/// let path = inclusion_proof(&leaves, 1).unwrap();
/// assert!(verify_inclusion(leaves[1], 1, tree.size(), &path, tree.root()));
/// assert!(!verify_inclusion(leaves[1], 2, tree.size(), &path, tree.root()));
/// ```
pub fn verify_inclusion(leaf: Hash, index: u64, size: u64, proof: &[Hash], root: TreeRoot) -> bool {
    if index >= size {
        return false;
    }
    let (mut position, mut last, mut node) = (index, size - 1, leaf);
    for sibling in proof {
        if last == 0 {
            return false;
        }
        if position & 1 == 1 || position == last {
            node = node_hash(sibling, &node);
            while position & 1 == 0 && position != 0 {
                position >>= 1;
                last >>= 1;
            }
        } else {
            node = node_hash(&node, sibling);
        }
        position >>= 1;
        last >>= 1;
    }
    last == 0 && node == root.0
}

/// Verifies that the tree of `old_size` with `old_root` is a prefix of the tree of `size` with `root`
/// (RFC 9162 section 2.1.4.2).
pub fn verify_consistency(
    old_size: u64,
    old_root: TreeRoot,
    size: u64,
    root: TreeRoot,
    proof: &[Hash],
) -> bool {
    if old_size > size {
        return false;
    }
    if old_size == size {
        return proof.is_empty() && old_root == root;
    }
    if old_size == 0 {
        return proof.is_empty() && old_root == Tree::new().root();
    }
    let (first, rest) = if old_size.is_power_of_two() {
        (old_root.0, proof)
    } else {
        match proof.split_first() {
            Some((first, rest)) => (*first, rest),
            None => return false,
        }
    };
    let (mut position, mut last) = (old_size - 1, size - 1);
    while position & 1 == 1 {
        position >>= 1;
        last >>= 1;
    }
    let (mut old, mut new) = (first, first);
    for node in rest {
        if last == 0 {
            return false;
        }
        if position & 1 == 1 || position == last {
            old = node_hash(node, &old);
            new = node_hash(node, &new);
            while position & 1 == 0 && position != 0 {
                position >>= 1;
                last >>= 1;
            }
        } else {
            new = node_hash(&new, node);
        }
        position >>= 1;
        last >>= 1;
    }
    last == 0 && old == old_root.0 && new == root.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn leaves(count: usize) -> Vec<Hash> {
        (0..count).map(|i| leaf_hash(&i.to_be_bytes())).collect()
    }

    #[test]
    fn the_empty_root_is_that_of_rfc_6962() {
        let hex = data_encoding::HEXLOWER.encode(&Tree::new().root().0);
        assert_eq!(
            hex,
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
    }

    #[test]
    fn growing_gives_the_recursive_root_at_every_size_and_every_proof_verifies() {
        let leaves = leaves(33);
        let mut tree = Tree::new();
        for n in 1..=leaves.len() {
            tree.push(leaves[n - 1]);
            let root = TreeRoot(root_of(&leaves[..n]));
            assert_eq!(tree.root(), root);
            for i in 0..n {
                let proof = inclusion_proof(&leaves[..n], i).unwrap();
                assert!(verify_inclusion(leaves[i], i as u64, n as u64, &proof, root));
                assert!(!verify_inclusion(
                    leaf_hash(b"other"),
                    i as u64,
                    n as u64,
                    &proof,
                    root
                ));
            }
            for m in 0..=n {
                let old = TreeRoot(root_of(&leaves[..m]));
                let proof = consistency_proof(&leaves[..n], m).unwrap();
                assert!(
                    verify_consistency(m as u64, old, n as u64, root, &proof),
                    "{m} of {n}"
                );
            }
        }
    }

    #[test]
    fn behind_a_compact_range_the_paths_are_those_of_the_whole_tree() {
        let leaves = leaves(70);
        for n in 2..=leaves.len() {
            for begin in 1..n {
                let mut before = Tree::new();
                leaves[..begin].iter().for_each(|leaf| before.push(*leaf));
                for index in begin..n {
                    let path = inclusion_proof_behind(&before, &leaves[begin..n], index as u64);
                    assert_eq!(
                        path,
                        inclusion_proof(&leaves[..n], index),
                        "{index} of {n} behind {begin}"
                    );
                }
                assert_eq!(
                    inclusion_proof_behind(&before, &leaves[begin..n], begin as u64 - 1),
                    None
                );
                assert_eq!(inclusion_proof_behind(&before, &leaves[begin..n], n as u64), None);
            }
        }
    }

    proptest! {
        #[test]
        fn a_changed_proof_never_verifies(n in 2usize..70, at in any::<prop::sample::Index>(), bit in 0usize..256, which in any::<prop::sample::Index>()) {
            let leaves = leaves(n);
            let root = TreeRoot(root_of(&leaves));
            let i = at.index(n);
            let mut proof = inclusion_proof(&leaves, i).unwrap();
            let k = which.index(proof.len());
            proof[k][bit / 8] ^= 1 << (bit % 8);
            prop_assert!(!verify_inclusion(leaves[i], i as u64, n as u64, &proof, root));
            let m = at.index(n - 1) + 1;
            let old = TreeRoot(root_of(&leaves[..m]));
            let mut proof = consistency_proof(&leaves, m).unwrap();
            let k = which.index(proof.len());
            proof[k][bit / 8] ^= 1 << (bit % 8);
            prop_assert!(!verify_consistency(m as u64, old, n as u64, root, &proof));
        }
    }

    #[test]
    fn a_consistency_proof_needs_of_what_lies_before_its_compact_range_alone() {
        let leaves = leaves(40);
        for size in 1..=leaves.len() {
            for old in 1..=size {
                let mut before = Tree::new();
                leaves[..old].iter().for_each(|leaf| before.push(*leaf));
                let proof = consistency_proof_behind(&before, &leaves[old..size]).unwrap();
                assert_eq!(
                    Some(&proof),
                    consistency_proof(&leaves[..size], old).as_ref(),
                    "{old} of {size}"
                );
            }
        }
        assert_eq!(consistency_proof_behind(&Tree::new(), &leaves), None);
    }
}
