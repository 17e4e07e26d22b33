//! Pushing: runs of this machine's own logs on their way to the gateway, as many bytes at once as it gives room for.
//!
//! Work goes first, then facts, then pulses, and after each run the choice is made anew, so that a result never waits behind a
//! backlog. While the gateway verifies one run the next is read, encoded and signed. Runs of one log are sent in order and
//! put in order again by the gateway; whatever fails ends all that is on its way, and hello tells anew where to go on.

use super::link::Link;
use crate::error::ServerError;
use crate::exchange::{Mark, Push, PushAnswer, RUN_BYTES_MAX, RUN_RECORDS_MAX, Raw, encode};
use crate::gateway::records::raw_of;
use crate::machine::Machine;
use ledger::LedgerError;
use ledger::core::LogId;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

/// How long one run may take to be acknowledged: those before it have to be verified and synced as well.
const PUSH_TIMEOUT: Duration = Duration::from_secs(30);

/// What the gateway has of each own log, by its word, and what is on its way to it.
pub(super) struct Pushes {
    logs: Vec<Log>,
    // Logs of which the gateway lacks what was pruned here.
    behind: Vec<LogId>,
    flying: JoinSet<Result<Arrived, ServerError>>,
    bytes_flying: usize,
    window_bytes: usize,
}

struct Log {
    log: LogId,
    mark: Option<Mark>,
    // The first seq that was not sent.
    next: u64,
}

struct Arrived {
    at: usize,
    run: Run,
    mark: Mark,
}

// A run that was sent: the seq behind it, and what it took on the wire.
#[derive(Clone, Copy)]
struct Run {
    end: u64,
    sent_bytes: usize,
}

impl Pushes {
    /// Begins where the gateway's marks say.
    ///
    /// # Errors
    /// [`ServerError::Fork`] when a mark is none of ours.
    pub(super) fn begin(
        machine: &Machine,
        marks: &[(LogId, Option<Mark>)],
        window_bytes: usize,
    ) -> Result<Self, ServerError> {
        let (mut logs, mut behind) = (Vec::new(), Vec::new());
        for (log, mark) in marks {
            if let Some(mark) = mark {
                check_ours(machine, log, mark)?;
            }
            let next = mark.map_or(0, |mark| mark.seq.saturating_add(1));
            let kept = machine.ledger.first_kept(log);
            if kept > 1 && next < kept {
                // It had them, and lost them after they went here.
                tracing::warn!(%log, next, kept, "the gateway lacks heartbeats that were pruned here");
                behind.push(*log);
                continue;
            }
            logs.push(Log {
                log: *log,
                mark: *mark,
                next,
            });
        }
        Ok(Self {
            logs,
            behind,
            flying: JoinSet::new(),
            bytes_flying: 0,
            window_bytes,
        })
    }

    /// Shows the gateway how the logs go on of which it lacks what was pruned here. Whether it took any; all else goes on without
    /// those that it did not.
    pub(super) async fn begin_behind(&mut self, link: &Arc<Link>) -> bool {
        let mut begun = false;
        for log in std::mem::take(&mut self.behind) {
            let machine = Arc::clone(&link.machine);
            let start = tokio::task::spawn_blocking(move || machine.ledger.pruned_start(&log)).await;
            let told = async {
                let start = start.map_err(broken)??;
                let start = start.ok_or(LedgerError::UnknownLog(log))?;
                let _: PushAnswer = link.aside("begin", encode(&start)).await?;
                Ok::<(), ServerError>(())
            };
            match told.await {
                Ok(()) => begun = true,
                Err(error) => {
                    tracing::warn!(%log, code = error.code(), %error, "the heartbeats of this log are not sent");
                }
            }
        }
        begun
    }

    /// Sends what there is and waits until the gateway has it; with `until_judged` only until it has all of the work log, else
    /// until it is time for another hello. What is on its way then goes on.
    ///
    /// # Errors
    /// [`ServerError`]; then what is on its way is given up.
    pub(super) async fn push(
        &mut self,
        link: &Arc<Link>,
        until_judged: bool,
        hello_at: Instant,
    ) -> Result<(), ServerError> {
        loop {
            let may_end = if until_judged {
                self.is_judged(link)
            } else {
                Instant::now() >= hello_at
            };
            if may_end {
                return Ok(());
            }
            while self.has_room()
                && let Some(at) = self.next(link)
            {
                self.send(link, at).await?;
            }
            match self.flying.join_next().await {
                None => return Ok(()),
                Some(arrived) => self.arrive(link, arrived)?,
            }
        }
    }

