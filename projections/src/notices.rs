//! Notices: what a person should know, raised once, and who has been told; and the machines' silence that leads to them.
//!
//! A notice's id derives from its cause, so that raising it twice is raising it once. Delivery is at least once: the
//! server tells a sink and writes `notice.delivered` or `notice.undelivered`.

use crate::FleetState;
use crate::members::MachineStatus;
use crate::queue::{Phase, Policy};
use crate::table::Table;
use ledger::Changes;
use ledger_core::digest::derived_id;
use ledger_core::kinds::{NodeBack, NodeLost, NoticeRaised, NoticeTopic};
use ledger_core::limits::NOTE_BYTES_MAX;
use ledger_core::{Draft, MachineId, ReceiptId, Subject};
use serde::{Deserialize, Serialize};

/// A sink and what came of telling it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Delivery {
    /// The sink.
    pub destination: String,
    /// How often it was tried.
    pub attempts: u16,
    /// Whether it took it.
    pub delivered: bool,
}

/// A notice that was raised.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Notice {
    /// About what.
    pub topic: NoticeTopic,
    /// The machine, when it is about one.
    pub machine: Option<MachineId>,
    /// The sentence.
    pub text: String,
    /// When, microseconds since 1970.
    pub raised_at: i64,
    /// Who was told.
    pub deliveries: Vec<Delivery>,
}

/// Sinks that one notice keeps track of; more are a fault of the configuration.
const DELIVERIES_MAX: usize = 16;

/// The table of notices.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Notices {
    pub(crate) notices: Table<ReceiptId, Notice>,
}

impl Notices {
    /// Takes a notice in; `false` when its id stands already.
    pub(crate) fn raised(&mut self, id: ReceiptId, d: NoticeRaised, at: i64, changes: &mut Changes) -> bool {
        if self.notices.get(&id).is_some() {
            return false;
        }
        let NoticeRaised { topic, machine, text } = d;
        self.notices.set(
            id,
            Notice {
                topic,
                machine,
                text,
                raised_at: at,
                deliveries: Vec::new(),
            },
            changes,
        );
        true
    }

    pub(crate) fn told(
        &mut self,
        notice: &ReceiptId,
        destination: &str,
        attempt: u16,
        delivered: bool,
        changes: &mut Changes,
    ) -> bool {
        let Some(mut row) = self.notices.get(notice).cloned() else {
            return false;
        };
        let full = row.deliveries.len() >= DELIVERIES_MAX;
        match row
            .deliveries
            .iter_mut()
            .find(|delivery| delivery.destination == destination)
        {
            Some(delivery) => {
                delivery.attempts = delivery.attempts.max(attempt);
                delivery.delivered |= delivered;
            }
            None if !full => {
                let destination = destination.to_owned();
                row.deliveries.push(Delivery {
                    destination,
                    attempts: attempt,
                    delivered,
                });
            }
            None => return false,
        }
        self.notices.set(*notice, row, changes);
        true
    }
}

/// Raises a notice whose id derives from `key`; nothing when it was raised before. Longer texts are cut to 200 bytes.
pub fn raise(
    state: &FleetState,
    topic: NoticeTopic,
    machine: Option<&MachineId>,
    text: &str,
    key: &[&[u8]],
) -> Vec<Draft> {
    let name = format!("{topic:?}");
    let mut parts: Vec<&[u8]> = vec![b"notice", name.as_bytes()];
    parts.extend_from_slice(key);
    let id = derived_id(&parts);
    if state.notices.notices.get(&id).is_some() {
        return Vec::new();
    }
    let end = (0..=NOTE_BYTES_MAX.min(text.len()))
        .rev()
        .find(|end| text.is_char_boundary(*end))
        .unwrap_or(0);
    let raised = NoticeRaised {
        topic,
        machine: machine.cloned(),
        text: text[..end].to_owned(),
    };
    let subject = machine.map_or_else(|| "notice".to_owned(), |machine| format!("node/{machine}"));
    vec![Draft::of(&raised, Subject::new(&subject).expect("short and printable")).id(id)]
}

