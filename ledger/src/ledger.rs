//! The facade: one store, opened once in one process, shared by cheap clones.
//!
//! Owns the threads (committer, housekeeper) and what readers see. A crash leaves whatever the journal has; everything
//! here is made again from it.

use crate::clock::{Clock, Entropy, Pool, SystemClock, SystemEntropy};
use crate::commit::{
    BatchHook, Call, Commands, CommitError, Committed, Committer, NotTaken, Signers, Ticket, Tx, Writer,
    refused, ticket, with_key,
};
use crate::derived::Derived;
use crate::erase::Erasure;
use crate::error::LedgerError;
use crate::housekeeper::{Backlog, Housekeeper, Step};
use crate::index::Index;
use crate::journal::JournalReader;
use crate::keyring::Keyring;
use crate::options::Paths;
use crate::prune::Pruned;
use crate::recovery::RecoveryReport;
use crate::state::{State, StateContext};
use crate::storage::{DiskStorage, Storage};
use crate::tail::Wakers;
use crate::{Position, Receipt};
use ledger_core::statement::VerifiedStatement;
use ledger_core::{Chain, Draft, Head, Hlc, LogId, ReceiptId, Stream};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What readers see: the store as of its last durable batch.
pub struct Published<S> {
    /// The state folded by the committer.
    pub state: S,
    /// Every log of the store, own and taken in.
    pub logs: BTreeMap<LogId, Arc<Chain>>,
    /// Behind the last durable entry.
    pub end: Position,
    /// The hybrid clock.
    pub clock: Hlc,
    /// How many receipts the store holds.
    pub receipts: u64,
    /// The receipt that came last, if any did since the store was opened or rebuilt.
    pub newest: Option<Receipt>,
}

type Watcher = Box<dyn Fn(Position) + Send + Sync>;

/// What all parts of an open store share.
pub(crate) struct Shared<S: State> {
    pub(crate) paths: Paths,
    pub(crate) context: StateContext,
    pub(crate) keyring: Keyring,
    pub(crate) own: BTreeMap<Stream, LogId>,
    // Records under the last released checkpoint of each own log; the anchor keeps it.
    pub(crate) checkpoints: Mutex<BTreeMap<LogId, u64>>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) index: Index,
    pub(crate) reader: JournalReader,
    pub(crate) pruned: Pruned,
    pub(crate) derived: Derived,
    pub(crate) backlog: Backlog,
    /// Held while a batch settles in index and backlog, and while the housekeeper takes what has settled in both.
    pub(crate) settling: Mutex<()>,
    /// Why the housekeeper's last round failed, if it did.
    pub(crate) failing: Mutex<Option<String>>,
    published: RwLock<Arc<Published<S>>>,
    progress: (Mutex<Position>, Condvar),
    watchers: RwLock<Vec<Watcher>>,
    pub(crate) wakers: Wakers,
    closed: Mutex<Option<String>>,
}

impl<S: State> Shared<S> {
    pub(crate) fn published(&self) -> Arc<Published<S>> {
        Arc::clone(&self.published.read().expect("published lock"))
    }

    pub(crate) fn publish(
        &self,
        published: Arc<Published<S>>,
        step: Step,
        receipts: &[Receipt],
        erased: &[Erasure],
    ) {
        let end = published.end;
        {
            // Index and rows settle together, so that the housekeeper never writes one without the other.
            let _settling = self.settling.lock().expect("settling lock");
            self.index.add(receipts, erased);
            self.backlog.add(step);
        }
        *self.published.write().expect("published lock") = published;
        *self.progress.0.lock().expect("progress lock") = end;
        self.progress.1.notify_all();
        self.wakers.wake_all();
        for watcher in self.watchers.read().expect("watchers lock").iter() {
            // What somebody else does with the news must not stop the store.
            if catch_unwind(AssertUnwindSafe(|| watcher(end))).is_err() {
                tracing::error!("a watcher of commits panicked");
            }
        }
        self.backlog.wait_for_room();
    }

    pub(crate) fn chain(&self, log: &LogId) -> Option<Arc<Chain>> {
        self.published
            .read()
            .expect("published lock")
            .logs
            .get(log)
            .cloned()
    }

    pub(crate) fn own_log(&self, stream: Stream) -> Result<LogId, LedgerError> {
        let missing = || LedgerError::NotCommitted(format!("this store does not write the stream {stream}"));
        self.own.get(&stream).copied().ok_or_else(missing)
    }

