//! Publishing: one own log as C2SP `tlog-tiles` in a directory that any web server can serve (`docs/FORMAT.md`, "Tiles").
//!
//! Owns: the order of the writes. Tiles and entry bundles first, each written beside its name, synced and renamed; then the
//! names; then the checkpoint, in the same way. What a crash leaves is the older checkpoint with everything that it needs,
//! and files of the newer one, which are the very bytes that the next run would write. A full tile never changes; one that
//! differs from the log was damaged, is written anew, and is counted as such. A further run reads the records behind the
//! last full tile, and nothing before them; memory is flat.
//! Payloads are not published: records commit to them with a salt. Two runs of one process take turns.
//! [`crate::prove`] keeps tiles in the same way for itself, without entries.

mod files;
mod serve;

pub(crate) use files::{Files, read};

use crate::error::LedgerError;
use crate::ledger::Ledger;
use crate::state::State;
use crate::storage::Storage;
use files::PublicStorage;
use ledger_core::checkpoint::Checkpoint;
use ledger_core::tiles::{self, CHECKPOINT_PATH, TILE_WIDTH, Tile, TileBuilder};
use ledger_core::tree::{self, Tree};
use ledger_core::{Chain, LogId, TreeRoot};
use serde::Serialize;
use std::path::Path;
use std::sync::{Arc, Mutex};

/// One run at a time: a checkpoint must not be replaced by an older one.
static TURN: Mutex<()> = Mutex::new(());

/// What was published.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct PublishReport {
    /// The log.
    pub log: LogId,
    /// Receipts under the checkpoint: 0 to the newest that was durable at the call.
    pub receipts: u64,
    /// Receipts that were under the directory's checkpoint before.
    pub receipts_before: u64,
    /// Tiles that were written.
    pub tiles: u64,
    /// Entry bundles that were written.
    pub bundles: u64,
    /// Files among them that were there with other bytes: damage that is mended now.
    pub mended: u64,
    /// Bytes written.
    pub bytes: u64,
    /// The root of the tree.
    pub root: TreeRoot,
    /// The signed checkpoint.
    pub checkpoint: String,
}

/// What goes into a directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Content {
    /// Tiles and entry bundles, durable before the checkpoint is: for others.
    Published,
    /// Tiles alone, not synced: they can be made again.
    Cache,
}

/// Where a run begins.
struct Begin {
    builder: TileBuilder,
    /// The checkpoint in the directory.
    before: Option<Checkpoint>,
}

impl<S: State> Ledger<S> {
    /// Writes an own log as tiles, entry bundles and a checkpoint into a directory, or adds what is new since the last time.
    /// Readers of the directory see the older checkpoint or the newer one, each with all that it needs.
    ///
    /// # Errors
    /// [`LedgerError::UnknownLog`]; [`LedgerError::NoCheckpointKey`] for another machine's log; [`LedgerError::Publish`]
    /// when the directory holds another log, or more receipts than this store; [`LedgerError::RootDiffers`] when the
    /// records on disk are not those that were acknowledged; [`LedgerError::Io`].
    pub fn publish(&self, log: &LogId, dir: &Path) -> Result<PublishReport, LedgerError> {
        self.publish_on(log, dir, Arc::new(PublicStorage))
    }

    /// The same, on a disk of the caller's.
    ///
    /// # Errors
    /// As [`Ledger::publish`].
    pub fn publish_on(
        &self,
        log: &LogId,
        dir: &Path,
        storage: Arc<dyn Storage>,
    ) -> Result<PublishReport, LedgerError> {
        let mut files = Files::new(storage, dir, true);
        self.grow(log, &mut files, Content::Published)
    }

