//! Rows by seq and four indexes in fjall: by id, by subject, by kind, by time.

use super::{KIND, Link, Peer};
use crate::Failed;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use std::path::Path;

pub(super) struct Fjall {
    db: Database,
    receipts: Keyspace,
    by_id: Keyspace,
    by_subject: Keyspace,
    by_kind: Keyspace,
    by_time: Keyspace,
}

impl Fjall {
    pub(super) fn open(path: &Path) -> Result<Self, Failed> {
        let db = Database::builder(path).open()?;
        let table = |name: &str| db.keyspace(name, KeyspaceCreateOptions::default);
        let [receipts, by_id, by_subject, by_kind, by_time] =
            ["receipts", "by-id", "by-subject", "by-kind", "by-time"].map(table);
        Ok(Self {
            receipts: receipts?,
            by_id: by_id?,
            by_subject: by_subject?,
            by_kind: by_kind?,
            by_time: by_time?,
            db,
        })
    }
}

impl Peer for Fjall {
    fn commit(&mut self, links: &[Link]) -> Result<(), Failed> {
        let mut batch = self.db.batch().durability(Some(PersistMode::SyncAll));
        for link in links {
            let seq = link.seq.to_be_bytes();
            let mut bytes = Vec::new();
            link.encode(&mut bytes);
            batch.insert(&self.receipts, seq, bytes);
            batch.insert(&self.by_id, link.entry.id, seq);
            batch.insert(
                &self.by_subject,
                [link.entry.subject.as_bytes(), &seq].concat(),
                [],
            );
            batch.insert(&self.by_kind, [KIND.as_bytes(), &seq].concat(), []);
            batch.insert(
                &self.by_time,
                [link.entry.time_us.to_be_bytes(), seq].concat(),
                [],
            );
        }
        Ok(batch.commit()?)
    }
}