    pub(crate) fn is_own(&self, log: &LogId) -> bool {
        self.own.values().any(|own| own == log)
    }

    /// Has the anchor remember a checkpoint before it is released.
    pub(crate) fn note_checkpoint(&self, log: LogId, tree_size: u64) -> Result<(), LedgerError> {
        {
            let mut checkpoints = self.checkpoints.lock().expect("checkpoints lock");
            let known = checkpoints.entry(log).or_default();
            *known = tree_size.max(*known);
        }
        self.backlog.anchor()
    }

    pub(crate) fn closed(&self) -> Option<String> {
        self.closed.lock().expect("closed lock").clone()
    }

    pub(crate) fn close_to_appends(&self, why: &str) {
        self.closed
            .lock()
            .expect("closed lock")
            .get_or_insert_with(|| why.to_owned());
    }
}

/// Everything that an open store is made of, before its threads start.
pub(crate) struct Parts<S: State> {
    pub(crate) paths: Paths,
    pub(crate) context: StateContext,
    pub(crate) keyring: Keyring,
    pub(crate) own: BTreeMap<Stream, LogId>,
    /// What the anchor says of released checkpoints.
    pub(crate) checkpoints: BTreeMap<LogId, u64>,
    pub(crate) index: Index,
    pub(crate) reader: JournalReader,
    pub(crate) pruned: Pruned,
    pub(crate) derived: Derived,
    pub(crate) published: Published<S>,
    /// What the derived store does not have yet.
    pub(crate) step: Step,
}

/// How an open ledger behaves. [`OpenOptions::default`] suits most; its methods change what does not.
#[non_exhaustive]
pub struct OpenOptions<S: State = ()> {
    /// Commands that may wait for the committer before callers are told that it is busy.
    pub queue_commands_max: usize,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// The source of keys, ids and salts.
    pub entropy: Arc<dyn Entropy>,
    /// The disk under journal and anchor.
    pub storage: Arc<dyn Storage>,
    /// Bytes after which a segment of the journal is sealed.
    pub segment_bytes: Option<u32>,
    /// Called at the end of each batch that has records; what it appends is part of the batch.
    pub batch_hook: Option<BatchHook<S>>,
}

impl<S: State> Default for OpenOptions<S> {
    fn default() -> Self {
        Self {
            queue_commands_max: 1024,
            clock: Arc::new(SystemClock),
            entropy: Arc::new(SystemEntropy),
            storage: Arc::new(DiskStorage),
            segment_bytes: None,
            batch_hook: None,
        }
    }
}

/// An open store. Clones share it; when the last clone goes, it is closed cleanly.
///
/// ```
/// use ledger::core::{Draft, Kind, ReceiptId, Subject};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// let ledger = ledger::Ledger::lone(dir.path().join("log"), "my-agent")?;
/// let note = Draft::custom(Kind::new("x.note")?, Subject::new("chat/1")?);
///
/// // Under an id of one's own it is said once, however often it is tried.
/// let id = ReceiptId::v7(1_700_000_000_000, *b"step-00042");
/// let first = ledger.append(note.clone().id(id))?;
/// assert_eq!(ledger.append(note.clone().id(id))?, first);
///
/// // A command decides inside the commit, and appends all of its receipts or none.
/// let committed = ledger.commit(move |tx| {
///     tx.expect_head(ledger::core::Stream::Facts, 1)?;
///     tx.append(ledger::core::Stream::Facts, note.cause(id))
/// })?;
/// assert_eq!(committed.receipts[0].seq(), 2);
/// assert_eq!(ledger.snapshot().receipts, 3); // the genesis is the first
/// # Ok(()) }
/// ```
pub struct Ledger<S: State = ()> {
    inner: Arc<Inner<S>>,
}

impl<S: State> Clone for Ledger<S> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
        }
    }
}

struct Inner<S: State> {
    shared: Arc<Shared<S>>,
    inbox: Arc<Commands<S>>,
    committer: Arc<Mutex<Committer<S>>>,
    writer: Arc<Mutex<Writer<S>>>,
    threads: Mutex<Option<Threads>>,
    recovery: RecoveryReport,
    same_boot: bool,
}

struct Threads {
    committer: JoinHandle<()>,
    writer: JoinHandle<()>,
    housekeeper: crate::housekeeper::Handle,
}

