//! Rows by seq and an index on the id in redb, whose commits are durable unless told otherwise.

use super::{Link, Peer};
use crate::Failed;
use redb::{Database, Durability, TableDefinition};
use std::path::Path;

const RECEIPTS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("receipts");
const BY_ID: TableDefinition<'_, &[u8; 16], u64> = TableDefinition::new("by-id");

pub(super) struct Redb {
    db: Database,
    bytes: Vec<u8>,
}

impl Redb {
    pub(super) fn open(path: &Path) -> Result<Self, Failed> {
        Ok(Self {
            db: Database::create(path)?,
            bytes: Vec::new(),
        })
    }
}

impl Peer for Redb {
    fn commit(&mut self, links: &[Link]) -> Result<(), Failed> {
        let mut transaction = self.db.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        {
            let mut receipts = transaction.open_table(RECEIPTS)?;
            let mut by_id = transaction.open_table(BY_ID)?;
            for link in links {
                self.bytes.clear();
                link.encode(&mut self.bytes);
                receipts.insert(link.seq, self.bytes.as_slice())?;
                by_id.insert(&link.entry.id, link.seq)?;
            }
        }
        Ok(transaction.commit()?)
    }
}
