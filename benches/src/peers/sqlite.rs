//! A hash-chained table in SQLite, with an index on the id.

use super::{KIND, Link, Peer};
use crate::Failed;
use rusqlite::{Connection, params};
use std::path::Path;

const TABLE: &str = "
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = FULL;
    CREATE TABLE receipts (
        seq       INTEGER PRIMARY KEY,
        id        BLOB NOT NULL,
        prev      BLOB NOT NULL,
        hash      BLOB NOT NULL,
        signature BLOB,
        time_us   INTEGER NOT NULL,
        kind      TEXT NOT NULL,
        subject   TEXT NOT NULL,
        payload   BLOB NOT NULL
    ) STRICT;
    CREATE UNIQUE INDEX by_id ON receipts (id);";

const INSERT: &str = "INSERT INTO receipts VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";

pub(super) struct Sqlite {
    connection: Connection,
}

impl Sqlite {
    pub(super) fn open(path: &Path) -> Result<Self, Failed> {
        let connection = Connection::open(path)?;
        connection.execute_batch(TABLE)?;
        // Asked for and not to be had would make the comparison worthless.
        let mode: String = connection.pragma_query_value(None, "journal_mode", |row| row.get(0))?;
        let synchronous: i64 = connection.pragma_query_value(None, "synchronous", |row| row.get(0))?;
        if mode != "wal" || synchronous != 2 {
            return Err(format!("SQLite runs with {mode} and synchronous {synchronous}").into());
        }
        Ok(Self { connection })
    }
}

impl Peer for Sqlite {
    fn commit(&mut self, links: &[Link]) -> Result<(), Failed> {
        let transaction = self.connection.transaction()?;
        {
            let mut insert = transaction.prepare_cached(INSERT)?;
            for link in links {
                insert.execute(params![
                    i64::try_from(link.seq)?,
                    link.entry.id,
                    link.prev,
                    link.hash,
                    link.signature,
                    i64::try_from(link.entry.time_us)?,
                    KIND,
                    link.entry.subject,
                    link.entry.payload,
                ])?;
            }
        }
        Ok(transaction.commit()?)
    }
}