impl<S: State> Ledger<S> {
    pub(crate) fn start(
        parts: Parts<S>,
        journal: crate::journal::Journal,
        anchor: crate::anchor::AnchorFile,
        lock: crate::lock::StoreLock,
        epoch: crate::open::AnchorSeed,
        recovery: RecoveryReport,
        options: OpenOptions<S>,
    ) -> Self {
        let end = parts.published.end;
        let same_boot = epoch.same_boot;
        let shared = Arc::new(Shared {
            backlog: Backlog::new(parts.step),
            settling: Mutex::default(),
            failing: Mutex::default(),
            paths: parts.paths,
            context: parts.context,
            keyring: parts.keyring,
            own: parts.own,
            checkpoints: Mutex::new(parts.checkpoints),
            clock: options.clock,
            index: parts.index,
            reader: parts.reader,
            pruned: parts.pruned,
            derived: parts.derived,
            published: RwLock::new(Arc::new(parts.published)),
            progress: (Mutex::new(end), Condvar::new()),
            watchers: RwLock::default(),
            wakers: Wakers::default(),
            closed: Mutex::default(),
        });
        let inbox = Arc::new(Commands::new(options.queue_commands_max));
        let writer = Writer::new(Arc::clone(&shared), Arc::clone(&inbox), journal);
        let writer = Arc::new(Mutex::new(writer));
        let (jobs, landing) = sync_channel(1);
        let signing = Arc::clone(&shared);
        let sign = move |piece| with_key(&signing.keyring.machine, piece);
        let committer = Arc::new(Mutex::new(Committer {
            shared: Arc::clone(&shared),
            inbox: Arc::clone(&inbox),
            hook: options.batch_hook,
            pool: Pool::new(options.entropy),
            signers: Signers::start(Box::new(sign)),
            writer: Arc::clone(&writer),
            jobs: Some(jobs),
            flight: None,
            commands_before: 0,
        }));
        let writing = {
            let writer = Arc::clone(&writer);
            start_thread("ledger-write", move || {
                for job in landing {
                    let lock = || writer.lock().unwrap_or_else(PoisonError::into_inner);
                    // Whoever sends jobs is to find somebody who answers them.
                    if catch_unwind(AssertUnwindSafe(|| lock().land(job))).is_err() {
                        lock().give_up();
                    }
                }
            })
        };
        let committing = {
            let (committer, inbox, shared) =
                (Arc::clone(&committer), Arc::clone(&inbox), Arc::clone(&shared));
            start_thread("ledger-commit", move || {
                crate::commit::run(&committer, &inbox, &shared);
            })
        };
        let housekeeper = Housekeeper::start(Arc::clone(&shared), anchor, epoch, lock);
        let threads = Mutex::new(Some(Threads {
            committer: committing,
            writer: writing,
            housekeeper,
        }));
        Self {
            inner: Arc::new(Inner {
                shared,
                inbox,
                committer,
                writer,
                threads,
                recovery,
                same_boot,
            }),
        }
    }

    pub(crate) fn shared(&self) -> &Shared<S> {
        &self.inner.shared
    }

    /// Hands a command to the committer and waits for a place in its queue when that is full.
    ///
    /// The closure runs inside the committer, sees every decision of the same batch before it, and either returns `Ok`
    /// (all that it appended is committed together) or `Err` (nothing of it is). It must be quick and must not block.
    pub fn submit<T, E, F>(&self, call: F) -> Ticket<T, E>
    where
        F: FnOnce(&mut Tx<'_, S>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        let (command, ticket) = command(call);
        match self.inner.inbox.put(command, true) {
            Ok(()) => ticket,
            // It was never decided, so nothing of it is there.
            Err(_) => refused(stopped()),
        }
    }

    /// Like [`Ledger::submit`], but tells at once when the queue is full.
    ///
    /// # Errors
    /// [`LedgerError::Busy`] when the queue is full, [`LedgerError::Closed`] when the committer is gone.
    pub fn try_submit<T, E, F>(&self, call: F) -> Result<Ticket<T, E>, LedgerError>
    where
        F: FnOnce(&mut Tx<'_, S>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        let (command, ticket) = command(call);
        match self.inner.inbox.put(command, false) {
            Ok(()) => Ok(ticket),
            Err(NotTaken::Full) => Err(LedgerError::Busy(self.inner.inbox.commands_max())),
            Err(NotTaken::Gone) => Err(stopped()),
        }
    }

