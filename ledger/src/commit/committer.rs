//! The deciding end of the commit path: one batch after another is decided, chained and signed; while the one before is
//! written and synced.
//!
//! One batch is on its way to the disk at most. It goes to a thread of its own ([`Writer`]), unless it is one lone command: that is
//! written by whoever decided it, and a caller that blocks decides it itself when nobody else is at work, so that it pays
//! one sync and no change of threads. Order: commands are decided in the order of the inbox; a batch is written only when
//! the one before is durable.

use super::batch::{Failure, Flight, Overlay};
use super::inbox::Woken;
use super::signers::{PIECE_RECORDS, Signers};
use super::ticket::{Answer, CommitError, Committed};
use super::tx::Tx;
use super::writer::{Commands, End, Job, Writer};
use crate::Receipt;
use crate::clock::Pool;
use crate::error::LedgerError;
use crate::journal::JournalError;
use crate::journal::format::{BATCH_BYTES_MAX as JOURNAL_BATCH_BYTES_MAX, BATCH_ENTRIES_MAX};
use crate::shared::Shared;
use crate::state::State;
use ledger_core::tree::Hash;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// Commands in one batch at most: bounds what one failed write takes with it.
const BATCH_COMMANDS_MAX: usize = 4096;
/// Bytes of records and payloads, and records, after which a batch takes no further command: far below what the journal
/// takes at once, since one command may bring many.
const BATCH_BYTES_MAX: usize = 8 << 20;
const BATCH_RECORDS_MAX: usize = 8192;

/// Bytes and records that one command may bring. With the bounds of a batch, it stays below what the journal takes at once:
/// nobody's batch fails for what somebody else asked.
const COMMAND_BYTES_MAX: usize = 16 << 20;
const COMMAND_RECORDS_MAX: usize = 32_768;
const _: () = assert!(BATCH_RECORDS_MAX + COMMAND_RECORDS_MAX < BATCH_ENTRIES_MAX as usize);
const _: () = assert!(BATCH_BYTES_MAX + COMMAND_BYTES_MAX < JOURNAL_BATCH_BYTES_MAX as usize);

/// How long a batch waits for callers who were answered just now, when there are many of them. A lone caller never waits.
const LINGER: Duration = Duration::from_micros(100);

