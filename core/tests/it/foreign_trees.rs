//! Law: what we publish is what other people's programs read. Trees, proofs, tiles and notes of ours and those of the crates
//! `ct-merkle`, `tlog_tiles` and `signed_note` are the same bytes, at every size.

use ct_merkle::mem_backed_tree::MemoryBackedTree;
use ledger_core::checkpoint::{Checkpoint, log_of_origin, origin};
use ledger_core::note::{self, VerifierKey};
use ledger_core::tiles::{self, Resource, Tile, TileBuilder, TileTree, TilesError};
use ledger_core::tree::{self, Hash};
use ledger_core::{LogId, SigningKey, TreeRoot};
use proptest::prelude::*;
use sha2::Sha256;
use signed_note::{Note, StandardVerifier, VerifierList};
use std::cell::RefCell;
use std::collections::BTreeMap;
use tlog_tiles::{TileHashReader, TileReader};

/// The files of a published tree: their paths and bytes.
#[derive(Default)]
struct Files(BTreeMap<String, Vec<u8>>);

fn leaf(number: u64) -> Vec<u8> {
    format!("entry {number}").into_bytes()
}

/// Publishes a tree that grows through these sizes; the full tiles are written once.
fn publish(sizes: &[u64]) -> (Files, TileBuilder) {
    let (mut files, mut builder) = (Files::default(), TileBuilder::new());
    for size in sizes {
        while builder.size() < *size {
            let hash = tree::leaf_hash(&leaf(builder.size()));
            for (tile, hashes) in builder.push(hash) {
                assert!(tile.is_full());
                let before = files.0.insert(tile.path(), tiles::encode_tile(&hashes));
                assert_eq!(before, None, "a full tile is written once");
            }
        }
        for (tile, hashes) in builder.partials() {
            assert!(!tile.is_full());
            files.0.insert(tile.path(), tiles::encode_tile(&hashes));
        }
    }
    (files, builder)
}

impl Files {
    fn read(&self, tile: Tile) -> Result<Vec<Hash>, TilesError> {
        tile.decode(&self.0[&tile.path()])
    }

    fn tree(&self, size: u64) -> TileTree<impl FnMut(Tile) -> Result<Vec<Hash>, TilesError> + use<'_>> {
        TileTree::new(size, |tile| self.read(tile))
    }
}

/// Their path names the height, too, as Go's sumdb does; C2SP fixed it at 8.
fn c2sp(path: &str) -> String {
    path.replacen("tile/8/", "tile/", 1)
        .replace("tile/data/", "tile/entries/")
}

impl TileReader for Files {
    fn height(&self) -> u8 {
        8
    }

    fn read_tiles(&self, tiles: &[tlog_tiles::Tile]) -> Result<Vec<Vec<u8>>, tlog_tiles::Error> {
        let read = |tile: &tlog_tiles::Tile| self.0.get(&c2sp(&tile.path())).cloned();
        tiles
            .iter()
            .map(|tile| read(tile).ok_or(tlog_tiles::Error::InvalidTile))
            .collect()
    }

    fn save_tiles(&self, _: &[tlog_tiles::Tile], _: &[Vec<u8>]) {}
}

fn theirs(proof: &[tlog_tiles::Hash]) -> Vec<Hash> {
    proof.iter().map(|hash| hash.0).collect()
}

#[test]
fn the_example_of_the_specification_has_the_tiles_that_it_counts() {
    let all: Vec<Tile> = Tile::all(70_000).collect();
    let full = |level| all.iter().filter(|t| t.level() == level && t.is_full()).count();
    assert_eq!((full(0), full(1), full(2)), (273, 1, 0));
    let partial: Vec<String> = all.iter().filter(|t| !t.is_full()).map(Tile::path).collect();
    assert_eq!(partial, ["tile/0/273.p/112", "tile/1/001.p/17", "tile/2/000.p/1"]);
    assert_eq!(tiles::entries_path(1_234_067, 256), "tile/entries/x001/x234/067");
    assert_eq!(tiles::entries_path(0, 3), "tile/entries/000.p/3");
    let of_256: Vec<String> = Tile::all(256).map(|tile| tile.path()).collect();
    assert_eq!(of_256, ["tile/0/000", "tile/1/000.p/1"]);
    assert_eq!(Tile::all(0).count(), 0);
    assert_eq!(Tile::all(u64::MAX).next().unwrap().path(), "tile/0/000");
    assert_eq!(Tile::at(7, 0, u64::MAX).unwrap().path(), "tile/7/000.p/255");
}

