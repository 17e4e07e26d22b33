//! A bundle is taken in as the log that it is, or not at all beyond whole verified runs; and nothing here is overwritten.

use crate::stores::{Counter, assert_clean, copy, fact, fact_with, found, join, open, raw, temp};
use ledger::core::bundle::BundleCheck;
use ledger::core::{LogId, Stream};
use ledger::verify::{Options, verify_bundle};
use ledger::{ImportError, Ledger, LedgerError, PayloadState};
use std::path::Path;

fn append_many(ledger: &Ledger<Counter>, count: u64) {
    let call = move |tx: &mut ledger::Tx<'_, Counter>| -> Result<(), LedgerError> {
        for number in 0..count {
            tx.append(Stream::Facts, fact_with("many", &number.to_be_bytes()))?;
        }
        Ok(())
    };
    ledger
        .commit(call)
        .map_err(ledger::CommitError::into_ledger)
        .unwrap();
}

fn facts(ledger: &Ledger<Counter>) -> LogId {
    ledger.own_log(Stream::Facts).unwrap()
}

fn export(ledger: &Ledger<Counter>) -> Vec<u8> {
    let mut bytes = Vec::new();
    ledger.export(&facts(ledger), &mut bytes).unwrap();
    bytes
}

fn export_range(ledger: &Ledger<Counter>, first: u64, last: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    let report = ledger
        .export_range(&facts(ledger), first, last, &mut bytes)
        .unwrap();
    assert_eq!((report.first, report.receipts), (first, last - first + 1));
    assert_eq!(report.bytes, bytes.len() as u64);
    bytes
}

fn import(ledger: &Ledger<Counter>, bundle: &[u8]) -> Result<(u64, u64), ImportError> {
    // In pieces that end anywhere.
    let report = ledger.import(&mut Pieces(bundle))?;
    assert_eq!(report.receipts, report.new + report.known);
    Ok((report.new, report.known))
}

struct Pieces<'a>(&'a [u8]);

impl std::io::Read for Pieces<'_> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let count = self.0.len().min(into.len()).min(9973);
        into[..count].copy_from_slice(&self.0[..count]);
        self.0 = &self.0[count..];
        Ok(count)
    }
}

/// A fleet's founder, and a machine of it with facts of its own.
fn two(dirs: &[tempfile::TempDir; 2]) -> (Ledger<Counter>, Ledger<Counter>) {
    let gateway = found(dirs[0].path(), "gateway", true);
    let node = join(dirs[1].path(), "node", gateway.context().fleet);
    (gateway, node)
}

fn code(imported: Result<(u64, u64), ImportError>) -> &'static str {
    imported.map_or_else(|error| error.code(), |_| "fine")
}

#[test]
fn an_imported_log_is_the_very_log_and_importing_again_only_adds() {
    let dirs = [temp(), temp()];
    let (gateway, node) = two(&dirs);
    let log = facts(&node);
    for number in 0..5 {
        node.append(fact_with("n", &[number; 10])).unwrap();
    }
    let first = export(&node);
    assert_eq!(import(&gateway, &first).unwrap(), (6, 0));
    assert_eq!(import(&gateway, &first).unwrap(), (0, 6));
    append_many(&node, 3000);
    assert_eq!(import(&gateway, &export(&node)).unwrap(), (3000, 6));
    assert_eq!(raw(&gateway, &log, 0, 3005), raw(&node, &log, 0, 3005));
    assert_eq!(gateway.head(&log), node.head(&log));
    // Into the very store that wrote it: all of it is there.
    assert_eq!(import(&node, &first).unwrap(), (0, 6));
    gateway.close().unwrap();
    assert_clean(dirs[0].path());
}