    /// Brings the tiles of a directory to the newest durable receipt.
    pub(crate) fn grow(
        &self,
        log: &LogId,
        files: &mut Files,
        content: Content,
    ) -> Result<PublishReport, LedgerError> {
        // A run that panicked left what a crash leaves.
        let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let chain = self.shared().chain(log).ok_or(LedgerError::UnknownLog(*log))?;
        self.checkpoint_key(&chain)?;
        let found = self.checkpoint_in(files, content, &chain)?;
        if content == Content::Cache
            && let Some((before, signed)) = &found
            && (before.tree_size, before.root) == (chain.tree().size(), chain.tree().root())
        {
            // The one that was released over this very tree.
            return Ok(unchanged(before, signed));
        }
        let before = found.map(|(before, _)| before);
        if let Some(resumed) = before.and_then(|before| resume(files, before)) {
            // Tiles that do not give the signed root are made anew.
            if let Some(report) = self.extend(&chain, files, content, resumed)? {
                return Ok(report);
            }
        }
        if let Some(before) = before
            && self.root_at(&chain, before.tree_size)? != before.root
        {
            return Err(files.refuse(CONTRADICTED));
        }
        let begin = Begin {
            builder: TileBuilder::new(),
            before,
        };
        let report = self.extend(&chain, files, content, begin)?;
        report.ok_or_else(|| files.refuse(CONTRADICTED))
    }

    fn root_at(&self, chain: &Chain, tree_size: u64) -> Result<TreeRoot, LedgerError> {
        let mut tree = Tree::new();
        let records = tree_size
            .checked_sub(1)
            .map(|last| self.range(&chain.log(), 0, last));
        for receipt in records.into_iter().flatten() {
            tree.push(tree::leaf_hash(receipt?.record.bytes()));
        }
        Ok(tree.root())
    }

    fn checkpoint_in(
        &self,
        files: &Files,
        content: Content,
        chain: &Chain,
    ) -> Result<Option<(Checkpoint, String)>, LedgerError> {
        let Some(bytes) = files.read(CHECKPOINT_PATH, CHECKPOINT_BYTES_MAX)? else {
            return Ok(None);
        };
        let key = self.checkpoint_key(chain)?.verifier();
        let signed = String::from_utf8(bytes).unwrap_or_default();
        let checkpoint = match Checkpoint::open(&signed, &chain.log(), &key) {
            Ok(checkpoint) => checkpoint,
            // It was not synced; a power cut may have left anything.
            Err(_) if content == Content::Cache => return Ok(None),
            Err(error) => {
                let why = format!("it holds no checkpoint of this log ({error}); name another directory");
                return Err(files.refuse(&why));
            }
        };
        if checkpoint.tree_size > chain.tree().size() {
            let why = format!(
                "its checkpoint covers {} receipts, the store has {}: the store lost receipts that it published; run `ledger verify`",
                checkpoint.tree_size,
                chain.tree().size()
            );
            return Err(files.refuse(&why));
        }
        Ok(Some((checkpoint, signed)))
    }

