//! Cosigned checkpoints that the store keeps: signed by their log's own key, cosigned by witnesses that the order names, and over
//! exactly what is here.
//!
//! A checkpoint gets into `data/cosigned` only after this store has read back every record under it, so what it covers must be here.
//! Whose key a witness's is says the order (`key.joined`, `key.announced`) or the reader; a cosignature by another key is told as
//! not checked. Files are read before the journal is, which only grows.

use super::Options;
use super::heads::{Book, By, Head};
use super::log::LogState;
use super::pruned::PrunedLogs;
use super::report::{Aspect, Finding, Report};
use crate::error::LedgerError;
use crate::options::COSIGNED_BY_MOST;
use crate::storage::{Access, Storage};
use ledger_core::checkpoint::Checkpoint;
use ledger_core::kinds::{Detail, KeyAnnounced, KeyJoined};
use ledger_core::note::VerifierKey;
use ledger_core::{LogId, MachineId, NoteError, PublicKey, Record, cosignature};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Cosigned checkpoints that one run looks at: at most two for each log that the store has.
const NOTES_MAX: usize = 100_000;
/// Bytes of one at most: a checkpoint with many cosignatures.
const NOTE_BYTES_MAX: u64 = 128 * 1024;
/// Witnesses' keys that are kept.
const WITNESSES_MAX: usize = 100_000;
/// What a signature line begins with.
const SIGNATURE_MARK: &str = "\u{2014} ";

#[derive(Debug)]
struct Kept {
    path: PathBuf,
    checkpoint: Checkpoint,
    note: String,
}

/// See the module.
#[derive(Default, Debug)]
pub(super) struct CosignedNotes {
    kept: Vec<(LogId, Kept)>,
    witnesses: BTreeSet<(MachineId, PublicKey)>,
}

fn finding(code: &'static str, aspect: Aspect, log: LogId, text: String) -> Finding {
    Finding {
        code,
        aspect,
        log: Some(log),
        seq: None,
        id: None,
        position: None,
        text,
    }
}

fn read(storage: &dyn Storage, path: &Path) -> Result<Vec<u8>, LedgerError> {
    let read = || -> std::io::Result<Vec<u8>> {
        let file = storage.open(path, Access::Read)?;
        let length = file.len()?.min(NOTE_BYTES_MAX);
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        let found = file.read_at(0, &mut bytes)?;
        bytes.truncate(found);
        Ok(bytes)
    };
    read().map_err(|source| LedgerError::Io {
        what: "reading",
        path: path.to_owned(),
        source,
    })
}

