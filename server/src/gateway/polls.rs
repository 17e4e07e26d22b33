//! What a long poll waits for: a commit, the end of its time, or its door, when it closes.

use crate::closing::Closing;
use ledger::Position;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

/// What ended a wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Waited {
    /// Something was committed.
    Changed,
    /// The time is up.
    TimeUp,
    /// The door closes: the answer is what there is now.
    Closing,
}

/// Waits for a commit at most until a time.
pub(super) async fn wait(
    changed: &mut watch::Receiver<Position>,
    closing: &mut Closing,
    until: Instant,
) -> Waited {
    let waited = async {
        tokio::select! {
            changed = changed.changed() => changed.map_or(Waited::Closing, |()| Waited::Changed),
            () = closing.wait() => Waited::Closing,
        }
    };
    timeout_at(until, waited).await.unwrap_or(Waited::TimeUp)
}
