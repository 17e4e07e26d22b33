//! The housekeeper thread: moves settled rows into the derived store and keeps the anchor fresh.
//!
//! It writes rows only of batches that a later durable batch proves: recovery may give the newest batch another place, and
//! rows must never point to a place that is void. A crash between its writes costs folding again from the cursor.
//! A round that fails is told as "falling behind" and made up for by a later one: when the disk was full and has room
//! again, the derived store is opened again ([`Derived::mend`]) and what could not be written is, before anything newer.

use crate::Position;
use crate::anchor::{Anchor, AnchorFile, AnchorLog, AnchorState};
use crate::behind;
use crate::derived::{Batch, Derived, Table};
use crate::error::LedgerError;
use crate::lock::StoreLock;
use crate::open::{AnchorSeed, own_logs};
use crate::shared::Shared;
use crate::state::{Change, State};
use ledger_core::{Chain, Hlc, LogId, canonical};
use std::collections::BTreeMap;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often it looks. The anchor is synced within a second of a change.
const PERIOD: Duration = Duration::from_millis(500);
/// Settled changes and receipts in memory from which on the committer waits for the housekeeper.
const BACKLOG_MAX: usize = 400_000;
/// Settled changes and receipts that are worth moving: full runs of the index are written once and never merged.
const MOVE_MIN: usize = 65_536;
/// Time after which fewer are moved. After a crash that much is folded again.
const MOVE_AFTER: Duration = Duration::from_secs(10);

const META: &str = "meta";
const LOGS: &str = "logs";
const STATE: &str = "state";
/// The key of the cursor in the table `meta`.
pub(crate) const CURSOR_KEY: &[u8] = b"cursor";

/// The version of the engine's own rows. Those of another are made again.
pub(crate) const ROWS_VERSION: u32 = 3;

/// Where the derived rows stand.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub(crate) struct Cursor {
    pub(crate) store: [u8; 16],
    /// Everything before this is in the rows.
    pub(crate) end: Position,
    pub(crate) receipts: u64,
    pub(crate) clock: Hlc,
    pub(crate) state_name: String,
    pub(crate) state_version: u32,
    pub(crate) rows_version: u32,
}

/// What one durable batch, or several, did.
#[derive(Default)]
pub(crate) struct Step {
    /// Behind its last entry.
    pub(crate) end: Position,
    /// What it did to the state's rows.
    pub(crate) changes: Vec<Change>,
    /// Where the logs stood after it.
    pub(crate) logs: BTreeMap<LogId, Arc<Chain>>,
    /// How many receipts it brought.
    pub(crate) receipts: usize,
    /// How many receipts the store held after it.
    pub(crate) total: u64,
    /// The hybrid clock after it.
    pub(crate) clock: Hlc,
}

impl Step {
    fn then(mut self, next: Step) -> Self {
        self.changes.extend(next.changes);
        Self {
            changes: self.changes,
            receipts: self.receipts + next.receipts,
            ..next
        }
    }
}

/// What the committer published and the derived store does not have yet.
pub(crate) struct Backlog {
    steps: Mutex<(Vec<Step>, bool)>,
    room: Condvar,
    wake: Mutex<Option<Sender<Wake>>>,
}

fn size(steps: &[Step]) -> usize {
    steps.iter().map(|s| s.changes.len() + s.receipts).sum()
}

enum Wake {
    Soon,
    /// The anchor is to be synced at once, and the sender told.
    Anchor(Sender<Result<(), LedgerError>>),
    Stop {
        clean: bool,
    },
}

impl Backlog {
    /// Begins with what the derived store does not have although the journal does.
    pub(crate) fn new(begin: Step) -> Self {
        Self {
            steps: Mutex::new((vec![begin], false)),
            room: Condvar::new(),
            wake: Mutex::default(),
        }
    }

    /// Adds a durable batch; the one before it is settled by that.
    pub(crate) fn add(&self, step: Step) {
        let mut steps = self.steps.lock().expect("backlog lock");
        // At most two entries: everything settled, and the newest.
        if steps.0.len() > 1 {
            let newest = steps.0.pop().unwrap_or_default();
            let settled = steps.0.pop().unwrap_or_default();
            steps.0.push(settled.then(newest));
        }
        steps.0.push(step);
    }

    fn size(&self) -> usize {
        size(&self.steps.lock().expect("backlog lock").0)
    }

    /// Waits while too much is in memory, unless the housekeeper fails at writing it.
    pub(crate) fn wait_for_room(&self) {
        let mut steps = self.steps.lock().expect("backlog lock");
        if size(&steps.0) > BACKLOG_MAX / 2
            && let Some(wake) = &*self.wake.lock().expect("wake lock")
        {
            // A housekeeper that is gone needs no waking.
            drop(wake.send(Wake::Soon));
        }
        while size(&steps.0) > BACKLOG_MAX && !steps.1 {
            steps = self.room.wait(steps).expect("backlog lock");
        }
    }

