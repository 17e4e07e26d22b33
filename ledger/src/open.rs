//! Making a store, and opening one: keys, anchor, journal, then everything that is derived.
//!
//! Creation: the anchor says `creating` and is synced, the store is built in a directory beside its place and renamed in,
//! the anchor says `live`. A crash before the rename leaves nothing that counts; after it, opening finishes the rest.

use crate::anchor::{Anchor, AnchorFile, AnchorState};
use crate::clock::{Clock, Entropy, unix_ms};
use crate::derived::Derived;
use crate::error::LedgerError;
use crate::housekeeper::{CURSOR_KEY, Cursor, Rows, Step, anchor_of, put_rows};
use crate::index::Index;
use crate::journal::{EntryDraft, Journal, JournalOptions, JournalReader, OpenContext, StoreId};
use crate::keyring::{Keyring, create_private_dir};
use crate::ledger::{Ledger, OpenOptions, Parts, Published};
use crate::lock::StoreLock;
use crate::options::Paths;
use crate::read::{get, receipt_of};
use crate::recovery::RecoveryReport;
use crate::state::{Changes, Row, State, StateContext};
use crate::storage::Storage;
use crate::{Position, Receipt};
use ledger_core::kind::MachineId;
use ledger_core::kinds::{Founding, LogGenesis};
use ledger_core::limits::DRIFT_MS_MAX;
use ledger_core::record::Seal;
use ledger_core::{
    Chain, ChainSnapshot, Draft, FleetId, Hlc, LogId, PublicKey, ReceiptId, Record, SealDigest, Stream,
    canonical, digest, signature,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Receipts that are folded before rows are written while a store is rebuilt. Larger than any batch, so that the rows
/// never hold the newest one.
const REBUILD_STEP: usize = 30_000;

/// Which fleet a new store belongs to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fleet {
    /// A fleet that exists.
    Join(FleetId),
    /// A new fleet with these keys, founded by the order log of this store.
    Found {
        /// The root key.
        root_key: PublicKey,
        /// The recovery key.
        recovery_key: PublicKey,
    },
    /// A fleet of its own: the machine key is root and recovery key. For logs that are embedded and stand alone.
    Lone,
}

/// What a new store is to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewStore {
    /// The stable name of the machine.
    pub machine: MachineId,
    /// The logs that it writes.
    pub streams: Vec<Stream>,
    /// The fleet.
    pub fleet: Fleet,
}

/// The constant part of the anchor.
#[derive(Clone, Debug)]
pub(crate) struct AnchorSeed {
    pub(crate) store: StoreId,
    pub(crate) epoch: u64,
    pub(crate) boot: String,
    /// Whether the operating system still runs since the anchor was written.
    pub(crate) same_boot: bool,
}

/// The operating system's boot id, where it has one.
fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|id| id.trim().to_owned())
        .unwrap_or_default()
}

fn io(what: &'static str, path: &std::path::Path) -> impl FnOnce(std::io::Error) -> LedgerError {
    let path = path.to_owned();
    move |source| LedgerError::Io { what, path, source }
}

fn seed<const N: usize>(entropy: &dyn Entropy) -> [u8; N] {
    let mut bytes = [0; N];
    entropy.fill(&mut bytes);
    bytes
}

fn journal_options(entropy: &dyn Entropy, segment_bytes: Option<u32>) -> JournalOptions {
    let mut options = JournalOptions::new(seed(entropy));
    if let Some(bytes) = segment_bytes {
        options.segment_bytes = bytes;
    }
    options
}

impl<S: State> Ledger<S> {
    /// Makes a store and opens it. Keys that lie there already are used, so that a machine can make its keys first.
    ///
    /// # Errors
    /// [`LedgerError::StoreExists`] when there is one; [`LedgerError::StoreLost`] when the keys belong to one that is gone.
    pub fn create(paths: &Paths, new: &NewStore, options: OpenOptions<S>) -> Result<Self, LedgerError> {
        build(
            paths,
            new,
            &*options.clock,
            &*options.entropy,
            &options.storage,
            options.segment_bytes,
        )?;
        Self::open(paths, options)
    }

    /// Opens a store: takes the lock, recovers the journal, folds what the derived store lacks.
    ///
    /// # Errors
    /// [`LedgerError`]: no store, another process has it, keys and data do not belong together, damage below what was
    /// acknowledged.
    pub fn open(paths: &Paths, options: OpenOptions<S>) -> Result<Self, LedgerError> {
        open(paths, options)
    }

