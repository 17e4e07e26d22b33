//! A log is published and its receipts proven so that strangers can check them, and no crash, no second run and no damage
//! makes two stories of one log.

use crate::disk::{Disk, Fault};
use crate::stores::{fact, fact_with, found, join, open, raw, take_in, temp};
use ledger::core::checkpoint::Checkpoint;
use ledger::core::note::VerifierKey;
use ledger::core::proof::check;
use ledger::core::tiles::{Tile, TileTree, TilesError};
use ledger::core::tree::verify_consistency;
use ledger::core::{LogId, Stream};
use ledger::verify::{Options, Report, verify_bundle, verify_tiles};
use ledger::{Ledger, LedgerError, State};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn facts<S: State>(ledger: &Ledger<S>) -> LogId {
    ledger.own_log(Stream::Facts).unwrap()
}

fn pin<S: State>(ledger: &Ledger<S>, log: &LogId) -> VerifierKey {
    // As it goes from hand to hand: as text.
    VerifierKey::parse(&ledger.verifier_key(log).unwrap().to_text()).unwrap()
}

fn append<S: State>(ledger: &Ledger<S>, count: u64) {
    for number in 0..count {
        ledger.append(fact_with("n", &number.to_be_bytes())).unwrap();
    }
}

/// Appends many receipts in one batch.
fn append_many<S: State>(ledger: &Ledger<S>, count: u64) {
    let call = move |tx: &mut ledger::Tx<'_, S>| -> Result<(), LedgerError> {
        for _ in 0..count {
            tx.append(Stream::Facts, fact("many"))?;
        }
        Ok(())
    };
    ledger
        .commit(call)
        .map_err(ledger::CommitError::into_ledger)
        .unwrap();
}

/// Every file below a folder with its bytes; not what a crash leaves beside a name.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(dir).unwrap().display().to_string();
                found.insert(name, std::fs::read(path).unwrap());
            }
        }
    }
    found
}

fn verify(dir: &Path, keys: &[VerifierKey]) -> Report {
    let options = Options {
        keys: keys.to_vec(),
        ..Options::default()
    };
    verify_tiles(dir, &options, &mut |_| {}).unwrap()
}

fn codes(report: &Report) -> Vec<&'static str> {
    report.findings.iter().map(|finding| finding.code).collect()
}

#[test]
fn a_proof_convinces_with_the_pinned_key_alone() {
    let dir = temp();
    let ledger = found(dir.path(), "studio", true);
    append(&ledger, 20);
    for (stream, seq) in [
        (Stream::Facts, 0),
        (Stream::Facts, 7),
        (Stream::Facts, 20),
        (Stream::Order, 0),
    ] {
        let log = ledger.own_log(stream).unwrap();
        let text = ledger.prove(&log, seq).unwrap();
        let proven = check(&text, &[pin(&ledger, &log)]).unwrap();
        let receipt = ledger.get(&log, seq).unwrap().unwrap();
        assert_eq!(proven.record, *receipt.record);
        assert_eq!(proven.payload, ledger.payload(&receipt).unwrap().present());
        assert_eq!(proven.checkpoint.root, ledger.head(&log).unwrap().root);
    }
    let receipt = ledger.get(&facts(&ledger), 5).unwrap().unwrap();
    let by_id = ledger.prove_id(&receipt.id()).unwrap().unwrap();
    assert_eq!(by_id, ledger.prove(&facts(&ledger), 5).unwrap());
    assert!(ledger.prove_id(&crate::stores::id(1)).unwrap().is_none());
    let beyond = ledger.prove(&facts(&ledger), 21).unwrap_err();
    assert_eq!(beyond.code(), "receipt.unknown");
    let unknown = ledger.prove(&LogId([1; 32]), 0).unwrap_err();
    assert_eq!(unknown.code(), "ledger.unknown-log");
}

