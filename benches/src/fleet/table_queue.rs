//! A queue in SQLite as people write it: one table, an index on what is ready, `BEGIN IMMEDIATE` around a claim, WAL, and a sync
//! with every commit. Nothing is signed, nothing is chained, and a finished row forgets who did what when.

use crate::Failed;
use crate::measure::{Cost, counted};
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const TABLE: &str = "
    CREATE TABLE jobs (
        id       INTEGER PRIMARY KEY,
        handler  TEXT NOT NULL,
        state    TEXT NOT NULL,
        priority INTEGER NOT NULL,
        worker   TEXT,
        result   BLOB
    ) STRICT;
    CREATE INDEX ready ON jobs (state, priority DESC, id);";

/// How long a worker waits for the lock.
const BUSY: Duration = Duration::from_secs(30);

fn open(path: &Path) -> Result<Connection, Failed> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(BUSY)?;
    let mode: String = connection.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    if mode == "wal" {
        Ok(connection)
    } else {
        Err(format!("SQLite runs with {mode}").into())
    }
}

/// Jobs through enqueue, claim and success, each its own commit, by one process that enqueues and some workers.
///
/// # Errors
/// What SQLite says.
pub fn run(path: &Path, jobs: usize, workers: usize) -> Result<Cost, Failed> {
    open(path)?.execute_batch(TABLE)?;
    let done = AtomicUsize::new(0);
    let cost = counted(|| {
        std::thread::scope(|scope| {
            let enqueuing = scope.spawn(|| enqueue(path, jobs));
            let working: Vec<_> = (0..workers)
                .map(|n| {
                    scope.spawn({
                        let done = &done;
                        move || work(path, n, jobs, done)
                    })
                })
                .collect();
            let ended = std::iter::once(enqueuing).chain(working);
            ended
                .map(|thread| thread.join().map_err(|_| "a thread panicked")?)
                .collect::<Result<Vec<()>, Failed>>()?;
            Ok(jobs)
        })
    })?;
    let finished: i64 =
        open(path)?.query_row("SELECT count(*) FROM jobs WHERE state = 'done'", [], |row| {
            row.get(0)
        })?;
    if usize::try_from(finished)? == jobs {
        Ok(cost)
    } else {
        Err(format!("{finished} of {jobs} jobs are done").into())
    }
}

fn enqueue(path: &Path, jobs: usize) -> Result<(), Failed> {
    let connection = open(path)?;
    let mut insert =
        connection.prepare("INSERT INTO jobs (handler, state, priority) VALUES (?1, 'ready', 0)")?;
    for _ in 0..jobs {
        insert.execute(params![super::child::NO_OP])?;
    }
    Ok(())
}

fn work(path: &Path, worker: usize, jobs: usize, done: &AtomicUsize) -> Result<(), Failed> {
    let mut connection = open(path)?;
    while done.load(Ordering::Acquire) < jobs {
        let claim = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let id: Option<i64> = claim
            .prepare_cached("SELECT id FROM jobs WHERE state = 'ready' ORDER BY priority DESC, id LIMIT 1")?
            .query_row([], |row| row.get(0))
            .optional()?;
        let Some(id) = id else {
            drop(claim);
            std::thread::yield_now();
            continue;
        };
        claim
            .prepare_cached("UPDATE jobs SET state = 'running', worker = ?2 WHERE id = ?1")?
            .execute(params![id, worker.to_string()])?;
        claim.commit()?;
        connection
            .prepare_cached("UPDATE jobs SET state = 'done', result = ?2 WHERE id = ?1")?
            .execute(params![id, b"null"])?;
        done.fetch_add(1, Ordering::AcqRel);
    }
    Ok(())
}