    /// Opens the store, or makes it when there is none.
    ///
    /// # Errors
    /// As [`Ledger::open`] and [`Ledger::create`].
    pub fn open_or_create(
        paths: &Paths,
        new: &NewStore,
        options: OpenOptions<S>,
    ) -> Result<Self, LedgerError> {
        if paths.journal().exists() {
            Self::open(paths, options)
        } else {
            Self::create(paths, new, options)
        }
    }
}

impl Ledger<()> {
    /// Opens the embedded log in a directory, or founds one of its own there: one log of facts, no fleet, no order.
    ///
    /// # Errors
    /// As [`Ledger::open`] and [`Ledger::create`].
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// let ledger = ledger::Ledger::lone(dir.path().join("log"), "my-agent")?;
    /// # Ok(()) }
    /// ```
    pub fn lone(dir: impl Into<std::path::PathBuf>, machine: &str) -> Result<Self, LedgerError> {
        let machine = MachineId::new(machine)?;
        let new = NewStore {
            machine,
            streams: vec![Stream::Facts],
            fleet: Fleet::Lone,
        };
        Self::open_or_create(&Paths::new(dir), &new, OpenOptions::default())
    }
}

// The genesis records of a new store.
fn genesis(
    new: &NewStore,
    keyring: &Keyring,
    clock: &dyn Clock,
    entropy: &dyn Entropy,
) -> Result<Vec<Record>, LedgerError> {
    let machine_key = keyring.machine.public();
    let founding = match &new.fleet {
        Fleet::Join(_) => None,
        Fleet::Found {
            root_key,
            recovery_key,
        } => Some(Founding {
            root_key: *root_key,
            recovery_key: *recovery_key,
            nonce: seed(entropy),
        }),
        Fleet::Lone => Some(Founding {
            root_key: machine_key,
            recovery_key: machine_key,
            nonce: seed(entropy),
        }),
    };
    let fleet = match (&new.fleet, &founding) {
        (Fleet::Join(fleet), _) => *fleet,
        (_, Some(f)) => digest::fleet_id(&f.root_key.0, &f.recovery_key.0, &f.nonce),
        (_, None) => unreachable!("a fleet is joined or founded"),
    };
    let now_us = clock.now_us();
    let mut time = Hlc::default();
    let mut records = Vec::new();
    for stream in &new.streams {
        // The founding stands in the order's genesis; a lone log has no order and carries it itself.
        let founds = *stream == Stream::Order || new.fleet == Fleet::Lone;
        let detail = LogGenesis {
            machine: new.machine.clone(),
            stream: *stream,
            incarnation: 1,
            machine_key,
            checkpoint_key: keyring.checkpoint(*stream).public(),
            predecessor: None,
            founding: founding.clone().filter(|_| founds),
            nonce: seed(entropy),
        };
        let subject = ledger_core::Subject::new(&format!("node/{}", new.machine))?;
        let id = ReceiptId::v7(unix_ms(now_us), seed(entropy));
        let said = Draft::of(&detail, subject).into_statement(fleet, machine_key, id, now_us, [0; 32])?;
        time = time.tick(unix_ms(now_us));
        let log = digest::log_id(&said.bytes);
        let seal = Seal {
            version: 1,
            log,
            seq: 0,
            prev: SealDigest::ZERO,
            time,
            statement: said.digest,
        };
        let signed = signature::sign_seal(&keyring.machine, &seal.digest());
        records.push(Record::assemble(said.statement, &said.bytes, None, seal, signed));
    }
    Ok(records)
}

