//! A gateway whose old data was put back, from before this machine began its present logs: what it lost of the earlier ones goes there
//! first.
//!
//! It takes no log in whose genesis names another head of the one before than is there, so they go one after the other, older
//! incarnations first.

use super::link::{EXCHANGE_TIMEOUT, Link};
use super::push::Pushes;
use crate::error::ServerError;
use crate::exchange::{HelloAnswer, Marks, MarksAnswer, encode};
use ledger::core::{LogId, Stream};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long one log may take before hello is said again.
const GIVING: Duration = Duration::from_secs(600);

/// Sends what the gateway lacks of this machine's logs of earlier incarnations, when it does not know one of the present ones.
///
/// # Errors
/// [`ServerError`]; what is on its way is given up, and hello tells anew where to go on.
pub(super) async fn give_earlier(link: &Arc<Link>, answer: &HelloAnswer) -> Result<(), ServerError> {
    let earlier = earlier_logs(link);
    if earlier.is_empty() || answer.marks.iter().all(|(_, mark)| mark.is_some()) {
        return Ok(());
    }
    let asked = Marks {
        taking_back: None,
        logs: Vec::new(),
    };
    let theirs: MarksAnswer = link.exchange("marks", encode(&asked), EXCHANGE_TIMEOUT).await?;
    let window = usize::try_from(answer.window_bytes).unwrap_or(usize::MAX);
    for log in earlier {
        let known = theirs
            .own
            .iter()
            .find(|(of, _)| *of == log)
            .map(|(_, mark)| *mark);
        if link.mark(&log).map(|mark| mark.seq) <= known.map(|mark| mark.seq) {
            continue;
        }
        tracing::info!(%log, "the gateway lacks a part of an earlier log of this machine, and gets it again");
        let (machine, marks) = (Arc::clone(link.machine()), [(log, known)]);
        let begun = tokio::task::spawn_blocking(move || Pushes::begin(&machine, &marks, window)).await;
        let mut pushes = begun.map_err(|e| ServerError::Malformed(e.to_string()))??;
        pushes.begin_behind(link).await;
        pushes.push(link, false, Instant::now() + GIVING).await?;
    }
    Ok(())
}

// The logs before those that this machine writes now, older incarnations first.
fn earlier_logs(link: &Link) -> Vec<LogId> {
    let ledger = &link.machine().ledger;
    let (snapshot, key, present) = (ledger.snapshot(), ledger.context().machine_key, link.own_logs());
    let own = snapshot.logs.values().filter(|chain| {
        chain.machine_key() == key
            && chain.genesis().stream != Stream::Order
            && !present.contains(&chain.log())
    });
    let mut own: Vec<_> = own
        .map(|chain| (chain.genesis().incarnation, chain.log()))
        .collect();
    own.sort_unstable();
    own.into_iter().map(|(_, log)| log).collect()
}
