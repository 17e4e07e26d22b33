//! What becomes of a schedule's nominal times, and which definitions are taken.
//!
//! Pure, inside the commit. [`plan`] says which of the times that are due are missed and which fire; [`tick`] decides one that fires
//! against the jobs as they stand then, so that two ticks in one commit see each other. The caller appends the drafts in their
//! order, and makes the request among them a job with [`crate::queue::decide::accept_request`].

use super::{
    CATCH_UP_MAX, Calendar, ON_TIME_US, OPEN_MAX, SCHEDULES_MAX, Schedule, ScheduleRefusal, is_name,
};
use crate::FleetState;
use crate::queue::Refusal;
use crate::queue::decide::{OrderDraft, cancel, check_bounds};
use ledger_core::digest::{commitment, derived_id, fold_digest};
use ledger_core::kinds::{
    InputRef, JobId, JobSpec, Misfire, Overlap, RequestReceived, ScheduleDefined, ScheduleFired,
    ScheduleMissed, ScheduleSkipped, TickSkipped,
};
use ledger_core::limits::{NAME_BYTES_MAX, NOTE_BYTES_MAX};
use ledger_core::{Draft, ReceiptId, Subject};

/// Nominal times that one look goes through beside those that may fire; the next look goes on.
const LOOK_MAX: usize = 1000;
/// Ticks that one look fires: each may carry an input of 64 KiB.
const TICKS_MAX: usize = 16;
/// The shortest deadline of a schedule's jobs, in milliseconds.
const DEADLINE_MS_MIN: u64 = 1000;
/// The media type of an input.
const INPUT_MEDIA: &str = "application/json";

/// Whether a definition is taken at `now`, microseconds since 1970.
///
/// # Errors
/// [`Refusal::Schedule`], or [`Refusal::Spec`] for a job that breaks a bound.
pub fn check(state: &FleetState, d: &ScheduleDefined, now: i64) -> Result<(), Refusal> {
    if !is_name(&d.schedule) {
        let found = d.schedule.chars().take(NAME_BYTES_MAX).collect();
        return Err(ScheduleRefusal::Name(found).into());
    }
    let calendar = Calendar::new(&d.cron, &d.zone)?;
    if calendar.next(now).is_none() {
        return Err(ScheduleRefusal::Never(d.cron.clone()).into());
    }
    let wrong = |field, why: String| Err(ScheduleRefusal::Policy { field, why }.into());
    if let Misfire::CatchUp(most) = d.misfire
        && !(1..=CATCH_UP_MAX).contains(&most)
    {
        return wrong(
            "misfire",
            format!("catching up with 1 to {CATCH_UP_MAX} times is expected, {most} found"),
        );
    }
    if d.deadline_ms.is_some_and(|ms| ms < DEADLINE_MS_MIN) {
        return wrong(
            "deadline_ms",
            format!("at least {DEADLINE_MS_MIN} ms after it fired are expected"),
        );
    }
    if d.project.as_deref().is_some_and(|name| !is_project(name)) {
        return wrong(
            "project",
            format!("a name of 1 to {NAME_BYTES_MAX} bytes without control characters is expected"),
        );
    }
    let job = &d.job;
    let timed = job.not_before.is_some() || job.deadline.is_some();
    if timed || !job.depends_on.is_empty() || job.retry_of.is_some() || job.hold_on_failed_dependency {
        return wrong(
            "job",
            "neither times, nor dependencies, nor a job to try again are expected: each tick sets its own"
                .into(),
        );
    }
    if matches!(d.overlap, Overlap::Queue | Overlap::Replace) && job.concurrency_key.is_some() {
        return wrong(
            "overlap",
            "queue and replace use the job's concurrency key themselves; leave that out, or choose allow or forbid"
                .into(),
        );
    }
    check_bounds(job)?;
    if state.schedule(&d.schedule).is_none() && state.schedules.rows.len() >= SCHEDULES_MAX {
        return Err(ScheduleRefusal::TooMany.into());
    }
    Ok(())
}

/// Whether a schedule may be removed.
///
/// # Errors
/// [`Refusal::Schedule`] for a name that no schedule has, [`Refusal::Spec`] for a reason of more than 200 bytes.
pub fn check_removal(state: &FleetState, schedule: &str, reason: &str) -> Result<(), Refusal> {
    if state.schedule(schedule).is_none() {
        let found = schedule.chars().take(NAME_BYTES_MAX).collect();
        return Err(ScheduleRefusal::Unknown(found).into());
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

pub(crate) fn is_project(name: &str) -> bool {
    !name.is_empty() && name.len() <= NAME_BYTES_MAX && !name.chars().any(char::is_control)
}

/// A nominal time that fires.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tick {
    /// When it should fire, microseconds since 1970.
    pub nominal: i64,
    /// Whether it is too late and fires all the same.
    pub misfired: bool,
}

/// What becomes of the times of a schedule that are due.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Plan {
    /// Those that are missed, all before the others.
    pub missed: Option<ScheduleMissed>,
    /// Those that fire, in their order.
    pub ticks: Vec<Tick>,
    /// Whether more are due than one look goes through.
    pub more: bool,
}

