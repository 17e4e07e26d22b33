//! A segment file without the ranges that were pruned: what is left lies side by side behind a map, and is read as if every
//! byte were where it always was.
//!
//! ```text
//! file = map, the same map again, the bytes of the ranges one after another
//! map  = magic "LDGRMAP\n", u32 version = 1, u32 segment, u32 segment bytes, u32 ranges, (u32 from, u32 to)*, 32 checksum
//! ```
//! Numbers are big-endian; ranges rise and do not touch; what no range covers reads as zeros. The checksum is a digest of the
//! bytes before it under a context of its own. Contract: [`open`] gives a file in which offsets are those of the segment,
//! whether it has a map or not; one that was cut ends before the first byte that is missing. A file with a map is made under
//! another name and renamed over the old one (`prune`); it is written afterwards only to erase payloads in place.

use super::format::{Fields, SEGMENT_BYTES_MAX};
use crate::storage::{Access, Storage, StorageFile};
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

const MAGIC: [u8; 8] = *b"LDGRMAP\n";
const VERSION: u32 = 1;
const CONTEXT: &str = "ledger v1 journal segment map";
const FIXED_BYTES: usize = 8 + 4 * 4;
const RANGE_BYTES: usize = 8;
const CHECKSUM_BYTES: usize = 32;
/// Ranges at most: between two of them lies at least the smallest batch.
const RANGES_MAX: u32 = SEGMENT_BYTES_MAX / 128;

/// Which bytes of a segment a file has.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Map {
    pub(super) segment: u32,
    /// Bytes of the whole segment, gaps included.
    pub(super) bytes: u32,
    /// What is there: rising, not empty, not touching.
    pub(super) ranges: Vec<Range<u32>>,
}

/// What is wrong with a map.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum MapFault {
    /// One copy of two; the file can be read.
    OneCopy {
        /// Where in the file it lies.
        offset: u32,
    },
    /// The file is longer than its map says.
    Stray {
        /// Where in the file the bytes begin that nothing names.
        offset: u32,
    },
}

impl Map {
    /// The bytes of one copy.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        let count = u32::try_from(self.ranges.len()).expect("bounded by the segment's size");
        for number in [VERSION, self.segment, self.bytes, count] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        for range in &self.ranges {
            bytes.extend_from_slice(&range.start.to_be_bytes());
            bytes.extend_from_slice(&range.end.to_be_bytes());
        }
        let checksum = blake3::derive_key(CONTEXT, &bytes);
        bytes.extend_from_slice(&checksum);
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (body, checksum) = bytes.split_at_checked(bytes.len().checked_sub(CHECKSUM_BYTES)?)?;
        if body.len() < FIXED_BYTES || body[..8] != MAGIC || blake3::derive_key(CONTEXT, body) != *checksum {
            return None;
        }
        let mut rest = Fields(&body[8..]);
        let (version, segment, bytes, count) = (rest.u32(), rest.u32(), rest.u32(), rest.u32());
        if rest.0.len() != usize::try_from(count).ok()?.checked_mul(RANGE_BYTES)? {
            return None;
        }
        let mut ranges: Vec<Range<u32>> = Vec::with_capacity(count as usize);
        for _ in 0..count {
            let range = rest.u32()..rest.u32();
            let follows = ranges.last().is_none_or(|before| before.end < range.start);
            if range.is_empty() || !follows || range.end > bytes {
                return None;
            }
            ranges.push(range);
        }
        let sound = version == VERSION && bytes <= SEGMENT_BYTES_MAX;
        sound.then_some(Self {
            segment,
            bytes,
            ranges,
        })
    }

    /// Bytes of both copies: where the ranges begin in the file.
    fn head_bytes(&self) -> u64 {
        2 * (FIXED_BYTES + self.ranges.len() * RANGE_BYTES + CHECKSUM_BYTES) as u64
    }

    /// Whether the byte at an offset of the segment is there.
    pub(super) fn has(&self, offset: u32) -> bool {
        let after = self.ranges.partition_point(|range| range.start <= offset);
        after > 0 && self.ranges[after - 1].contains(&offset)
    }
}

