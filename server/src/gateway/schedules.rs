//! Schedules at the gateway: which are due, with which input, and what a new definition meets.
//!
//! Owns the cache of next times. What fires is decided within the commit, by the state as it is there; here it is found out when to
//! look, and the input of a definition is read from its payload.

use crate::error::ServerError;
use crate::machine::Machine;
use ledger::clock::{Entropy, SystemEntropy};
use ledger::core::kinds::AnyDetail;
use ledger::core::{ReceiptId, Statement};
use ledger::{PayloadState, Ticket, Tx};
use ledger_projections::central::{Fired, fire};
use ledger_projections::queue::decide::names_its_payload;
use ledger_projections::schedules::{Input, Schedule, Timetable, check, check_removal};
use ledger_projections::{FleetState, Policy};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Schedules that one look goes through, one commit each; the next look goes on.
const LOOK_MAX: usize = 64;
/// Time after which a schedule that could not be decided is looked at again.
const AGAIN_AFTER: Duration = Duration::from_secs(10);
/// Steps of what was due before that a new definition waits for.
const BEFORE_MAX: usize = 64;

/// A schedule's input as it was read of one definition.
struct Read {
    defined: ReceiptId,
    input: Input,
}

impl Read {
    /// Reads the input of a schedule's present definition.
    fn of(machine: &Machine, row: &Schedule) -> Result<Self, ServerError> {
        let defined = row.defined;
        let at = &row.evidence;
        let receipt = machine.ledger.get(&at.log, at.seq)?;
        let input = match receipt.filter(|_| row.definition.job.input.is_some()) {
            None => Input::None,
            Some(receipt) => match machine.ledger.payload(&receipt)? {
                PayloadState::Present(payload) => {
                    let mut secret = [0; 32];
                    SystemEntropy.fill(&mut secret);
                    Input::Bytes {
                        bytes: payload.bytes,
                        secret,
                    }
                }
                PayloadState::None => Input::None,
                PayloadState::Erased | PayloadState::Absent | PayloadState::Damaged => Input::Erased,
            },
        };
        Ok(Self { defined, input })
    }
}

/// The schedules' next times, and those that could not be decided when they were due.
#[derive(Default)]
pub(crate) struct Due {
    timetable: Timetable,
    // Not looked at before.
    failed: BTreeMap<String, Instant>,
}

impl Due {
    /// Decides what is due of all schedules, and follows the state. One that fails is told, looked at again after
    /// [`AGAIN_AFTER`], and keeps no other waiting.
    pub(crate) async fn look(&mut self, machine: &Arc<Machine>) {
        let snapshot = machine.ledger.snapshot();
        self.timetable.follow(&snapshot.state);
        self.failed.retain(|_, until| *until > Instant::now());
        let due = self.timetable.due(machine.now_us()).into_iter();
        let due: Vec<String> = due.filter(|name| !self.failed.contains_key(name)).collect();
        // All are handed in before the first is awaited: one sync may do for many.
        let mut handed = Vec::new();
        for name in due.into_iter().take(LOOK_MAX) {
            if let Some(row) = snapshot.state.schedule(&name) {
                let ticket = hand_in(machine, &name, row);
                handed.push((name, ticket));
            }
        }
        for (name, ticket) in handed {
            let decided = match ticket {
                Ok(ticket) => ticket.await.map(drop).map_err(ServerError::from),
                Err(e) => Err(e),
            };
            if let Err(e) = decided {
                tracing::error!(schedule = %name, code = e.code(), error = %e, "a schedule could not be looked at");
                self.failed.insert(name, Instant::now() + AGAIN_AFTER);
            }
        }
        self.timetable.follow(&machine.ledger.snapshot().state);
    }

    /// How long until the next nominal time, at most `longest`.
    pub(crate) fn until_next(&self, machine: &Machine, longest: Duration) -> Duration {
        // What failed is due all the time.
        let next = self.timetable.next().filter(|_| self.failed.is_empty());
        let wait = next.map(|next| next.saturating_sub(machine.now_us()));
        let wait = wait.map(|us| Duration::from_micros(u64::try_from(us).unwrap_or(0)));
        wait.map_or(longest, |wait| wait.min(longest))
    }
}