    /// Runs a command and blocks until it is durable. A caller who is alone runs it on its own thread.
    ///
    /// # Errors
    /// [`CommitError::Refused`] with the command's own error, or [`CommitError::Ledger`].
    pub fn commit<T, E, F>(&self, call: F) -> Result<Committed<T>, CommitError<E>>
    where
        F: FnOnce(&mut Tx<'_, S>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        if let Ok(mut committer) = self.inner.committer.try_lock()
            && committer.is_idle()
        {
            let (command, ticket) = command(call);
            committer.alone(command);
            drop(committer);
            return ticket.wait();
        }
        self.submit(call).wait()
    }

    /// Says something as this machine, in the log of a stream, and blocks until it is durable.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn append_to(&self, stream: Stream, draft: Draft) -> Result<Receipt, LedgerError> {
        let committed = self
            .commit(move |tx| tx.append(stream, draft))
            .map_err(CommitError::into_ledger)?;
        self.settled(&committed)
    }

    /// Says something as this machine in its facts, and blocks until it is durable.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn append(&self, draft: Draft) -> Result<Receipt, LedgerError> {
        self.append_to(Stream::Facts, draft)
    }

    /// Seals in its facts what somebody else said and signed.
    ///
    /// ```
    /// use ledger::core::{Draft, Kind, ReceiptId, SigningKey, Subject};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// let ledger = ledger::Ledger::lone(dir.path().join("log"), "my-agent")?;
    /// let author = SigningKey::from_seed([7; 32]); // somebody else's, elsewhere
    /// let note = Draft::custom(Kind::new("x.note")?, Subject::new("chat/1")?);
    /// let (id, now_us, salt) = (ReceiptId::v7(1_700_000_000_000, [1; 10]), 1_700_000_000_000_000, [2; 32]);
    /// let said = note.into_statement(ledger.context().fleet, author.public(), id, now_us, salt)?.sign(&author);
    ///
    /// let receipt = ledger.append_signed(said.verify()?)?;
    /// assert_eq!(receipt.statement().author, author.public());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn append_signed(&self, said: VerifiedStatement) -> Result<Receipt, LedgerError> {
        let call = move |tx: &mut Tx<'_, S>| tx.append_signed(Stream::Facts, &said);
        self.settled(&self.commit(call).map_err(CommitError::into_ledger)?)
    }

    /// Completes a draft as this machine's local actor (the shells and agents on it) and signs it.
    ///
    /// # Errors
    /// [`LedgerError::Statement`] for a broken bound.
    pub fn sign_as_actor(
        &self,
        draft: Draft,
        entropy: &dyn Entropy,
    ) -> Result<VerifiedStatement, LedgerError> {
        let shared = self.shared();
        let now_us = shared.clock.now_us();
        let (mut random, mut salt) = ([0; 10], [0; 32]);
        entropy.fill(&mut random);
        entropy.fill(&mut salt);
        let key = &shared.keyring.actor;
        let id = ReceiptId::v7(crate::clock::unix_ms(now_us), random);
        let authored = draft.into_statement(shared.context.fleet, key.public(), id, now_us, salt)?;
        Ok(authored.sign(key).verify()?)
    }

    /// What readers see: the store as of its last durable batch. Cheap.
    pub fn snapshot(&self) -> Arc<Published<S>> {
        self.shared().published()
    }

    /// What the store is: fleet, machine and machine key.
    pub fn context(&self) -> &StateContext {
        &self.shared().context
    }

    /// The machine's keys.
    pub fn keyring(&self) -> &Keyring {
        &self.shared().keyring
    }

    /// Where the store lies.
    pub fn paths(&self) -> &Paths {
        &self.shared().paths
    }

    /// The clock that the store was opened with.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.shared().clock
    }

    /// The derived store, for projections that fold on their own.
    pub fn derived(&self) -> &Derived {
        &self.shared().derived
    }

    /// The store's own log of a stream; `None` when it does not write that stream.
    pub fn own_log(&self, stream: Stream) -> Option<LogId> {
        self.shared().own.get(&stream).copied()
    }

    /// The newest head of a log. Costs a few hashes.
    pub fn head(&self, log: &LogId) -> Option<Head> {
        self.shared().chain(log).map(|chain| chain.head())
    }

    /// What recovery found when the store was opened.
    pub fn recovery(&self) -> &RecoveryReport {
        &self.inner.recovery
    }

    /// Whether nothing was lost on the way to this opening: no torn tail, and the operating system still the same run as
    /// when the store was last open, so that what the kernel had was not lost either.
    pub fn lost_nothing(&self) -> bool {
        self.inner.recovery.torn.is_empty() && self.inner.same_boot
    }

    /// Why the store takes no appends any more, if that is so.
    pub fn closed(&self) -> Option<String> {
        self.shared().closed()
    }

    /// Why derived rows and anchor fall behind, if they do. Nothing acknowledged is at stake. After a full
    /// disk they catch up by themselves when there is room; otherwise opening the store again mends it.
    pub fn falling_behind(&self) -> Option<String> {
        self.shared().failing.lock().expect("failing lock").clone()
    }

    /// Blocks until something is durable behind a position, or the time is up; the end as of then.
    pub fn wait_past(&self, position: Position, timeout: Duration) -> Position {
        let (progress, changed) = &self.shared().progress;
        let deadline = Instant::now() + timeout;
        let mut end = progress.lock().expect("progress lock");
        while *end <= position {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else {
                break;
            };
            end = changed.wait_timeout(end, left).expect("progress lock").0;
        }
        *end
    }

    /// Calls back after each durable batch, on the thread that wrote it, which may be a caller's: be quick (wake somebody), take
    /// no lock that a caller holds, and append nothing.
    pub fn on_commit(&self, watcher: impl Fn(Position) + Send + Sync + 'static) {
        self.shared()
            .watchers
            .write()
            .expect("watchers lock")
            .push(Box::new(watcher));
    }

    /// Closes the store: nothing more is taken, what waits is still committed, the last batch is proven, the anchor says clean. Dropping the last clone
    /// does the same without telling of an error.
    ///
    /// # Errors
    /// [`LedgerError`] when the last writes fail; acknowledged receipts are durable all the same.
    pub fn close(self) -> Result<(), LedgerError> {
        self.inner.stop()
    }
}