/// A segment's file, with its offsets whatever its layout; and its map when it has one.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) file: Arc<dyn StorageFile>,
    pub(super) map: Option<Arc<Map>>,
    pub(super) fault: Option<MapFault>,
}

/// Opens a segment's file by its path.
///
/// # Errors
/// What the disk says; `InvalidData` when both copies of a map are damaged.
pub(super) fn open(storage: &dyn Storage, path: &Path, access: Access) -> io::Result<Opened> {
    let file = storage.open(path, access)?;
    let mut fixed = [0; FIXED_BYTES];
    let read = file.read_at(0, &mut fixed)?;
    let length = file.len()?;
    let first = read_map(file.as_ref(), 0, length, &fixed[..read])?;
    let second = match &first {
        Some(map) => copy_behind(file.as_ref(), length, map)?,
        // A damaged first copy hides how long it is. Whatever begins like a segment has no map.
        None if super::segment::begins_like_one(&fixed[..read]) => None,
        None => find_second(file.as_ref(), length)?,
    };
    let (map, fault) = match (first, second) {
        (None, None) if fixed.starts_with(&MAGIC) => {
            let what = "both copies of the map of a pruned segment are damaged";
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        (None, None) => {
            return Ok(Opened {
                file,
                map: None,
                fault: None,
            });
        }
        (Some(first), Some(second)) if first == second => (first, None),
        (Some(first), _) => {
            let offset = u32::try_from(first.head_bytes() / 2).unwrap_or(u32::MAX);
            (first, Some(MapFault::OneCopy { offset }))
        }
        (None, Some(second)) => (second, Some(MapFault::OneCopy { offset: 0 })),
    };
    let live: u64 = map.ranges.iter().map(|r| u64::from(r.end - r.start)).sum();
    let end = map.head_bytes() + live;
    let stray = (length > end).then(|| MapFault::Stray {
        offset: u32::try_from(end).unwrap_or(u32::MAX),
    });
    let map = Arc::new(map);
    Ok(Opened {
        file: Arc::new(MappedFile::new(file, length, map.clone())),
        map: Some(map),
        fault: fault.or(stray),
    })
}

// The map that should begin at this place, by what its fixed part says of its length.
fn read_map(file: &dyn StorageFile, at: u64, length: u64, fixed: &[u8]) -> io::Result<Option<Map>> {
    if fixed.len() < FIXED_BYTES || fixed[..8] != MAGIC {
        return Ok(None);
    }
    let count = Fields(&fixed[20..]).u32();
    let bytes = FIXED_BYTES as u64 + u64::from(count) * RANGE_BYTES as u64 + CHECKSUM_BYTES as u64;
    if count > RANGES_MAX || at + bytes > length {
        return Ok(None);
    }
    let mut whole = vec![0; usize::try_from(bytes).expect("bounded above")];
    let read = file.read_at(at, &mut whole)?;
    Ok(Map::decode(&whole[..read]))
}

fn copy_behind(file: &dyn StorageFile, length: u64, map: &Map) -> io::Result<Option<Map>> {
    let at = map.head_bytes() / 2;
    let mut fixed = [0; FIXED_BYTES];
    let read = file.read_at(at, &mut fixed)?;
    read_map(file, at, length, &fixed[..read])
}

fn find_second(file: &dyn StorageFile, length: u64) -> io::Result<Option<Map>> {
    let most = FIXED_BYTES as u64 + u64::from(RANGES_MAX) * RANGE_BYTES as u64 + CHECKSUM_BYTES as u64 + 8;
    let mut head = vec![0; usize::try_from(length.min(most)).expect("bounded above")];
    let read = file.read_at(0, &mut head)?;
    let mut from = 1;
    while let Some(found) = head[..read]
        .get(from..)
        .and_then(|rest| rest.windows(8).position(|window| window == MAGIC))
    {
        let at = from + found;
        let mut fixed = [0; FIXED_BYTES];
        let read = file.read_at(at as u64, &mut fixed)?;
        if let Some(map) = read_map(file, at as u64, length, &fixed[..read])?
            && map.head_bytes() == 2 * at as u64
        {
            return Ok(Some(map));
        }
        from = at + 1;
    }
    Ok(None)
}

// Reads and writes by the segment's offsets.
#[derive(Debug)]
struct MappedFile {
    file: Arc<dyn StorageFile>,
    map: Arc<Map>,
    // Where each range begins in the file.
    places: Vec<u64>,
    // The segment's length; of a file that was cut, up to the first byte that is missing.
    bytes: u32,
}

impl MappedFile {
    fn new(file: Arc<dyn StorageFile>, length: u64, map: Arc<Map>) -> Self {
        let mut at = map.head_bytes();
        let place = |range: &Range<u32>| {
            let here = at;
            at += u64::from(range.end - range.start);
            here
        };
        let places: Vec<u64> = map.ranges.iter().map(place).collect();
        let missing = map.ranges.iter().zip(&places).find_map(|(range, place)| {
            let there = u32::try_from(length.saturating_sub(*place)).unwrap_or(u32::MAX);
            (there < range.end - range.start).then(|| range.start + there)
        });
        let bytes = missing.unwrap_or(map.bytes);
        Self {
            file,
            map,
            places,
            bytes,
        }
    }

    // The pieces of a stretch that are there: where in the stretch, where in the file, how many bytes.
    fn pieces(&self, offset: u64, bytes: usize) -> impl Iterator<Item = (usize, u64, usize)> + '_ {
        let end = offset.saturating_add(bytes as u64);
        let first = self
            .map
            .ranges
            .partition_point(|range| u64::from(range.end) <= offset);
        let ranges = self.map.ranges[first..].iter().zip(&self.places[first..]);
        ranges
            .take_while(move |(range, _)| u64::from(range.start) < end)
            .map(move |(range, place)| {
                let from = offset.max(u64::from(range.start));
                let to = end.min(u64::from(range.end));
                let at = usize::try_from(from - offset).expect("inside the stretch");
                let count = usize::try_from(to - from).expect("inside the stretch");
                (at, place + (from - u64::from(range.start)), count)
            })
    }
}

