//! Every parser of the engine holds what it promises for the corpus of the fuzz targets and for mutations of it.
//!
//! The fuzzers themselves run by command, each as long as one likes (`fixtures/fuzz/README.md`). `LEDGER_BLESS=1` makes
//! the seeds of the corpus again, from the fixtures and a small journal.

#[path = "../../../fixtures/fuzz/targets/engine.rs"]
mod engine;
#[path = "../../../fixtures/fuzz/targets/smoke.rs"]
mod smoke;

use crate::disk::Disk;
use crate::support::{self, STORE, append, contents, real_entry, segment};
use ledger::anchor::{Anchor, AnchorFile, AnchorState};
use ledger::core::bundle::{FrameKind, FrameParser};
use ledger::core::checkpoint::Checkpoint;
use ledger::core::kinds::CATALOGUE;
use ledger::core::note::verifier_key;
use ledger::core::tiles::{encode_tile, push_entry};
use ledger::core::{LogId, Record, SealDigest, SigningKey, TreeRoot};
use ledger::sync::{Chunk, Mark, Want};
use std::path::Path;
use std::sync::Arc;

#[test]
fn every_parser_holds_its_promises_for_the_corpus_and_mutations_of_it() {
    if std::env::var_os("LEDGER_BLESS").is_some() {
        for (target, seeds) in seeds() {
            std::fs::create_dir_all(smoke::folder(target)).unwrap();
            for (number, bytes) in seeds.iter().enumerate() {
                std::fs::write(smoke::folder(target).join(format!("seed-{number:02}")), bytes).unwrap();
            }
        }
    }
    smoke::run(engine::TARGETS);
}

#[test]
fn the_mended_copy_of_a_sound_segment_is_that_segment_so_that_mutations_get_behind_its_checksums() {
    for bytes in journals() {
        assert_eq!(engine::mended(&bytes), bytes);
    }
}

// The records of the sample bundle, as stored.
fn records() -> Vec<Vec<u8>> {
    let mut parser = FrameParser::new();
    parser.push(&ledger_fixtures::read("logs/v1-sample.bundle"));
    let mut records = Vec::new();
    while let Some(frame) = parser.next_frame().unwrap() {
        if frame.kind == FrameKind::Record {
            records.push(frame.bytes);
        }
    }
    records
}

// Two batches, one of them with payloads, then the next segment: the first is sealed.
fn journals() -> Vec<Vec<u8>> {
    let disk = Disk::default();
    let (mut journal, _reader) = support::create(&disk, 4096);
    append(&mut journal, &contents(0..4)).unwrap();
    append(&mut journal, &[real_entry("a payload")]).unwrap();
    let open = disk.bytes(&segment(1));
    while !disk_has_two(&disk) {
        append(&mut journal, &contents(5..8)).unwrap();
    }
    let used = open.iter().rposition(|byte| *byte != 0).unwrap() + 65;
    vec![open[..used].to_vec(), disk.bytes(&segment(1))]
}

fn disk_has_two(disk: &Disk) -> bool {
    ledger::storage::Storage::exists(disk, &segment(2)).unwrap()
}

fn anchor() -> Vec<u8> {
    let path = Path::new("/anchor");
    let disk = Disk::default();
    let anchor = Anchor {
        store: STORE,
        state: AnchorState::Live,
        epoch: 3,
        boot: "a boot".into(),
        clean: true,
        durable: ledger::Position {
            segment: 1,
            offset: 900,
        },
        logs: Vec::new(),
    };
    let mut file = AnchorFile::create(Arc::new(disk.clone()), path, &anchor).unwrap();
    file.write(&anchor).unwrap();
    disk.bytes(path)
}

fn seeds() -> Vec<(&'static str, Vec<Vec<u8>>)> {
    let records = records();
    let parsed: Vec<_> = records
        .iter()
        .map(|bytes| Record::parse(bytes).unwrap())
        .collect();
    let mut of_records = records.clone();
    of_records.extend(parsed[..3].iter().map(|record| record.statement_bytes().to_vec()));
    of_records.extend(parsed[..2].iter().map(|record| record.seal().encode()));
    let details = ledger_fixtures::detail_samples().into_iter().map(|sample| {
        let row = CATALOGUE
            .iter()
            .position(|row| (row.kind, row.schema) == (sample.kind, sample.schema));
        let mut bytes = vec![u8::try_from(row.unwrap()).unwrap()];
        bytes.extend(sample.bytes);
        bytes
    });
    let anchor = anchor();
    let body = |slot: &[u8]| {
        let length = u32::from_be_bytes(slot[20..24].try_into().unwrap()) as usize;
        slot[24..24 + length].to_vec()
    };
    let anchors = vec![body(&anchor[..4096]), anchor];
    let key = SigningKey::from_seed([1; 32]);
    let checkpoint = Checkpoint {
        log: LogId([7; 32]),
        tree_size: 12,
        root: TreeRoot([9; 32]),
    };
    let origin = ledger::core::checkpoint::origin(&checkpoint.log);
    let notes = vec![
        checkpoint.sign(&key).into_bytes(),
        verifier_key(&origin, &key.public()).into_bytes(),
    ];
    let proofs = vec![ledger_fixtures::read("logs/v1-receipt.tlog-proof")];
    let mut entries = vec![0, 2];
    records[..3]
        .iter()
        .for_each(|record| push_entry(&mut entries, record));
    let tile = [
        &[0, 4][..],
        &encode_tile(&[[1; 32], [2; 32], [3; 32], [4; 32], [5; 32]]),
    ]
    .concat();
    let paths = ["tile/0/x001/067", "tile/entries/067.p/8"].map(|path| path.as_bytes().to_vec());
    let mark = Mark {
        seq: 4,
        seal: SealDigest([3; 32]),
    };
    let want = Want {
        log: LogId([7; 32]),
        after: Some(mark),
    };
    let chunk = Chunk {
        log: LogId([7; 32]),
        after: Some(mark),
        records: records[..2].iter().map(|record| (record.clone(), None)).collect(),
        complete: true,
    };
    let sent = [want.encode(), chunk.encode()];
    let messages = sent
        .iter()
        .flat_map(|bytes| [bytes.clone(), bytes[33..].to_vec()])
        .collect();
    let bundles = ["logs/v1-small.bundle", "logs/v2-range.bundle"]
        .map(ledger_fixtures::read)
        .to_vec();
    vec![
        ("record", of_records),
        ("detail", details.collect()),
        ("segment", journals()),
        ("anchor", anchors),
        ("bundle", bundles),
        ("note", notes),
        ("proof", proofs),
        ("tiles", [vec![entries, tile], paths.to_vec()].concat()),
        ("message", messages),
    ]
}
