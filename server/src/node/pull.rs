//! Pulling: the order by long poll, a log at a time, and what a pull brought taken in.
//!
//! Contract: what is taken in was verified and continues what is here. What the gateway pruned is gone on behind of when it shows
//! that it may be. Does not: choose what is copied; see `mirror`.

use super::follow::follow_epoch;
use super::link::{EXCHANGE_TIMEOUT, Link};
use crate::error::ServerError;
use crate::exchange::{Mark, Pull, PullAnswer, Start, encode};
use crate::machine::Machine;
use crate::pace::{Pace, Rests, rest};
use ledger::PrunedStart;
use ledger::core::{LogId, Stream};
use ledger::intake::VerifiedRun;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Time between two pulls of a busy log, so that what is said meanwhile is one run, one check and one sync here.
const PULLS_APART: Duration = Duration::from_millis(50);

/// One pull of a log; whether there is more at once.
pub(super) async fn pull_log(link: &Arc<Link>, log: LogId, wait_ms: u32) -> Result<bool, ServerError> {
    let pull = Pull {
        log,
        after: link.mark(&log),
        wait_ms,
    };
    let timeout = EXCHANGE_TIMEOUT + Duration::from_millis(wait_ms.into());
    let answer: PullAnswer = match link.exchange("pull", encode(&pull), timeout).await {
        Err(ServerError::NotFound(why)) => return begin_behind(link, log, why).await,
        answer => answer?,
    };
    let (began, is_empty) = (Instant::now(), answer.records.is_empty());
    let more = take_in(&link.machine, log, answer).await?;
    if is_empty {
        return Ok(more);
    }
    let (time, next) = link.pulled(log, began.elapsed(), more);
    if rest(time, || link.works(log)).await {
        link.idle(log);
    }
    if let Some(next) = next {
        tokio::time::sleep_until(next).await;
    }
    Ok(more)
}

/// How closely pulls of a log follow each other.
pub(super) struct Pulls {
    pace: Pace,
    rests: Rests,
    // The end of this machine's work log when it was last looked whether there is work.
    work: Option<Mark>,
}

impl Link {
    // How long the copying of a log rests, and when it may be pulled again if there was no more of it.
    fn pulled(&self, log: LogId, worked: Duration, more: bool) -> (Duration, Option<Instant>) {
        let mut pulls = self.pulls.lock().expect("pulls lock");
        let pulls = pulls.entry(log).or_insert_with(|| Pulls {
            pace: Pace::new(PULLS_APART),
            rests: Rests::default(),
            work: self.work(),
        });
        let time = pulls.rests.after(worked, more);
        (time, (!more).then(|| pulls.pace.begin()))
    }

    fn idle(&self, log: LogId) {
        if let Some(pulls) = self.pulls.lock().expect("pulls lock").get_mut(&log) {
            pulls.rests.idle();
        }
    }

    // Whether anything runs here, or told of itself since this was asked last for a log. While another epoch's order is awaited nothing is
    // claimed, so nothing goes before copying.
    fn works(&self, log: LogId) -> bool {
        // Read once: a second look while the first is held could wait for a writer that waits for the first.
        let awaited = *self.order.borrow();
        if awaited.is_some() && awaited != self.follows() {
            return false;
        }
        let work = self.work();
        let mut pulls = self.pulls.lock().expect("pulls lock");
        let told = pulls
            .get_mut(&log)
            .is_some_and(|pulls| std::mem::replace(&mut pulls.work, work) != work);
        told || self.jobs().is_busy()
    }

    fn work(&self) -> Option<Mark> {
        let log = self.machine.ledger.own_log(Stream::Work)?;
        self.mark(&log)
    }
}

/// Takes in what a pull of a log brought; whether there is more to come.
pub(super) async fn take_in(
    machine: &Arc<Machine>,
    log: LogId,
    answer: PullAnswer,
) -> Result<bool, ServerError> {
    let chain = machine.ledger.snapshot().logs.get(&log).cloned();
    let records = answer.records.into_iter();
    let raw = records.map(|r| (r.record, r.payload)).collect();
    let verified = tokio::task::spawn_blocking(move || VerifiedRun::verify(raw, chain.as_deref())).await;
    let Some(run) = verified.map_err(|e| ServerError::Malformed(e.to_string()))?? else {
        return Ok(false);
    };
    if run.log() != log {
        return Err(ServerError::Fork(format!(
            "asked for log {log}, got records of {}",
            run.log()
        )));
    }
    let taking = machine.ledger.submit(move |tx| -> Result<(), ServerError> {
        tx.intake(&run)?;
        Ok(())
    });
    taking.await?;
    Ok(!answer.complete)
}

// What is missing here was pruned at the gateway: the copy goes on behind it, when the gateway shows that it may. Whether there
// is more.
async fn begin_behind(link: &Arc<Link>, log: LogId, why: String) -> Result<bool, ServerError> {
    let asked = encode(&Start { log });
    let start: PrunedStart = link.aside("start", asked).await.map_err(|error| {
        tracing::debug!(%log, %error, "a copy cannot begin behind what was pruned");
        ServerError::NotFound(why.clone())
    })?;
    if start.log()? != log {
        return Err(ServerError::Fork(format!(
            "asked how log {log} begins, got another one"
        )));
    }
    let machine = Arc::clone(&link.machine);
    let begun = tokio::task::spawn_blocking(move || machine.ledger.begin_behind(&start)).await;
    match begun.map_err(|e| ServerError::Malformed(e.to_string()))? {
        Ok(true) => {
            tracing::info!(%log, "the copy begins behind what the gateway pruned");
            Ok(true)
        }
        // It shows nothing that is of use here; asking again at once would not help.
        Ok(false) => Err(ServerError::NotFound(why)),
        Err(error) => {
            tracing::warn!(%log, code = error.code(), %error, "a copy cannot begin behind what was pruned");
            Err(ServerError::NotFound(why))
        }
    }
}

/// How long a pull waits for something new, milliseconds.
pub(super) fn wait_ms(link: &Link) -> u32 {
    u32::try_from(link.machine.config.timing.poll_ms).unwrap_or(u32::MAX)
}

/// Follows the order by long poll. Needs no hello: a mirror is of use even while Central heals.
pub(super) async fn pull_order(link: &Arc<Link>) -> Result<(), ServerError> {
    let followed = follow(link).await;
    link.machine.set_link(|view| match &followed {
        Ok(()) => view.order_forked = None,
        Err(ServerError::OrderForked(why)) => view.order_forked = Some(why.clone()),
        Err(_) => {}
    });
    followed
}

async fn follow(link: &Arc<Link>) -> Result<(), ServerError> {
    let known = link
        .machine
        .ledger
        .snapshot()
        .state
        .order()
        .map(|order| order.log);
    let Some(log) = known else {
        return Err(ServerError::WrongRole(
            "this store does not know its order; join again".into(),
        ));
    };
    let told = *link.order.borrow();
    if let Some(next) = told.filter(|next| *next != log) {
        return follow_epoch(link, log, next).await;
    }
    while pull_log(link, log, wait_ms(link)).await? {}
    Ok(())
}