#[test]
fn a_tree_of_three_levels_is_read_by_their_reader_and_gives_their_proofs() {
    // Past 256 * 256, so that there are tiles of all kinds on three levels.
    let size = 66_051;
    let (files, builder) = publish(&[1, 255, 256, 257, 65_536, size]);
    let root = builder.root();
    for tile in Tile::all(size) {
        assert!(files.0.contains_key(&tile.path()), "{}", tile.path());
    }
    let reader = TileHashReader::new(size, tlog_tiles::Hash(root.0), &files);
    let mut tree = files.tree(size);
    assert_eq!(tree.root(), Ok(root));
    for index in [0, 1, 255, 256, 65_535, 65_536, 65_792, size - 1] {
        let proof = tree.inclusion_proof(index).unwrap();
        let other = tlog_tiles::prove_record(size, index, &reader).unwrap();
        assert_eq!(proof, theirs(&other), "of {index}");
        let leaf = tree::leaf_hash(&leaf(index));
        assert!(tree::verify_inclusion(leaf, index, size, &proof, root));
    }
    for old in [1, 2, 255, 256, 257, 65_535, 65_536, 65_537, size - 1, size] {
        let proof = tree.consistency_proof(old).unwrap();
        let other = tlog_tiles::prove_tree(size, old, &reader).unwrap();
        assert_eq!(proof, theirs(&other), "from {old}");
    }
    assert!(matches!(
        tree.inclusion_proof(size),
        Err(TilesError::OutOfRange { .. })
    ));
    assert!(matches!(
        tree.consistency_proof(size + 1),
        Err(TilesError::OutOfRange { .. })
    ));
}

