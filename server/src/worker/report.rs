//! Reading what a handler reports while it runs.
//!
//! A handler appends lines to the file named by `LEDGER_REPORT`:
//!
//! ```text
//! progress 40 half of the frames      per cent 0 to 100, then an optional note
//! checkpoint frame=1200               where to go on from after a failure; free text
//! cost tokens 1200                    a name of a-z, 0-9, '_', and an amount; repeated amounts add up
//! ```
//!
//! Owns the position up to which the file was read. Contract: every complete line is seen once; a line that is
//! not understood, or is too long, is counted and skipped; a file that became shorter is read anew from its beginning. The
//! file is opened before the handler exists, so that putting something else in its place changes nothing here.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use super::error::WorkerError;
use super::files::RunFiles;

/// Longest line that is understood, in bytes; fits a receipt's detail with room.
const LINE_BYTES_MAX: usize = 2048;
/// Most bytes read in one call, so that a flood cannot hold the caller.
const READ_BYTES_MAX: usize = 64 * 1024;
/// Reads of that size for what is left when a run is over: 16 MiB, more than a report has uses for.
const FINISH_READS_MAX: usize = 256;
/// Longest name of a cost, in bytes.
const COST_NAME_BYTES_MAX: usize = 32;

/// One line that a handler reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReportLine {
    /// How far it is.
    Progress {
        /// 0 to 100.
        per_cent: u8,
        /// What it says about it; may be empty.
        note: String,
    },
    /// Where a later attempt may go on from.
    Checkpoint(String),
    /// Something used up, to be added to what was reported before under this name.
    Cost {
        /// For instance `tokens` or `usd_micros`.
        name: String,
        /// How much.
        amount: u64,
    },
}

impl ReportLine {
    /// Understands one line without its line end.
    #[must_use]
    pub fn parse(line: &str) -> Option<ReportLine> {
        let (word, rest) = line.trim().split_once(char::is_whitespace)?;
        let rest = rest.trim();
        match word {
            "progress" => {
                let (per_cent, note) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
                let per_cent = per_cent.parse().ok().filter(|value| *value <= 100)?;
                Some(ReportLine::Progress {
                    per_cent,
                    note: note.trim().to_owned(),
                })
            }
            "checkpoint" => Some(ReportLine::Checkpoint(rest.to_owned())),
            "cost" => {
                let (name, amount) = rest.split_once(char::is_whitespace)?;
                let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
                let valid = name.len() <= COST_NAME_BYTES_MAX && name.bytes().all(plain);
                let amount = amount.trim().parse().ok()?;
                valid.then(|| ReportLine::Cost {
                    name: name.to_owned(),
                    amount,
                })
            }
            _ => None,
        }
    }
}

/// Follows the report of one run.
#[derive(Debug)]
pub struct ReportReader {
    file: File,
    position: u64,
    partial: Vec<u8>,
    skipping: bool,
    malformed: u64,
}

impl ReportReader {
    /// Opens the report of a prepared run, at its beginning.
    ///
    /// # Errors
    /// [`WorkerError::Io`] if the run was not prepared, or the report is not a plain file.
    pub fn open(run_dir: &Path) -> Result<ReportReader, WorkerError> {
        let path = RunFiles::open(run_dir)?.report();
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::open(&path, flags, Mode::empty())
            .map_err(|errno| WorkerError::io("open the report", &path)(errno.into()))?;
        Ok(ReportReader {
            file: File::from(file),
            position: 0,
            partial: Vec::new(),
            skipping: false,
            malformed: 0,
        })
    }

    /// The lines that were completed since the last call, at most 64 KiB of them; empty when there is nothing new.
    ///
    /// # Errors
    /// [`WorkerError::Io`] if reading fails.
    pub fn read(&mut self) -> Result<Vec<ReportLine>, WorkerError> {
        let io = || WorkerError::io("read", Path::new("the report"));
        let length = self.file.metadata().map_err(io())?.len();
        if length < self.position {
            (self.position, self.skipping) = (0, false);
            self.partial.clear();
        }
        let mut buffer = vec![0_u8; READ_BYTES_MAX];
        let count = self.file.read_at(&mut buffer, self.position).map_err(io())?;
        self.position += count as u64;
        let mut lines = Vec::new();
        for piece in buffer[..count].split_inclusive(|&b| b == b'\n') {
            self.take(piece, &mut lines);
        }
        Ok(lines)
    }

    /// Reads what is left, at most 16 MiB of it, and takes a last line without a line end as complete. For a run that is over.
    ///
    /// # Errors
    /// [`WorkerError::Io`] if reading fails.
    pub fn finish(&mut self) -> Result<Vec<ReportLine>, WorkerError> {
        let mut lines = Vec::new();
        for _ in 0..FINISH_READS_MAX {
            let before = self.position;
            lines.extend(self.read()?);
            if self.position == before {
                break;
            }
        }
        if !self.partial.is_empty() {
            self.take(b"\n", &mut lines);
        }
        Ok(lines)
    }