    // Everything settled, or everything at all when the journal was closed and so proved.
    fn take(&self, all: bool) -> Option<Step> {
        let mut steps = self.steps.lock().expect("backlog lock");
        let count = steps.0.len().saturating_sub(usize::from(!all));
        let sum = steps.0.drain(..count).reduce(Step::then);
        self.room.notify_all();
        sum
    }

    /// Has the anchor written and synced; returns when that is done.
    ///
    /// # Errors
    /// What the disk says; [`LedgerError::Closed`] when the housekeeper is gone.
    pub(crate) fn anchor(&self) -> Result<(), LedgerError> {
        let gone = || LedgerError::Closed("the housekeeper stopped".into());
        let (done, wait) = channel();
        let wake = self.wake.lock().expect("wake lock").clone().ok_or_else(gone)?;
        wake.send(Wake::Anchor(done)).map_err(|_| gone())?;
        wait.recv().map_err(|_| gone())?
    }

    // Rows are written again: callers wait for them once more.
    fn go_on(&self) {
        self.steps.lock().expect("backlog lock").1 = false;
    }

    fn give_up(&self) {
        self.steps.lock().expect("backlog lock").1 = true;
        self.room.notify_all();
    }
}

struct GivesUp<S: State>(Arc<Shared<S>>);

impl<S: State> Drop for GivesUp<S> {
    fn drop(&mut self) {
        self.0.backlog.give_up();
    }
}

/// The running thread.
pub(crate) struct Handle {
    wake: Sender<Wake>,
    thread: JoinHandle<Result<(), LedgerError>>,
}

impl Handle {
    /// Ends it after a last round. `clean` tells that the journal was closed.
    pub(crate) fn stop(self, clean: bool) -> Result<(), LedgerError> {
        drop(self.wake.send(Wake::Stop { clean }));
        self.thread
            .join()
            .map_err(|_| LedgerError::Unknown("the housekeeper panicked".into()))?
    }
}

/// Owns the anchor and the lock.
pub(crate) struct Housekeeper<S: State> {
    shared: Arc<Shared<S>>,
    anchor: AnchorFile,
    seed: AnchorSeed,
    anchored: Position,
    rows: Rows,
    /// When rows were moved last.
    moved: Instant,
    /// What could not be written in the round before.
    unwritten: Option<Step>,
    _lock: StoreLock,
}

/// The tables that the engine itself keeps.
pub(crate) struct Rows {
    pub(crate) derived: Derived,
    pub(crate) meta: Table,
    pub(crate) logs: Table,
    pub(crate) state: Table,
}

impl Rows {
    pub(crate) fn open(derived: &Derived) -> Result<Self, LedgerError> {
        let table = |name| derived.table(name);
        Ok(Self {
            meta: table(META)?,
            logs: table(LOGS)?,
            state: table(STATE)?,
            derived: derived.clone(),
        })
    }
}