fn build(
    paths: &Paths,
    new: &NewStore,
    clock: &dyn Clock,
    entropy: &dyn Entropy,
    storage: &Arc<dyn Storage>,
    segment_bytes: Option<u32>,
) -> Result<(), LedgerError> {
    if paths.journal().exists() {
        return Err(LedgerError::StoreExists(paths.dir.clone()));
    }
    create_private_dir(&paths.dir)?;
    let keyring = if paths.anchor().exists() {
        Keyring::open(&paths.keys())?
    } else {
        Keyring::create(&paths.keys(), entropy)?
    };
    let store = StoreId(seed(entropy));
    let boot = boot_id();
    let mut anchor = Anchor {
        store,
        state: AnchorState::Creating,
        epoch: 1,
        boot,
        clean: true,
        durable: Position::START,
        logs: Vec::new(),
    };
    let mut file = match AnchorFile::open(Arc::clone(storage), &paths.anchor())? {
        Some((_, known)) if known.state == AnchorState::Live => {
            return Err(LedgerError::StoreLost(paths.dir.clone()));
        }
        Some((mut file, _)) => {
            file.write(&anchor)?;
            file
        }
        None => AnchorFile::create(Arc::clone(storage), &paths.anchor(), &anchor)?,
    };
    let making = paths.dir.join("data.creating");
    if making.exists() {
        std::fs::remove_dir_all(&making).map_err(io("clearing", &making))?;
    }
    create_private_dir(&making)?;
    let records = genesis(new, &keyring, clock, entropy)?;
    let options = journal_options(entropy, segment_bytes);
    let (mut journal, _) = Journal::create(Arc::clone(storage), &making.join("journal"), store, options)?;
    let drafts: Vec<_> = records
        .iter()
        .map(|r| EntryDraft {
            record: r.bytes(),
            payload: None,
        })
        .collect();
    journal.append(&drafts)?;
    anchor.durable = journal.durable_end();
    journal.close()?;
    storage.sync_dir(&making).map_err(io("syncing", &making))?;
    storage
        .rename(&making, &paths.data())
        .map_err(io("putting the store in its place", &paths.data()))?;
    storage.sync_dir(&paths.dir).map_err(io("syncing", &paths.dir))?;
    let mut logs = BTreeMap::new();
    let mut own = BTreeMap::new();
    for record in &records {
        let chain = Chain::start(record)?;
        own.insert(chain.genesis().stream, chain.log());
        logs.insert(chain.log(), Arc::new(chain));
    }
    let seed = AnchorSeed {
        store,
        epoch: anchor.epoch,
        boot: anchor.boot.clone(),
        same_boot: true,
    };
    let none = BTreeMap::new();
    file.write(&anchor_of(&seed, &own, &logs, &none, anchor.durable, true))?;
    Ok(())
}

fn open<S: State>(paths: &Paths, options: OpenOptions<S>) -> Result<Ledger<S>, LedgerError> {
    let storage = Arc::clone(&options.storage);
    if !paths.dir.exists() || !paths.keys().exists() {
        return Err(LedgerError::NoStore(paths.dir.clone()));
    }
    let keyring = Keyring::open(&paths.keys())?;
    // The anchor is read under the lock: whoever had the store until now may just have written it.
    let there = paths.journal().exists();
    let lock = there.then(|| StoreLock::acquire(&paths.lock())).transpose()?;
    let known = AnchorFile::open(Arc::clone(&storage), &paths.anchor())?;
    let Some((mut anchor_file, anchor)) = known else {
        // Data without the anchor is a copy: it may be read and verified, but it cannot go on.
        return Err(if there {
            LedgerError::ForeignKeys(paths.dir.clone())
        } else {
            LedgerError::NoStore(paths.dir.clone())
        });
    };
    let Some(lock) = lock else {
        let lost = anchor.state == AnchorState::Live;
        return Err(if lost {
            LedgerError::StoreLost(paths.dir.clone())
        } else {
            LedgerError::NoStore(paths.dir.clone())
        });
    };
    let durable = (anchor.durable > Position::START).then_some(anchor.durable);
    let context = OpenContext {
        store: Some(anchor.store),
        durable,
        options: journal_options(&*options.entropy, options.segment_bytes),
    };
    let opened = Journal::open(Arc::clone(&storage), &paths.journal(), context)?;
    let derived = Derived::open(&paths.derived())?;
    let restored: Restored<S> = restore(
        &derived,
        &opened.reader,
        &opened.report,
        anchor.store,
        &keyring,
        paths,
        unix_ms(options.clock.now_us()),
    )?;
    check_anchor(&anchor, &restored, &opened.reader)?;
    let own = own_logs(&restored.published.logs, &keyring.machine.public());
    let boot = boot_id();
    let same_boot = !boot.is_empty() && boot == anchor.boot;
    let seed = AnchorSeed {
        store: anchor.store,
        epoch: anchor.epoch,
        boot,
        same_boot,
    };
    let end = opened.journal.durable_end();
    let checkpoints: BTreeMap<LogId, u64> = anchor
        .logs
        .iter()
        .map(|anchored| (anchored.log, anchored.checkpoint_size))
        .collect();
    let logs = &restored.published.logs;
    anchor_file.write(&anchor_of(&seed, &own, logs, &checkpoints, end, false))?;
    let parts = Parts {
        paths: paths.clone(),
        context: restored.context,
        keyring,
        own,
        checkpoints,
        index: restored.index,
        reader: opened.reader,
        derived,
        published: Published {
            end,
            ..restored.published
        },
        step: Step { end, ..restored.step },
    };
    Ok(Ledger::start(
        parts,
        opened.journal,
        anchor_file,
        lock,
        seed,
        opened.report,
        options,
    ))
}

