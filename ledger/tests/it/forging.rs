//! Stores that somebody changed on purpose: what a journal holds, and a journal of it written anew with sound checksums.

use crate::stores::{entries, fact, fact_with, found, pin, temp};
use ledger::Paths;
use ledger::clock::SystemEntropy;
use ledger::core::{LogId, Payload, Stream};
use ledger::journal::{EntryDraft, Journal, JournalOptions, StoreId};
use ledger::storage::DiskStorage;
use ledger::verify::Report;
use std::path::Path;
use std::sync::Arc;

pub(crate) type Stored = (Vec<u8>, Option<Payload>);

pub(crate) fn forge(dir: &Path, stored: &[Stored]) {
    forge_as(dir, stored, 9, JournalOptions::new([3; 32]));
}

// The same in small segments.
pub(crate) fn forge_small(dir: &Path, stored: &[Stored], store: u8) {
    let options = JournalOptions {
        segment_bytes: 4096,
        fill_bytes: 4096,
        entropy: [3; 32],
    };
    forge_as(dir, stored, store, options);
}

fn forge_as(dir: &Path, stored: &[Stored], store: u8, options: JournalOptions) {
    let journal = Paths::new(dir).journal();
    if journal.exists() {
        std::fs::remove_dir_all(&journal).unwrap();
    }
    let store = StoreId([store; 16]);
    let (mut journal, _) = Journal::create(Arc::new(DiskStorage), &journal, store, options).unwrap();
    for (record, payload) in stored {
        let payload = payload.as_ref();
        journal.append(&[EntryDraft { record, payload }]).unwrap();
    }
    journal.close().unwrap();
}

pub(crate) fn stored(dir: &Path) -> Vec<Stored> {
    entries(dir)
        .into_iter()
        .map(|(_, record, payload)| (record, payload))
        .collect()
}

pub(crate) fn codes(report: &Report) -> Vec<(&'static str, Option<u64>)> {
    report.findings.iter().map(|f| (f.code, f.seq)).collect()
}

pub(crate) struct Base {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) all: Vec<Stored>,
    pub(crate) facts: LogId,
}

// Three logs, pins, payloads, and some facts with a signature of their actor.
pub(crate) fn base() -> Base {
    let dir = temp();
    let ledger = found(dir.path(), "studio", true);
    let facts = ledger.own_log(Stream::Facts).unwrap();
    for number in 0..24_u8 {
        match number % 4 {
            0 => {
                let said = ledger.sign_as_actor(fact("by an actor"), &SystemEntropy).unwrap();
                ledger.append_signed(said).unwrap();
            }
            3 => {
                ledger.append_to(Stream::Order, pin(&ledger, &facts)).unwrap();
            }
            _ => {
                ledger.append(fact_with("n", &[number; 40])).unwrap();
            }
        }
    }
    ledger.close().unwrap();
    std::fs::remove_dir_all(dir.path().join("keys")).unwrap();
    let all = stored(dir.path());
    Base { dir, all, facts }
}

impl Base {
    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    // Where the record of this seq of the facts stands in the journal.
    pub(crate) fn fact_at(&self, seq: u64) -> usize {
        let is = |(record, _): &Stored| {
            let record = ledger::core::Record::parse(record).unwrap();
            record.seal().log == self.facts && record.seal().seq == seq
        };
        self.all.iter().position(is).unwrap()
    }

    // Without the last byte, which is of the log signature, being what it was.
    pub(crate) fn with_bad_signatures(&self, seqs: &[u64]) -> Vec<Stored> {
        let mut all = self.all.clone();
        for seq in seqs {
            *all[self.fact_at(*seq)].0.last_mut().unwrap() ^= 1;
        }
        all
    }
}
