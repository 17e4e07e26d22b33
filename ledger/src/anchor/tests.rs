//! The anchor file: its slots, torn, swapped and full.

use super::*;
use crate::storage::DiskStorage;
use ledger_core::{SealDigest, TreeRoot};

fn sample(epoch: u64) -> Anchor {
    let log = AnchorLog {
        log: LogId([9; 32]),
        incarnation: 1,
        head: Head {
            seq: u64::MAX,
            seal: SealDigest([1; 32]),
            root: TreeRoot([2; 32]),
        },
        checkpoint_size: u64::MAX,
    };
    Anchor {
        store: StoreId([3; 16]),
        state: AnchorState::Live,
        epoch,
        boot: "b".repeat(BOOT_BYTES_MAX),
        clean: false,
        durable: Position {
            segment: 2,
            offset: 700,
        },
        logs: vec![log; ANCHOR_LOGS_MAX],
    }
}

#[test]
fn the_newest_slot_counts_and_a_torn_one_leaves_the_one_before() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("anchor");
    let disk: Arc<dyn Storage> = Arc::new(DiskStorage);
    assert_eq!(Anchor::load(&DiskStorage, &path).unwrap(), None);
    let mut file = AnchorFile::create(disk.clone(), &path, &sample(0)).unwrap();
    for epoch in 1..=3 {
        file.write(&sample(epoch)).unwrap();
        assert_eq!(Anchor::load(&DiskStorage, &path).unwrap(), Some(sample(epoch)));
    }
    // Generation 3 lies in slot 1; each of its bits matters.
    let whole = std::fs::read(&path).unwrap();
    for bit in 0..SLOT_BYTES * 8 {
        let mut torn = whole.clone();
        torn[SLOT_BYTES + bit / 8] ^= 1 << (bit % 8);
        let found = newest(&Bytes(torn), &path).unwrap();
        assert_eq!((found.generation, found.anchor), (2, sample(2)), "bit {bit}");
        assert_eq!(
            found.oddity,
            Some("one of its two slots is not sound"),
            "bit {bit}"
        );
    }
    for length in 0..whole.len() {
        let found = newest(&Bytes(whole[..length].to_vec()), &path);
        if length < SLOT_BYTES {
            assert_eq!(found.unwrap_err().code(), "anchor.damaged");
        } else {
            assert_eq!(found.unwrap().generation, 2);
        }
    }
    let (mut file, anchor) = AnchorFile::open(disk, &path).unwrap().unwrap();
    assert_eq!(anchor, sample(3));
    file.write(&sample(4)).unwrap();
    assert_eq!(Anchor::load(&DiskStorage, &path).unwrap(), Some(sample(4)));
}

#[test]
fn what_is_odd_about_its_slots_is_told_and_nothing_is_odd_about_a_sound_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("anchor");
    let oddity = || Anchor::oddity(&DiskStorage, &path).unwrap();
    assert_eq!(oddity(), None, "there is none");
    let mut file = AnchorFile::create(Arc::new(DiskStorage), &path, &sample(0)).unwrap();
    assert_eq!(oddity(), None, "one slot was never written");
    for epoch in 1..=4 {
        file.write(&sample(epoch)).unwrap();
        assert_eq!(oddity(), None);
    }
    let whole = std::fs::read(&path).unwrap();
    let (first, second) = whole.split_at(SLOT_BYTES);
    for (slots, said) in [
        ([second, first], "its slots stand in each other's place"),
        ([first, first], "one of its two slots is not sound"),
        ([second, second], "its slots stand in each other's place"),
        ([first, &[0; SLOT_BYTES]], "one of its two slots is not sound"),
        ([first, &[]], "one of its two slots is not sound"),
    ] {
        std::fs::write(&path, slots.concat()).unwrap();
        assert_eq!(oddity(), Some(said));
    }
    // The next write mends it.
    std::fs::write(&path, first).unwrap();
    let (mut file, _) = AnchorFile::open(Arc::new(DiskStorage), &path).unwrap().unwrap();
    file.write(&sample(5)).unwrap();
    assert_eq!(oddity(), None);
    assert_eq!(Anchor::load(&DiskStorage, &path).unwrap(), Some(sample(5)));
}

#[test]
fn more_logs_than_fit_are_refused_before_anything_is_written() {
    let mut anchor = sample(0);
    anchor.logs.push(anchor.logs[0]);
    assert_eq!(anchor.encode_slot(1).unwrap_err().code(), "anchor.too-large");
}

#[derive(Debug)]
struct Bytes(Vec<u8>);

impl StorageFile for Bytes {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> std::io::Result<usize> {
        let from = usize::try_from(offset).unwrap().min(self.0.len());
        let count = into.len().min(self.0.len() - from);
        into[..count].copy_from_slice(&self.0[from..from + count]);
        Ok(count)
    }
    fn write_at(&self, _: u64, _: &[u8]) -> std::io::Result<()> {
        Err(std::io::ErrorKind::ReadOnlyFilesystem.into())
    }
    fn sync_data(&self) -> std::io::Result<()> {
        Ok(())
    }
    fn set_len(&self, _: u64) -> std::io::Result<()> {
        Ok(())
    }
    fn len(&self) -> std::io::Result<u64> {
        Ok(self.0.len() as u64)
    }
}