/// A machine is silent for too long: `node.lost`, unless it is lost, retired or unknown already. `last_heard` is in
/// microseconds since 1970.
pub fn node_lost(state: &FleetState, machine: &MachineId, last_heard: i64) -> Vec<Draft> {
    match state.machine(machine) {
        Some(row) if row.is_online() => {
            let lost = NodeLost {
                machine: machine.clone(),
                last_heard,
            };
            vec![Draft::of(&lost, node_subject(machine))]
        }
        _ => Vec::new(),
    }
}

/// A machine is heard again: `node.back`, if it was lost. `first_heard` is in microseconds since 1970.
pub fn node_back(state: &FleetState, machine: &MachineId, first_heard: i64) -> Vec<Draft> {
    match state.machine(machine) {
        Some(row) if !row.retired && matches!(row.status, MachineStatus::Lost { .. }) => {
            let back = NodeBack {
                machine: machine.clone(),
                first_heard,
            };
            vec![Draft::of(&back, node_subject(machine))]
        }
        _ => Vec::new(),
    }
}

fn node_subject(machine: &MachineId) -> Subject {
    Subject::new(&format!("node/{machine}")).expect("short and printable")
}

/// The notices about machines whose time has come at `now`, microseconds since 1970: offline once for each outage after
/// `notify_after` of silence, back only after that and a stable return.
pub fn notices_due(state: &FleetState, now: i64, policy: &Policy) -> Vec<Draft> {
    use crate::queue::micros;
    let mut drafts = Vec::new();
    for machine in state.machines().filter(|machine| !machine.retired) {
        match machine.status {
            MachineStatus::Lost { last_heard }
                if !machine.offline_notice
                    && now.saturating_sub(last_heard) >= micros(policy.notify_after_ms) =>
            {
                let text = offline_text(state, &machine.id, last_heard);
                let key: [&[u8]; 2] = [machine.id.as_str().as_bytes(), &last_heard.to_be_bytes()];
                drafts.extend(raise(
                    state,
                    NoticeTopic::NodeOffline,
                    Some(&machine.id),
                    &text,
                    &key,
                ));
            }
            MachineStatus::Online { since }
                if machine.offline_notice && now.saturating_sub(since) >= micros(policy.stable_after_ms) =>
            {
                let text = format!("{} back online since {}", machine.id, clock_text(since));
                let key: [&[u8]; 2] = [machine.id.as_str().as_bytes(), &since.to_be_bytes()];
                drafts.extend(raise(
                    state,
                    NoticeTopic::NodeOnline,
                    Some(&machine.id),
                    &text,
                    &key,
                ));
            }
            _ => {}
        }
    }
    drafts
}

fn offline_text(state: &FleetState, machine: &MachineId, last_heard: i64) -> String {
    let waiting = queued_for(state, machine);
    let held = state.jobs_on(machine).count();
    let jobs = |count: usize| crate::queue::counted(u64::try_from(count).unwrap_or(u64::MAX), "job");
    let mut text = format!(
        "{machine} offline since {}, {} queued",
        clock_text(last_heard),
        jobs(waiting)
    );
    if held > 0 {
        text.push_str(&format!(", {} on it unknown", jobs(held)));
    }
    text
}

/// How many ready jobs wait for a machine, alone or among others that are not heard either.
pub(crate) fn queued_for(state: &FleetState, machine: &MachineId) -> usize {
    use crate::queue::decide::candidates;
    let online = |id: &MachineId| state.machine(id).is_some_and(crate::members::Machine::is_online);
    state
        .jobs_in(Phase::Ready)
        .filter(|job| {
            let who = candidates(state, job);
            who.contains(machine) && !who.iter().any(|other| other != machine && online(other))
        })
        .count()
}

/// Hours and minutes of a time in microseconds since 1970, in UTC.
pub(crate) fn clock_text(micros: i64) -> String {
    let minutes = micros.div_euclid(60_000_000).rem_euclid(24 * 60);
    format!("{:02}:{:02} UTC", minutes / 60, minutes % 60)
}
