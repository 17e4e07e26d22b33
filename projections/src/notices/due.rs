//! What a person is to be told of machines, and when: silence, return, flapping, quarantine, and what heartbeats show.
//!
//! Pure: the caller names the time, since when somebody watches, and what it heard. Silence in which nobody watched is nobody's, so
//! that every machine has its full time after a restart of the gateway.

use super::{Brought, Notice, clock_text, raise};
use crate::FleetState;
use crate::fleet::micros_of;
use crate::health::check_name;
use crate::members::{Machine, MachineStatus};
use crate::queue::{Phase, Policy, counted, micros};
use crate::uptime::{Span, SpanKind};
use ledger::Receipt;
use ledger_core::kinds::{AnyDetail, NoticeTopic, ServiceState};
use ledger_core::text::shown;
use ledger_core::{Draft, MachineId};

/// The time, and since when somebody watches; both in microseconds since 1970.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Watch {
    /// Now.
    pub now: i64,
    /// Since when Central has watched without a pause.
    pub since: i64,
}

/// What a machine's heartbeats and hellos show, and a person should know while it is so.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Condition {
    /// Its disk is down to the reserve.
    DiskReserve {
        /// Bytes that are free.
        free: u64,
        /// Bytes that are to stay free.
        reserve: u64,
    },
    /// Its outbox grows although it is heard.
    OutboxGrows {
        /// Receipts in it.
        receipts: u64,
        /// Since when it has not become less, microseconds since 1970.
        since: i64,
    },
}

/// A condition of a machine that stands now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Standing {
    /// The machine.
    pub machine: MachineId,
    /// What is so.
    pub condition: Condition,
}

/// The notices about machines whose time has come: offline once for each outage after `notify_after` of silence that somebody
/// watched and the machine did not announce; back only after that and a stable return; one for a machine that flaps, in place
/// of both; one for each quarantine.
pub fn notices_due(state: &FleetState, watch: &Watch, policy: &Policy) -> Vec<Draft> {
    let due = |machine: &Machine| {
        let id = &machine.id;
        let quarantine = state.watched(id).and_then(|row| row.quarantined.as_ref());
        let quarantine = quarantine.into_iter().flat_map(|held| {
            let because = if held.reason.is_empty() {
                String::new()
            } else {
                format!(": {}", held.reason)
            };
            let text = format!("{id} is quarantined{because}");
            let key: [&[u8]; 2] = [id.as_str().as_bytes(), &held.since.to_be_bytes()];
            raise(state, NoticeTopic::NodeQuarantined, Some(id), &text, &key)
        });
        let mut drafts: Vec<Draft> = quarantine.collect();
        drafts.extend(presence_due(state, machine, watch, policy));
        drafts
    };
    let machines = state.machines().filter(|machine| !machine.retired);
    machines.flat_map(due).collect()
}

fn presence_due(state: &FleetState, machine: &Machine, watch: &Watch, policy: &Policy) -> Vec<Draft> {
    let (id, now) = (&machine.id, watch.now);
    let told = state.notices.offline(id);
    let (topic, text, at) = match (machine.status, told) {
        (MachineStatus::Lost { last_heard }, None) => {
            let silent_since = last_heard.max(watch.since);
            let announced = state.presence().asleep(id).is_some();
            if announced || now.saturating_sub(silent_since) < micros(policy.notify_after_ms) {
                return Vec::new();
            }
            let text = offline_text(state, id, last_heard);
            (NoticeTopic::NodeOffline, text, last_heard)
        }
        (MachineStatus::Online { since }, Some(brought)) => {
            if now.saturating_sub(since) < micros(policy.stable_after_ms) {
                return Vec::new();
            }
            (NoticeTopic::NodeOnline, online_text(id, since, brought), since)
        }
        _ => return flapping(state, id, now, policy),
    };
    if outages_within(state, id, now, policy).count() >= usize::from(policy.flaps) {
        return flapping(state, id, now, policy);
    }
    let key: [&[u8]; 2] = [id.as_str().as_bytes(), &at.to_be_bytes()];
    raise(state, topic, Some(id), &text, &key)
}

// Newest first.
fn outages_within<'a>(
    state: &'a FleetState,
    machine: &MachineId,
    now: i64,
    policy: &Policy,
) -> impl Iterator<Item = &'a Span> {
    let begin = now.saturating_sub(micros(policy.flap_window_ms));
    let spans = state.presence().spans_of(machine).rev();
    spans
        .take_while(move |span| span.from >= begin)
        .filter(|span| span.kind == SpanKind::Outage)
}