impl Plan {
    /// The draft of what is missed.
    pub fn missed_draft(&self, schedule: &Schedule) -> Option<OrderDraft> {
        let missed = self.missed.as_ref()?;
        let id = tick_id(&missed.schedule, missed.first);
        let draft = Draft::of(missed, subject(&missed.schedule)).cause(schedule.defined);
        Some(draft.id(id))
    }
}

/// What becomes of the nominal times that are due at `now`, microseconds since 1970. Several at once mean that nobody looked: of these the
/// last alone may be on time, and its misfire policy says how many fire.
pub fn plan(schedule: &Schedule, now: i64) -> Plan {
    let d = &schedule.definition;
    let Ok(calendar) = Calendar::new(&d.cron, &d.zone) else {
        return Plan::default();
    };
    let most = match d.misfire {
        Misfire::Skip | Misfire::RunOnce => 1,
        Misfire::CatchUp(most) => usize::from(most.clamp(1, CATCH_UP_MAX)),
    };
    let mut due = Vec::new();
    let mut at = schedule.decided_until;
    while due.len() <= LOOK_MAX + most {
        match calendar.next(at).filter(|next| *next <= now) {
            Some(next) => due.push(next),
            None => break,
        }
        at = due.last().copied().unwrap_or(at);
    }
    let cut = due.len() > LOOK_MAX + most;
    let on_time = |nominal: i64| now.saturating_sub(nominal) <= ON_TIME_US;
    let fire = match (cut, due.last(), d.misfire) {
        (true, ..) | (_, None, _) => 0,
        (_, Some(last), Misfire::Skip) if !on_time(*last) => 0,
        _ => most.min(due.len()),
    };
    // Of more than one look's, those that are surely not among the last stay for the next look.
    let missed = if cut { LOOK_MAX } else { due.len() - fire };
    let last = due.last().copied();
    let ticks = if cut { &[][..] } else { &due[missed..] };
    let more = cut || ticks.len() > TICKS_MAX;
    let ticks = ticks.iter().take(TICKS_MAX).map(|nominal| Tick {
        nominal: *nominal,
        misfired: Some(*nominal) != last || !on_time(*nominal),
    });
    let ticks = ticks.collect();
    let (count, missed) = (missed, due[..missed].first().zip(due[..missed].last()));
    Plan {
        missed: missed.map(|(first, last)| ScheduleMissed {
            schedule: d.schedule.clone(),
            first: *first,
            last: *last,
            count: u32::try_from(count).unwrap_or(u32::MAX),
            misfire: d.misfire,
        }),
        ticks,
        more,
    }
}

/// The input of a tick's job, as the caller read it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Input {
    /// The schedule has none.
    None,
    /// It was erased since, or this store has lost it.
    Erased,
    /// Its bytes.
    Bytes {
        /// JSON, as in the definition's payload.
        bytes: Vec<u8>,
        /// 32 random bytes; the salt of each request derives from them.
        secret: [u8; 32],
    },
}

/// Decides one nominal time that fires: `schedule.fired` with the request of its job, behind the cancellation of what it replaces, or
/// `schedule.skipped`. One that was decided before gives nothing. `now` is in microseconds since 1970.
///
/// # Errors
/// [`Refusal::Schedule`] for a name that no schedule has.
pub fn tick(
    state: &FleetState,
    schedule: &str,
    tick: Tick,
    input: &Input,
    now: i64,
) -> Result<Vec<OrderDraft>, Refusal> {
    let Some(row) = state.schedule(schedule) else {
        return Err(ScheduleRefusal::Unknown(schedule.to_owned()).into());
    };
    if tick.nominal <= row.decided_until {
        return Ok(Vec::new());
    }
    let open: Vec<JobId> = row.open(state.queue()).collect();
    let in_the_way = match row.definition.overlap {
        Overlap::Forbid if !open.is_empty() => Some((TickSkipped::Overlap, open.last().copied())),
        _ if open.len() >= OPEN_MAX => Some((TickSkipped::Backlog, open.first().copied())),
        _ if *input == Input::Erased => Some((TickSkipped::InputErased, None)),
        _ => None,
    };
    if let Some((reason, job)) = in_the_way {
        let skipped = ScheduleSkipped {
            schedule: schedule.to_owned(),
            nominal: tick.nominal,
            reason,
            job,
        };
        let draft = Draft::of(&skipped, subject(schedule)).cause(row.defined);
        return Ok(vec![draft.id(tick_id(schedule, tick.nominal))]);
    }
    let mut drafts = Vec::new();
    if row.definition.overlap == Overlap::Replace {
        for job in &open {
            drafts.extend(cancel(
                state,
                job,
                false,
                &format!("replaced by schedule {schedule}"),
            )?);
        }
    }
    drafts.extend(fire(state, row, tick, input, now));
    Ok(drafts)
}