#[test]
fn only_the_machine_that_writes_a_log_proves_and_publishes_it() {
    let (a, b) = (temp(), temp());
    let gateway = found(a.path(), "studio", true);
    let node = join(b.path(), "laptop", gateway.context().fleet);
    append(&node, 3);
    let log = facts(&node);
    take_in(&gateway, &log, raw(&node, &log, 0, 3)).unwrap();
    let refused = gateway.prove(&log, 1).unwrap_err();
    assert_eq!(refused.code(), "ledger.no-checkpoint-key");
    let refused = gateway.publish(&log, &a.path().join("out")).unwrap_err();
    assert_eq!(refused.code(), "ledger.no-checkpoint-key");
    // Its key is known here all the same, for whoever wants to pin it.
    assert_eq!(pin(&gateway, &log).to_text(), pin(&node, &log).to_text());
}

#[test]
fn proofs_go_on_as_the_log_grows_and_survive_damage_to_their_tiles() {
    let dir = temp();
    let ledger = found(dir.path(), "studio", false);
    let log = facts(&ledger);
    let key = [pin(&ledger, &log)];
    for grow in [3, 252, 1, 300, 0, 10] {
        append_many(&ledger, grow);
        let newest = ledger.head(&log).unwrap().seq;
        for seq in [0, newest / 2, newest] {
            assert!(check(&ledger.prove(&log, seq).unwrap(), &key).is_ok());
        }
    }
    let cache = dir.path().join("data/tiles").join(log.to_hex());
    for name in files(&cache).into_keys() {
        let path = cache.join(&name);
        // Partial tiles of older sizes are not made anew.
        let Ok(good) = std::fs::read(&path) else {
            continue;
        };
        let mut bad = good.clone();
        bad[40 % good.len()] ^= 1;
        for content in [&bad[..], &good[..good.len() - 1], &[]] {
            std::fs::write(&path, content).unwrap();
            assert!(check(&ledger.prove(&log, 1).unwrap(), &key).is_ok(), "{name}");
        }
    }
    std::fs::remove_dir_all(&cache).unwrap();
    assert!(check(&ledger.prove(&log, 1).unwrap(), &key).is_ok());
}

#[test]
fn a_further_run_only_adds_and_ends_as_one_run_would() {
    let (dir, whole) = (temp(), temp());
    let ledger = found(dir.path(), "studio", false);
    let log = facts(&ledger);
    let keys = [pin(&ledger, &log)];
    let out = dir.path().join("out");
    let mut before: Option<Checkpoint> = None;
    let mut tiles = BTreeMap::new();
    for grow in [4, 250, 1, 0, 1, 512, 77] {
        append_many(&ledger, grow);
        let report = ledger.publish(&log, &out).unwrap();
        assert_eq!(report.receipts_before, before.map_or(0, |b| b.tree_size));
        assert_eq!(
            (
                report.mended,
                report.receipts_before + grow + u64::from(before.is_none())
            ),
            (0, report.receipts)
        );
        let verified = verify(&out, &keys);
        assert!(verified.is_clean(), "{verified}");
        assert_eq!(verified.counts.log_signatures, report.receipts);
        let checkpoint = Checkpoint::open(&report.checkpoint, &log, keys[0].key()).unwrap();
        let size = checkpoint.tree_size;
        let mut tree = TileTree::new(size, |tile: Tile| -> Result<_, TilesError> {
            tile.decode(&std::fs::read(out.join(tile.path())).unwrap())
        });
        if let Some(before) = before {
            let proof = tree.consistency_proof(before.tree_size).unwrap();
            assert!(verify_consistency(
                before.tree_size,
                before.root,
                size,
                checkpoint.root,
                &proof
            ));
        }
        before = Some(checkpoint);
        let now = files(&out);
        for (name, bytes) in tiles
            .iter()
            .filter(|(name, _): &(&String, _)| !name.contains(".p/") && *name != "checkpoint")
        {
            assert_eq!(now.get(name), Some(bytes), "{name} never changes");
        }
        tiles = now;
    }
    ledger.publish(&log, whole.path()).unwrap();
    for (name, bytes) in files(whole.path()) {
        assert_eq!(tiles.get(&name), Some(&bytes), "{name}");
    }
    let again = ledger.publish(&log, &out).unwrap();
    assert_eq!(
        (again.tiles, again.bundles, again.bytes),
        (0, 0, 0),
        "nothing to add"
    );
}