type AnyCommand<S> = Box<dyn crate::commit::Command<S>>;

fn command<S, T, E, F>(call: F) -> (AnyCommand<S>, Ticket<T, E>)
where
    S: State,
    F: FnOnce(&mut Tx<'_, S>) -> Result<T, E> + Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    let (answer, ticket) = ticket();
    let call = Call {
        call: Some(call),
        result: None,
        answer,
    };
    (Box::new(call), ticket)
}

fn stopped() -> LedgerError {
    LedgerError::Closed("the committer stopped".into())
}

fn start_thread(name: &str, work: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(work)
        .expect("the operating system starts a thread")
}

impl<S: State> Inner<S> {
    // A second caller waits for the first.
    fn stop(&self) -> Result<(), LedgerError> {
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(running) = threads.take() else {
            return Ok(());
        };
        let (inbox, writer) = (Arc::clone(&self.inbox), Arc::clone(&self.writer));
        let here = std::thread::current().id();
        if [&running.committer, &running.writer]
            .map(|t| t.thread().id())
            .contains(&here)
        {
            // The last clone went inside a command: a thread cannot wait for itself.
            drop(start_thread("ledger-close", move || {
                if let Err(e) = running.stop(&inbox, &writer) {
                    tracing::error!(code = e.code(), error = %e, "the store did not close cleanly; recovery will tell at the next open");
                }
            }));
            return Ok(());
        }
        running.stop(&inbox, &writer)
    }
}

impl Threads {
    fn stop<S: State>(self, inbox: &Commands<S>, writer: &Mutex<Writer<S>>) -> Result<(), LedgerError> {
        inbox.stop();
        let committed = self.committer.join();
        let written = self.writer.join();
        let closed = match (committed, written, writer.lock()) {
            (Ok(()), Ok(()), Ok(mut writer)) => writer.close().map_err(LedgerError::from),
            _ => Err(LedgerError::Unknown(
                "a thread of the commit path panicked".into(),
            )),
        };
        self.housekeeper.stop(closed.is_ok())?;
        closed
    }
}

impl<S: State> Drop for Inner<S> {
    fn drop(&mut self) {
        if let Err(e) = self.stop() {
            tracing::error!(code = e.code(), error = %e, "the store did not close cleanly; recovery will tell at the next open");
        }
    }
}
