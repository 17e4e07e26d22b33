//! How the machines are: what the order knows, and the newest gauges beside it.
//!
//! Owns the states of a machine as a table ([`STATES`]), and what keeps work from one. Whether a machine is lost, asleep,
//! draining or quarantined comes from the order. Gauges come from pulses, which no decision depends on; the caller keeps the
//! latest and hands them in, and only `late` is told from them.

use crate::FleetState;
use crate::members::{Machine, MachineStatus};
use crate::notices::queued_for;
use crate::queue::Refusal;
use crate::uptime::Held;
use ledger_core::kinds::{AnyDetail, CheckKind, JobId, NodePulse3, RestReason, Role, ServiceState};
use ledger_core::limits::NOTE_BYTES_MAX;
use ledger_core::{MachineId, text};
use serde::Serialize;

/// How a machine is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum HealthState {
    /// The root took it out of the fleet.
    Retired,
    /// Not trusted with work.
    Quarantined,
    /// Away by its own word.
    Asleep,
    /// Not heard for too long.
    Offline,
    /// Gets no further work by the operator's wish.
    Draining,
    /// A heartbeat is missing.
    Late,
    /// Heard.
    Online,
}

/// What may be so of a machine; several may be at once.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Sign {
    /// `node.retired` stands.
    Retired,
    /// `node.quarantined` stands.
    Quarantined,
    /// `node.asleep` stands.
    Asleep,
    /// `node.lost` stands.
    Lost,
    /// `node.draining` stands.
    Draining,
    /// Its last sign of life is older than [`late_after_us`].
    Silent,
}

/// One row of the table of states.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StateRow {
    /// The state.
    pub state: HealthState,
    /// Its stable word.
    pub name: &'static str,
    /// It is in this state when this sign stands; the last row needs none.
    pub when: Option<Sign>,
    /// What the sign is, in words.
    pub because: &'static str,
    /// Whether a claim of it is answered with work.
    pub gets_work: bool,
    /// As what the time counts in its uptime.
    pub counts_as: &'static str,
    /// How it ends.
    pub ends: &'static str,
}

/// The states of a machine: the first row whose sign stands is its state.
pub const STATES: &[StateRow] = &[
    StateRow {
        state: HealthState::Retired,
        name: "retired",
        when: Some(Sign::Retired),
        because: "`node.retired`, signed by the root",
        gets_work: false,
        counts_as: "nothing",
        ends: "an invitation by its name, used",
    },
    StateRow {
        state: HealthState::Quarantined,
        name: "quarantined",
        when: Some(Sign::Quarantined),
        because: "`node.quarantined`: it is not trusted until somebody has looked",
        gets_work: false,
        counts_as: "as heard or not",
        ends: "`nodes resume`",
    },
    StateRow {
        state: HealthState::Asleep,
        name: "asleep",
        when: Some(Sign::Asleep),
        because: "`node.asleep`: it said that it sleeps or stops",
        gets_work: true,
        counts_as: "asleep, which is no outage",
        ends: "`node.awake` or `node.back`",
    },
    StateRow {
        state: HealthState::Offline,
        name: "offline",
        when: Some(Sign::Lost),
        because: "`node.lost`: four heartbeats are missing, and it had said nothing",
        gets_work: true,
        counts_as: "outage",
        ends: "`node.back`",
    },
    StateRow {
        state: HealthState::Draining,
        name: "draining",
        when: Some(Sign::Draining),
        because: "`node.draining`: the operator wants it to finish what it has",
        gets_work: false,
        counts_as: "up",
        ends: "`nodes resume`",
    },
    StateRow {
        state: HealthState::Late,
        name: "late",
        when: Some(Sign::Silent),
        because: "nothing was heard of it for half the time after which it is lost",
        gets_work: true,
        counts_as: "up, until `node.lost` says otherwise",
        ends: "a sign of life, or `node.lost`",
    },
    StateRow {
        state: HealthState::Online,
        name: "online",
        when: None,
        because: "it is heard",
        gets_work: true,
        counts_as: "up",
        ends: "any of the above",
    },
];

impl HealthState {
    /// The state in which a machine is when these signs stand.
    pub fn of(stands: impl Fn(Sign) -> bool) -> Self {
        let row = STATES.iter().find(|row| row.when.is_none_or(&stands));
        row.map_or(Self::Online, |row| row.state)
    }