#[test]
fn a_directory_of_another_log_or_a_newer_one_is_not_touched() {
    let (dir, other, copy) = (temp(), temp(), temp());
    let ledger = found(dir.path(), "studio", false);
    append(&ledger, 3);
    let out = other.path().join("out");
    ledger.publish(&facts(&ledger), &out).unwrap();
    let before = files(&out);
    let work = ledger.own_log(Stream::Work).unwrap();
    assert_eq!(ledger.publish(&work, &out).unwrap_err().code(), "ledger.publish");
    let log = facts(&ledger);
    ledger.close().unwrap();
    crate::stores::copy(dir.path(), copy.path());
    let ledger = open(dir.path());
    append(&ledger, 1);
    ledger.publish(&log, &out).unwrap();
    ledger.close().unwrap();
    // The older copy runs with its own older anchor; what it published in its future speaks against it.
    let keys = copy.path().join("keys");
    std::fs::set_permissions(&keys, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let newer = files(&out);
    let older = open(copy.path());
    assert_eq!(older.publish(&log, &out).unwrap_err().code(), "ledger.publish");
    assert_eq!(files(&out), newer);
    assert_ne!(newer, before);
}

#[test]
fn every_flipped_byte_of_what_is_published_is_found() {
    let dir = temp();
    let ledger = found(dir.path(), "studio", false);
    let log = facts(&ledger);
    append_many(&ledger, 256);
    append(&ledger, 2);
    let out = dir.path().join("out");
    ledger.publish(&log, &out).unwrap();
    let published = files(&out);
    let names: Vec<&str> = published.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "checkpoint",
            "tile/0/000",
            "tile/0/001.p/3",
            "tile/1/000.p/1",
            "tile/entries/000",
            "tile/entries/001.p/3"
        ]
    );
    for (name, good) in &published {
        let path = out.join(name);
        // Every byte of the small files, and a sample of the large ones.
        let step = good.len().div_ceil(300);
        for at in (0..good.len()).step_by(step) {
            let mut bad = good.clone();
            bad[at] ^= 1 << (at % 8);
            std::fs::write(&path, &bad).unwrap();
            let report = verify(&out, &[]);
            assert!(!report.is_clean(), "byte {at} of {name}");
        }
        for cut in [0, 1, good.len() / 2, good.len() - 1] {
            std::fs::write(&path, &good[..cut]).unwrap();
            assert!(!verify(&out, &[]).is_clean(), "{name} cut at {cut}");
        }
        std::fs::write(&path, [&good[..], &[0]].concat()).unwrap();
        assert!(!verify(&out, &[]).is_clean(), "{name} with excess");
        std::fs::remove_file(&path).unwrap();
        assert_eq!(codes(&verify(&out, &[]))[0], "tiles.missing", "{name}");
        std::fs::write(&path, good).unwrap();
    }
    assert!(verify(&out, &[]).is_clean());
    // A damaged record is named by its seq, and so is a leaf.
    let mut bad = published["tile/entries/001.p/3"].clone();
    let last = bad.len() - 1;
    bad[last] ^= 1;
    std::fs::write(out.join("tile/entries/001.p/3"), &bad).unwrap();
    let report = verify(&out, &[]);
    assert_eq!(report.findings[0].seq, Some(258), "{report}");
    assert_eq!(codes(&report), ["tiles.leaf", "chain.log-signature"]);
    let mended = ledger.publish(&log, &out).unwrap();
    assert_eq!((mended.mended, verify(&out, &[]).is_clean()), (1, true));
}

