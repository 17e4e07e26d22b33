//! Bounded capture of one output stream of a handler, and what its standard output says as a result.
//!
//! Owns one kept file per stream and a ring of the newest bytes in memory. Contract: the stream is always read to
//! its end, so that a handler never blocks on a full pipe; at most `bytes_max` bytes reach the disk; a disk that
//! refuses a write stops the keeping, not the run, and is told in [`Captured::store_error`]. A crash leaves a kept
//! file that ends early.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

/// Most bytes of a stream's end that are carried inside a result (small enough for a receipt's payload).
pub const TAIL_BYTES_MAX: usize = 16 * 1024;
/// Largest JSON result of a run, in bytes.
pub const RESULT_BYTES_MAX: usize = 32 * 1024;
/// The ring holds a whole result line, its line end and the line end before it.
const RING_BYTES_MAX: usize = RESULT_BYTES_MAX + 4;
const READ_BYTES: usize = 64 * 1024;

/// What became of one output stream.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Captured {
    /// Bytes that the run wrote.
    pub bytes: u64,
    /// Bytes of them that were kept on disk, from the beginning.
    pub kept_bytes: u64,
    /// The newest [`TAIL_BYTES_MAX`] bytes as text; what is not UTF-8 is replaced.
    pub tail: String,
    /// Why fewer bytes were kept than allowed, if the disk refused.
    pub store_error: Option<String>,
}

/// The state that the reading thread and the supervisor share.
#[derive(Default)]
pub(super) struct Capture {
    bytes: u64,
    kept_bytes: u64,
    ring: Vec<u8>,
    store_error: Option<String>,
}

pub(super) type Shared = Arc<Mutex<Capture>>;

/// A panic of the reading thread leaves counts that are still true; so poison is ignored.
pub(super) fn lock(shared: &Shared) -> MutexGuard<'_, Capture> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads `stream` to its end into `file`, at most `bytes_max` bytes of it.
pub(super) fn drain(mut stream: impl Read, mut file: File, bytes_max: u64, shared: &Shared) {
    let mut buffer = vec![0_u8; READ_BYTES];
    loop {
        let count = match stream.read(&mut buffer) {
            Ok(0) => return,
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => {
                lock(shared).store_error = Some(format!("reading failed: {error}"));
                return;
            }
        };
        let mut capture = lock(shared);
        capture.take(&buffer[..count], &mut file, bytes_max);
    }
}

impl Capture {
    fn take(&mut self, chunk: &[u8], file: &mut File, bytes_max: u64) {
        self.bytes = self.bytes.saturating_add(chunk.len() as u64);
        self.ring.extend_from_slice(chunk);
        if self.ring.len() > RING_BYTES_MAX {
            self.ring.drain(..self.ring.len() - RING_BYTES_MAX);
        }
        let room = usize::try_from(bytes_max.saturating_sub(self.kept_bytes)).unwrap_or(usize::MAX);
        let kept = &chunk[..chunk.len().min(room)];
        if self.store_error.is_none() && !kept.is_empty() {
            match file.write_all(kept) {
                Ok(()) => self.kept_bytes = self.kept_bytes.saturating_add(kept.len() as u64),
                Err(error) => self.store_error = Some(error.to_string()),
            }
        }
    }

    pub(super) fn captured(&self) -> Captured {
        Captured {
            bytes: self.bytes,
            kept_bytes: self.kept_bytes,
            tail: tail_text(&self.ring),
            store_error: self.store_error.clone(),
        }
    }

    /// The run's result as JSON text of at most [`RESULT_BYTES_MAX`] bytes: the last line that is not blank, if it
    /// is JSON as a whole, else `{"stdout_tail": "..."}`.
    pub(super) fn result(&self) -> String {
        let whole = self.bytes == self.ring.len() as u64;
        match last_line(&self.ring, whole) {
            Some(line) if serde_json::from_str::<serde_json::Value>(line).is_ok() => line.to_owned(),
            _ => tail_result(tail_text(&self.ring)),
        }
    }
}

