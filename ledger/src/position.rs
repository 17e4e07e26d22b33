//! A place in a store's journal. Positions rise in the order in which the store learned things.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Where an entry of the journal begins: the segment's number and the byte offset in it.
///
/// ```
/// use ledger::Position;
/// let (a, b) = (Position { segment: 1, offset: 900 }, Position { segment: 2, offset: 8 });
/// assert!(Position::START < a && a < b && a.to_be_bytes() < b.to_be_bytes());
/// assert_eq!(Position::from_be_bytes(b.to_be_bytes()), b);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Position {
    /// The segment, from 1. 0 stands before everything.
    pub segment: u32,
    /// Bytes from the segment's beginning.
    pub offset: u32,
}

impl Position {
    /// Before every entry.
    pub const START: Position = Position {
        segment: 0,
        offset: 0,
    };

    /// Eight bytes whose order is the order of positions.
    pub fn to_be_bytes(self) -> [u8; 8] {
        let mut bytes = [0; 8];
        bytes[..4].copy_from_slice(&self.segment.to_be_bytes());
        bytes[4..].copy_from_slice(&self.offset.to_be_bytes());
        bytes
    }

    /// The inverse of [`Position::to_be_bytes`].
    pub fn from_be_bytes(bytes: [u8; 8]) -> Self {
        let [a, b, c, d, e, f, g, h] = bytes;
        Self {
            segment: u32::from_be_bytes([a, b, c, d]),
            offset: u32::from_be_bytes([e, f, g, h]),
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08}+{}", self.segment, self.offset)
    }
}

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Position({self})")
    }
}