#[test]
fn a_range_is_taken_in_where_it_continues_what_is_here() {
    let dirs = [temp(), temp()];
    let (gateway, node) = two(&dirs);
    append_many(&node, 600);
    let error = gateway
        .import(&mut export_range(&node, 300, 400).as_slice())
        .unwrap_err();
    assert_eq!(error.code(), "import.gap");
    assert!(error.to_string().contains("begins at seq 300"), "{error}");
    assert_eq!(gateway.head(&facts(&node)), None, "nothing was taken in");
    assert_eq!(import(&gateway, &export_range(&node, 0, 299)).unwrap(), (300, 0));
    assert_eq!(
        code(import(&gateway, &export_range(&node, 301, 400))),
        "import.gap"
    );
    assert_eq!(
        import(&gateway, &export_range(&node, 300, 400)).unwrap(),
        (101, 0)
    );
    assert_eq!(
        import(&gateway, &export_range(&node, 350, 600)).unwrap(),
        (200, 51)
    );
    assert_eq!(gateway.head(&facts(&node)), node.head(&facts(&node)));
    gateway.close().unwrap();
    assert_clean(dirs[0].path());
}

#[test]
fn an_exported_range_verifies_by_itself_whatever_its_tiles_went_through() {
    let dir = temp();
    let ledger = found(dir.path(), "studio", false);
    let log = facts(&ledger);
    append_many(&ledger, 700);
    let path = dir.path().join("range.bundle");
    for (first, last) in [
        (0, 0),
        (0, 700),
        (1, 1),
        (255, 257),
        (256, 511),
        (513, 700),
        (700, 700),
    ] {
        std::fs::write(&path, export_range(&ledger, first, last)).unwrap();
        let keys = vec![ledger.verifier_key(&log).unwrap()];
        let options = Options {
            keys,
            ..Options::default()
        };
        let report = verify_bundle(&path, &options, &mut |_| {}).unwrap();
        assert!(report.is_clean(), "{first} to {last}: {report}");
        assert_eq!(
            (report.logs[0].seq, report.logs[0].receipts),
            (last, last - first + 1)
        );
    }
    // A tile that went bad is made anew.
    let tile = dir
        .path()
        .join("data/tiles")
        .join(log.to_hex())
        .join("tile/0/000");
    let mut bytes = std::fs::read(&tile).unwrap();
    bytes[40] ^= 1;
    std::fs::write(&tile, &bytes).unwrap();
    assert!(BundleCheck::of_bytes(&export_range(&ledger, 300, 310)).is_clean());
    let mut none = std::io::sink();
    for (first, last) in [(5, 4), (0, 701), (701, 701)] {
        let error = ledger.export_range(&log, first, last, &mut none).unwrap_err();
        assert_eq!(error.code(), "receipt.unknown", "{first} to {last}");
    }
}

#[test]
fn a_bundle_with_any_byte_changed_or_cut_is_not_taken_in() {
    let dirs = [temp(), temp()];
    let (gateway, node) = two(&dirs);
    node.append(fact_with("n", b"payload")).unwrap();
    let log = facts(&node);
    let draft = node
        .sign_as_actor(fact("by an actor"), &ledger::clock::SystemEntropy)
        .unwrap();
    node.append_signed(draft).unwrap();
    for whole in [export(&node), export_range(&node, 0, 1)] {
        for at in 0..whole.len() {
            let mut bad = whole.clone();
            bad[at] ^= 1 << (at % 8);
            let error = gateway.import(&mut bad.as_slice()).unwrap_err();
            assert!(!error.code().starts_with("ledger."), "byte {at}: {error}");
            let error = gateway.import(&mut &whole[..at]).unwrap_err();
            assert_eq!(error.code(), "bundle.truncated", "cut at {at}");
        }
        assert_eq!(gateway.head(&log), None, "nothing of it was taken in");
    }
    assert_eq!(import(&gateway, &export(&node)).unwrap(), (3, 0));
}

#[test]
fn damage_far_in_leaves_the_whole_runs_before_it_and_the_import_goes_on_from_there() {
    let dirs = [temp(), temp()];
    let (gateway, node) = two(&dirs);
    append_many(&node, 5000);
    let whole = export(&node);
    let mut bad = whole.clone();
    let at = whole.len() * 19 / 20;
    bad[at] ^= 4;
    let Err(ImportError::Bundle { seq, taken, .. }) = gateway.import(&mut bad.as_slice()) else {
        panic!("damage is a finding");
    };
    assert!(seq.is_some_and(|seq| seq > 4500), "{seq:?}");
    assert_eq!((taken.new, taken.size), (4096, 4096));
    drop(gateway);
    assert_clean(dirs[0].path());
    let gateway = open(dirs[0].path());
    assert_eq!(import(&gateway, &whole).unwrap(), (905, 4096));
}

