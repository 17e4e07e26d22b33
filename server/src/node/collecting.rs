//! A node that takes its own tail back from a gateway that collects its own: each has what the other waits for.
//!
//! The gateway takes in nothing of a machine's logs before its own are whole, and it goes on only when a machine has offered
//! what it has of them. So a node whose push is refused offers that first. It says so in a hello that tells nothing else, since
//! nothing is known for sure here yet: neither a mark of the order nor what the machine runs.

use super::follow::logs_of_central;
use super::restore::{mark_of, push_run};
use crate::client::Signed;
use crate::error::ServerError;
use crate::exchange::{Hello, HelloAnswer, Marks, MarksAnswer, decode, encode};
use crate::machine::Machine;
use http::StatusCode;
use ledger::core::LogId;
use std::sync::Arc;
use std::time::Duration;

/// How long one exchange may take.
const WITHIN: Duration = Duration::from_secs(10);

/// Offers a gateway that collects its logs what is here of them, and tells it so. Nothing when it does not collect.
///
/// # Errors
/// [`ServerError::Gateway`] when it does not answer; [`ServerError::Ledger`] when what is here cannot be read.
pub(super) async fn offer_behind(machine: &Arc<Machine>, gateway: &Signed) -> Result<(), ServerError> {
    if !hello(machine, gateway, false).await?.collecting {
        return Ok(());
    }
    let asked = Marks {
        taking_back: None,
        logs: logs_of_central(machine),
    };
    let theirs: MarksAnswer = exchange(gateway, "marks", encode(&asked)).await?;
    for (log, mark) in theirs.others {
        let next = mark.map_or(0, |mark| mark.seq.saturating_add(1));
        let fits = match mark {
            Some(mark) => {
                let stands = machine.ledger.get(&log, mark.seq)?;
                stands.is_some_and(|stands| stands.seal_digest() == mark.seal)
            }
            None => true,
        };
        if fits {
            offer(machine, gateway, log, next).await?;
        }
    }
    hello(machine, gateway, true).await?;
    Ok(())
}

// What is here of a log from a seq on, as far as the gateway takes it.
async fn offer(
    machine: &Arc<Machine>,
    gateway: &Signed,
    log: LogId,
    mut next: u64,
) -> Result<(), ServerError> {
    while mark_of(machine, &log).is_some_and(|ours| ours.seq >= next) {
        match push_run(machine, gateway, log, next).await? {
            Ok(answer) if answer.mark.seq >= next => next = answer.mark.seq.saturating_add(1),
            Ok(_) => return Ok(()),
            Err(e) => {
                let status = e.problem().map(|problem| problem.status);
                let refused = [StatusCode::FORBIDDEN, StatusCode::CONFLICT].map(|status| status.as_u16());
                if !status.is_some_and(|status| refused.contains(&status)) {
                    return Err(ServerError::Gateway(format!("push: {e}")));
                }
                tracing::warn!(%log, error = %e, "the gateway does not take what is here of this log; both sides keep what they have");
                return Ok(());
            }
        }
    }
    Ok(())
}

async fn hello(machine: &Machine, gateway: &Signed, offered: bool) -> Result<HelloAnswer, ServerError> {
    let hello = Hello {
        process: machine.process,
        incarnation: machine.incarnation(),
        logs: Vec::new(),
        order: None,
        fences: Vec::new(),
        handlers: Vec::new(),
        offered,
        now: machine.now_us(),
    };
    exchange(gateway, "hello", encode(&hello)).await
}

async fn exchange<A: serde::Serialize + serde::de::DeserializeOwned>(
    gateway: &Signed,
    op: &'static str,
    body: Vec<u8>,
) -> Result<A, ServerError> {
    let answer = gateway.exchange(op, body, WITHIN).await;
    decode(
        op,
        &answer.map_err(|e| ServerError::Gateway(format!("{op}: {e}")))?,
    )
}
