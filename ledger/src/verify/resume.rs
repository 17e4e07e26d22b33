//! The file from which an interrupted verification goes on: up to where signatures were checked, and of which bytes.
//!
//! Contract: a small text of one form only, with a digest of itself at its end, written as a whole beside its place and renamed.
//! It names the store and the options that it was made with, the place in the journal, for each log how many records were
//! checked and the digest of their leaf hashes, and where signatures did not verify. It is no proof: whoever can write it
//! can say anything, so it lies where its owner trusts it, and never decides anything but which signatures are checked again.
//! What a crash leaves: the file before, whole. Deciding whether it fits is the duty of [`super::cover`].

use super::Options;
use crate::Position;
use crate::error::LedgerError;
use crate::storage::Storage;
use ledger_core::LogId;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

/// Bytes of the journal after which a run says again how far it is, unless [`Resume::every_bytes`] says otherwise.
const EVERY_BYTES: u64 = 64 << 20;
/// Bytes of a file at most: thousands of logs and [`super::FINDINGS_MAX`] places.
const FILE_BYTES_MAX: usize = 4 << 20;
const TITLE: &str = "ledger-verify-resume/1";
const CONTEXT: &str = "ledger v1 verify resume file";

/// Where a run that may be interrupted keeps how far it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Resume {
    /// The file: not in the store. When it is there, the run goes on from it; a run that ends removes it.
    pub file: PathBuf,
    /// Bytes of the journal after which it is written anew.
    pub every_bytes: u64,
}

impl Resume {
    /// With this file.
    pub fn new(file: impl Into<PathBuf>) -> Self {
        Self {
            file: file.into(),
            every_bytes: EVERY_BYTES,
        }
    }
}

/// Why a file cannot be gone on from.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResumeError {
    /// It is not what was written.
    #[error("{path}: {what}; delete it, and the verification begins from zero", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
    /// It is of something else.
    #[error(
        "{path}: it was made for {what}; name another file, repeat the options of the run that made it (times as RFC 3339), \
         or delete it to begin from zero",
        path = path.display()
    )]
    Other {
        /// The file.
        path: PathBuf,
        /// What differs.
        what: &'static str,
    },
    /// The run has nothing that could be gone on from.
    #[error("{what}; leave out the file to go on from")]
    Useless {
        /// Why.
        what: &'static str,
    },
    /// The run was asked to stop.
    #[error(
        "the verification was interrupted after {receipts} receipts; the same command goes on from there"
    )]
    Interrupted {
        /// Receipts that were read.
        receipts: u64,
    },
}

impl ResumeError {
    /// The stable code of this error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Damaged { .. } => "verify.resume-damaged",
            Self::Other { .. } => "verify.resume-other",
            Self::Useless { .. } => "verify.resume-useless",
            Self::Interrupted { .. } => "verify.interrupted",
        }
    }
}

/// How far one log was.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Covered {
    pub(super) log: LogId,
    pub(super) records: u64,
    /// Of their leaf hashes, in order.
    pub(super) digest: [u8; 32],
}

/// What the file says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct State {
    /// The store, in hex.
    pub(super) store: String,
    /// Of the options that decide which signatures are checked, and how.
    pub(super) options: [u8; 32],
    pub(super) saved_unix_ms: u64,
    /// The last record that was covered.
    pub(super) at: Position,
    /// By log.
    pub(super) logs: Vec<Covered>,
    /// Where a signature did not verify.
    pub(super) bad: BTreeSet<Position>,
}

/// The digest of what a run checks; `anchored`: whether an anchor says which logs are the store's own.
pub(super) fn options_digest(options: &Options, anchored: bool) -> [u8; 32] {
    let mut logs: Vec<String> = options.logs.iter().map(ToString::to_string).collect();
    logs.sort();
    let text = format!("{} {anchored} {:?} {logs:?}", options.full, options.range);
    blake3::derive_key(CONTEXT, text.as_bytes())
}

fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

fn digest_of(text: &str) -> Option<[u8; 32]> {
    let bytes = data_encoding::HEXLOWER.decode(text.as_bytes()).ok()?;
    bytes.try_into().ok()
}

impl State {
    fn to_text(&self) -> String {
        let mut text = format!(
            "{TITLE}\nstore {}\noptions {}\nsaved {}\nat {} {}\n",
            self.store,
            hex(&self.options),
            self.saved_unix_ms,
            self.at.segment,
            self.at.offset
        );
        for Covered { log, records, digest } in &self.logs {
            let _ = writeln!(text, "log {log} {records} {}", hex(digest));
        }
        for at in &self.bad {
            let _ = writeln!(text, "bad {} {}", at.segment, at.offset);
        }
        let check = blake3::derive_key(CONTEXT, text.as_bytes());
        let _ = writeln!(text, "check {}", hex(&check));
        text
    }

    fn of_text(text: &str) -> Option<Self> {
        let mut state = Self {
            store: String::new(),
            options: [0; 32],
            saved_unix_ms: 0,
            at: Position::START,
            logs: Vec::new(),
            bad: BTreeSet::new(),
        };
        for line in text.lines().skip(1) {
            let words: Vec<&str> = line.split(' ').collect();
            let position = |segment: &str, offset: &str| {
                Some(Position {
                    segment: segment.parse().ok()?,
                    offset: offset.parse().ok()?,
                })
            };
            match words[..] {
                ["store", store] => store.clone_into(&mut state.store),
                ["options", digest] => state.options = digest_of(digest)?,
                ["saved", time] => state.saved_unix_ms = time.parse().ok()?,
                ["at", segment, offset] => state.at = position(segment, offset)?,
                ["log", log, records, digest] => state.logs.push(Covered {
                    log: LogId::from_hex(log)?,
                    records: records.parse().ok()?,
                    digest: digest_of(digest)?,
                }),
                ["bad", segment, offset] => {
                    state.bad.insert(position(segment, offset)?);
                }
                ["check", _] => {}
                _ => return None,
            }
        }
        // There is one form only, the digest included.
        (state.to_text() == text).then_some(state)
    }

    /// Reads the file; `None` when there is none.
    pub(super) fn read(storage: &dyn Storage, path: &Path) -> Result<Option<Self>, LedgerError> {
        let Some(bytes) = crate::publish::read(storage, path, FILE_BYTES_MAX)? else {
            return Ok(None);
        };
        let text = String::from_utf8(bytes).unwrap_or_default();
        let what = if text.starts_with(TITLE) {
            "it is damaged"
        } else {
            "it is no file that a verification goes on from"
        };
        let path = path.to_owned();
        let state = Self::of_text(&text);
        Ok(Some(state.ok_or(ResumeError::Damaged { path, what })?))
    }

    /// Writes the file beside its place, and then there.
    pub(super) fn write(&self, storage: &dyn Storage, path: &Path) -> io::Result<()> {
        let mut unfinished = path.as_os_str().to_owned();
        unfinished.push(".part");
        let unfinished = PathBuf::from(unfinished);
        if storage.exists(&unfinished)? {
            storage.remove(&unfinished)?;
        }
        let file = storage.create_new(&unfinished)?;
        file.write_at(0, self.to_text().as_bytes())?;
        file.sync_data()?;
        storage.rename(&unfinished, path)
    }
}

/// Removes what a run leaves that has ended.
pub(super) fn remove(storage: &dyn Storage, path: &Path) -> io::Result<()> {
    if storage.exists(path)? {
        storage.remove(path)?;
    }
    Ok(())
}