/// What becomes of a tick that fired in the lost tail of an earlier epoch, and whose job is not known in the order that goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FiredBefore {
    /// The schedule in force decides that nominal time itself, and has not done so yet.
    Undecided,
    /// Its job is asked for again: nothing that fired since stands for it, or a machine was given it.
    AskedAgain,
    /// It is not: no schedule in force has that time, another tick fires for it, or it would run beside what its overlap forbids.
    PassedOver,
}

/// Decides about such a tick. `claimed`: a machine was given its job, so that it may be done; its result counts then.
pub fn fired_before(state: &FleetState, schedule: &str, nominal: i64, claimed: bool) -> FiredBefore {
    // A time that another definition had is never decided by the one in force.
    let row = state.schedule(schedule).filter(|row| row.has(nominal));
    if row.is_some_and(|row| nominal > row.decided_until) {
        return FiredBefore::Undecided;
    }
    // What is missed under the other policies has a later tick fire for it, and what was decided under an earlier definition may have;
    // of what forbids or replaces an earlier run, one of many that were missed would run beside the others.
    let stands_alone = |row: &Schedule| {
        nominal > row.defined_at
            && row.definition.misfire == Misfire::Skip
            && matches!(row.definition.overlap, Overlap::Allow | Overlap::Queue)
    };
    if claimed || row.is_some_and(stands_alone) {
        FiredBefore::AskedAgain
    } else {
        FiredBefore::PassedOver
    }
}

fn fire(state: &FleetState, row: &Schedule, tick: Tick, input: &Input, now: i64) -> [OrderDraft; 2] {
    let d = &row.definition;
    let (id, request) = (
        tick_id(&d.schedule, tick.nominal),
        request_id(&d.schedule, tick.nominal),
    );
    let fired = ScheduleFired {
        schedule: d.schedule.clone(),
        nominal: tick.nominal,
        job: JobId::of_request(&state.context().machine_key, &request),
        misfired: tick.misfired,
    };
    let own = subject(&d.schedule);
    let fired = Draft::of(&fired, own.clone()).cause(row.defined).id(id);
    let key = matches!(d.overlap, Overlap::Queue | Overlap::Replace).then(|| own.to_string());
    let until = d
        .deadline_ms
        .map(|ms| now.saturating_add(crate::queue::micros(ms)));
    let given = match input {
        Input::Bytes { bytes, secret } => {
            let salt = fold_digest(secret, &[b"salt of a tick", &tick.nominal.to_be_bytes()]);
            Some((bytes, salt))
        }
        Input::None | Input::Erased => None,
    };
    let spec = JobSpec {
        deadline: until,
        concurrency_key: key.or_else(|| d.job.concurrency_key.clone()),
        input: given.map(|(bytes, salt)| InputRef {
            commitment: commitment(&salt, bytes),
            bytes: u32::try_from(bytes.len()).unwrap_or(u32::MAX),
        }),
        ..d.job.clone()
    };
    let about = d
        .project
        .as_ref()
        .and_then(|name| Subject::new(&format!("project/{name}")).ok());
    let asked = Draft::of(&RequestReceived { spec }, about.unwrap_or(own));
    let asked = asked.cause(id).id(request);
    let asked = match given {
        Some((bytes, salt)) => {
            let said = asked.payload(INPUT_MEDIA, bytes.clone());
            said.expect("it fitted the definition").salt(salt)
        }
        None => asked,
    };
    [fired, asked]
}

/// The id of the receipt that decides a nominal time: the same whoever decides it again.
pub(crate) fn tick_id(schedule: &str, nominal: i64) -> ReceiptId {
    derived_id(&[b"schedule tick", schedule.as_bytes(), &nominal.to_be_bytes()])
}

fn request_id(schedule: &str, nominal: i64) -> ReceiptId {
    derived_id(&[b"schedule request", schedule.as_bytes(), &nominal.to_be_bytes()])
}

fn subject(schedule: &str) -> Subject {
    Subject::new(&format!("schedule/{schedule}")).expect("a schedule's name is short and printable")
}
