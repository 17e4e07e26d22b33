//! Claims work for free slots by long poll: only after everything was judged, never while hello is said.

use super::link::{EXCHANGE_TIMEOUT, HEALING_WAIT, Link, is_in_term};
use super::pull::wait_ms;
use crate::clock::running_ms;
use crate::error::ServerError;
use crate::exchange::{Claim, ClaimAnswer, encode};
use std::sync::Arc;
use std::time::Duration;

/// The part of a term that a claim waits for work at most.
const WAIT_OF_TERM: u32 = 5;

/// Claims what there is, or waits for it.
pub(super) async fn claim_round(link: &Arc<Link>) -> Result<(), ServerError> {
    let mut synced = link.synced.subscribe();
    let ready = synced.wait_for(Option::is_some).await;
    let term_ms = ready
        .ok()
        .and_then(|answer| answer.as_ref().map(|a| a.term_ms))
        .unwrap_or_default();
    let mut failures = link.failures.subscribe();
    failures.mark_unchanged();
    let mut greeting = link.greeting.subscribe();
    let no_hello = link.claiming.lock().await;
    if link.synced.borrow().is_none() {
        return Ok(());
    }
    if *link.order.borrow() != link.follows() || link.machine().is_to_be_folded_again() {
        // A claim in an order that is not here yet, or not as it counts, could not be checked.
        drop(no_hello);
        tokio::time::sleep(HEALING_WAIT).await;
        return Ok(());
    }
    let free = link.jobs().free();
    if free.is_empty() || !link.is_leased(term_ms) || link.machine().has_room().is_err() {
        drop(no_hello);
        tokio::select! {
            () = link.jobs().wait_for_room() => {}
            () = tokio::time::sleep(Duration::from_millis(link.machine().config.timing.beat_ms)) => {}
        }
        return Ok(());
    }
    let id = *link
        .unanswered
        .lock()
        .expect("claim lock")
        .get_or_insert_with(|| {
            let mut id = [0; 16];
            ledger::clock::Entropy::fill(&ledger::clock::SystemEntropy, &mut id);
            id
        });
    // No longer than leaves a lease that is given at once in its term: see `is_in_term`.
    let wait = wait_ms(link).min(term_ms / WAIT_OF_TERM);
    let claim = Claim {
        claim: id,
        incarnation: link.machine().incarnation(),
        free,
        wait_ms: wait,
    };
    let timeout = EXCHANGE_TIMEOUT + Duration::from_millis(wait.into());
    let sent_ms = running_ms();
    let answer: ClaimAnswer = tokio::select! {
        answer = link.exchange("claim", encode(&claim), timeout) => answer?,
        // The link failed: an answer that still comes is not heeded, and hello says that we hold nothing of it.
        _ = failures.changed() => {
            *link.unanswered.lock().expect("claim lock") = None;
            return Ok(());
        }
        // Hello comes first, and voids it: nothing that anybody says waits for a claim that waits for work.
        _ = greeting.wait_for(|waiting| *waiting > 0) => {
            *link.unanswered.lock().expect("claim lock") = None;
            return Ok(());
        }
        // A slot became free: the claim is asked again with it, under the same id.
        () = link.jobs().wait_for_room() => return Ok(()),
    };
    *link.unanswered.lock().expect("claim lock") = None;
    // What was given may have been given as soon as the claim was there, but for the wait for work.
    let lease_ms = running_ms().saturating_sub(sent_ms).saturating_sub(wait.into());
    if !answer.jobs.is_empty() && !is_in_term(lease_ms, term_ms) {
        tracing::warn!(lease_ms, "a claim was answered too late; nothing of it is begun");
        drop(no_hello);
        link.greet_soon();
        return Ok(());
    }
    for claimed in answer.jobs {
        link.jobs().take(claimed).await;
    }
    drop(no_hello);
    Ok(())
}
