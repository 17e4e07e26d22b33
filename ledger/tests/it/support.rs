//! Builders shared by the tests of the journal.

use crate::disk::Disk;
use ledger::Position;
use ledger::core::{
    Draft, FleetId, Hlc, Kind, LogId, Payload, PublicKey, ReceiptId, Record, Seal, SealDigest, Signature,
    SigningKey, Subject,
};
use ledger::journal::{
    EntryDraft, Journal, JournalError, JournalOptions, JournalReader, OpenContext, Opened, StoreId,
    StoredEntry, WalkItem, walk,
};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

pub(crate) const STORE: StoreId = StoreId([7; 16]);

pub(crate) fn dir() -> PathBuf {
    PathBuf::from("/store/journal")
}

pub(crate) fn segment(number: u32) -> PathBuf {
    dir().join(format!("{number:08}.seg"))
}

/// Segments of this size; the seed makes their keys.
pub(crate) fn options(segment_bytes: u32, seed: u8) -> JournalOptions {
    JournalOptions {
        segment_bytes,
        fill_bytes: 4096,
        entropy: [seed; 32],
    }
}

pub(crate) fn create(disk: &Disk, segment_bytes: u32) -> (Journal, JournalReader) {
    Journal::create(Arc::new(disk.clone()), &dir(), STORE, options(segment_bytes, 1)).unwrap()
}

pub(crate) fn open(
    disk: &Disk,
    segment_bytes: u32,
    durable: Option<Position>,
) -> Result<Opened, JournalError> {
    let context = OpenContext {
        store: Some(STORE),
        durable,
        options: options(segment_bytes, 2),
    };
    Journal::open(Arc::new(disk.clone()), &dir(), context)
}

/// What one entry holds, apart from where it stands.
pub(crate) type Content = (Vec<u8>, Option<Payload>);

/// Entry `number`: its record says so; every third is a real one with a payload.
pub(crate) fn content(number: u32) -> Content {
    if number.is_multiple_of(3) {
        return real_entry(&format!("payload {number}"));
    }
    let mut record = format!("record {number} ").into_bytes();
    record.resize(40 + number as usize % 23, b'r');
    (record, None)
}

pub(crate) fn contents(numbers: std::ops::Range<u32>) -> Vec<Content> {
    numbers.map(content).collect()
}

pub(crate) fn append(journal: &mut Journal, contents: &[Content]) -> Result<Vec<Position>, JournalError> {
    let drafts: Vec<_> = contents
        .iter()
        .map(|(record, payload)| EntryDraft {
            record,
            payload: payload.as_ref(),
        })
        .collect();
    journal.append(&drafts)
}

pub(crate) fn scan(reader: &JournalReader, after: Position) -> Result<Vec<StoredEntry>, JournalError> {
    reader.scan(after).with_payloads().collect()
}

pub(crate) fn scan_contents(reader: &JournalReader) -> Vec<Content> {
    scan(reader, Position::START)
        .unwrap()
        .into_iter()
        .map(|entry| (entry.record, entry.payload))
        .collect()
}

pub(crate) fn walk_items(disk: &Disk) -> Vec<WalkItem> {
    walk_at(disk, &dir())
}

pub(crate) fn walk_at(disk: &Disk, dir: &Path) -> Vec<WalkItem> {
    walk(Arc::new(disk.clone()), dir)
        .unwrap()
        .map(Result::unwrap)
        .collect()
}

pub(crate) fn is_finding(item: &WalkItem) -> bool {
    matches!(item, WalkItem::Damage { .. } | WalkItem::Torn { .. })
}

pub(crate) fn walked_contents(items: &[WalkItem]) -> Vec<Content> {
    let entry = |item: &WalkItem| match item {
        WalkItem::Entry { entry, .. } => Some((entry.record.clone(), entry.payload.clone())),
        _ => None,
    };
    items.iter().filter_map(entry).collect()
}

static AUTHOR: LazyLock<PublicKey> = LazyLock::new(|| SigningKey::from_seed([1; 32]).public());

/// A real record that commits to a payload of this text; its log signature is not one, which is no matter here.
pub(crate) fn real_entry(text: &str) -> Content {
    let fleet = FleetId([2; 32]);
    let salt = [5; 32];
    let draft = Draft::custom(Kind::new("x.test").unwrap(), Subject::new("demo/1").unwrap())
        .payload("text/plain", text.as_bytes().to_vec())
        .unwrap();
    let id = ReceiptId::v7(1_700_000_000_000, [9; 10]);
    let authored = draft.into_statement(fleet, *AUTHOR, id, 0, salt).unwrap();
    let seal = Seal {
        version: 1,
        log: LogId([3; 32]),
        seq: 0,
        prev: SealDigest::ZERO,
        time: Hlc(1),
        statement: authored.digest,
    };
    let record = Record::assemble(
        authored.statement,
        &authored.bytes,
        None,
        seal,
        Signature([0; 64]),
    );
    (record.bytes().to_vec(), authored.payload)
}
