//! A machine's own word that it goes away: it stops, or the system sleeps. Said in its facts, and the gateway is given a moment to
//! hear it: then it is no outage.

use crate::error::ServerError;
use crate::machine::Machine;
use ledger::core::kinds::{NodeSleeping, NodeWaking, RestReason};
use ledger::core::{Draft, Stream, Subject};
use std::time::Duration;

/// How long a machine that goes away waits for the gateway to hear it.
const ANNOUNCE_WAIT: Duration = Duration::from_secs(3);

/// Announces that this machine goes away; whether the gateway is known to have heard it.
///
/// # Errors
/// [`ServerError`] when it could not be kept.
pub(crate) async fn announce(machine: &Machine, reason: RestReason) -> Result<bool, ServerError> {
    let subject = Subject::new(&format!("node/{}", machine.id()))?;
    let said = machine
        .say(Stream::Facts, vec![Draft::of(&NodeSleeping { reason }, subject)])
        .await?;
    let Some(said) = said.first().filter(|_| machine.link_without_outbox().connected) else {
        return Ok(false);
    };
    let mut changed = machine.changed();
    let heard = async {
        let pinned = || {
            let snapshot = machine.ledger.snapshot();
            snapshot
                .state
                .pin(&said.log())
                .is_some_and(|pin| pin.seq >= said.seq())
        };
        while !pinned() && changed.changed().await.is_ok() {}
    };
    let heard = tokio::time::timeout(ANNOUNCE_WAIT, heard).await.is_ok();
    if !heard {
        tracing::debug!("the gateway did not confirm the announced absence in time");
    }
    Ok(heard)
}

/// Says that this machine is awake again, after so many milliseconds.
///
/// # Errors
/// [`ServerError`] when it could not be kept.
pub(crate) async fn awake(machine: &Machine, slept_ms: u64) -> Result<(), ServerError> {
    let subject = Subject::new(&format!("node/{}", machine.id()))?;
    let waking = Draft::of(&NodeWaking { slept_ms }, subject);
    machine.say(Stream::Facts, vec![waking]).await?;
    Ok(())
}