    // None when the tree at the older checkpoint does not have its root; nothing is written then.
    fn extend(
        &self,
        chain: &Chain,
        files: &mut Files,
        content: Content,
        begin: Begin,
    ) -> Result<Option<PublishReport>, LedgerError> {
        let Begin { mut builder, before } = begin;
        let log = chain.log();
        let (mut tiles_written, mut bundles_written) = (0, 0);
        let mut bundle = Vec::new();
        let agrees = |builder: &TileBuilder| {
            before.is_none_or(|b| b.tree_size != builder.size() || b.root == builder.root())
        };
        if !agrees(&builder) {
            return Ok(None);
        }
        for receipt in self.range(&log, builder.size(), chain.tip().0) {
            let receipt = receipt?;
            let record = receipt.record.bytes();
            for (tile, hashes) in builder.push(tree::leaf_hash(record)) {
                tiles_written += files.write(&tile.path(), &tiles::encode_tile(&hashes))?;
            }
            if content == Content::Published {
                tiles::push_entry(&mut bundle, record);
                if builder.size().is_multiple_of(TILE_WIDTH) {
                    bundles_written += self.write_bundle(files, builder.size(), &bundle)?;
                    bundle.clear();
                }
            }
            if !agrees(&builder) {
                return Ok(None);
            }
        }
        for (tile, hashes) in builder.partials() {
            tiles_written += files.write(&tile.path(), &tiles::encode_tile(&hashes))?;
        }
        if !bundle.is_empty() {
            bundles_written += self.write_bundle(files, builder.size(), &bundle)?;
        }
        files.sync_names()?;
        let root = builder.root();
        let checkpoint = self.release_checkpoint(chain, (builder.size(), root))?;
        // What witnesses signed of this very head goes with it.
        let checkpoint = match self.cosigned(&log)? {
            Some(cosigned)
                if cosigned.checkpoint.tree_size == builder.size() && cosigned.checkpoint.root == root =>
            {
                cosigned.note
            }
            _ => checkpoint,
        };
        files.write(CHECKPOINT_PATH, checkpoint.as_bytes())?;
        files.sync_names()?;
        if let Some(before) = before {
            remove_superseded(files, before.tree_size, builder.size())?;
        }
        Ok(Some(PublishReport {
            log,
            receipts: builder.size(),
            receipts_before: before.map_or(0, |b| b.tree_size),
            tiles: tiles_written,
            bundles: bundles_written,
            mended: files.mended,
            bytes: files.bytes,
            root,
            checkpoint,
        }))
    }

    // The bundle that ends with the newest entry of a tree of this size.
    fn write_bundle(&self, files: &mut Files, tree_size: u64, bundle: &[u8]) -> Result<u64, LedgerError> {
        let tile = Tile::at(0, (tree_size - 1) / TILE_WIDTH, tree_size).expect("the tree has leaves");
        files.write(&tiles::entries_path(tile.index(), tile.width()), bundle)
    }
}

// Nothing was added to the tiles of a checkpoint.
fn unchanged(before: &Checkpoint, signed: &str) -> PublishReport {
    PublishReport {
        log: before.log,
        receipts: before.tree_size,
        receipts_before: before.tree_size,
        tiles: 0,
        bundles: 0,
        mended: 0,
        bytes: 0,
        root: before.root,
        checkpoint: signed.to_owned(),
    }
}

const CONTRADICTED: &str = "its checkpoint has a root that this log never had, though this log's key signed it; keep the directory as \
                            evidence, run `ledger verify`, and publish into another one";
/// Bytes of a checkpoint with many cosignatures.
const CHECKPOINT_BYTES_MAX: usize = 128 * 1024;

// Begins behind the last full tile below the older checkpoint, from its partial tiles.
fn resume(files: &Files, before: Checkpoint) -> Option<Begin> {
    let size = before.tree_size - before.tree_size % TILE_WIDTH;
    let mut partials = vec![Vec::new()];
    for level in 1.. {
        let hashes = size.checked_shr(8 * u32::from(level)).unwrap_or(0);
        if hashes == 0 {
            break;
        }
        let tile = Tile::at(level, hashes / TILE_WIDTH, size);
        partials.push(match tile {
            Some(tile) => files.read_tile(tile).ok()?,
            None => Vec::new(),
        });
    }
    if size == 0 {
        partials.clear();
    }
    let builder = TileBuilder::resume(size, partials)?;
    let before = Some(before);
    Some(Begin { builder, before })
}

// Partial files whose full ones are there now.
fn remove_superseded(files: &Files, before: u64, now: u64) -> Result<(), LedgerError> {
    for level in 0..8 {
        let hashes = before.checked_shr(8 * u32::from(level)).unwrap_or(0);
        let index = hashes / TILE_WIDTH;
        let is_full_now = Tile::at(level, index, now).is_some_and(|tile| tile.is_full());
        if hashes.is_multiple_of(TILE_WIDTH) || !is_full_now {
            continue;
        }
        let full = Tile::at(level, index, now).expect("just seen");
        files.remove_partials(&full.path())?;
        if level == 0 {
            files.remove_partials(&tiles::entries_path(index, full.width()))?;
        }
    }
    Ok(())
}
