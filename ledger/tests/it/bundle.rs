//! An exported log verifies by itself, and no bit of it can change unseen.

use crate::stores::{assert_clean, entries, fact, fact_with, found, join, open, raw, take_in, temp};
use ledger::anchor::Anchor;
use ledger::bundle::ExportReport;
use ledger::core::bundle::{BundleCheck, FrameKind};
use ledger::core::checkpoint::Checkpoint;
use ledger::core::{LogId, Stream};
use ledger::storage::DiskStorage;
use ledger::verify::{Options, verify_bundle};
use ledger::{Ledger, Paths, State};
use std::io::Write;
use std::path::Path;

fn export<S: State>(ledger: &Ledger<S>, log: &LogId) -> (Vec<u8>, ExportReport) {
    let mut bytes = Vec::new();
    let report = ledger.export(log, &mut bytes).unwrap();
    assert_eq!(report.bytes, bytes.len() as u64);
    (bytes, report)
}

#[test]
fn an_exported_log_verifies_and_every_flipped_byte_is_found() {
    let dir = temp();
    let ledger = found(dir.path(), "studio", false);
    let log = ledger.own_log(Stream::Facts).unwrap();
    for number in 0..5 {
        ledger.append(fact_with("n", &[number; 10])).unwrap();
    }
    ledger.append(fact("none")).unwrap();
    let (bytes, report) = export(&ledger, &log);
    assert_eq!((report.receipts, report.payloads, report.absent), (7, 5, 0));
    assert_eq!(report.root, ledger.head(&log).unwrap().root);
    assert!(BundleCheck::of_bytes(&bytes).is_clean());
    for at in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        assert!(!BundleCheck::of_bytes(&flipped).is_clean(), "byte {at}");
    }
    let path = dir.path().join("facts.bundle");
    std::fs::write(&path, &bytes).unwrap();
    let verified = verify_bundle(&path, &Options::default(), &mut |_| {}).unwrap();
    assert!(verified.is_clean(), "{verified}");
    assert_eq!(
        (verified.logs[0].log, verified.logs[0].root),
        (log, Some(report.root))
    );
    assert_eq!(verified.logs[0].machine.as_deref(), Some("studio"));
    assert_eq!(verified.logs[0].stream, Some(Stream::Facts));
    let asked = Options {
        logs: vec![LogId([1; 32])],
        ..Options::default()
    };
    let other = verify_bundle(&path, &asked, &mut |_| {}).unwrap();
    assert_eq!(other.findings[0].code, "bundle.other-log");
    std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    let cut = verify_bundle(&path, &Options::default(), &mut |_| {}).unwrap();
    assert_eq!(cut.findings[0].code, "bundle.truncated");
}

#[test]
fn checkpoints_of_one_log_never_contradict_each_other_and_the_anchor_knows_the_last() {
    let dir = temp();
    let mut exported = Vec::new();
    let mut log = None;
    found(dir.path(), "studio", false).close().unwrap();
    for round in 0..3 {
        let ledger = open(dir.path());
        let facts = *log.get_or_insert(ledger.own_log(Stream::Facts).unwrap());
        for _ in 0..=round {
            ledger.append(fact("n")).unwrap();
        }
        let (_, report) = export(&ledger, &facts);
        let key = ledger.keyring().checkpoint(Stream::Facts).verifier();
        let checkpoint = Checkpoint::open(&report.checkpoint, &facts, &key).unwrap();
        assert_eq!(
            (checkpoint.tree_size, checkpoint.root),
            (report.receipts, report.root)
        );
        let anchor = Anchor::load(&DiskStorage, &Paths::new(dir.path()).anchor())
            .unwrap()
            .unwrap();
        let anchored = anchor.logs.iter().find(|anchored| anchored.log == facts).unwrap();
        assert_eq!(anchored.checkpoint_size, report.receipts);
        assert!(anchored.head.seq + 1 >= report.receipts);
        exported.push(report);
        ledger.close().unwrap();
    }
    // Each is a prefix of the last one.
    let leaves: Vec<_> = entries(dir.path())
        .into_iter()
        .filter(|(_, record, _)| ledger::core::Record::parse(record).unwrap().seal().log == log.unwrap())
        .map(|(_, record, _)| ledger::core::tree::leaf_hash(&record))
        .collect();
    for report in exported {
        let size = usize::try_from(report.receipts).unwrap();
        assert_eq!(ledger::core::tree::root_of(&leaves[..size]), report.root.0);
    }
    assert_clean(dir.path());
}