#[test]
fn published_tiles_and_bundles_are_held_to_the_key_that_is_pinned() {
    let dir = temp();
    let ledger = found(dir.path(), "studio", false);
    append(&ledger, 3);
    let log = facts(&ledger);
    let out = dir.path().join("out");
    ledger.publish(&log, &out).unwrap();
    let own = pin(&ledger, &log);
    let others = pin(&ledger, &ledger.own_log(Stream::Work).unwrap());
    assert!(verify(&out, &[own.clone(), others.clone()]).is_clean());
    assert_eq!(
        codes(&verify(&out, std::slice::from_ref(&others))),
        ["note.not-pinned"]
    );
    let bundle = dir.path().join("facts.bundle");
    ledger
        .export(&log, &mut std::fs::File::create(&bundle).unwrap())
        .unwrap();
    for (key, expected) in [(own, vec![]), (others, vec!["note.not-pinned"])] {
        let options = Options {
            keys: vec![key],
            ..Options::default()
        };
        assert_eq!(
            codes(&verify_bundle(&bundle, &options, &mut |_| {}).unwrap()),
            expected
        );
    }
}

#[test]
fn a_checkpoint_that_claims_more_than_is_there_is_found_at_once() {
    let dir = temp();
    let ledger = found(dir.path(), "studio", false);
    append(&ledger, 3);
    let log = facts(&ledger);
    let out = dir.path().join("out");
    ledger.publish(&log, &out).unwrap();
    let huge = Checkpoint {
        log,
        tree_size: u64::MAX,
        root: ledger.head(&log).unwrap().root,
    };
    std::fs::write(
        out.join("checkpoint"),
        huge.sign(ledger.keyring().checkpoint(Stream::Facts)),
    )
    .unwrap();
    assert!(codes(&verify(&out, &[])).contains(&"tiles.missing"));
}

#[test]
fn a_crash_at_any_write_leaves_a_checkpoint_with_all_that_it_needs() {
    let dir = temp();
    let ledger = found(dir.path(), "studio", false);
    let log = facts(&ledger);
    let key = ledger.keyring().checkpoint(Stream::Facts).verifier();
    append_many(&ledger, 250);
    let out = PathBuf::from("/out");
    let first = Disk::default();
    let old = ledger.publish_on(&log, &out, Arc::new(first.clone())).unwrap();
    append_many(&ledger, 300);
    for fault in [Fault::Power, Fault::ErrorNotDone, Fault::ErrorDone, Fault::Full] {
        let mut faults = 0;
        for operation in first.operations().. {
            let disk = first.fork();
            disk.set_fault(operation, fault);
            let done = ledger.publish_on(&log, &out, Arc::new(disk.clone()));
            disk.power_cut(operation);
            let ended = disk.operations() <= operation;
            disk.heal();
            let signed = String::from_utf8(disk.bytes(&out.join("checkpoint"))).unwrap();
            let checkpoint = Checkpoint::open(&signed, &log, &key).unwrap();
            assert!(
                done.is_err() || checkpoint.tree_size == 551,
                "what was told is durable"
            );
            let size = checkpoint.tree_size;
            assert!(size == old.receipts || size == 551, "{size}");
            let mut tree = TileTree::new(size, |tile: Tile| -> Result<_, TilesError> {
                tile.decode(&disk.bytes(&out.join(tile.path())))
            });
            assert_eq!(tree.root().unwrap(), checkpoint.root, "{fault:?} at {operation}");
            for tile in Tile::all(size) {
                assert_eq!(
                    disk.bytes(&out.join(tile.path())).len(),
                    usize::from(tile.width()) * 32
                );
            }
            // And the next run ends well.
            let again = ledger.publish_on(&log, &out, Arc::new(disk.clone())).unwrap();
            assert_eq!((again.receipts, again.mended), (551, 0));
            if ended {
                break;
            }
            faults += 1;
        }
        assert!(faults > 20, "{faults} operations failed");
    }
}
