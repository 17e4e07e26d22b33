//! What a store knows besides its journal, made again at opening: from the rows, as of their cursor, and by folding what the
//! journal has behind it. Without usable rows everything is folded from the first receipt.
//!
//! Rows never hold the newest batch: what a crash during an opening leaves is a cursor that is valid still.

use crate::derived::Derived;
use crate::erase::{self, Erasure};
use crate::error::LedgerError;
use crate::housekeeper::{CURSOR_KEY, Cursor, ROWS_VERSION, Rows, Step, put_rows};
use crate::index::Index;
use crate::journal::format::BATCH_ENTRIES_MAX;
use crate::journal::{JournalReader, StoreId};
use crate::keyring::Keyring;
use crate::options::Paths;
use crate::prune::book::Place;
use crate::prune::{Pruned, kept};
use crate::read::{get, receipt_of};
use crate::recovery::RecoveryReport;
use crate::shared::Published;
use crate::state::{Changes, Row, State, StateContext};
use crate::{Position, Receipt};
use ledger_core::limits::DRIFT_MS_MAX;
use ledger_core::{Chain, ChainSnapshot, Hlc, LogId, PublicKey, canonical};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Receipts that are folded before rows are written while a store is rebuilt. As many as a batch can hold, so that the
/// rows never hold the newest one.
const REBUILD_STEP: usize = BATCH_ENTRIES_MAX as usize;

/// What was made again.
pub(crate) struct Restored<S: State> {
    pub(crate) context: StateContext,
    pub(crate) index: Index,
    pub(crate) published: Published<S>,
    /// What the rows do not have yet.
    pub(crate) step: Step,
    /// Erasures that were folded; a crash may have interrupted the newest.
    pub(crate) erasures: Vec<Erasure>,
}

/// Loads the rows, where they fit, and folds the rest.
pub(crate) fn restore<S: State>(
    derived: &Derived,
    reader: &JournalReader,
    report: &RecoveryReport,
    pruned: &Pruned,
    store: StoreId,
    keyring: &Keyring,
    paths: &Paths,
    wall_ms: u64,
) -> Result<Restored<S>, LedgerError> {
    let rows = Rows::open(derived)?;
    let index = Index::open(derived)?;
    let first = reader
        .scan(Position::START)
        .next()
        .ok_or(LedgerError::Unknown("the journal is empty".into()))?;
    let first = receipt_of(&first?)?;
    let genesis = Chain::start(&first.record)?;
    if genesis.machine_key() != keyring.machine.public() {
        return Err(LedgerError::ForeignKeys(paths.dir.clone()));
    }
    let context = StateContext {
        fleet: genesis.fleet(),
        machine: genesis.genesis().machine.clone(),
        machine_key: genesis.machine_key(),
    };
    let usable = |cursor: &Cursor| {
        cursor.store == store.0
            && cursor.end <= reader.end()
            && report.cut.is_none_or(|cut| cursor.end <= cut)
            && cursor.rows_version == ROWS_VERSION
            && cursor.state_name == S::NAME
            && cursor.state_version == S::VERSION
    };
    let cursor = rows
        .meta
        .get(CURSOR_KEY)?
        .and_then(|bytes| canonical::decode::<Cursor>("cursor", &bytes).ok());
    let restored = match cursor.filter(usable) {
        Some(cursor) => match load(&rows, &index, reader, &context, &cursor) {
            Ok(published) => Some(published),
            Err(e) => {
                tracing::warn!(error = %e, "the derived rows do not fit; they are made again from the journal");
                None
            }
        },
        None => None,
    };
    let mut published = match restored {
        Some(restored) => restored,
        None => begin(&rows, &index, S::empty(&context))?,
    };
    let wall = (context.machine_key, wall_ms);
    let mut erasures = Vec::new();
    let from = Source {
        reader,
        pruned,
        store,
    };
    let mut step = fold_on(&mut published, &mut erasures, &rows, &index, &from, wall)?;
    while let Some(state) = published.state.begin_again() {
        tracing::info!("some of what was folded does not count; everything is folded again");
        published = begin(&rows, &index, state)?;
        erasures.clear();
        step = fold_on(&mut published, &mut erasures, &rows, &index, &from, wall)?;
    }
    Ok(Restored {
        context,
        index,
        published,
        step,
        erasures,
    })
}

// Nothing folded yet, and nothing kept of what was.
fn begin<S: State>(rows: &Rows, index: &Index, state: S) -> Result<Published<S>, LedgerError> {
    for table in [&rows.meta, &rows.logs, &rows.state] {
        table.clear()?;
    }
    index.clear()?;
    Ok(Published {
        state,
        logs: BTreeMap::new(),
        end: Position::START,
        clock: Hlc::default(),
        receipts: 0,
        newest: None,
    })
}

// What is folded.
struct Source<'a> {
    reader: &'a JournalReader,
    pruned: &'a Pruned,
    store: StoreId,
}