    /// How many lines were not understood so far.
    #[must_use]
    pub fn malformed(&self) -> u64 {
        self.malformed
    }

    fn take(&mut self, piece: &[u8], lines: &mut Vec<ReportLine>) {
        let (text, complete) = match piece.strip_suffix(b"\n") {
            Some(text) => (text, true),
            None => (piece, false),
        };
        if !self.skipping && self.partial.len() + text.len() > LINE_BYTES_MAX {
            self.malformed += 1;
            self.skipping = true;
            self.partial.clear();
        }
        if !self.skipping {
            self.partial.extend_from_slice(text);
        }
        if !complete {
            return;
        }
        if !self.skipping && !self.partial.trim_ascii().is_empty() {
            match std::str::from_utf8(&self.partial)
                .ok()
                .and_then(ReportLine::parse)
            {
                Some(line) => lines.push(line),
                None => self.malformed += 1,
            }
        }
        self.partial.clear();
        self.skipping = false;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::Write;

    fn reader() -> (tempfile::TempDir, File, ReportReader) {
        let folder = tempfile::tempdir().unwrap();
        let file = File::create(folder.path().join("report")).unwrap();
        let reader = ReportReader::open(folder.path()).unwrap();
        (folder, file, reader)
    }

    #[test]
    fn the_end_of_a_long_report_is_read_too() {
        let (_folder, mut file, mut reader) = reader();
        let line = "progress 1 so far\n".repeat(10_000);
        file.write_all(line.as_bytes()).unwrap();
        file.write_all(b"cost tokens 7").unwrap();
        let lines = reader.finish().unwrap();
        assert_eq!((lines.len(), lines.last()), (10_001, Some(&cost("tokens", 7))));
    }

    fn cost(name: &str, amount: u64) -> ReportLine {
        ReportLine::Cost {
            name: name.to_owned(),
            amount,
        }
    }

    #[test]
    fn lines_are_seen_once_and_only_when_complete() {
        let (_folder, mut file, mut reader) = reader();
        assert!(reader.read().unwrap().is_empty());
        write!(file, "progress 40 half of it\ncheckpoint frame=12\ncost tok").unwrap();
        let half = ReportLine::Progress {
            per_cent: 40,
            note: "half of it".to_owned(),
        };
        assert_eq!(
            reader.read().unwrap(),
            [half, ReportLine::Checkpoint("frame=12".to_owned())]
        );
        assert!(reader.read().unwrap().is_empty());
        write!(file, "ens 1200\nprogress 100").unwrap();
        assert_eq!(reader.read().unwrap(), [cost("tokens", 1200)]);
        assert_eq!(
            reader.finish().unwrap(),
            [ReportLine::Progress {
                per_cent: 100,
                note: String::new()
            }]
        );
        assert_eq!(reader.malformed(), 0);
    }

    #[test]
    fn what_is_not_understood_is_counted_and_skipped() {
        let (_folder, mut file, mut reader) = reader();
        let long = "x".repeat(3 * LINE_BYTES_MAX);
        write!(
            file,
            "progress 101\nprogress many\nhello\ncost a -1\ncost A 1\ncost x\n\n"
        )
        .unwrap();
        writeln!(file, "checkpoint {long}").unwrap();
        file.write_all(b"checkpoint \xff\ncost ok 1\n").unwrap();
        assert_eq!(reader.read().unwrap(), [cost("ok", 1)]);
        assert_eq!(reader.malformed(), 8);
    }

    #[test]
    fn an_endless_line_needs_no_memory_and_the_next_line_is_read() {
        let (_folder, mut file, mut reader) = reader();
        file.write_all(&vec![b'x'; 3 * READ_BYTES_MAX]).unwrap();
        file.write_all(b"\ncost ok 1\n").unwrap();
        let mut lines = Vec::new();
        for _ in 0..4 {
            lines.extend(reader.read().unwrap());
        }
        assert_eq!((lines, reader.malformed()), (vec![cost("ok", 1)], 1));
    }

    #[test]
    fn a_report_that_was_written_anew_is_read_from_its_beginning() {
        let (folder, mut file, mut reader) = reader();
        write!(file, "cost first 1\ncost second 2\n").unwrap();
        assert_eq!(reader.read().unwrap().len(), 2);
        std::fs::write(folder.path().join("report"), "cost third 3\n").unwrap();
        assert_eq!(reader.read().unwrap(), [cost("third", 3)]);
    }
}