#[test]
fn a_bundle_of_another_fleet_is_refused_before_anything_is_taken_in() {
    let log = ledger_fixtures::lone_log(3, 4);
    let (dir, other) = (temp(), temp());
    let stranger = found(dir.path(), "studio", false);
    assert_eq!(code(import(&stranger, &log.bundle())), "import.other-fleet");
    assert_eq!(stranger.head(&log.log()), None);
    let member = join(other.path(), "archive", log.chain().fleet());
    assert_eq!(import(&member, &log.bundle()).unwrap(), (4, 0));
    assert_eq!(member.head(&log.log()), Some(log.chain().head()));
}

#[test]
fn own_logs_are_compared_and_never_written() {
    let (dir, older, forked) = (temp(), temp(), temp());
    let studio = found(dir.path(), "studio", true);
    append_many(&studio, 3);
    studio.close().unwrap();
    let (copy_of, fork_of) = (older.path().join("s"), forked.path().join("s"));
    copy(dir.path(), &copy_of);
    copy(dir.path(), &fork_of);
    let studio = open(dir.path());
    append_many(&studio, 2);
    let newer = export(&studio);
    let log = facts(&studio);
    // A copy that lost the newest receipts.
    let lost = open(&copy_of);
    assert_eq!(code(import(&lost, &newer)), "import.own-log");
    assert_eq!(lost.head(&log).unwrap().seq, 3);
    // One that went on by itself.
    let other = open(&fork_of);
    append_many(&other, 4);
    let before = other.head(&log);
    let error = other.import(&mut newer.as_slice()).unwrap_err();
    assert_eq!(error.code(), "ledger.fork");
    assert!(error.to_string().contains("seq 4"), "{error}");
    assert_eq!(other.head(&log), before);
    // A third machine has one of the two stories, and is told the other one.
    let third = temp();
    let mirror = join(third.path(), "mirror", studio.context().fleet);
    assert_eq!(import(&mirror, &newer).unwrap(), (6, 0));
    assert_eq!(code(import(&mirror, &export(&other))), "ledger.fork");
    assert_eq!(code(import(&mirror, &export_range(&other, 6, 7))), "ledger.fork");
    assert_eq!(raw(&mirror, &log, 0, 5), raw(&studio, &log, 0, 5));
}

#[test]
fn an_erased_payload_does_not_come_back_with_a_bundle() {
    let dirs = [temp(), temp()];
    let (gateway, node) = two(&dirs);
    let kept = node
        .append(fact_with("n", b"kept for ever, as far as it goes"))
        .unwrap();
    let receipt = node
        .append(fact_with("n", b"erased later, and gone then"))
        .unwrap();
    let before = export(&node);
    let late = [temp(), temp()];
    node.erase(&receipt, "asked for").unwrap();
    let after = export(&node);
    let state = |dir: &Path, bundles: &[&[u8]]| {
        let store: Ledger<Counter> = join(dir, "archive", gateway.context().fleet);
        for bundle in bundles {
            import(&store, bundle).unwrap();
        }
        let at = |seq| store.get(&facts(&node), seq).unwrap().unwrap();
        assert!(matches!(
            store.payload(&at(kept.seq())).unwrap(),
            PayloadState::Present(_)
        ));
        let state = store.payload(&at(receipt.seq())).unwrap();
        store.close().unwrap();
        assert_clean(dir);
        state
    };
    assert_eq!(
        state(late[0].path(), &[&before, &after, &before]),
        PayloadState::Erased
    );
    assert_eq!(state(late[1].path(), &[&after, &before]), PayloadState::Erased);
    let disk = std::fs::read_dir(late[0].path().join("data/journal")).unwrap();
    for file in disk {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        let secret = b"erased later, and gone then";
        assert!(!bytes.windows(secret.len()).any(|window| window == secret));
    }
}