fn flapping(state: &FleetState, machine: &MachineId, now: i64, policy: &Policy) -> Vec<Draft> {
    let outages: Vec<&Span> = outages_within(state, machine, now, policy).collect();
    let Some(first) = outages
        .last()
        .filter(|_| outages.len() >= usize::from(policy.flaps))
    else {
        return Vec::new();
    };
    let text = format!(
        "{machine} flaps: {} since {}; no more is told of each until it is steady",
        counted(u64::try_from(outages.len()).unwrap_or(u64::MAX), "outage"),
        clock_text(first.from)
    );
    once_in(
        state,
        NoticeTopic::NodeFlapping,
        machine,
        &text,
        now,
        policy.flap_window_ms,
    )
}

/// The notices that a receipt of a machine's facts leads to: a verification that found something, a thing beside it that is down.
/// After a start every thing is looked at anew; one that was told to be down within `repeat_after` is not told again for that.
pub fn told_by(state: &FleetState, receipt: &Receipt, machine: &MachineId, policy: &Policy) -> Vec<Draft> {
    let key: [&[u8]; 2] = [machine.as_str().as_bytes(), &receipt.id().0];
    match receipt.statement().any_detail() {
        Ok(AnyDetail::VerifyCompleted(done)) if done.findings > 0 => {
            let text = format!(
                "verification of {machine} found {}; run `ledger verify` there",
                counted(done.findings, "fault")
            );
            raise(state, NoticeTopic::VerifyFailed, Some(machine), &text, &key)
        }
        Ok(AnyDetail::NodeServiceState(d)) if d.state == ServiceState::Down => {
            let begin = format!("{} on {machine} is down", shown(&d.service));
            let at = micros_of(receipt);
            let told = |notice: &Notice| {
                notice.topic == NoticeTopic::ServiceDown
                    && at.saturating_sub(notice.raised_at) < micros(policy.repeat_after_ms)
                    && notice.text.starts_with(&begin)
            };
            let recent = |at_before: i64| at.saturating_sub(at_before) < micros(policy.repeat_after_ms);
            let latest = state.notices.latest(machine, NoticeTopic::ServiceDown);
            if d.before == ServiceState::Unknown
                && latest.is_some_and(recent)
                && state.notices().any(|(_, notice)| told(notice))
            {
                return Vec::new();
            }
            let text = format!("{begin} ({}): {}", check_name(d.check), shown(&d.note));
            raise(state, NoticeTopic::ServiceDown, Some(machine), &text, &key)
        }
        _ => Vec::new(),
    }
}

/// The notices about what stands of machines now: each once, and once more when it still stands, or stands again, after
/// `repeat_after`. `now` is in microseconds since 1970.
pub fn conditions_due(state: &FleetState, standing: &[Standing], now: i64, policy: &Policy) -> Vec<Draft> {
    let waited_for = |of: &&Standing| state.machine(&of.machine).is_some_and(|row| !row.retired);
    let due = |Standing { machine, condition }: &Standing| {
        let (topic, text) = match *condition {
            Condition::DiskReserve { free, reserve } => (
                NoticeTopic::DiskReserve,
                format!(
                    "{machine} has {} free, {} are to stay free: it takes no new work until there is room",
                    mebibytes(free),
                    mebibytes(reserve)
                ),
            ),
            Condition::OutboxGrows { receipts, since } => (
                NoticeTopic::OutboxGrows,
                format!(
                    "{machine} is heard, but since {} its outbox has not become less: {} are not here",
                    clock_text(since),
                    counted(receipts, "receipt")
                ),
            ),
        };
        once_in(state, topic, machine, &text, now, policy.repeat_after_ms)
    };
    standing.iter().filter(waited_for).flat_map(due).collect()
}

// The one before is the cause of the next: the same state gives the same id.
fn once_in(
    state: &FleetState,
    topic: NoticeTopic,
    machine: &MachineId,
    text: &str,
    now: i64,
    window_ms: u64,
) -> Vec<Draft> {
    let before = state.notices.latest(machine, topic);
    if before.is_some_and(|before| now.saturating_sub(before) < micros(window_ms)) {
        return Vec::new();
    }
    let key: [&[u8]; 2] = [machine.as_str().as_bytes(), &before.unwrap_or(0).to_be_bytes()];
    raise(state, topic, Some(machine), text, &key)
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

fn online_text(machine: &MachineId, since: i64, brought: &Brought) -> String {
    let mut text = format!("{machine} back online since {}", clock_text(since));
    if brought.receipts > 0 {
        text.push_str(&format!(
            ", brought {} and {}",
            counted(brought.receipts, "receipt"),
            counted(brought.results, "result")
        ));
    }
    text
}

fn offline_text(state: &FleetState, machine: &MachineId, last_heard: i64) -> String {
    let waiting = queued_for(state, machine);
    let held = state.jobs_on(machine).count();
    let jobs = |count: usize| counted(u64::try_from(count).unwrap_or(u64::MAX), "job");
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
pub fn queued_for(state: &FleetState, machine: &MachineId) -> usize {
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