#[test]
fn a_proof_reads_a_few_tiles_for_each_level_and_no_more() {
    let size = 66_051;
    let (files, _) = publish(&[size]);
    let read = RefCell::new(Vec::new());
    let mut tree = TileTree::new(size, |tile: Tile| {
        read.borrow_mut().push(tile);
        files.read(tile)
    });
    tree.inclusion_proof(300).unwrap();
    assert!(read.borrow().len() <= 6, "{:?}", read.borrow());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn roots_and_proofs_are_those_of_ct_merkle(size in 1u64..700, at in any::<prop::sample::Index>()) {
        let mut other = MemoryBackedTree::<Sha256, Vec<u8>>::new();
        for number in 0..size {
            other.push(leaf(number));
        }
        let (files, builder) = publish(&[size]);
        let root = builder.root();
        prop_assert_eq!(root.0.to_vec(), other.root().as_bytes().to_vec());
        let index = at.index(usize::try_from(size).unwrap());
        let proof = files.tree(size).inclusion_proof(index as u64).unwrap();
        prop_assert_eq!(proof.concat(), other.prove_inclusion(index).as_bytes().to_vec());
        let old = index as u64 + 1;
        if old < size {
            let additions = usize::try_from(size - old).unwrap();
            let proof = files.tree(size).consistency_proof(old).unwrap();
            prop_assert_eq!(proof.concat(), other.prove_consistency(additions).as_bytes().to_vec());
            let (_, before) = publish(&[old]);
            prop_assert!(tree::verify_consistency(old, before.root(), size, root, &proof));
        }
    }

    #[test]
    fn tiles_are_named_as_tlog_tiles_names_them(size in 1u64..1 << 40, grown in 0u64..2000) {
        let old = size.saturating_sub(grown);
        let theirs: Vec<String> = tlog_tiles::Tile::new_tiles(8, old, size).iter().map(|t| c2sp(&t.path())).collect();
        for level in 0..8u8 {
            let (before, now) = (old >> (8 * level), size >> (8 * level));
            if before == now {
                continue;
            }
            for index in (before >> 8)..now.div_ceil(256) {
                let tile = Tile::at(level, index, size).unwrap();
                prop_assert!(theirs.contains(&tile.path()), "{} of {}", tile.path(), size);
                prop_assert_eq!(Resource::parse(&tile.path()), Some(Resource::Tile(tile)));
            }
        }
        let data = tlog_tiles::Tile::new(8, 0, size, 7, true);
        prop_assert_eq!(c2sp(&data.path()), tiles::entries_path(size, 7));
        let entries = Resource::Entries { index: size, width: 7 };
        prop_assert_eq!(Resource::parse(&c2sp(&data.path())), Some(entries));
    }

    #[test]
    fn a_name_that_is_read_is_the_name_that_is_written(name in "tile/([0-9]|entries|64)(/x?[0-9]{1,4}){1,4}(\\.p/[0-9]{0,4})?", any in "\\PC{0,40}") {
        for name in [name, format!("tile/{any}")] {
            if let Some(resource) = Resource::parse(&name) {
                prop_assert_eq!(resource.path(), name);
            }
        }
    }

    #[test]
    fn partial_tiles_of_any_width_read_back_and_belong_to_their_tree(size in 1u64..2000, at in any::<prop::sample::Index>()) {
        let (files, builder) = publish(&[size]);
        let mut tree = files.tree(size);
        let prefix = at.index(usize::try_from(size).unwrap()) as u64 + 1;
        let peaks = tree.peaks(prefix).unwrap();
        let (_, before) = publish(&[prefix]);
        prop_assert_eq!(tree::Tree::from_peaks(prefix, peaks), Some(before.tree()));
        let height = prefix.ilog2();
        let path = tree.path_of_first(height).unwrap();
        let (_, perfect) = publish(&[1 << height]);
        prop_assert!(tree::verify_inclusion(tree::leaf_hash(&leaf(0)), 0, 1 << height, &path, perfect.root()));
        // What a reader of an older size asks for is the beginning of the wider one.
        for tile in Tile::all(prefix) {
            let wide = files.read(Tile::at(tile.level(), tile.index(), size).unwrap()).unwrap();
            let narrow = before.partials().into_iter().find(|(partial, _)| *partial == tile);
            if let Some((_, hashes)) = narrow {
                prop_assert_eq!(&wide[..usize::from(tile.width())], hashes.as_slice());
            }
        }
        prop_assert_eq!(builder.size(), size);
    }

    #[test]
    fn of_several_signatures_ours_counts_and_no_bit_of_it_may_differ(seed in any::<[u8; 32]>(), others in prop::collection::vec(any::<[u8; 32]>(), 1..4), size in any::<u64>(), place in any::<prop::sample::Index>(), at in any::<prop::sample::Index>()) {
        let key = SigningKey::from_seed(seed);
        let checkpoint = Checkpoint { log: LogId([9; 32]), tree_size: size, root: TreeRoot([8; 32]) };
        let signed = checkpoint.sign(&key);
        let (text, ours) = signed.split_at(signed.rfind("\n\n").unwrap() + 2);
        // Witnesses under names of their own, one of them under ours with another key.
        let mut lines: Vec<String> = others.iter().enumerate().map(|(n, seed)| {
            let name = if n == 0 { origin(&checkpoint.log) } else { format!("witness.example/{n}") };
            let note = note::sign(&text[..text.len() - 1], &name, &SigningKey::from_seed(*seed)).unwrap();
            note[text.len()..].to_owned()
        }).collect();
        let index = place.index(lines.len() + 1);
        lines.insert(index, ours.to_owned());
        let note = format!("{text}{}", lines.concat());
        prop_assert_eq!(Checkpoint::open(&note, &checkpoint.log, &key.verifier()), Ok(checkpoint));
        let theirs = Note::from_bytes(note.as_bytes()).unwrap();
        let vkey = note::verifier_key(&origin(&checkpoint.log), &key.public());
        let known = VerifierList::new(vec![Box::new(StandardVerifier::new(&vkey).unwrap())]);
        prop_assert_eq!(theirs.verify(&known).unwrap().0.len(), 1);
        // A flipped bit in the text or in our line.
        let from = text.len() + lines[..index].concat().len();
        let covered: Vec<usize> = (0..text.len()).chain(from..from + ours.len()).collect();
        let mut bad = note.into_bytes();
        bad[covered[at.index(covered.len())]] ^= 1;
        if let Ok(bad) = String::from_utf8(bad) {
            prop_assert!(Checkpoint::open(&bad, &checkpoint.log, &key.verifier()).is_err());
        }
    }

    #[test]
    fn a_builder_that_is_resumed_goes_on_as_if_it_never_stopped(size in 0u64..1500, more in 0u64..600) {
        let (_, builder) = publish(&[size]);
        let mut partials = vec![Vec::new(); builder.partials().last().map_or(0, |(t, _)| usize::from(t.level()) + 1)];
        for (tile, hashes) in builder.partials() {
            partials[usize::from(tile.level())] = hashes;
        }
        let mut resumed = TileBuilder::resume(size, partials.clone()).unwrap();
        for number in size..size + more {
            resumed.push(tree::leaf_hash(&leaf(number)));
        }
        let (_, whole) = publish(&[size + more]);
        prop_assert_eq!(resumed.root(), whole.root());
        prop_assert_eq!(resumed.partials(), whole.partials());
        prop_assert_eq!(TileBuilder::resume(size + 1, partials), None);
    }

    #[test]
    fn a_flipped_bit_in_a_tile_makes_no_proof_that_verifies(size in 2u64..600, at in any::<prop::sample::Index>(), bit in 0usize..8) {
        let (mut files, builder) = publish(&[size]);
        let root = builder.root();
        let index = at.index(usize::try_from(size).unwrap()) as u64;
        // The tile of the sibling leaf is part of every proof.
        let sibling = if index ^ 1 < size { index ^ 1 } else { index - 1 };
        let tile = Tile::at(0, sibling / 256, size).unwrap();
        let byte = usize::try_from(sibling % 256).unwrap() * 32 + bit;
        files.0.get_mut(&tile.path()).unwrap()[byte] ^= 1 << bit;
        let leaf = tree::leaf_hash(&leaf(index));
        if index ^ 1 < size {
            let proof = files.tree(size).inclusion_proof(index).unwrap();
            prop_assert!(!tree::verify_inclusion(leaf, index, size, &proof, root));
        }
    }

    #[test]
    fn entry_bundles_read_back_and_excess_or_lack_is_refused(entries in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..256), cut in any::<prop::sample::Index>()) {
        let width = u16::try_from(entries.len()).unwrap();
        let mut bundle = Vec::new();
        for entry in &entries {
            tiles::push_entry(&mut bundle, entry);
        }
        let read = tiles::decode_entries(0, width, &bundle).unwrap();
        prop_assert_eq!(read, entries.iter().map(Vec::as_slice).collect::<Vec<_>>());
        prop_assert!(tiles::decode_entries(0, width, &bundle[..cut.index(bundle.len())]).is_err());
        bundle.extend([0, 0]);
        prop_assert!(tiles::decode_entries(0, width, &bundle).is_err());
    }

    #[test]
    fn our_checkpoints_verify_with_signed_note_and_read_with_tlog_tiles(seed in any::<[u8; 32]>(), log in any::<[u8; 32]>(), size in any::<u64>(), root in any::<[u8; 32]>()) {
        let key = SigningKey::from_seed(seed);
        let checkpoint = Checkpoint { log: LogId(log), tree_size: size, root: TreeRoot(root) };
        let signed = checkpoint.sign(&key);
        let name = origin(&checkpoint.log);
        let vkey = note::verifier_key(&name, &key.public());
        let known = VerifierList::new(vec![Box::new(StandardVerifier::new(&vkey).unwrap())]);
        let note = Note::from_bytes(signed.as_bytes()).unwrap();
        prop_assert_eq!(note.to_bytes(), signed.as_bytes());
        prop_assert_eq!(note.verify(&known).unwrap().0.len(), 1);
        let read = tlog_tiles::Checkpoint::from_bytes(note.text()).unwrap();
        prop_assert_eq!((read.origin(), read.size(), read.hash().0), (name.as_str(), size, root));
        let pin = VerifierKey::parse(&vkey).unwrap();
        prop_assert_eq!((pin.name(), pin.key().public(), pin.to_text()), (name.as_str(), key.public(), vkey));
        prop_assert_eq!(log_of_origin(&name), Some(checkpoint.log));
    }

    #[test]
    fn we_open_what_signed_note_signs_whoever_else_cosigned(seed in any::<[u8; 32]>(), text in "[ -~]{1,40}\n", other in any::<[u8; 32]>()) {
        let key = SigningKey::from_seed(seed);
        let encoded = |name: &str, seed: [u8; 32]| {
            let public = SigningKey::from_seed(seed).public();
            let id = note::key_id(name, &public);
            let typed = [&[1], &seed[..]].concat();
            format!(
                "PRIVATE+KEY+{name}+{}+{}",
                data_encoding::HEXLOWER.encode(&id),
                data_encoding::BASE64.encode(&typed)
            )
        };
        let signer = signed_note::StandardSigner::new(&encoded("log.example/a", seed)).unwrap();
        let witness = signed_note::StandardSigner::new(&encoded("witness.example", other)).unwrap();
        let mut note = Note::new(text.as_bytes(), &[]).unwrap();
        note.add_sigs(&[&witness, &signer]).unwrap();
        let signed = String::from_utf8(note.to_bytes()).unwrap();
        prop_assert_eq!(note::open(&signed, "log.example/a", &key.verifier()).unwrap(), text.as_str());
        let ours = note::sign(&text, "log.example/a", &key).unwrap();
        let our_line = ours.lines().last().unwrap();
        prop_assert!(signed.lines().any(|line| line == our_line), "Ed25519 signs the same way everywhere");
    }
}

#[test]
fn a_verifier_key_with_a_typing_error_is_refused() {
    let key = SigningKey::from_seed([3; 32]).public();
    let good = note::verifier_key("log.example", &key);
    assert!(VerifierKey::parse(&good).is_ok());
    for at in 0..good.len() {
        let mut bad = good.clone().into_bytes();
        bad[at] = if bad[at] == b'Q' { b'R' } else { b'Q' };
        let bad = String::from_utf8(bad).unwrap();
        assert!(VerifierKey::parse(&bad).is_err(), "{bad}");
        assert!(VerifierKey::parse(&good[..at]).is_err(), "cut at {at}");
    }
    let file = format!("# pinned by hand\n\n{good}\n  {good}\n");
    assert_eq!(VerifierKey::parse_lines(&file).unwrap().len(), 2);
    assert!(VerifierKey::parse_lines(&format!("{good}\nnonsense")).is_err());
}