/// The last line that is not blank, without surrounding space; `None` if it is not wholly in the ring, not UTF-8,
/// or too long for a result.
fn last_line(ring: &[u8], whole: bool) -> Option<&str> {
    let text = ring.trim_ascii_end();
    let line = match text.iter().rposition(|&b| b == b'\n') {
        Some(end) => &text[end + 1..],
        None if whole => text,
        None => return None,
    };
    let line = std::str::from_utf8(line.trim_ascii()).ok()?;
    (line.len() <= RESULT_BYTES_MAX).then_some(line)
}

fn tail_text(ring: &[u8]) -> String {
    let mut tail = &ring[ring.len().saturating_sub(TAIL_BYTES_MAX)..];
    // A cut may fall inside a character; its rest is dropped rather than shown as damage.
    if tail.len() < ring.len() {
        let rest = tail
            .iter()
            .take(3)
            .take_while(|&&b| b & 0b1100_0000 == 0b1000_0000)
            .count();
        tail = &tail[rest..];
    }
    String::from_utf8_lossy(tail).into_owned()
}

/// Escaping can make text six times as long, so the front is cut until the whole fits.
fn tail_result(mut tail: String) -> String {
    loop {
        let text = serde_json::json!({ "stdout_tail": tail }).to_string();
        if text.len() <= RESULT_BYTES_MAX {
            return text;
        }
        let mut cut = tail.len() / 4 + 1;
        while !tail.is_char_boundary(cut) {
            cut += 1;
        }
        tail.drain(..cut);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn captured(text: &[u8], bytes_max: u64) -> (Captured, String, usize) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("stdout");
        let shared = Shared::default();
        drain(text, File::create(&path).unwrap(), bytes_max, &shared);
        let capture = lock(&shared);
        (
            capture.captured(),
            capture.result(),
            std::fs::read(&path).unwrap().len(),
        )
    }

    #[test]
    fn the_last_line_is_the_result_if_it_is_json() {
        assert_eq!(captured(b"working\n{\"words\": 3}\n", 100).1, "{\"words\": 3}");
        assert_eq!(captured(b"{\"words\": 3}", 100).1, "{\"words\": 3}");
        assert_eq!(captured(b"noise\n42 \n\n", 100).1, "42");
        assert_eq!(
            captured(b"{\"words\": 3}\ndone\n", 100).1,
            r#"{"stdout_tail":"{\"words\": 3}\ndone\n"}"#
        );
        assert_eq!(captured(b"", 100).1, r#"{"stdout_tail":""}"#);
    }

    #[test]
    fn a_result_line_of_the_full_size_is_kept_and_one_byte_more_is_not() {
        for (size, accepted) in [(RESULT_BYTES_MAX, true), (RESULT_BYTES_MAX + 1, false)] {
            let line = format!("\"{}\"", "x".repeat(size - 2));
            let (_, result, _) = captured(format!("before\n{line}\n").as_bytes(), 100);
            assert_eq!(result == line, accepted, "{size}");
            assert!(result.len() <= RESULT_BYTES_MAX);
        }
    }

    #[test]
    fn a_flood_is_bounded_on_disk_and_in_the_result_and_counted_whole() {
        let flood = vec![1_u8; 3 * RING_BYTES_MAX];
        let (captured, result, on_disk) = captured(&flood, 1000);
        assert_eq!(captured.bytes, flood.len() as u64);
        assert_eq!((captured.kept_bytes, on_disk), (1000, 1000));
        assert!(captured.tail.len() <= TAIL_BYTES_MAX);
        assert!(result.len() <= RESULT_BYTES_MAX && result.starts_with("{\"stdout_tail\""));
    }

    #[test]
    fn a_tail_is_cut_between_characters() {
        let text = "ä".repeat(TAIL_BYTES_MAX) + "b";
        assert!(!captured(text.as_bytes(), 10).0.tail.contains('\u{fffd}'));
    }
}
