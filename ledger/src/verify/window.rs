//! The newest records of a log, kept to be compared with pins, which come a little later than what they pin.
//!
//! Keeps leaf hash and seal digest of each, and the tree before each stretch of them, so that a root is computed only for what is
//! pinned or cited. Memory: about [`WINDOW_RECORDS`] times 64 bytes.

use super::log::Compared;
use ledger_core::tree::{Hash, Tree};
use ledger_core::{SealDigest, TreeRoot};
use std::collections::VecDeque;

/// Records of a log that stay comparable with a pin that comes later: 4 MiB. Older ones need a second reading.
pub(super) const WINDOW_RECORDS: usize = 65_536;
/// The same of a pulse, whose heads are cited by who just had them as the newest: 64 KiB.
pub(super) const WINDOW_PULSES: usize = 1024;
/// Records of a stretch that grows one by one.
const STRETCH_RECORDS: usize = 1024;

/// See the module.
#[derive(Debug)]
pub(super) struct Window {
    stretches: VecDeque<Stretch>,
    // Records in all of them, and how many stay.
    held: usize,
    keeps: usize,
    // The tree up to the last pin that was compared: the next one is mostly a little later.
    reached: Tree,
}

#[derive(Debug)]
struct Stretch {
    before: Tree,
    records: Vec<(Hash, SealDigest)>,
}

impl Stretch {
    fn end(&self) -> u64 {
        self.before
            .size()
            .saturating_add(u64::try_from(self.records.len()).unwrap_or(u64::MAX))
    }
}

impl Window {
    /// Begins behind a tree; so many records stay at least.
    pub(super) fn behind(before: Tree, keeps: usize) -> Self {
        let first = Stretch {
            before,
            records: Vec::new(),
        };
        Self {
            stretches: VecDeque::from([first]),
            held: 0,
            keeps,
            reached: Tree::new(),
        }
    }

    /// Goes on behind a tree, of whose records none is known.
    pub(super) fn jump(&mut self, before: Tree) {
        *self = Self::behind(before, self.keeps);
    }

    /// Takes in the next record.
    pub(super) fn push(&mut self, leaf: Hash, seal: SealDigest) {
        let last = self.stretches.back_mut();
        if let Some(last) = last.filter(|last| last.records.len() < STRETCH_RECORDS) {
            last.records.push((leaf, seal));
            self.held += 1;
            return;
        }
        let before = self.stretches.back().map_or_else(Tree::new, |last| {
            let mut tree = last.before.clone();
            last.records.iter().for_each(|(leaf, _)| tree.push(*leaf));
            tree
        });
        self.push_run(before, vec![(leaf, seal)]);
    }

    /// Takes in the next records; `before` is the tree without them.
    pub(super) fn push_run(&mut self, before: Tree, records: Vec<(Hash, SealDigest)>) {
        self.held += records.len();
        self.stretches.push_back(Stretch { before, records });
        while let Some(first) = self.stretches.front() {
            if self.held - first.records.len() < self.keeps {
                break;
            }
            self.held -= first.records.len();
            self.stretches.pop_front();
        }
    }

    /// Compares a record with a head.
    pub(super) fn compare(
        &mut self,
        seq: u64,
        seal: Option<&SealDigest>,
        root: Option<&TreeRoot>,
    ) -> Compared {
        let index = self.stretches.partition_point(|stretch| stretch.end() <= seq);
        let Some(stretch) = self.stretches.get(index) else {
            return Compared::NotNow;
        };
        let place = seq
            .checked_sub(stretch.before.size())
            .and_then(|place| usize::try_from(place).ok());
        let Some(place) = place else {
            return Compared::NotNow;
        };
        if seal.is_some_and(|seal| stretch.records[place].1 != *seal) {
            return Compared::OtherSeal;
        }
        let Some(root) = root else {
            return Compared::Same;
        };
        let done = self
            .reached
            .size()
            .checked_sub(stretch.before.size())
            .and_then(|done| usize::try_from(done).ok())
            .filter(|done| *done <= place + 1);
        let (mut tree, done) = match done {
            Some(done) => (std::mem::take(&mut self.reached), done),
            None => (stretch.before.clone(), 0),
        };
        stretch.records[done..=place]
            .iter()
            .for_each(|(leaf, _)| tree.push(*leaf));
        let found = tree.root();
        self.reached = tree;
        if found == *root {
            Compared::Same
        } else {
            Compared::OtherRoot
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ledger_core::tree::leaf_hash;

    fn record(n: u64) -> (Hash, SealDigest) {
        let hash = leaf_hash(&n.to_be_bytes());
        (hash, SealDigest(hash))
    }

    #[test]
    fn what_is_in_the_window_is_compared_in_any_order_and_what_is_not_never() {
        let total = 70_000_u64;
        let mut roots = Vec::new();
        let mut tree = Tree::new();
        let (leaf, seal) = record(0);
        let mut window = Window::behind(Tree::new(), WINDOW_RECORDS);
        window.push(leaf, seal);
        tree.push(leaf);
        roots.push(tree.root());
        let mut next = 1;
        while next < total {
            // By runs and one by one in turn.
            let before = tree.clone();
            let run: Vec<_> = (next..next + 700).map(record).collect();
            for (leaf, _) in &run {
                tree.push(*leaf);
                roots.push(tree.root());
            }
            next += 700;
            window.push_run(before, run);
            let (leaf, seal) = record(next);
            tree.push(leaf);
            roots.push(tree.root());
            window.push(leaf, seal);
            next += 1;
        }
        let mut compare = |seq: u64, n: u64, root: Option<u64>| {
            let at = |n: u64| usize::try_from(n).expect("small");
            window.compare(seq, Some(&record(n).1), root.map(|n| &roots[at(n)]))
        };
        for seq in [next - 1, 6_000, 6_001, 6_000, 69_000, 20_000, 20_001, 20_000] {
            assert_eq!(compare(seq, seq, Some(seq)), Compared::Same, "{seq}");
            assert_eq!(compare(seq, seq, None), Compared::Same);
            assert_eq!(compare(seq, seq + 1, Some(seq)), Compared::OtherSeal);
            assert_eq!(compare(seq, seq, Some(seq - 1)), Compared::OtherRoot);
        }
        for seq in [0, 3_000, next, next + 9] {
            assert_eq!(compare(seq, seq, None), Compared::NotNow, "{seq}");
        }
    }
}