impl CosignedNotes {
    /// Reads what lies in a store's folder of cosigned checkpoints; what is none is found.
    ///
    /// # Errors
    /// [`LedgerError::Io`] when it cannot be read.
    pub(super) fn load(
        dir: Option<&Path>,
        options: &Options,
        report: &mut Report,
    ) -> Result<Self, LedgerError> {
        let mut notes = Self::default();
        let storage = options.storage.as_ref();
        let Some(dir) = dir else {
            return Ok(notes);
        };
        let io = |source| LedgerError::Io {
            what: "listing",
            path: dir.to_owned(),
            source,
        };
        if !storage.exists(dir).map_err(io)? {
            return Ok(notes);
        }
        let names = storage.list(dir).map_err(io)?;
        let of_log = |name: &'_ String| {
            let log = LogId::from_hex(name.strip_suffix(COSIGNED_BY_MOST).unwrap_or(name))?;
            Some((log, dir.join(name)))
        };
        let files = names.iter().filter_map(of_log);
        for (log, path) in files.filter(|(log, _)| options.wants(log)).take(NOTES_MAX) {
            let note = String::from_utf8(read(storage, &path)?).unwrap_or_default();
            match Checkpoint::read_unverified(&note) {
                Ok(checkpoint) if checkpoint.log == log => {
                    let kept = Kept {
                        path,
                        checkpoint,
                        note,
                    };
                    notes.kept.push((log, kept));
                }
                read => {
                    let why = read.map_or_else(
                        |error| error.to_string(),
                        |other| format!("it is one of log {}", other.log.short()),
                    );
                    let text = format!("{} is no checkpoint of this log: {why}", path.display());
                    report.found(finding("cosigned.checkpoint", Aspect::Integrity, log, text));
                }
            }
        }
        Ok(notes)
    }

    /// Says what must be here by them, before anything is read; what contradicts a pruned log's own word is found at once.
    pub(super) fn expect(&self, book: &mut Book, pruned: &PrunedLogs) -> Vec<Finding> {
        let mut found = Vec::new();
        for (log, kept) in &self.kept {
            // A tree of no records says nothing.
            let Some(seq) = kept.checkpoint.tree_size.checked_sub(1) else {
                continue;
            };
            let head = Head {
                seal: None,
                root: Some(kept.checkpoint.root),
                by: By::Cosigned,
            };
            found.extend(book.say(*log, seq, head, None, pruned.floor(log).as_deref()));
        }
        found
    }

    /// Notes with which key a machine cosigns, as an order says.
    pub(super) fn hear(&mut self, record: &Record) {
        if self.kept.is_empty() || self.witnesses.len() >= WITNESSES_MAX {
            return;
        }
        let statement = record.statement();
        let said = match (statement.kind.as_str(), statement.schema) {
            (KeyJoined::KIND, KeyJoined::SCHEMA) => {
                let joined = KeyJoined::decode(&statement.detail);
                joined.map(|joined| (joined.machine, joined.witness_key)).ok()
            }
            (KeyAnnounced::KIND, KeyAnnounced::SCHEMA) => {
                let announced = KeyAnnounced::decode(&statement.detail);
                announced.map(|said| (said.machine, said.witness_key)).ok()
            }
            _ => None,
        };
        self.witnesses.extend(said);
    }

    /// Checks the signatures when everything was read.
    pub(super) fn judge(&self, logs: &BTreeMap<LogId, LogState>, pins: &[VerifierKey], report: &mut Report) {
        let mut witnesses: BTreeMap<String, Vec<VerifierKey>> = BTreeMap::new();
        let said = self.witnesses.iter().filter_map(|(machine, key)| {
            let key = key.verifier().ok()?;
            Some(VerifierKey::witness(cosignature::witness_name(machine), key))
        });
        for pin in said.chain(pins.iter().filter(|pin| pin.is_witness()).cloned()) {
            let of_name = witnesses.entry(pin.name().to_owned()).or_default();
            if of_name
                .iter()
                .all(|known| known.key().public() != pin.key().public())
            {
                of_name.push(pin);
            }
        }
        let (mut unknown, mut unread) = (0, 0);
        for (log, kept) in &self.kept {
            let Some(chain) = logs.get(log).and_then(LogState::chain) else {
                unread += 1;
                continue;
            };
            let path = kept.path.display();
            let own = chain.genesis().checkpoint_key.verifier();
            let opened = own
                .map_err(|error| error.to_string())
                .and_then(|own| Checkpoint::open(&kept.note, log, &own).map_err(|error| error.to_string()));
            if let Err(why) = opened {
                let text = format!("{path} is not signed by the log's own key: {why}");
                report.found(finding("cosigned.checkpoint", Aspect::Integrity, *log, text));
            }
            let lines = kept
                .note
                .lines()
                .filter_map(|line| line.strip_prefix(SIGNATURE_MARK));
            let signers: Vec<&str> = lines.filter_map(|line| line.split(' ').next()).collect();
            let names: BTreeSet<&str> = signers.iter().copied().collect();
            // The log's own signature is no cosignature.
            let mut known = 1;
            for witness in names.iter().filter_map(|name| witnesses.get(*name)).flatten() {
                match cosignature::verify(&kept.note, witness) {
                    Ok(_) => report.counts.cosignatures += 1,
                    Err(NoteError::Unsigned(_)) => continue,
                    Err(error) => {
                        let text = format!("in {path}: {error}");
                        report.found(finding("cosigned.signature", Aspect::Signatures, *log, text));
                    }
                }
                known += 1;
            }
            unknown += signers.len().saturating_sub(known);
        }
        if unknown > 0 {
            let why = format!("of {unknown} cosignatures, by keys that no order here names");
            report.not_checked(Aspect::Signatures, &why);
        }
        if unread > 0 {
            let why = format!("of {unread} cosigned checkpoints, of logs whose genesis is not here");
            report.not_checked(Aspect::Signatures, &why);
        }
    }
}