/// Called at the end of each batch that has records, to add what follows from all of them (pins, for instance).
pub type BatchHook<S> = Box<dyn Fn(&mut Tx<'_, S>) -> Result<(), LedgerError> + Send>;

/// A command, run once and answered once.
pub(crate) trait Command<S: State>: Send {
    /// Decides; `false` when it refused and must leave nothing behind.
    fn decide(&mut self, tx: &mut Tx<'_, S>) -> bool;
    /// Answers: with the command's own receipts, or with why its batch failed. Only a failure may come before the decision.
    fn answer(self: Box<Self>, outcome: Result<Vec<Receipt>, LedgerError>);
}

/// A closure as a command.
pub(crate) struct Call<F, T, E> {
    pub(crate) call: Option<F>,
    pub(crate) result: Option<Result<T, E>>,
    pub(crate) answer: Answer<T, E>,
}

impl<S, F, T, E> Command<S> for Call<F, T, E>
where
    S: State,
    F: FnOnce(&mut Tx<'_, S>) -> Result<T, E> + Send,
    T: Send,
    E: Send,
{
    fn decide(&mut self, tx: &mut Tx<'_, S>) -> bool {
        let call = self.call.take().expect("a command is decided once");
        let result = call(tx);
        let accepted = result.is_ok();
        self.result = Some(result);
        accepted
    }

    fn answer(self: Box<Self>, outcome: Result<Vec<Receipt>, LedgerError>) {
        // What was decided on top of a batch that failed says nothing any more, be it a refusal.
        let Self { result, answer, .. } = *self;
        answer.give(outcome.map_err(CommitError::Ledger).and_then(|receipts| {
            let value = result.expect("a command is answered after it was decided");
            let value = value.map_err(CommitError::Refused)?;
            Ok(Committed { value, receipts })
        }));
    }
}

/// A command of the batch that is being built, with its records; none for a refusal.
pub(crate) struct Decided<S: State> {
    pub(crate) command: Box<dyn Command<S>>,
    pub(crate) records: std::ops::Range<usize>,
}

/// Owns what deciding needs.
pub(crate) struct Committer<S: State> {
    pub(crate) shared: Arc<Shared<S>>,
    pub(crate) inbox: Arc<Commands<S>>,
    pub(crate) hook: Option<BatchHook<S>>,
    pub(crate) pool: Pool,
    pub(crate) signers: Signers,
    /// The journal's end, for lone commands; its own thread takes what comes through `jobs`.
    pub(crate) writer: Arc<Mutex<Writer<S>>>,
    pub(crate) jobs: Option<SyncSender<Job<S>>>,
    /// The batch before, as long as it is not known to have landed.
    pub(crate) flight: Option<Arc<Flight<S>>>,
    /// Commands in the batch before.
    pub(crate) commands_before: usize,
}

// A batch that is being built.
struct Building<S: State> {
    overlay: Overlay<S>,
    decided: Vec<Decided<S>>,
    // Records before this place were looked at for signing.
    given: usize,
}

impl<S: State> Building<S> {
    fn is_full(&self) -> bool {
        self.decided.len() >= BATCH_COMMANDS_MAX
            || self.overlay.bytes >= BATCH_BYTES_MAX
            || self.overlay.said.pending.len() >= BATCH_RECORDS_MAX
    }
}

/// Works until it is told to stop. Then nothing is on its way any more.
pub(crate) fn run<S: State>(committer: &Mutex<Committer<S>>, inbox: &Commands<S>, shared: &Shared<S>) {
    // Even if a command panics, nobody waits for ever, and the thread that writes ends.
    struct Closed<'a, S: State>(&'a Mutex<Committer<S>>, &'a Commands<S>, &'a Shared<S>);
    impl<S: State> Drop for Closed<'_, S> {
        fn drop(&mut self) {
            self.2.close_to_appends("the ledger was closed");
            for command in self.1.close() {
                command.answer(Err(LedgerError::Closed("the ledger was closed".into())));
            }
            self.0.lock().unwrap_or_else(PoisonError::into_inner).jobs = None;
        }
    }
    let _closed = Closed(committer, inbox, shared);
    loop {
        let woken = inbox.wait();
        let mut committer = committer.lock().expect("committer lock");
        match woken {
            Woken::Commands => committer.batch(),
            Woken::Confirm => committer.confirm(),
            Woken::Stop => {
                committer.await_landing();
                return;
            }
        }
    }
}

impl<S: State> Committer<S> {
    /// Whether a caller may decide a command on its own thread: nothing waits, nothing is on its way, and it is not one of
    /// many callers, who do better to share a sync.
    pub(crate) fn is_idle(&mut self) -> bool {
        self.forget_landed();
        self.flight.is_none()
            && self.commands_before <= 1
            && self.inbox.is_empty()
            && self.shared.closed().is_none()
    }

    /// A batch of one command, on the caller's thread. Only when idle.
    pub(crate) fn alone(&mut self, command: Box<dyn Command<S>>) {
        // If the command panics, nobody else is to go on as if nothing was.
        struct Closed<'a, S: State>(&'a Shared<S>);
        impl<S: State> Drop for Closed<'_, S> {
            fn drop(&mut self) {
                if std::thread::panicking() {
                    self.0.close_to_appends("a command panicked");
                }
            }
        }
        let shared = Arc::clone(&self.shared);
        let _closed = Closed(&shared);
        let mut building = self.begin();
        self.decide(&mut building, command);
        self.close(building);
    }

    fn confirm(&mut self) {
        self.forget_landed();
        // Whatever is on its way proves the batch before it.
        if self.flight.is_none() {
            self.writer().confirm();
        }
    }

    // A thread that panicked with it has closed the ledger; what it does then is to answer.
    fn writer(&self) -> MutexGuard<'_, Writer<S>> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forget_landed(&mut self) {
        self.flight.take_if(|flight| flight.has_landed());
    }

    fn await_landing(&mut self) {
        if let Some(flight) = &self.flight {
            self.inbox.wait_until(|| flight.has_landed(), None, None);
        }
    }

    fn begin(&mut self) -> Building<S> {
        // How it ended matters when this batch is closed; one that ended well is in the store already.
        self.flight
            .take_if(|flight| matches!(flight.outcome.get(), Some(Ok(()))));
        let overlay = match &self.flight {
            Some(flight) if !flight.has_landed() => Overlay::on(Arc::clone(flight)),
            _ => {
                let published = self.shared.published();
                Overlay::new(published.state.clone(), published.clock)
            }
        };
        Building {
            overlay,
            decided: Vec::new(),
            given: 0,
        }
    }

    fn decide(&mut self, building: &mut Building<S>, mut command: Box<dyn Command<S>>) {
        let overlay = &mut building.overlay;
        let savepoint = overlay.save();
        let (first, bytes) = (overlay.said.pending.len(), overlay.bytes);
        let mut tx = Tx {
            overlay,
            shared: &self.shared,
            pool: &mut self.pool,
            now_us: self.shared.clock.now_us(),
        };
        if !command.decide(&mut tx) {
            overlay.undo(savepoint);
        } else if let Err(e) = check_size(overlay.said.pending.len() - first, overlay.bytes - bytes) {
            overlay.undo(savepoint);
            return command.answer(Err(e.into()));
        }
        let records = first..overlay.said.pending.len();
        building.decided.push(Decided { command, records });
    }

    // One batch. It takes commands for as long as the one before is on its way, and a moment longer when many callers have
    // just been answered, who will be back.
    fn batch(&mut self) {
        let mut building = self.begin();
        let mut lingered = None;
        loop {
            let mut commands = self.inbox.take(PIECE_RECORDS).into_iter();
            while !building.is_full()
                && let Some(command) = commands.next()
            {
                self.decide(&mut building, command);
                self.give_pieces(&mut building);
            }
            self.inbox.put_back(commands);
            if building.is_full() {
                break;
            }
            let count = building.decided.len();
            let flight = self.flight.as_ref().filter(|flight| !flight.has_landed());
            if !self.inbox.is_empty() || self.signers.work_along() {
                continue;
            }
            if let Some(flight) = flight {
                // There is no hurry for less than a piece: a wake-up costs as much as a few decisions.
                self.inbox
                    .wait_until(|| flight.has_landed(), Some(PIECE_RECORDS), None);
                continue;
            }
            // As many as last time: whoever was answered just now will be back.
            let wanted = self.commands_before;
            let until = *lingered.get_or_insert_with(|| Instant::now() + LINGER);
            if wanted <= 1 || count >= wanted || until <= Instant::now() {
                break;
            }
            self.inbox
                .wait_until(|| false, Some((wanted - count).min(PIECE_RECORDS)), Some(until));
        }
        self.close(building);
    }

    // Has the helpers sign what is final, a piece at a time.
    fn give_pieces(&self, building: &mut Building<S>) {
        while building.overlay.said.pending.len() - building.given > PIECE_RECORDS {
            let piece = self.own_records(building, building.given + PIECE_RECORDS);
            if !piece.is_empty() {
                self.signers.add(piece);
            }
        }
    }

    fn own_records(&self, building: &mut Building<S>, until: usize) -> Vec<super::signers::Placed> {
        let first = std::mem::replace(&mut building.given, until);
        let pending = building.overlay.said.pending[first..until].iter();
        (first..)
            .zip(pending)
            .filter(|(_, pending)| pending.own)
            .map(|(at, pending)| (at, Arc::clone(&pending.record)))
            .collect()
    }

    // Decides nothing more: the hook, the last signatures, and on its way once the batch before has landed.
    fn close(&mut self, mut building: Building<S>) {
        let hooked = self.add_hook(&mut building);
        let until = building.overlay.said.pending.len();
        let rest = self.own_records(&mut building, until);
        let signed = self.signers.finish(rest);
        self.await_landing();
        let before = self
            .flight
            .take()
            .and_then(|flight| flight.outcome.get().cloned());
        self.commands_before = building.decided.len();
        let Building { overlay, decided, .. } = building;
        let based = overlay.base.is_some();
        let failed = match before {
            Some(Err(failure)) if based => Some(failure.for_the_next()),
            _ => hooked.err(),
        };
        if let Some(failure) = failed {
            for Decided { command, .. } in decided {
                command.answer(Err(failure.again()));
            }
            return;
        }
        if overlay.said.pending.is_empty() {
            for Decided { command, .. } in decided {
                command.answer(Ok(Vec::new()));
            }
            return;
        }
        let job = job_of(overlay, signed, decided, &self.inbox);
        match &self.jobs {
            Some(jobs) if self.commands_before > 1 => {
                self.flight = Some(Arc::clone(&job.flight));
                // If the thread that writes is gone, the job says so to whoever waits for it.
                drop(jobs.send(job));
            }
            _ => self.writer().land(job),
        }
    }

    fn add_hook(&mut self, building: &mut Building<S>) -> Result<(), Failure> {
        if building.overlay.said.pending.is_empty() {
            return Ok(());
        }
        let Some(hook) = &self.hook else {
            return Ok(());
        };
        let mut tx = Tx {
            overlay: &mut building.overlay,
            shared: &self.shared,
            pool: &mut self.pool,
            now_us: self.shared.clock.now_us(),
        };
        hook(&mut tx).map_err(|e| Failure::NotCommitted(e.to_string()))
    }
}