fn unsupported(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}

impl StorageFile for MappedFile {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let room = u64::from(self.bytes).saturating_sub(offset);
        let count = usize::try_from(room).unwrap_or(usize::MAX).min(into.len());
        let into = &mut into[..count];
        into.fill(0);
        for (at, place, bytes) in self.pieces(offset, count) {
            if self.file.read_at(place, &mut into[at..at + bytes])? < bytes {
                let what = "the file of a pruned segment became shorter while it was read";
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, what));
            }
        }
        Ok(count)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let there: usize = self.pieces(offset, bytes.len()).map(|(_, _, count)| count).sum();
        if there != bytes.len() {
            return Err(unsupported("nothing is written where a segment was pruned"));
        }
        self.pieces(offset, bytes.len())
            .try_for_each(|(at, place, count)| self.file.write_at(place, &bytes[at..at + count]))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        if bytes == u64::from(self.bytes) {
            return Ok(());
        }
        Err(unsupported("a pruned segment keeps its length"))
    }

    fn len(&self) -> io::Result<u64> {
        Ok(u64::from(self.bytes))
    }
}

/// Writes the file of a map: `bytes` is the whole segment. Does not sync.
pub(super) fn write(file: &dyn StorageFile, map: &Map, bytes: &[u8]) -> io::Result<()> {
    file.write_at(0, &map.encode().repeat(2))?;
    let mut at = map.head_bytes();
    let mut block = Vec::with_capacity(super::segment::BLOCK_BYTES);
    for range in &map.ranges {
        for piece in bytes[range.start as usize..range.end as usize].chunks(super::segment::BLOCK_BYTES) {
            if block.len() + piece.len() > super::segment::BLOCK_BYTES {
                file.write_at(at, &block)?;
                at += block.len() as u64;
                block.clear();
            }
            block.extend_from_slice(piece);
        }
    }
    if block.is_empty() {
        return Ok(());
    }
    file.write_at(at, &block)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]
    use super::*;
    use crate::storage::DiskStorage;
    use proptest::prelude::*;

    fn map_of(holes: &[(u32, u32)], bytes: u32) -> Map {
        let mut there = vec![true; bytes as usize];
        for (from, count) in holes {
            let end = (from + count).min(bytes);
            there[(*from).min(end) as usize..end as usize].fill(false);
        }
        let mut ranges: Vec<Range<u32>> = Vec::new();
        for (at, there) in (0..).zip(there) {
            match ranges.last_mut() {
                _ if !there => {}
                Some(last) if last.end == at => last.end += 1,
                _ => ranges.push(at..at + 1),
            }
        }
        Map {
            segment: 3,
            bytes,
            ranges,
        }
    }

    proptest! {
        #[test]
        fn every_stretch_reads_as_the_segment_with_zeros_where_it_was_pruned(
            holes in prop::collection::vec((0_u32..500, 1_u32..90), 0..8),
            bytes in 1_u32..500,
            from in 0_u64..600, count in 0_usize..600,
        ) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("00000003.seg");
            let map = map_of(&holes, bytes);
            let whole: Vec<u8> = (0..bytes).map(|n| n.to_be_bytes()[3] | 1).collect();
            let file = DiskStorage.create_new(&path).unwrap();
            write(file.as_ref(), &map, &whole).unwrap();
            let opened = open(&DiskStorage, &path, Access::Write).unwrap();
            prop_assert_eq!(opened.map.as_deref(), Some(&map));
            prop_assert_eq!(opened.fault, None);
            let expected: Vec<u8> = (0..).zip(&whole).map(|(at, b)| if map.has(at) { *b } else { 0 }).collect();
            let mut into = vec![0xff; count];
            let read = opened.file.read_at(from, &mut into).unwrap();
            let begin = (from as usize).min(expected.len());
            let end = (begin + count).min(expected.len());
            prop_assert_eq!(&into[..read], &expected[begin..end]);
            // Erasing in place reaches what is there, and nothing else.
            let all_there = (begin..end).all(|at| map.has(at as u32));
            let erased = opened.file.write_at(begin as u64, &vec![0; end - begin]);
            prop_assert_eq!(erased.is_ok(), all_there);
        }
    }

    #[test]
    fn a_damaged_copy_of_the_map_costs_nothing_and_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("00000003.seg");
        let map = map_of(&[(20, 30), (70, 9)], 120);
        let whole = vec![7; 120];
        write(DiskStorage.create_new(&path).unwrap().as_ref(), &map, &whole).unwrap();
        let sound = std::fs::read(&path).unwrap();
        let head = map.head_bytes() as usize;
        for bit in 0..head * 8 {
            let mut bytes = sound.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, &bytes).unwrap();
            let opened = open(&DiskStorage, &path, Access::Read).unwrap();
            assert_eq!(opened.map.as_deref(), Some(&map), "bit {bit}");
            assert!(
                matches!(opened.fault, Some(MapFault::OneCopy { .. })),
                "bit {bit}"
            );
        }
        let mut bytes = sound.clone();
        bytes[30] ^= 1;
        bytes[head - 1] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        let error = open(&DiskStorage, &path, Access::Read).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        std::fs::write(&path, [sound.as_slice(), &[1]].concat()).unwrap();
        let opened = open(&DiskStorage, &path, Access::Read).unwrap();
        assert!(matches!(opened.fault, Some(MapFault::Stray { .. })));
    }
}