// What is due of one schedule, decided in a commit of its own, if Central still decides when it comes to it.
fn hand_in(
    machine: &Arc<Machine>,
    name: &str,
    row: &Schedule,
) -> Result<Ticket<(), ServerError>, ServerError> {
    let read = Read::of(machine, row)?;
    let (name, policy, decider) = (name.to_owned(), machine.config.policy(), Arc::clone(machine));
    let decide = move |tx: &mut Tx<'_, FleetState>| -> Result<(), ServerError> {
        decider.central.demand_serving()?;
        fire(tx, &name, &read.defined, &read.input, &policy)?;
        Ok(())
    };
    Ok(machine.ledger.submit(decide))
}

/// A statement that defines or removes a schedule, and the input of the definition that it replaces.
pub(crate) struct About {
    detail: AnyDetail,
    name: String,
    read: Option<Read>,
}

impl About {
    /// Reads what a statement meets; `None` for one that is about no schedule.
    pub(crate) fn of(machine: &Machine, said: &Statement) -> Result<Option<Self>, ServerError> {
        let detail = said.any_detail().ok();
        let named = detail.and_then(|detail| match &detail {
            AnyDetail::ScheduleDefined(d) => Some((d.schedule.clone(), detail)),
            AnyDetail::ScheduleRemoved(d) => Some((d.schedule.clone(), detail)),
            _ => None,
        });
        let Some((name, detail)) = named else {
            return Ok(None);
        };
        let snapshot = machine.ledger.snapshot();
        let row = snapshot.state.schedule(&name);
        let read = row.map(|row| Read::of(machine, row)).transpose()?;
        Ok(Some(Self { detail, name, read }))
    }

    /// Within the commit, before the statement is sealed: it must be acceptable, and what was due of the definition that it replaces is
    /// decided first. One that was said before is neither.
    pub(crate) fn before(
        &self,
        tx: &mut Tx<'_, FleetState>,
        said: &Statement,
        policy: &Policy,
    ) -> Result<(), ServerError> {
        if tx.find(&said.author, &said.id)?.is_some() {
            return Ok(());
        }
        match &self.detail {
            AnyDetail::ScheduleDefined(d) => {
                check(tx.state(), d, tx.now_us())?;
                if !names_its_payload(&d.job, said) {
                    let why = "the input that the schedule names is not its payload";
                    return Err(ServerError::Malformed(why.into()));
                }
            }
            AnyDetail::ScheduleRemoved(d) => check_removal(tx.state(), &d.schedule, &d.reason)?,
            _ => {}
        }
        if tx.state().schedule(&self.name).is_none() {
            return Ok(());
        }
        for _ in 0..BEFORE_MAX {
            let read = self.read.as_ref().ok_or_else(changed)?;
            match fire(tx, &self.name, &read.defined, &read.input, policy)? {
                Fired::All => return Ok(()),
                Fired::More => {}
                Fired::Changed => break,
            }
        }
        Err(changed())
    }
}

fn changed() -> ServerError {
    ServerError::NotServing("the schedule is being changed or caught up with; try again".into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use ledger::core::kinds::{JobSpec, Misfire, Overlap, ScheduleDefined};
    use ledger::core::{Draft, MachineId, Subject};

    #[tokio::test]
    async fn a_look_that_is_overtaken_by_a_freeze_writes_nothing_more() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("home");
        crate::setup::init(&home, &MachineId::new("gateway").unwrap()).unwrap();
        let machine = Machine::open(&home, crate::Config::default()).unwrap();
        machine.central.begin_healing();
        machine.central.begin_deciding();
        let defined = ScheduleDefined {
            schedule: "nightly".into(),
            cron: "* * * * * *".into(),
            zone: "UTC".into(),
            overlap: Overlap::Allow,
            misfire: Misfire::Skip,
            job: JobSpec {
                handler: "tidy".into(),
                machine: None,
                labels: Vec::new(),
                priority: 0,
                attempts_max: 1,
                not_before: None,
                deadline: None,
                unique_key: None,
                concurrency_key: None,
                depends_on: Vec::new(),
                hold_on_failed_dependency: false,
                retry_of: None,
                input: None,
            },
            deadline_ms: None,
            project: None,
        };
        let draft = Draft::of(&defined, Subject::new("schedule").unwrap());
        let said = machine.sign_as_actor(draft).unwrap();
        machine.append(said).await.unwrap();
        let snapshot = machine.ledger.snapshot();
        let row = snapshot.state.schedule("nightly").unwrap();
        hand_in(&machine, "nightly", row).unwrap().await.unwrap();
        machine.central.freeze("studio has seen more".into());
        let late = hand_in(&machine, "nightly", row).unwrap().await;
        assert_eq!(ServerError::from(late.unwrap_err()).code(), "central.not-serving");
        machine.ledger.clone().close().unwrap();
    }
}