fn check_size(records: usize, bytes: usize) -> Result<(), JournalError> {
    let sizes = [
        ("a command's records", records, COMMAND_RECORDS_MAX),
        ("a command's bytes", bytes, COMMAND_BYTES_MAX),
    ];
    match sizes.into_iter().find(|(_, found, limit)| found > limit) {
        Some((what, found, limit)) => Err(JournalError::TooLarge {
            what,
            found: found as u64,
            limit: limit as u64,
        }),
        None => Ok(()),
    }
}

fn job_of<S: State>(
    mut overlay: Overlay<S>,
    signed: Vec<super::signers::Signed>,
    decided: Vec<Decided<S>>,
    inbox: &Arc<Commands<S>>,
) -> Job<S> {
    let mut leaves: Vec<Hash> = vec![[0; 32]; overlay.said.pending.len()];
    for (at, record, leaf) in signed {
        overlay.said.pending[at].record = record;
        leaves[at] = leaf;
    }
    let flight = Arc::new(Flight {
        said: overlay.said,
        state: overlay.state,
        clock: overlay.clock,
        leaves,
        outcome: OnceLock::new(),
    });
    let end = End {
        flight: Arc::clone(&flight),
        inbox: Arc::clone(inbox),
    };
    Job {
        flight,
        changes: overlay.changes.take(),
        decided,
        end,
    }
}