    /// Its row in the table.
    pub fn row(self) -> &'static StateRow {
        STATES
            .iter()
            .find(|row| row.state == self)
            .expect("every state has a row, a test shows it")
    }

    /// Its stable word.
    pub fn as_str(self) -> &'static str {
        self.row().name
    }
}

/// The table as a document shows it.
pub fn markdown() -> String {
    let mut lines = vec![
        "| state | when, the first that is so | gets work | its time counts as | ends by |".to_owned(),
        "|---|---|---|---|---|".to_owned(),
    ];
    lines.extend(STATES.iter().map(|row| {
        format!(
            "| {} | {} | {} | {} | {} |",
            row.name,
            row.because,
            if row.gets_work { "yes" } else { "no" },
            row.counts_as,
            row.ends
        )
    }));
    lines.join("\n") + "\n"
}

/// After how much silence a machine is late, when it is lost after `lost_after_ms` milliseconds: half of that.
pub fn late_after_us(lost_after_ms: u64) -> i64 {
    i64::try_from(lost_after_ms.saturating_mul(500)).unwrap_or(i64::MAX)
}

/// The latest pulse of a machine.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Gauges {
    /// What it said.
    pub pulse: NodePulse3,
    /// When it was heard here, microseconds since 1970.
    pub heard_at: i64,
}

/// One machine as a person wants to see it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct NodeView {
    /// Its name.
    pub machine: MachineId,
    /// What it is.
    pub role: Role,
    /// Whether it writes the order now.
    pub central: bool,
    /// How it is.
    pub state: HealthState,
    /// Since when, microseconds since 1970; for one that is offline or late when it was last heard.
    pub since: i64,
    /// Why it gets no work, or went to sleep.
    pub reason: Option<String>,
    /// Whether it gets no further work, whatever its state.
    pub held_back: bool,
    /// Microseconds since it was last heard, as of now; `None` when only the order speaks.
    pub silent_us: Option<i64>,
    /// The jobs that it holds a claim for.
    pub jobs: Vec<JobId>,
    /// How many ready jobs wait for it alone.
    pub queued: usize,
    /// The handlers that it declares.
    pub handlers: Vec<String>,
    /// Its latest gauges.
    pub gauges: Option<Gauges>,
}

/// All machines by name. `now` is in microseconds since 1970, `late_after` the silence in microseconds from which on a machine
/// that is heard of by its gauges is late.
pub fn nodes(
    state: &FleetState,
    now: i64,
    late_after: i64,
    gauges: impl Fn(&MachineId) -> Option<Gauges>,
) -> Vec<NodeView> {
    state
        .machines()
        .map(|machine| node(state, machine, now, late_after, gauges(&machine.id)))
        .collect()
}

fn node(
    state: &FleetState,
    machine: &Machine,
    now: i64,
    late_after: i64,
    gauges: Option<Gauges>,
) -> NodeView {
    let presence = state.presence();
    let watched = presence.of(&machine.id);
    let draining = watched.and_then(|row| row.draining.as_ref());
    let quarantined = watched.and_then(|row| row.quarantined.as_ref());
    let asleep = presence.asleep(&machine.id);
    let silent_us = match (&gauges, machine.status) {
        (Some(gauges), _) => Some(now.saturating_sub(gauges.heard_at).max(0)),
        (None, MachineStatus::Lost { last_heard }) => Some(now.saturating_sub(last_heard).max(0)),
        (None, MachineStatus::Online { .. }) => None,
    };
    let health = HealthState::of(|sign| match sign {
        Sign::Retired => machine.retired,
        Sign::Quarantined => quarantined.is_some(),
        Sign::Asleep => asleep.is_some(),
        Sign::Lost => matches!(machine.status, MachineStatus::Lost { .. }),
        Sign::Draining => draining.is_some(),
        Sign::Silent => silent_us.is_some_and(|silent| silent >= late_after),
    });
    let heard_since = match machine.status {
        MachineStatus::Online { since } => since,
        MachineStatus::Lost { last_heard } => last_heard,
    };
    let since = |held: Option<&Held>| held.map(|held| held.since);
    let reason = |held: Option<&Held>| held.map(|held| held.reason.clone());
    let (since, reason) = match health {
        HealthState::Retired => (presence.retired(&machine.id).map(|span| span.from), None),
        HealthState::Quarantined => (since(quarantined), reason(quarantined)),
        HealthState::Draining => (since(draining), reason(draining)),
        HealthState::Asleep => (
            asleep.map(|span| span.from),
            asleep.map(|span| span.cause.as_str().to_owned()),
        ),
        HealthState::Late => (gauges.as_ref().map(|gauges| gauges.heard_at), None),
        HealthState::Offline | HealthState::Online => (None, None),
    };
    let handlers = state
        .handlers()
        .filter(|((of, _), _)| *of == machine.id)
        .map(|((_, name), _)| name.clone());
    NodeView {
        machine: machine.id.clone(),
        role: machine.role,
        central: state.central() == Some(&machine.id),
        state: health,
        since: since.unwrap_or(heard_since),
        reason,
        held_back: held_back(state, &machine.id).is_some(),
        silent_us,
        jobs: state.jobs_on(&machine.id).map(|job| job.id).collect(),
        queued: queued_for(state, &machine.id),
        handlers: handlers.collect(),
        gauges,
    }
}

