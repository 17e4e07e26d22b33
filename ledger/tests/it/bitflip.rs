//! Every single flipped bit of a small closed store's journal is found by `verify`, or provably harmless.
//!
//! Harmless is one region alone: the empty confirming batch at the very end. It holds no entry; its presence says only that
//! the batch before it was synced. Verification notes it, and with an anchor that says "closed" it is a finding as well.

use crate::disk::Disk;
use crate::stores::{assert_clean, entries, fact, fact_with, id, temp};
use ledger::clock::SystemEntropy;
use ledger::core::{LogId, ReceiptId, Record};
use ledger::journal::format::{BATCH_HEADER_BYTES, BATCHES_START, ENTRY_HEADER_BYTES};
use ledger::storage::Storage;
use ledger::verify::{Finding, Options, Report, verify_store};
use ledger::{Ledger, LedgerError, Paths};
use rayon::prelude::*;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

// Where a record lies, and whose it is.
struct Place {
    bytes: Range<usize>,
    payload: Option<usize>,
    log: LogId,
    seq: u64,
    id: ReceiptId,
}

// About ten receipts: with and without payloads, one of an actor, one batch with several, an id of its own.
fn small_store(dir: &Path) {
    let ledger = Ledger::lone(dir, "studio").unwrap();
    for number in 0..3_u8 {
        ledger.append(fact_with("with", &[number; 12])).unwrap();
        ledger.append(fact("without")).unwrap();
    }
    let said = ledger
        .sign_as_actor(fact_with("actor", b"by hand"), &SystemEntropy)
        .unwrap();
    ledger.append_signed(said).unwrap();
    let batch = ledger.commit(|tx| {
        tx.append(ledger::core::Stream::Facts, fact_with("one", b"1"))?;
        tx.append(ledger::core::Stream::Facts, fact("two"))?;
        tx.append(ledger::core::Stream::Facts, fact_with("three", b"3").id(id(3)))?;
        Ok::<_, LedgerError>(())
    });
    batch.unwrap();
    ledger.close().unwrap();
}

fn places(dir: &Path) -> Vec<Place> {
    let place = |(position, bytes, payload): (ledger::Position, Vec<u8>, Option<ledger::core::Payload>)| {
        let record = Record::parse(&bytes).unwrap();
        let begin = (position.offset + ENTRY_HEADER_BYTES) as usize;
        Place {
            bytes: begin..begin + bytes.len(),
            payload: payload.map(|payload| payload.bytes.len() + 32),
            log: record.seal().log,
            seq: record.seal().seq,
            id: record.statement().id,
        }
    };
    entries(dir).into_iter().map(place).collect()
}

// Verifies a journal that consists of these bytes, in memory and without an anchor.
fn verify(bytes: &[u8], full: bool) -> Report {
    let dir = PathBuf::from("/copy");
    let disk = Disk::default();
    disk.put(&dir.join("journal/00000001.seg"), bytes);
    let storage: Arc<dyn Storage> = Arc::new(disk);
    let options = Options {
        full,
        storage,
        ..Options::default()
    };
    verify_store(&dir, &options, &mut |_| {}).unwrap()
}

#[test]
fn every_flipped_bit_of_a_closed_store_is_found_and_the_receipt_is_named() {
    let dir = temp();
    small_store(dir.path());
    assert_clean(dir.path());
    let places = places(dir.path());
    assert_eq!(places.len(), 11);
    let bytes = std::fs::read(Paths::new(dir.path()).journal().join("00000001.seg")).unwrap();
    assert!(verify(&bytes, true).is_clean());
    // Closed cleanly: it ends with the confirming batch, and no zeros follow.
    let confirming = bytes.len() - BATCH_HEADER_BYTES as usize;
    assert_eq!(&bytes[confirming..confirming + 4], b"LBAT");

    let judge = |bit: usize| -> Result<(), String> {
        let at = bit / 8;
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (bit % 8);
        // The hash tier alone must find everything; the signatures are looked at once for each byte.
        let report = verify(&flipped, bit % 8 == at % 8);
        let must = |holds: bool, what: &str| {
            let place = format!("bit {} of byte {at}: {what}: {report}", bit % 8);
            holds.then_some(()).ok_or(place)
        };
        if at >= confirming {
            must(report.is_clean(), "the confirming batch holds nothing")?;
            must(
                report.notes.iter().any(|note| note.contains("nothing proves")),
                "is noted",
            )?;
            return must(report.counts.receipts == 11, "every receipt is read");
        }
        must(!report.is_clean(), "is silent")?;
        let Some(place) = places.iter().find(|place| place.bytes.contains(&at)) else {
            // Headers of the segment, of batches, of entries; payloads. All of them say where.
            return must(
                report.findings.iter().any(|f| f.position.is_some()),
                "is found nowhere",
            );
        };
        let is_it = |f: &Finding| f.log == Some(place.log) && f.seq == Some(place.seq);
        must(report.findings.iter().any(is_it), "the receipt is named")?;
        let others = report.findings.iter().any(|f| f.seq.is_some() && !is_it(f));
        must(!others, "no other receipt is accused")?;
        let ids = report.findings.iter().filter_map(|f| f.id);
        must(
            ids.into_iter().all(|id| id == place.id),
            "the id is the right one",
        )
    };
    let bad: Vec<String> = (0..bytes.len() * 8)
        .into_par_iter()
        .filter_map(|bit| judge(bit).err())
        .collect();
    assert!(
        bad.is_empty(),
        "{} of {} bits, the first: {}",
        bad.len(),
        bytes.len() * 8,
        bad[0]
    );
}

#[test]
fn a_flipped_bit_of_a_payload_names_its_receipt() {
    let dir = temp();
    small_store(dir.path());
    let places = places(dir.path());
    let bytes = std::fs::read(Paths::new(dir.path()).journal().join("00000001.seg")).unwrap();
    let mut seen = 0;
    for at in BATCHES_START as usize..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 0x04;
        let report = verify(&flipped, false);
        if report
            .findings
            .iter()
            .any(|finding| finding.code == "statement.payload")
        {
            assert_eq!(report.findings_total, 1, "byte {at}: {report}");
            let finding = &report.findings[0];
            let place = places.iter().find(|place| Some(place.id) == finding.id).unwrap();
            assert_eq!((finding.log, finding.seq), (Some(place.log), Some(place.seq)));
            seen += 1;
        }
    }
    let payloads: usize = places.iter().filter_map(|place| place.payload).sum();
    assert_eq!(seen, payloads, "each byte of salt and payload counts");
}

#[test]
fn a_journal_cut_at_any_byte_is_told_and_never_read_wrongly() {
    let dir = temp();
    small_store(dir.path());
    let bytes = std::fs::read(Paths::new(dir.path()).journal().join("00000001.seg")).unwrap();
    let confirming = bytes.len() - BATCH_HEADER_BYTES as usize;
    (0..bytes.len()).into_par_iter().for_each(|length| {
        let report = verify(&bytes[..length], false);
        // Without the anchor a missing tail cannot be known; but nothing that is there may be called damaged, and with
        // no receipt left it is no store.
        assert!(report.counts.receipts <= 11);
        if length > confirming {
            assert!(
                report.is_clean() && report.counts.receipts == 11,
                "length {length}"
            );
        }
        if report.counts.receipts == 0 {
            assert!(!report.is_clean(), "length {length}");
        }
    });
}
