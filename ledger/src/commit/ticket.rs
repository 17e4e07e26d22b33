//! What a caller holds while its command waits: blocking, or a future that needs no particular runtime.

use crate::Receipt;
use crate::error::LedgerError;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

/// A command that is durable.
#[derive(Debug)]
pub struct Committed<T> {
    /// What the command returned.
    pub value: T,
    /// The receipts that it appended or took in, in their order; empty for a command that appended nothing.
    pub receipts: Vec<Receipt>,
}

/// Why a command did not commit.
#[derive(Debug, thiserror::Error)]
pub enum CommitError<E> {
    /// The command itself refused; nothing of it was appended.
    #[error("{0}")]
    Refused(E),
    /// The engine could not.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

impl CommitError<LedgerError> {
    /// Both cases as the engine's error.
    pub fn into_ledger(self) -> LedgerError {
        match self {
            Self::Refused(e) | Self::Ledger(e) => e,
        }
    }
}

type Outcome<T, E> = Result<Committed<T>, CommitError<E>>;

/// The answer to a command, when it comes: block on it, or await it under any executor.
///
/// ```
/// use ledger::core::{Draft, Kind, Stream, Subject};
/// use ledger::{CommitError, Ledger, LedgerError, Receipt};
///
/// async fn say(ledger: &Ledger, draft: Draft) -> Result<Receipt, LedgerError> {
///     let committed = ledger.append_ticket(Stream::Facts, draft).await;
///     ledger.settled(&committed.map_err(CommitError::into_ledger)?)
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// let ledger = Ledger::lone(dir.path().join("log"), "my-agent")?;
/// let note = Draft::custom(Kind::new("x.note")?, Subject::new("chat/1")?);
/// let committed = ledger.append_ticket(Stream::Facts, note).wait()?; // the same without an executor
/// assert_eq!(committed.receipts.len(), 1);
/// # drop(say);
/// # Ok(()) }
/// ```
#[must_use = "the outcome of a command is known only through its ticket"]
pub struct Ticket<T, E> {
    receiver: oneshot::AsyncReceiver<Outcome<T, E>>,
}

pub(crate) struct Answer<T, E> {
    sender: oneshot::Sender<Outcome<T, E>>,
}

pub(crate) fn ticket<T, E>() -> (Answer<T, E>, Ticket<T, E>) {
    let (sender, receiver) = oneshot::async_channel();
    (Answer { sender }, Ticket { receiver })
}

/// A ticket whose answer is known at once.
pub(crate) fn refused<T, E>(error: LedgerError) -> Ticket<T, E> {
    let (answer, ticket) = ticket();
    answer.give(Err(CommitError::Ledger(error)));
    ticket
}

impl<T, E> Answer<T, E> {
    pub(crate) fn give(self, outcome: Outcome<T, E>) {
        // A caller that went away does not want to know; the receipt stands all the same.
        drop(self.sender.send(outcome));
    }
}

fn gone<E>() -> CommitError<E> {
    CommitError::Ledger(LedgerError::Unknown(
        "the committer stopped before it answered".into(),
    ))
}

impl<T, E> Ticket<T, E> {
    /// Blocks until the command is durable or refused.
    ///
    /// # Errors
    /// [`CommitError`].
    pub fn wait(self) -> Outcome<T, E> {
        // The receiver knows only how to be polled; parking this thread is all a runtime would do.
        struct Unpark(std::thread::Thread);
        impl std::task::Wake for Unpark {
            fn wake(self: std::sync::Arc<Self>) {
                self.0.unpark();
            }
        }
        let waker = std::sync::Arc::new(Unpark(std::thread::current())).into();
        let mut context = Context::from_waker(&waker);
        let mut ticket = std::pin::pin!(self);
        loop {
            match ticket.as_mut().poll(&mut context) {
                Poll::Ready(outcome) => return outcome,
                Poll::Pending => std::thread::park_timeout(Duration::from_secs(1)),
            }
        }
    }
}

impl<T, E> Future for Ticket<T, E> {
    type Output = Outcome<T, E>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.receiver)
            .poll(context)
            .map(|received| received.unwrap_or_else(|_| Err(gone())))
    }
}