// What the rows hold, as of their cursor.
fn load<S: State>(
    rows: &Rows,
    index: &Index,
    reader: &JournalReader,
    context: &StateContext,
    cursor: &Cursor,
) -> Result<Published<S>, LedgerError> {
    let bad = |why: String| LedgerError::Derived {
        what: "loading rows",
        why,
    };
    index.load()?;
    let mut logs = BTreeMap::new();
    for row in rows.logs.prefix(&[]) {
        let (key, value) = row?;
        let log = LogId(
            key.try_into()
                .map_err(|_| bad("a log row's key is not a LogId".into()))?,
        );
        let snapshot: ChainSnapshot = canonical::decode("log row", &value).map_err(|e| bad(e.to_string()))?;
        let genesis = get(index, reader, &log, 0)?.ok_or_else(|| bad(format!("log {log} has no genesis")))?;
        let chain = Chain::restore(&genesis.record, &snapshot)?;
        logs.insert(log, Arc::new(chain));
    }
    let mut state = S::empty(context);
    for row in rows.state.prefix(&[]) {
        let (key, value) = row?;
        let (table, key) = key
            .split_first_chunk::<2>()
            .ok_or_else(|| bad("a state row has no table".into()))?;
        let row = Row {
            table: u16::from_be_bytes(*table),
            key: key.to_vec(),
            value,
        };
        state.load(&row).map_err(bad)?;
    }
    Ok(Published {
        state,
        logs,
        end: cursor.end,
        clock: cursor.clock,
        receipts: cursor.receipts,
        newest: None,
    })
}

// Folds what the journal has behind the cursor. Writes rows in steps, so that memory stays flat; returns what is left.
fn fold_on<S: State>(
    published: &mut Published<S>,
    erasures: &mut Vec<Erasure>,
    rows: &Rows,
    index: &Index,
    from: &Source<'_>,
    (machine, wall_ms): (PublicKey, u64),
) -> Result<Step, LedgerError> {
    let Source {
        reader,
        pruned,
        store,
    } = *from;
    let mut changes = Changes::recording();
    let mut chunk: Vec<Receipt> = Vec::new();
    let mut waiting: Vec<Receipt> = Vec::new();
    // How many erasures are in the index, and how many of all are said by receipts that wait.
    let (mut indexed, mut said) = (0, 0);
    let mut left = Step {
        end: published.end,
        total: published.receipts,
        clock: published.clock,
        ..Step::default()
    };
    // Entries at or behind the cursor's end have greater positions, as a batch header stands at the end itself.
    for entry in reader.scan(published.end) {
        let receipt = receipt_of(&entry?)?;
        let corrupt = |source| LedgerError::Corrupt {
            position: receipt.position,
            source,
        };
        let floor = pruned.floor(&receipt.log());
        match published.logs.get_mut(&receipt.log()) {
            Some(chain) => {
                let next = chain.tip().0 + 1;
                match floor
                    .as_ref()
                    .map(|floor| (floor, floor.place(next, receipt.seq())))
                {
                    Some((_, Place::Left)) => continue,
                    Some((floor, Place::First)) => {
                        Arc::make_mut(chain)
                            .advance_to(&floor.snapshot())
                            .map_err(corrupt)?;
                        published.receipts += floor.first_kept() - next;
                        published.clock = published.clock.max(floor.said.time);
                    }
                    _ => {}
                }
                Arc::make_mut(chain).follow(&receipt.record).map_err(corrupt)?;
            }
            None => {
                let chain = Chain::start(&receipt.record).map_err(corrupt)?;
                published.logs.insert(chain.log(), Arc::new(chain));
            }
        }
        if floor.is_some_and(|floor| floor.covers(receipt.seq())) {
            // It is still there and will go: as if it had gone already.
            published.receipts += 1;
            continue;
        }
        published.state.fold(&receipt, &mut changes);
        let own = published
            .logs
            .get(&receipt.log())
            .is_some_and(|chain| chain.machine_key() == machine);
        let find = |log: &LogId, seq: u64| match kept(get(index, reader, log, seq))? {
            Some(found) => Ok(Some(found)),
            // Not in the index yet.
            None => Ok(waiting
                .iter()
                .chain(&chunk)
                .find(|r| r.log() == *log && r.seq() == seq)
                .cloned()),
        };
        let named = erase::named(&receipt, find)?;
        let destroyed = named.and_then(|named| named.destroys(&published.state, &receipt, own));
        if let Some(record) = destroyed {
            let by = receipt.position;
            erasures.push(Erasure { record, by });
        }
        // Another machine's time pulls our clock only so far, as it did when the record was taken in.
        published.clock = if own {
            published.clock.max(receipt.time())
        } else {
            published.clock.merge(receipt.time(), wall_ms, DRIFT_MS_MAX)
        };
        published.receipts += 1;
        published.newest = Some(receipt.clone());
        chunk.push(receipt);
        if chunk.len() >= REBUILD_STEP {
            // What waited is more than a batch behind, so later batches prove it.
            let done = std::mem::take(&mut left);
            if !waiting.is_empty() {
                index.add(&std::mem::take(&mut waiting), &erasures[indexed..said]);
                indexed = said;
                index.settle();
                write_step::<S>(rows, index, &done, store)?;
            }
            left = Step {
                end: chunk.last().map_or(done.end, |r| r.position),
                changes: changes.take(),
                logs: published.logs.clone(),
                receipts: chunk.len(),
                total: published.receipts,
                clock: published.clock,
            };
            waiting = std::mem::take(&mut chunk);
            said = erasures.len();
        }
    }
    let rest = chunk.len();
    waiting.append(&mut chunk);
    index.add(&waiting, &erasures[indexed..]);
    left.changes.extend(changes.take());
    Ok(Step {
        end: published.end,
        changes: left.changes,
        logs: published.logs.clone(),
        receipts: left.receipts + rest,
        total: published.receipts,
        clock: published.clock,
    })
}

fn write_step<S: State>(rows: &Rows, index: &Index, step: &Step, store: StoreId) -> Result<(), LedgerError> {
    let mut batch = rows.derived.batch();
    index.begin_move();
    index.put_moving(&mut batch);
    put_rows::<S>(rows, &mut batch, step, store.0);
    batch.commit()?;
    index.moved();
    Ok(())
}
