//! The committer thread: one batch after another, each with one write and one sync.

use super::batch::{Overlay, Pending, Tip};
use super::signers::Signers;
use super::ticket::{Answer, CommitError, Committed};
use super::tx::Tx;
use crate::clock::Pool;
use crate::erase::{self, Erasure};
use crate::error::LedgerError;
use crate::housekeeper::Step;
use crate::journal::{EntryDraft, Journal, JournalError, Outcome};
use crate::ledger::{Published, Shared};
use crate::state::State;
use crate::{Position, Receipt};
use ledger_core::{Chain, LogId, SigningKey, signature, tree};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

/// Commands in one batch at most: bounds what one failed write takes with it.
const BATCH_COMMANDS_MAX: usize = 4096;
/// Bytes of records and payloads after which a batch takes no further command.
const BATCH_BYTES_MAX: usize = 8 << 20;
/// Idleness after which an empty batch makes the last one provable.
const CONFIRM_AFTER: Duration = Duration::from_secs(1);

/// Called at the end of each batch that has records, to add what follows from all of them (pins, for instance).
pub type BatchHook<S> = Box<dyn Fn(&mut Tx<'_, S>) -> Result<(), LedgerError> + Send>;

/// A command, run once and answered once.
pub(crate) trait Command<S: State>: Send {
    /// Decides; `false` when it refused and must leave nothing behind.
    fn decide(&mut self, tx: &mut Tx<'_, S>) -> bool;
    /// Answers: with the command's own receipts, or with why the batch failed.
    fn answer(self: Box<Self>, outcome: Result<Vec<Receipt>, LedgerError>);
}

/// What the queue carries.
pub(crate) enum Order<S: State> {
    Command(Box<dyn Command<S>>),
    Stop,
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
        let result = self.result.expect("a command is answered after it was decided");
        self.answer.give(match (result, outcome) {
            (Err(refusal), _) => Err(CommitError::Refused(refusal)),
            (Ok(value), Ok(receipts)) => Ok(Committed { value, receipts }),
            (Ok(_), Err(e)) => Err(CommitError::Ledger(e)),
        });
    }
}

/// Owns the journal's writing end.
pub(crate) struct Committer<S: State> {
    pub(crate) shared: Arc<Shared<S>>,
    pub(crate) journal: Journal,
    pub(crate) queue: Receiver<Order<S>>,
    pub(crate) hook: Option<BatchHook<S>>,
    pub(crate) pool: Pool,
    pub(crate) signers: Signers,
}

struct Decided<S: State> {
    command: Box<dyn Command<S>>,
    // Its records in the batch; empty for a refusal.
    records: std::ops::Range<usize>,
}

impl<S: State> Committer<S> {
    /// Works until it is told to stop or every caller is gone, then closes the journal.
    pub(crate) fn run(mut self) -> Result<(), JournalError> {
        let mut confirmed = true;
        loop {
            let first = if confirmed {
                self.queue.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                self.queue.recv_timeout(CONFIRM_AFTER)
            };
            match first {
                Ok(Order::Command(command)) => {
                    confirmed = false;
                    if self.batch(command) {
                        break;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    // A failed confirmation loses nothing; the poisoned writer says so to the next append.
                    if let Err(e) = self.journal.confirm() {
                        self.shared.close_to_appends(&e.to_string());
                    }
                    confirmed = true;
                }
                Ok(Order::Stop) | Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.shared.close_to_appends("the ledger was closed");
        self.refuse_the_rest();
        self.journal.close()
    }

    fn refuse_the_rest(&mut self) {
        let mut overlay = self.overlay();
        while let Ok(Order::Command(mut command)) = self.queue.try_recv() {
            // Decided only so that it can be answered; the overlay is dropped.
            self.decide(&mut overlay, &mut command);
            command.answer(Err(LedgerError::Closed("the ledger was closed".into())));
        }
    }

    fn overlay(&self) -> Overlay<S> {
        let published = self.shared.published();
        Overlay::new(published.state.clone(), published.clock)
    }

    fn decide(
        &mut self,
        overlay: &mut Overlay<S>,
        command: &mut Box<dyn Command<S>>,
    ) -> std::ops::Range<usize> {
        let savepoint = overlay.save();
        let first = overlay.pending.len();
        let now_us = self.shared.clock.now_us();
        let mut tx = Tx {
            overlay,
            shared: &self.shared,
            pool: &mut self.pool,
            now_us,
        };
        if !command.decide(&mut tx) {
            overlay.undo(savepoint);
        }
        first..overlay.pending.len()
    }

    // One batch; whether it is time to stop.
    fn batch(&mut self, first: Box<dyn Command<S>>) -> bool {
        let mut overlay = self.overlay();
        let mut decided = Vec::new();
        let mut stop = false;
        let mut next = Some(first);
        while let Some(mut command) = next.take() {
            let records = self.decide(&mut overlay, &mut command);
            decided.push(Decided { command, records });
            if decided.len() < BATCH_COMMANDS_MAX && overlay.bytes < BATCH_BYTES_MAX {
                match self.queue.try_recv() {
                    Ok(Order::Command(command)) => next = Some(command),
                    Ok(Order::Stop) => stop = true,
                    Err(_) => {}
                }
            }
        }
        let erasing: Vec<usize> = overlay.erasing.iter().map(|(at, _)| *at).collect();
        let outcome = if overlay.pending.is_empty() {
            Ok((Vec::new(), Ok(())))
        } else {
            self.commit(overlay)
        };
        // The last one first: whoever waits for several answers in turn then sleeps once and not for each.
        for Decided { command, records } in decided.into_iter().rev() {
            match &outcome {
                Ok((_, Err(why))) if erasing.iter().any(|at| records.contains(at)) => {
                    command.answer(Err(LedgerError::NotOverwritten(why.clone())));
                }
                Ok((receipts, _)) => {
                    command.answer(Ok(receipts.get(records).unwrap_or_default().to_vec()));
                }
                // Whoever appended nothing has nothing to lose by the failure.
                Err(_) if records.is_empty() => command.answer(Ok(Vec::new())),
                Err(e) => command.answer(Err(e.again())),
            }
        }
        stop
    }

    // The receipts, and whether everything that they destroy is overwritten.
    fn commit(&mut self, mut overlay: Overlay<S>) -> Result<(Vec<Receipt>, Result<(), String>), Failure> {
        if let Some(closed) = self.shared.closed() {
            return Err(Failure::Closed(closed));
        }
        if let Some(hook) = &self.hook {
            let now_us = self.shared.clock.now_us();
            let mut tx = Tx {
                overlay: &mut overlay,
                shared: &self.shared,
                pool: &mut self.pool,
                now_us,
            };
            hook(&mut tx).map_err(|e| Failure::NotCommitted(e.to_string()))?;
        }
        let leaves = self.signers.finish(&mut overlay.pending);
        let drafts: Vec<EntryDraft<'_>> = overlay
            .pending
            .iter()
            .map(|p| EntryDraft {
                record: p.record.bytes(),
                payload: p.payload.as_ref(),
            })
            .collect();
        let positions = self.journal.append(&drafts).map_err(|e| {
            if self.journal.is_poisoned() {
                self.shared.close_to_appends(&e.to_string());
            }
            match e.outcome() {
                Outcome::NotCommitted => Failure::NotCommitted(e.to_string()),
                Outcome::Unknown => Failure::Unknown(e.to_string()),
            }
        })?;
        let erasures: Vec<Erasure> = overlay
            .erasing
            .iter()
            .map(|(at, record)| Erasure {
                record: *record,
                by: positions[*at],
            })
            .collect();
        let receipts = self.publish(overlay, &leaves, &positions, &erasures);
        let shared = &self.shared;
        let overwritten = erase::overwrite(&mut self.journal, &erasures, |log, seq| shared.get(log, seq));
        if let Err(e) = &overwritten
            && !erase::is_in_vain(e)
        {
            // Only the newest batch may have an erasure that is not finished: that is where the next opening looks.
            self.journal.refuse(&e.to_string());
            self.shared.close_to_appends(&e.to_string());
        }
        Ok((receipts, overwritten.map_err(|e| e.to_string())))
    }

    // From here on the batch is durable: the durable state takes the overlay, readers see it.
    fn publish(
        &mut self,
        overlay: Overlay<S>,
        leaves: &[tree::Hash],
        positions: &[Position],
        erasures: &[Erasure],
    ) -> Vec<Receipt> {
        let before = self.shared.published();
        let mut touched: BTreeMap<LogId, Chain> = BTreeMap::new();
        let mut receipts = Vec::with_capacity(positions.len());
        for ((pending, leaf), position) in overlay.pending.iter().zip(leaves).zip(positions) {
            if pending.own {
                let log = pending.record.seal().log;
                let chain = touched.entry(log).or_insert_with(|| {
                    let chain = before.logs.get(&log).expect("an own log has a chain");
                    (**chain).clone()
                });
                chain.extend_prepared(&pending.record, *leaf);
            }
            receipts.push(Receipt {
                position: *position,
                record: Arc::clone(&pending.record),
            });
        }
        let mut logs = before.logs.clone();
        for (log, chain) in touched {
            logs.insert(log, Arc::new(chain));
        }
        for (log, tip) in overlay.tips {
            if let Tip::Foreign(chain) = tip {
                logs.insert(log, Arc::new(*chain));
            }
        }
        let mut changes = overlay.changes;
        let end = self.journal.durable_end();
        let count = before.receipts + u64::try_from(receipts.len()).unwrap_or(u64::MAX);
        let newest = receipts.last().cloned().or_else(|| before.newest.clone());
        let step = Step {
            end,
            changes: changes.take(),
            logs: logs.clone(),
            receipts: receipts.len(),
            total: count,
            clock: overlay.clock,
        };
        let published = Published {
            state: overlay.state,
            logs,
            end,
            clock: overlay.clock,
            receipts: count,
            newest,
        };
        self.shared
            .publish(Arc::new(published), step, &receipts, erasures);
        receipts
    }
}

/// Starts the threads that sign for a store.
pub(crate) fn start_signers<S: State>(shared: &Arc<Shared<S>>) -> Signers {
    let shared = Arc::clone(shared);
    Signers::start(Box::new(move |pending| finish(&shared.keyring.machine, pending)))
}

// Signs a record when it is ours, and hashes its leaf.
fn finish(key: &SigningKey, pending: &mut Pending) -> tree::Hash {
    if pending.own {
        let signature = signature::sign_seal(key, &pending.record.seal_digest());
        Arc::make_mut(&mut pending.record).set_log_signature(signature);
    }
    tree::leaf_hash(pending.record.bytes())
}

// Why a batch failed, once for each of its commands.
enum Failure {
    Closed(String),
    NotCommitted(String),
    Unknown(String),
}

impl Failure {
    fn again(&self) -> LedgerError {
        match self {
            Self::Closed(why) => LedgerError::Closed(why.clone()),
            Self::NotCommitted(why) => LedgerError::NotCommitted(why.clone()),
            Self::Unknown(why) => LedgerError::Unknown(why.clone()),
        }
    }
}