impl<S: State> Housekeeper<S> {
    pub(crate) fn start(
        shared: Arc<Shared<S>>,
        anchor: AnchorFile,
        seed: AnchorSeed,
        lock: StoreLock,
    ) -> Handle {
        let (wake, woken) = channel();
        *shared.backlog.wake.lock().expect("wake lock") = Some(wake.clone());
        let run = move || {
            // However this thread ends, the committer waits for it no longer.
            let _gone = GivesUp(Arc::clone(&shared));
            let rows = Rows::open(&shared.derived)?;
            let mut keeper = Self {
                shared,
                anchor,
                seed,
                anchored: Position::START,
                rows,
                moved: Instant::now(),
                unwritten: None,
                _lock: lock,
            };
            loop {
                let stop = match woken.recv_timeout(PERIOD) {
                    Ok(Wake::Anchor(done)) => {
                        // Whoever asked may be gone by now.
                        drop(done.send(keeper.anchor_now(false, true)));
                        continue;
                    }
                    Ok(Wake::Stop { clean }) => Some(clean),
                    Err(RecvTimeoutError::Disconnected) => Some(false),
                    Ok(Wake::Soon) | Err(RecvTimeoutError::Timeout) => None,
                };
                if let Err(e) = keeper.round(stop) {
                    // Derived data and anchor fall behind; nothing acknowledged is at stake, and readiness tells.
                    let why = e.to_string();
                    let mut failing = keeper.shared.failing.lock().expect("failing lock");
                    if failing.as_ref() != Some(&why) {
                        tracing::error!(code = e.code(), error = %e, "housekeeping failed");
                    }
                    *failing = Some(why);
                    drop(failing);
                    keeper.shared.backlog.give_up();
                    if stop.is_some() {
                        return Err(e);
                    }
                } else {
                    *keeper.shared.failing.lock().expect("failing lock") = None;
                }
                if stop.is_some() {
                    return Ok(());
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name("ledger-housekeeper".into())
            .spawn(run)
            .expect("the operating system starts a thread");
        Handle { wake, thread }
    }

    fn round(&mut self, stop: Option<bool>) -> Result<(), LedgerError> {
        let clean = stop == Some(true);
        self.anchor_now(clean, stop.is_some())?;
        if self.shared.derived.mend()? {
            tracing::warn!("the derived store was opened again after a failed write");
        }
        if let Some(step) = self.unwritten.take() {
            // What a failed round left over goes first, alone: rows, index and cursor never skip anything.
            self.write(step)?;
        }
        if stop.is_none() && self.shared.backlog.size() < MOVE_MIN && self.moved.elapsed() < MOVE_AFTER {
            return Ok(());
        }
        self.moved = Instant::now();
        let step = {
            let _settled = self.shared.settling.lock().expect("settling lock");
            if clean {
                self.shared.index.settle();
            }
            let step = self.shared.backlog.take(clean).filter(|step| step.receipts > 0);
            if step.is_some() {
                self.shared.index.begin_move();
            }
            step
        };
        step.map_or(Ok(()), |step| self.write(step))
    }

    fn write(&mut self, step: Step) -> Result<(), LedgerError> {
        let mut batch = self.rows.derived.batch();
        self.shared.index.put_moving(&mut batch);
        put_rows::<S>(&self.rows, &mut batch, &step, self.seed.store.0);
        if let Err(e) = batch.commit() {
            self.unwritten = Some(step);
            return Err(e);
        }
        self.shared.index.moved();
        self.shared.backlog.go_on();
        Ok(())
    }

    fn anchor_now(&mut self, clean: bool, always: bool) -> Result<(), LedgerError> {
        // What a store that is behind promised stands until it is settled.
        if self.shared.keeps_anchor() || (self.shared.behind.is_some() && !clean) {
            return Ok(());
        }
        let published = self.shared.published();
        if published.end == self.anchored && !always {
            return Ok(());
        }
        let restored = (self.shared.behind.is_some())
            .then(|| own_logs(&published.logs, &self.shared.context.machine_key));
        let anchor = anchor_of(
            &self.seed,
            restored.as_ref().unwrap_or(&self.shared.own),
            &published.logs,
            &self.shared.checkpoints.lock().expect("checkpoints lock"),
            published.end,
            clean,
        );
        self.anchor.write(&anchor)?;
        if let Some(behind) = &self.shared.behind {
            behind::take_mark(behind.storage.as_ref(), &self.shared.paths)?;
        }
        self.anchored = published.end;
        Ok(())
    }
}

/// What the anchor says of these heads.
pub(crate) fn anchor_of(
    seed: &AnchorSeed,
    own: &BTreeMap<ledger_core::Stream, LogId>,
    logs: &BTreeMap<LogId, Arc<Chain>>,
    checkpoints: &BTreeMap<LogId, u64>,
    durable: Position,
    clean: bool,
) -> Anchor {
    let own_heads = own.values().filter_map(|log| {
        let chain = logs.get(log)?;
        let incarnation = chain.genesis().incarnation;
        Some(AnchorLog {
            log: *log,
            incarnation,
            head: chain.head(),
            checkpoint_size: checkpoints.get(log).copied().unwrap_or(0),
        })
    });
    Anchor {
        store: seed.store,
        state: AnchorState::Live,
        epoch: seed.epoch,
        boot: seed.boot.clone(),
        clean,
        durable,
        logs: own_heads.collect(),
    }
}

/// Puts state rows, log rows and the cursor into a batch.
pub(crate) fn put_rows<S: State>(rows: &Rows, batch: &mut Batch, step: &Step, store: [u8; 16]) {
    // The entries of one fjall batch share a sequence number, so each key stands in it once: its last change wins.
    let mut last: BTreeMap<Vec<u8>, Option<&[u8]>> = BTreeMap::new();
    for change in &step.changes {
        let mut key = change.table.to_be_bytes().to_vec();
        key.extend_from_slice(&change.key);
        last.insert(key, change.new.as_deref());
    }
    for (key, value) in last {
        match value {
            Some(value) => batch.put(&rows.state, &key, value),
            None => batch.remove(&rows.state, &key),
        }
    }
    for (log, chain) in &step.logs {
        batch.put(&rows.logs, &log.0, &canonical::encode(&chain.snapshot()));
    }
    let cursor = Cursor {
        store,
        end: step.end,
        receipts: step.total,
        clock: step.clock,
        state_name: S::NAME.to_owned(),
        state_version: S::VERSION,
        rows_version: ROWS_VERSION,
    };
    batch.put(&rows.meta, CURSOR_KEY, &canonical::encode(&cursor));
}