// The newest set of logs that this machine key writes.
fn own_logs(logs: &BTreeMap<LogId, Arc<Chain>>, machine: &PublicKey) -> BTreeMap<Stream, LogId> {
    let mut own: BTreeMap<Stream, (u32, LogId)> = BTreeMap::new();
    for (log, chain) in logs {
        let genesis = chain.genesis();
        if chain.machine_key() == *machine
            && own
                .get(&genesis.stream)
                .is_none_or(|(incarnation, _)| *incarnation < genesis.incarnation)
        {
            own.insert(genesis.stream, (genesis.incarnation, *log));
        }
    }
    own.into_iter().map(|(stream, (_, log))| (stream, log)).collect()
}

fn check_anchor<S: State>(
    anchor: &Anchor,
    restored: &Restored<S>,
    reader: &JournalReader,
) -> Result<(), LedgerError> {
    for anchored in &anchor.logs {
        let behind = |found: String| LedgerError::BehindAnchor {
            log: anchored.log,
            anchored: anchored.head.seq,
            found,
        };
        let Some(chain) = restored.published.logs.get(&anchored.log) else {
            return Err(behind("none".into()));
        };
        let (seq, seal) = chain.tip();
        if seq < anchored.head.seq {
            return Err(behind(format!("seq {seq}")));
        }
        let stands = if seq == anchored.head.seq {
            Some(seal)
        } else {
            get(&restored.index, reader, &anchored.log, anchored.head.seq)?.map(|r| r.seal_digest())
        };
        if stands != Some(anchored.head.seal) {
            return Err(LedgerError::Fork {
                log: anchored.log,
                seq: anchored.head.seq,
            });
        }
    }
    Ok(())
}

struct Restored<S: State> {
    context: StateContext,
    index: Index,
    published: Published<S>,
    step: Step,
}

fn restore<S: State>(
    derived: &Derived,
    reader: &JournalReader,
    report: &RecoveryReport,
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
            && cursor.state_name == S::NAME
            && cursor.state_version == S::VERSION
    };
    let cursor = rows
        .meta
        .get(CURSOR_KEY)?
        .and_then(|bytes| canonical::decode::<Cursor>("cursor", &bytes).ok());
    let mut restored = match cursor.filter(usable) {
        Some(cursor) => match load(&rows, &index, reader, &context, &cursor) {
            Ok(published) => Some(published),
            Err(e) => {
                tracing::warn!(error = %e, "the derived rows do not fit; they are made again from the journal");
                None
            }
        },
        None => None,
    };
    if restored.is_none() {
        for table in [&rows.meta, &rows.logs, &rows.state] {
            table.clear()?;
        }
        index.clear()?;
        restored = Some(Published {
            state: S::empty(&context),
            logs: BTreeMap::new(),
            end: Position::START,
            clock: Hlc::default(),
            receipts: 0,
            newest: None,
        });
    }
    let mut published = restored.expect("loaded or begun anew");
    let wall = (context.machine_key, wall_ms);
    let step = fold_on(&mut published, &rows, &index, reader, store, wall)?;
    Ok(Restored {
        context,
        index,
        published,
        step,
    })
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
    rows: &Rows,
    index: &Index,
    reader: &JournalReader,
    store: StoreId,
    (machine, wall_ms): (PublicKey, u64),
) -> Result<Step, LedgerError> {
    let mut changes = Changes::recording();
    let mut chunk: Vec<Receipt> = Vec::new();
    let mut waiting: Vec<Receipt> = Vec::new();
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
        match published.logs.get_mut(&receipt.log()) {
            Some(chain) => Arc::make_mut(chain).follow(&receipt.record).map_err(corrupt)?,
            None => {
                let chain = Chain::start(&receipt.record).map_err(corrupt)?;
                published.logs.insert(chain.log(), Arc::new(chain));
            }
        }
        published.state.fold(&receipt, &mut changes);
        let own = published
            .logs
            .get(&receipt.log())
            .is_some_and(|chain| chain.machine_key() == machine);
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
                index.add(std::mem::take(&mut waiting));
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
        }
    }
    let rest = chunk.len();
    waiting.append(&mut chunk);
    index.add(waiting);
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
    index.move_into(&mut batch);
    put_rows::<S>(rows, &mut batch, step, store.0);
    batch.commit()?;
    index.moved();
    Ok(())
}
