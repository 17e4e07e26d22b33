//! Segment files: their names, making one so that it appears whole or not at all, and reading its header.
//!
//! A segment is built under `NNNNNNNN.new`, synced, and renamed. What a crash leaves is a `.new` file, whose content is
//! elsewhere too (a header, zeros, and copies of batches that still stand in the segment before); opening removes it.

use super::error::{JournalError, is_no_space};
use super::format::{HeaderFault, SEGMENT_HEADER_BYTES, SEGMENT_MAGIC, SegmentHeader};
use super::sparse;
use crate::storage::{Access, Storage, StorageFile};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The highest number that eight digits hold.
pub(crate) const SEGMENT_NUMBER_MAX: u32 = 99_999_999;
/// Bytes written or read at a time where a whole file passes by.
pub(crate) const BLOCK_BYTES: usize = 1024 * 1024;

/// The file of a segment.
pub(crate) fn path(dir: &Path, segment: u32) -> PathBuf {
    dir.join(format!("{segment:08}.seg"))
}

pub(super) fn path_new(dir: &Path, segment: u32) -> PathBuf {
    dir.join(format!("{segment:08}.new"))
}

/// The numbers of the segments in a folder, rising, and the names of unfinished ones.
pub(crate) fn list(storage: &dyn Storage, dir: &Path) -> Result<(Vec<u32>, Vec<String>), JournalError> {
    let names = match storage.list(dir) {
        Ok(names) => names,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(JournalError::io("list", dir)(error)),
    };
    let number = |name: &str, suffix: &str| -> Option<u32> {
        let digits = name.strip_suffix(suffix)?;
        let sound = digits.len() == 8 && digits.bytes().all(|b| b.is_ascii_digit());
        sound
            .then(|| digits.parse().ok())
            .flatten()
            .filter(|number| *number > 0)
    };
    let segments = names.iter().filter_map(|name| number(name, ".seg")).collect();
    let unfinished = names
        .iter()
        .filter(|name| number(name, ".new").is_some())
        .cloned()
        .collect();
    Ok((segments, unfinished))
}

/// Makes a segment that begins with `content` (headers and perhaps batches) and goes on with zeros up to `filled`; it
/// stands there under its name, whole and durable, or not at all.
///
/// A failure leaves no segment, and at most a `.new` file. A full disk is told as [`JournalError::NoSpace`].
pub(crate) fn create(
    storage: &dyn Storage,
    dir: &Path,
    segment: u32,
    content: &[u8],
    filled: u32,
) -> Result<Arc<dyn StorageFile>, JournalError> {
    let (unfinished, finished) = (path_new(dir, segment), path(dir, segment));
    if storage
        .exists(&finished)
        .map_err(JournalError::io("look for", &finished))?
    {
        return Err(JournalError::Exists { dir: finished });
    }
    let make = || -> std::io::Result<Arc<dyn StorageFile>> {
        if storage.exists(&unfinished)? {
            storage.remove(&unfinished)?;
        }
        let file = storage.create_new(&unfinished)?;
        file.write_at(0, content)?;
        fill_zeros(file.as_ref(), content.len() as u64, u64::from(filled))?;
        file.sync_data()?;
        Ok(file)
    };
    let file = make().map_err(|source| {
        // Whatever is left of it is removed now or at the next opening.
        let _ = storage.remove(&unfinished);
        if is_no_space(&source) {
            JournalError::NoSpace {
                path: finished.clone(),
            }
        } else {
            JournalError::io("make", &unfinished)(source)
        }
    })?;
    storage
        .rename(&unfinished, &finished)
        .map_err(JournalError::io("rename", &unfinished))?;
    storage.sync_dir(dir).map_err(JournalError::io("sync", dir))?;
    Ok(file)
}

/// Writes zeros from one offset up to another.
pub(crate) fn fill_zeros(file: &dyn StorageFile, from: u64, to: u64) -> std::io::Result<()> {
    static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];
    let mut at = from;
    while at < to {
        let count = usize::try_from(to - at).unwrap_or(ZEROS.len()).min(ZEROS.len());
        file.write_at(at, &ZEROS[..count])?;
        at += count as u64;
    }
    Ok(())
}

/// Reads the header of a segment: the first copy that is sound, and whether both are.
pub(crate) fn read_header(
    file: &dyn StorageFile,
) -> std::io::Result<Result<(SegmentHeader, bool), HeaderFault>> {
    let mut bytes = [0; 2 * SEGMENT_HEADER_BYTES as usize];
    let length = file.read_at(0, &mut bytes)?;
    Ok(decode_header(&bytes[..length]))
}

/// The same from bytes.
pub(crate) fn decode_header(bytes: &[u8]) -> Result<(SegmentHeader, bool), HeaderFault> {
    let size = SEGMENT_HEADER_BYTES as usize;
    let copy = |number: usize| {
        bytes
            .get(number * size..(number + 1) * size)
            .map(SegmentHeader::decode)
    };
    match (copy(0), copy(1)) {
        (Some(Err(HeaderFault::Version(version))), _) | (_, Some(Err(HeaderFault::Version(version)))) => {
            Err(HeaderFault::Version(version))
        }
        (Some(Ok(first)), second) => {
            let both = second == Some(Ok(first.clone()));
            Ok((first, both))
        }
        (_, Some(Ok(second))) => Ok((second, false)),
        _ => Err(HeaderFault::Damaged),
    }
}

/// Opens a segment's file. Offsets in it are those of the segment, whatever was pruned from it.
pub(crate) fn open(
    storage: &dyn Storage,
    dir: &Path,
    segment: u32,
    access: Access,
) -> Result<Arc<dyn StorageFile>, JournalError> {
    open_mapped(storage, dir, segment, access).map(|opened| opened.file)
}

/// The same, with the map of what is there when something was pruned from it.
pub(super) fn open_mapped(
    storage: &dyn Storage,
    dir: &Path,
    segment: u32,
    access: Access,
) -> Result<sparse::Opened, JournalError> {
    let path = path(dir, segment);
    let opened = sparse::open(storage, &path, access).map_err(|error| {
        if error.kind() == std::io::ErrorKind::InvalidData {
            return JournalError::corrupt(segment, 0, error.to_string());
        }
        JournalError::io("open", path)(error)
    })?;
    match &opened.map {
        Some(map) if map.segment != segment => {
            let what = format!("the map is that of segment {}", map.segment);
            Err(JournalError::corrupt(segment, 0, what))
        }
        _ => Ok(opened),
    }
}

/// Whether a file begins like a segment from which nothing was pruned.
pub(super) fn begins_like_one(bytes: &[u8]) -> bool {
    bytes.starts_with(&SEGMENT_MAGIC)
}

/// Reads a whole file of at most `limit` bytes; `None` when it is larger.
pub(crate) fn read_whole(file: &dyn StorageFile, limit: u64) -> std::io::Result<Option<Vec<u8>>> {
    let length = file.len()?;
    if length > limit {
        return Ok(None);
    }
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    let mut bytes = vec![0; length];
    let read = file.read_at(0, &mut bytes)?;
    bytes.truncate(read);
    Ok(Some(bytes))
}
