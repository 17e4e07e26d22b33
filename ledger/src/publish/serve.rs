//! The files of a published log one by one, made when they are asked for: what a server hands out over HTTP.
//!
//! Contract: the bytes are those that [`Ledger::publish`] would write, for every width up to what is durable now. Tiles come
//! from the store's own copy (`DIR/data/tiles/LOG`), entries from the journal. Whoever asks verifies them against
//! [`Ledger::checkpoint`]; a tile of the store's copy that cannot be read is made anew.

use super::{Content, Files};
use crate::error::LedgerError;
use crate::ledger::Ledger;
use crate::state::State;
use crate::storage::DiskStorage;
use ledger_core::LogId;
use ledger_core::tiles::{self, Resource, TILE_WIDTH, Tile, TilesError};
use ledger_core::tree::Hash;
use std::sync::Arc;

impl<S: State> Ledger<S> {
    /// The bytes of a tile or an entry bundle of an own log, as C2SP `tlog-tiles` has them; `None` when the log is not that
    /// long, or when records of it are not in this store any more. Partial ones are there at every width.
    ///
    /// # Errors
    /// [`LedgerError::UnknownLog`]; [`LedgerError::NoCheckpointKey`] for another machine's log; [`LedgerError::Io`].
    pub fn tile(&self, log: &LogId, resource: &Resource) -> Result<Option<Vec<u8>>, LedgerError> {
        let chain = self.shared().chain(log).ok_or(LedgerError::UnknownLog(*log))?;
        self.checkpoint_key(&chain)?;
        match self.tile_of(log, chain.tree().size(), resource) {
            Err(LedgerError::Pruned { .. }) => Ok(None),
            done => done,
        }
    }

    fn tile_of(&self, log: &LogId, size: u64, resource: &Resource) -> Result<Option<Vec<u8>>, LedgerError> {
        match *resource {
            Resource::Entries { index, width } => {
                let whole = Tile::at(0, index, size).is_some_and(|tile| tile.width() >= width);
                if whole {
                    self.entries(log, index, width)
                } else {
                    Ok(None)
                }
            }
            Resource::Tile(wanted) => {
                let here = Tile::at(wanted.level(), wanted.index(), size);
                if here.is_none_or(|here| here.width() < wanted.width()) {
                    return Ok(None);
                }
                // Another run may have put a full tile in the place of the partial one meanwhile.
                let found = match self.hashes(log, wanted) {
                    Err(LedgerError::Tiles(_)) => self.hashes(log, wanted),
                    done => done,
                };
                match found {
                    Err(LedgerError::Tiles(_)) => {
                        self.forget_tiles(log)?;
                        self.hashes(log, wanted).map(Some)
                    }
                    done => done.map(Some),
                }
            }
        }
    }

    fn entries(&self, log: &LogId, index: u64, width: u16) -> Result<Option<Vec<u8>>, LedgerError> {
        let first = index * TILE_WIDTH;
        let (mut bundle, mut next) = (Vec::new(), first);
        for receipt in self.range(log, first, first + u64::from(width) - 1) {
            let receipt = receipt?;
            if receipt.seq() != next {
                return Ok(None);
            }
            tiles::push_entry(&mut bundle, receipt.record.bytes());
            next += 1;
        }
        Ok((next == first + u64::from(width)).then_some(bundle))
    }

    // The tile may lie there under its own name, as a wider partial one, or full.
    fn hashes(&self, log: &LogId, wanted: Tile) -> Result<Vec<u8>, LedgerError> {
        let dir = self.paths().tiles().join(log.to_hex());
        let mut files = Files::new(Arc::new(DiskStorage), &dir, false);
        let bytes = usize::from(wanted.width()) * size_of::<Hash>();
        let missing = || TilesError::TileBytes {
            path: wanted.path(),
            expected: bytes,
            found: 0,
        };
        let grown = self.grow(log, &mut files, Content::Cache)?;
        let here = Tile::at(wanted.level(), wanted.index(), grown.receipts).ok_or_else(missing)?;
        let hashes = files.read_tile(here)?;
        let hashes = hashes.get(..usize::from(wanted.width())).ok_or_else(missing)?;
        Ok(tiles::encode_tile(hashes))
    }
}
