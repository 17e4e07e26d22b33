//! The facade: one store, opened once in one process, shared by cheap clones.
//!
//! Owns the threads (committer, writer, housekeeper). A crash leaves whatever the journal has; everything here is made again
//! from it.

use crate::clock::{Clock, Entropy, Pool};
use crate::commit::{
    Call, Commands, CommitError, Committed, Committer, NotTaken, Signers, Ticket, Tx, Writer, refused,
    ticket, with_key,
};
use crate::derived::Derived;
use crate::error::LedgerError;
use crate::housekeeper::Housekeeper;
use crate::keyring::Keyring;
use crate::options::{OpenOptions, Paths};
use crate::recovery::RecoveryReport;
use crate::shared::{Parts, Published, Shared};
use crate::state::{State, StateContext};
use crate::{Position, Receipt};
use ledger_core::statement::VerifiedStatement;
use ledger_core::{Draft, Head, LogId, ReceiptId, Stream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

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
        let same_boot = epoch.same_boot;
        let shared = Arc::new(Shared::new(parts, options.clock));
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
    /// (all that it appended is committed together) or `Err` (nothing of it is). It must be quick and must not block. What it
    /// appends is bounded, by 16 MiB and 32,768 receipts: more is refused whole, as [`TooLarge`](crate::journal::JournalError::TooLarge).
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

    /// Blocks until something is durable behind a position, the time is up, or the store takes nothing more; the end as of
    /// then.
    pub fn wait_past(&self, position: Position, timeout: Duration) -> Position {
        self.shared().wait_past(position, timeout)
    }

    /// Calls back after each durable batch, on the thread that wrote it, which may be a caller's: be quick (wake somebody), take
    /// no lock that a caller holds, and append nothing.
    pub fn on_commit(&self, watcher: impl Fn(Position) + Send + Sync + 'static) {
        self.shared().watch(Box::new(watcher));
    }

    /// Closes the store: nothing more is taken, what waits is still committed, the last batch is proven, the anchor says clean.
    /// Dropping the last clone does the same without telling of an error.
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