/// Where a bundle goes; a crash at the moment when its checkpoint leaves is kept as a copy of the store.
struct Witness<'a> {
    dir: &'a Path,
    crashed: &'a Path,
    log: LogId,
    written: Vec<u8>,
    released: bool,
}

impl Write for Witness<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if bytes[0] == FrameKind::End.byte() && bytes[5..].starts_with(b"ledger.log/v1/") {
            // Nobody has it yet, and the disk knows of it already.
            let path = Paths::new(self.dir).anchor();
            let anchor = Anchor::load(&DiskStorage, &path).unwrap().unwrap();
            let known = anchor.logs.iter().find(|known| known.log == self.log).unwrap();
            let text = std::str::from_utf8(&bytes[5..]).unwrap();
            let size: u64 = text.lines().nth(1).unwrap().parse().unwrap();
            assert_eq!(known.checkpoint_size, size);
            assert!(known.head.seq + 1 >= size, "all that it covers is durable");
            crate::stores::copy(self.dir, self.crashed);
            self.released = true;
        }
        self.written.extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_crash_while_a_checkpoint_leaves_makes_no_second_story_of_what_it_covers() {
    for whole in [true, false] {
        let (dir, crashed) = (temp(), temp());
        let crashed = crashed.path().join("copy");
        let ledger = found(dir.path(), "studio", false);
        let log = ledger.own_log(Stream::Facts).unwrap();
        for _ in 0..5 {
            ledger.append(fact("n")).unwrap();
        }
        let mut out = Witness {
            dir: dir.path(),
            crashed: &crashed,
            log,
            written: Vec::new(),
            released: false,
        };
        let report = if whole {
            ledger.export(&log, &mut out)
        } else {
            ledger.export_range(&log, 3, 4, &mut out)
        };
        let before = report.unwrap();
        assert!(out.released && BundleCheck::of_bytes(&out.written).is_clean());
        drop(ledger);
        // What a killed process left goes on, otherwise than the first one would have.
        let ledger = open(&crashed);
        ledger.append(fact("something else")).unwrap();
        let (_, after) = export(&ledger, &log);
        assert!(after.tree_size > before.tree_size);
        let leaves: Vec<_> = ledger
            .range(&log, 0, before.tree_size - 1)
            .map(|receipt| ledger::core::tree::leaf_hash(receipt.unwrap().record.bytes()))
            .collect();
        assert_eq!(ledger::core::tree::root_of(&leaves), before.root.0);
        ledger.close().unwrap();
    }
}

#[test]
fn another_machines_log_is_exported_by_that_machine_alone() {
    let dirs = [temp(), temp()];
    let gateway = found(dirs[0].path(), "gateway", true);
    let node = join(dirs[1].path(), "node", gateway.context().fleet);
    let log = node.own_log(Stream::Facts).unwrap();
    take_in(&gateway, &log, raw(&node, &log, 0, 0)).unwrap();
    let error = gateway.export(&log, &mut std::io::sink()).unwrap_err();
    assert_eq!(error.code(), "ledger.no-checkpoint-key");
    assert!(error.to_string().contains("machine node"), "{error}");
    let error = gateway.export(&LogId([1; 32]), &mut std::io::sink()).unwrap_err();
    assert_eq!(error.code(), "ledger.unknown-log");
}

struct Full(usize);

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.0 < bytes.len() {
            return Err(std::io::ErrorKind::StorageFull.into());
        }
        self.0 -= bytes.len();
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_disk_ends_an_export_with_an_error_and_the_store_goes_on() {
    let dir = temp();
    let ledger = found(dir.path(), "studio", false);
    let log = ledger.own_log(Stream::Facts).unwrap();
    assert_eq!(
        ledger.export(&log, &mut Full(100)).unwrap_err().code(),
        "ledger.io"
    );
    ledger.append(fact("n")).unwrap();
    assert!(BundleCheck::of_bytes(&export(&ledger, &log).0).is_clean());
}