/// Why a machine gets no further work: quarantined, or draining. What it runs goes on.
pub fn held_back<'a>(state: &'a FleetState, machine: &MachineId) -> Option<&'a Held> {
    let row = state.watched(machine)?;
    row.quarantined.as_ref().or(row.draining.as_ref())
}

/// Whether a wish to drain, quarantine or resume a machine may stand.
///
/// # Errors
/// [`Refusal::MachineUnknown`], [`Refusal::MachineRetired`], or [`Refusal::Spec`] for a reason of more than 200 bytes.
pub fn check_wish(state: &FleetState, machine: &MachineId, reason: &str) -> Result<(), Refusal> {
    match state.machine(machine) {
        None => return Err(Refusal::MachineUnknown(machine.clone())),
        Some(row) if row.retired => return Err(Refusal::MachineRetired(machine.clone())),
        Some(_) => {}
    }
    if reason.len() > NOTE_BYTES_MAX {
        let why = format!(
            "at most {NOTE_BYTES_MAX} bytes are expected, {} found",
            reason.len()
        );
        return Err(Refusal::Spec { field: "reason", why });
    }
    Ok(())
}

/// What a receipt of this family says, in a line; nothing for any other.
pub(crate) fn summary(detail: &AnyDetail) -> String {
    let because = |reason: &str| match reason {
        "" => String::new(),
        reason => format!(": {}", text::shown(reason)),
    };
    match detail {
        AnyDetail::CentralAbsent(d) => format!(
            "nobody watched for {} s",
            d.until.saturating_sub(d.from) / 1_000_000
        ),
        AnyDetail::NodeDraining(d) => format!("{} drains{}", d.machine, because(&d.reason)),
        AnyDetail::NodeQuarantined(d) => format!("{} is quarantined{}", d.machine, because(&d.reason)),
        AnyDetail::NodeResumed(d) => format!("{} gets work again{}", d.machine, because(&d.reason)),
        AnyDetail::NodeAsleep(d) => format!("{} {}", d.machine, rest(d.reason)),
        AnyDetail::NodeAwake(d) if d.boot.is_some() => format!("{} started", d.machine),
        AnyDetail::NodeAwake(d) => format!("{} woke after {} s", d.machine, d.slept_ms / 1000),
        AnyDetail::NodeSleeping(d) => format!("this machine {}", rest(d.reason)),
        AnyDetail::NodeWaking(d) => format!("awake after {} s", d.slept_ms / 1000),
        AnyDetail::NodeServiceState(d) => format!(
            "{} ({}) is {}{}",
            d.service,
            check_name(d.check),
            service_name(d.state),
            because(&d.note)
        ),
        _ => String::new(),
    }
}

fn rest(reason: RestReason) -> &'static str {
    match reason {
        RestReason::Sleep => "goes to sleep",
        RestReason::Stop => "stops",
    }
}

/// The stable word of a way to look at a thing beside a machine.
pub fn check_name(check: CheckKind) -> &'static str {
    match check {
        CheckKind::Tcp => "tcp",
        CheckKind::Http => "http",
        CheckKind::Command => "command",
    }
}

/// The stable word of the state of a thing beside a machine.
pub fn service_name(state: ServiceState) -> &'static str {
    match state {
        ServiceState::Unknown => "unknown",
        ServiceState::Up => "up",
        ServiceState::Down => "down",
    }
}