    // Whether everything that fences are judged by is at the gateway.
    fn is_judged(&self, link: &Link) -> bool {
        self.logs
            .first()
            .is_none_or(|work| work.mark == link.mark(&work.log))
    }

    fn has_room(&self) -> bool {
        self.flying.is_empty() || self.bytes_flying.saturating_add(RUN_BYTES_MAX) <= self.window_bytes
    }

    fn next(&self, link: &Link) -> Option<usize> {
        // What follows the first run of a log means nothing to a gateway that has not taken in its genesis.
        let is_known = |own: &Log| own.mark.is_some() || own.next == 0;
        let is_behind = |own: &Log| link.mark(&own.log).is_some_and(|tip| own.next <= tip.seq);
        self.logs.iter().position(|own| is_known(own) && is_behind(own))
    }

    async fn send(&mut self, link: &Arc<Link>, at: usize) -> Result<(), ServerError> {
        let own = &mut self.logs[at];
        let (log, first, machine) = (own.log, own.next, Arc::clone(&link.machine));
        let read = tokio::task::spawn_blocking(move || read(&machine, log, first)).await;
        let (body, end) = read.map_err(broken)??;
        if end == first {
            return Err(ServerError::Malformed(format!(
                "log {log} has nothing at seq {first}, but the gateway lacks it"
            )));
        }
        let run = Run {
            end,
            sent_bytes: body.len(),
        };
        own.next = end;
        self.bytes_flying += run.sent_bytes;
        let link = Arc::clone(link);
        self.flying.spawn(async move {
            let answer: PushAnswer = link.exchange("push", body, PUSH_TIMEOUT).await?;
            let mark = answer.mark;
            Ok(Arrived { at, run, mark })
        });
        Ok(())
    }

    fn arrive(
        &mut self,
        link: &Link,
        arrived: Result<Result<Arrived, ServerError>, JoinError>,
    ) -> Result<(), ServerError> {
        let Arrived { at, run, mark } = arrived.map_err(broken)??;
        let own = &mut self.logs[at];
        if mark.seq.saturating_add(1) < run.end {
            return Err(ServerError::Fork(format!(
                "the gateway's mark of log {} did not move by a push",
                own.log
            )));
        }
        self.bytes_flying = self.bytes_flying.saturating_sub(run.sent_bytes);
        if own.mark.is_none_or(|before| before.seq < mark.seq) {
            own.mark = Some(mark);
            link.heed(&[(own.log, own.mark)]);
        }
        Ok(())
    }
}

fn broken(e: JoinError) -> ServerError {
    ServerError::Malformed(e.to_string())
}

fn check_ours(machine: &Machine, log: &LogId, mark: &Mark) -> Result<(), ServerError> {
    let fits = match machine.ledger.get(log, mark.seq) {
        Ok(ours) => ours.is_some_and(|receipt| receipt.seal_digest() == mark.seal),
        // It went from here because the gateway had it.
        Err(LedgerError::Pruned { .. }) => true,
        Err(e) => return Err(e.into()),
    };
    if fits {
        return Ok(());
    }
    Err(ServerError::Fork(format!(
        "the gateway has another record than this machine at seq {} of log {log}: a fork; both sides keep what they have",
        mark.seq
    )))
}

// A run as it travels, and the seq behind it.
fn read(machine: &Machine, log: LogId, first: u64) -> Result<(Vec<u8>, u64), ServerError> {
    let mut end = first;
    let (mut records, mut room): (Vec<Raw>, _) = (Vec::new(), RUN_BYTES_MAX);
    for receipt in machine.ledger.range(&log, first, u64::MAX) {
        let receipt = receipt?;
        let raw = raw_of(machine, &receipt)?;
        room = room.saturating_sub(raw.travels_as());
        end += 1;
        records.push(raw);
        if room == 0 || records.len() >= RUN_RECORDS_MAX {
            break;
        }
    }
    let process = machine.process;
    Ok((
        encode(&Push {
            process,
            log,
            records,
        }),
        end,
    ))
}
