//! The one filter over receipts for CLI, HTTP and page, and how a receipt reads as a line.
//!
//! Who, on which machine, said what about what, with which outputs. Names come from the state; a payload is never read.

use crate::FleetState;
use crate::fleet::micros_of;
use crate::members::matches as pattern_matches;
use crate::queue::counted;
use ledger::Receipt;
use ledger_core::kinds::{
    AnyDetail, Credential, JobId, LateVerdict, LimitScope, NodePulse3, RequeueReason, SuccessVerdict, Verdict,
};
use ledger_core::text::shown;
use ledger_core::{Grade, Hlc, MachineId, Stream};
use serde::Serialize;

/// One end of a span.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bound {
    /// A time in microseconds since 1970, compared with the seal's.
    Time(i64),
    /// A seq, compared with the receipt's own in its log.
    Seq(u64),
}

/// Which receipts are wanted; what is absent or empty does not restrict.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Filter {
    /// From here on, included.
    pub since: Option<Bound>,
    /// Up to here, excluded for a time, included for a seq.
    pub until: Option<Bound>,
    /// Kinds, each a name or a beginning followed by `*`; one must match.
    pub kinds: Vec<String>,
    /// The author's name as [`FleetState::name_of`] gives it, or at least eight characters of the key in hex.
    pub actor: Option<String>,
    /// The machine whose log it is.
    pub machine: Option<MachineId>,
    /// The beginning of the subject.
    pub subject: Option<String>,
    /// How many at most; the caller counts.
    pub limit: Option<usize>,
}

/// Hex characters of a key that name it well enough for a person.
const KEY_PREFIX_MIN: usize = 8;

impl Filter {
    /// Whether a receipt is wanted.
    pub fn matches(&self, receipt: &Receipt, state: &FleetState) -> bool {
        let statement = receipt.statement();
        let after = self.since.is_none_or(|since| match since {
            Bound::Time(time) => micros_of(receipt) >= time,
            Bound::Seq(seq) => receipt.seq() >= seq,
        });
        let before = self.until.is_none_or(|until| match until {
            Bound::Time(time) => micros_of(receipt) < time,
            Bound::Seq(seq) => receipt.seq() <= seq,
        });
        after
            && before
            && (self.kinds.is_empty()
                || self
                    .kinds
                    .iter()
                    .any(|kind| pattern_matches(kind, statement.kind.as_str())))
            && self
                .subject
                .as_ref()
                .is_none_or(|prefix| statement.subject.as_str().starts_with(prefix.as_str()))
            && self
                .machine
                .as_ref()
                .is_none_or(|machine| machine_of(receipt, state).as_deref() == Some(machine.as_str()))
            && self.actor.as_ref().is_none_or(|actor| {
                state.name_of(&statement.author) == *actor
                    || (actor.len() >= KEY_PREFIX_MIN
                        && statement.author.to_hex().starts_with(actor.as_str()))
            })
    }
}

/// The machine whose log a receipt stands in, as the log's genesis names it.
pub fn machine_of(receipt: &Receipt, state: &FleetState) -> Option<String> {
    state.log(&receipt.log()).map(|log| log.machine.to_string())
}

/// The order in which logs are merged for a person's eyes: hybrid clock, machine, stream, seq. A convention, no evidence.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct MergeKey(Hlc, String, Stream, u64);

/// Where a receipt stands in the merged order.
pub fn merge_key(receipt: &Receipt, state: &FleetState) -> MergeKey {
    let (machine, stream) = match state.log(&receipt.log()) {
        Some(log) => (log.machine.to_string(), log.stream),
        None => (receipt.log().to_hex(), Stream::Order),
    };
    MergeKey(receipt.time(), machine, stream, receipt.seq())
}

/// A receipt as a line.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Line {
    /// When its log sealed it, microseconds since 1970.
    pub time: i64,
    /// The machine whose log it is.
    pub machine: String,
    /// Which of its logs.
    pub stream: Option<Stream>,
    /// The seq there.
    pub seq: u64,
    /// Who said it.
    pub actor: String,
    /// What kind it is.
    pub kind: String,
    /// What it is about.
    pub subject: String,
    /// What it says.
    pub sentence: String,
    /// Paths and digests of what came out.
    pub outputs: Vec<String>,
}

/// A receipt as a line.
pub fn describe(receipt: &Receipt, state: &FleetState) -> Line {
    let statement = receipt.statement();
    let (sentence, outputs) = match statement.any_detail() {
        Ok(detail) => sentence(&detail, state),
        Err(_) if statement.kind.is_custom() => (custom(receipt), Vec::new()),
        Err(error) => (format!("not readable here: {error}"), Vec::new()),
    };
    Line {
        time: micros_of(receipt),
        machine: machine_of(receipt, state).unwrap_or_else(|| receipt.log().short()),
        stream: state.log(&receipt.log()).map(|log| log.stream),
        seq: receipt.seq(),
        actor: shown(&state.name_of(&statement.author)).into_owned(),
        kind: statement.kind.to_string(),
        subject: shown(statement.subject.as_str()).into_owned(),
        // Authors' words stand in these: whoever shows the line must not be steered by them.
        sentence: shown(&sentence).into_owned(),
        outputs: outputs.iter().map(|output| shown(output).into_owned()).collect(),
    }
}

fn custom(receipt: &Receipt) -> String {
    let statement = receipt.statement();
    let grade = match statement.grade {
        Grade::FirstHand => "",
        Grade::Imported => " (imported)",
        Grade::Telemetry => " (telemetry)",
    };
    match &statement.payload {
        Some(payload) => {
            format!(
                "{} of {}{grade}",
                counted(u64::from(payload.bytes), "byte"),
                payload.media
            )
        }
        None => format!("no content{grade}"),
    }
}

/// A job by its handler and the beginning of its id.
fn job_name(job: &JobId, state: &FleetState) -> String {
    let id = job.to_string();
    let short = id.get(..8).unwrap_or(&id).to_owned();
    match state.job(job) {
        Some(job) => format!("{} {short}", job.spec.handler),
        None => format!("job {short}"),
    }
}

fn plain(sentence: impl Into<String>) -> (String, Vec<String>) {
    (sentence.into(), Vec::new())
}

fn sentence(detail: &AnyDetail, state: &FleetState) -> (String, Vec<String>) {
    let job = |job: &JobId| job_name(job, state);
    match detail {
        AnyDetail::RequestReceived(d) => {
            let where_to = d
                .spec
                .machine
                .as_ref()
                .map(|m| format!(" on {m}"))
                .unwrap_or_default();
            plain(format!("asks for {}{where_to}", d.spec.handler))
        }
        AnyDetail::JobAccepted(d) => plain(format!(
            "{} accepted, asked for by {}",
            job(&d.job),
            state.name_of(&d.requester)
        )),
        AnyDetail::JobReady(d) => plain(format!("{} may be claimed", job(&d.job))),
        AnyDetail::JobHeld(d) => plain(with_note(&format!("{} held", job(&d.job)), &d.note)),
        AnyDetail::JobReleased(d) => plain(with_note(&format!("{} released", job(&d.job)), &d.note)),
        AnyDetail::JobDiscarded(d) => plain(match d.retried_as {
            Some(new) => format!("{} given up, {} tries it again", job(&d.job), job(&new)),
            None => with_note(&format!("{} given up", job(&d.job)), &d.note),
        }),
        AnyDetail::JobClaimed(d) => plain(format!(
            "{} given to {}, attempt {}",
            job(&d.job),
            d.machine,
            d.attempt
        )),
        AnyDetail::JobClaimProven(d) => plain(format!(
            "{} was given to {} in an epoch's lost tail, as its signed claim proves",
            job(&d.job),
            d.machine
        )),
        AnyDetail::JobStarted(d) => plain(format!("{} started", job(&d.job))),
        AnyDetail::JobCheckpointed(d) => plain(format!("{} keeps a progress checkpoint", job(&d.job))),
        AnyDetail::JobLeaseExpired(d) => plain(format!("{}: nothing heard, its lease ran out", job(&d.job))),
        AnyDetail::JobResumed(d) => plain(format!("{} goes on under the same claim", job(&d.job))),
        AnyDetail::JobRequeued(d) => {
            let why = match d.reason {
                RequeueReason::NeverStarted => "it never started",
                RequeueReason::Lost => "its run was lost",
                RequeueReason::Yielded => "its machine gave it back",
                RequeueReason::LeaseExpired => "its lease ran out",
            };
            plain(format!("{} may be claimed again: {why}", job(&d.job)))
        }
        AnyDetail::JobFailedOver(d) => plain(format!(
            "{} goes to the backups, no longer to {}",
            job(&d.job),
            d.excluded
        )),
        AnyDetail::JobAttemptFailed(d) => plain(format!(
            "{} failed in attempt {}: {:?}",
            job(&d.job),
            d.attempt,
            d.error
        )),
        AnyDetail::JobSucceeded(d) => {
            let late = if d.verdict == SuccessVerdict::Adopted {
                ", adopted late"
            } else {
                ""
            };
            let outputs = counted(u64::from(d.outputs.count), "output");
            let text = format!("{} succeeded on {}{late}, {outputs}", job(&d.job), d.machine);
            let outputs = if d.outputs.count == 0 {
                Vec::new()
            } else {
                vec![format!("jobs/{}/", d.job)]
            };
            (text, outputs)
        }
        AnyDetail::JobFailed(d) => plain(format!("{} failed for good: {:?}", job(&d.job), d.error)),
        AnyDetail::JobCancelAsked(d) => plain(format!("wants {} stopped: {}", job(&d.job), d.reason)),
        AnyDetail::JobCancelled(d) => plain(format!("{} cancelled", job(&d.job))),
        AnyDetail::JobExpired(d) => plain(format!("{} expired, its deadline passed", job(&d.job))),
        AnyDetail::JobParked(d) => plain(format!("{} parked: {:?}", job(&d.job), d.reason)),
        AnyDetail::JobResultConflict(d) => plain(format!(
            "{} succeeded again with another result; the first stands",
            job(&d.job)
        )),
        AnyDetail::JobLateResult(d) => {
            let what = match d.verdict {
                LateVerdict::DuplicateAgrees => "the same result again",
                LateVerdict::DuplicateDiffers => "another result again",
                LateVerdict::Discarded => "a result of a job that is over, discarded",
                LateVerdict::Superseded => "a result beside a newer claim, set aside for a person",
                LateVerdict::Stale => "a report under a claim no longer in force",
                LateVerdict::Rejected => "a report under a claim that was never given, rejected",
            };
            plain(format!("{}: {what}", job(&d.job)))
        }
        AnyDetail::RunStarted(d) => plain(format!("runs {} (attempt {})", job(&d.job), d.attempt)),
        AnyDetail::RunCheckpointed(d) => plain(format!("keeps a checkpoint of {}", job(&d.job))),
        AnyDetail::RunSucceeded(d) => plain(format!(
            "{} done in {} ms, {}, result {}",
            job(&d.job),
            d.costs.wall_ms,
            counted(u64::from(d.outputs.count), "output"),
            d.result.short()
        )),
        AnyDetail::RunFailed(d) => {
            let status = d.status.map(|status| format!(" {status}")).unwrap_or_default();
            plain(format!("{} failed: {:?}{status}", job(&d.job), d.error))
        }
        AnyDetail::RunYielded(d) => plain(format!(
            "{} was stopped by its machine and given back",
            job(&d.job)
        )),
        AnyDetail::RunLost(d) => plain(format!("{} was lost, its processes are dead", job(&d.job))),
        AnyDetail::RunProgressed(d) => plain(format!("{} at {} %: {}", job(&d.job), d.per_cent, d.note)),
        AnyDetail::ArtifactStaged(d) => {
            let text = format!("output of {}: {}", job(&d.job), counted(d.size, "byte"));
            (text, vec![format!("{} {}", d.path, d.blake3.short())])
        }
        AnyDetail::ArtifactRecorded(d) => {
            let what = if d.before.is_some() { "changed" } else { "new" };
            let text = format!("{what} file {}, {}", d.path, counted(d.size, "byte"));
            (text, vec![format!("{} {}", d.path, d.blake3.short())])
        }
        AnyDetail::ArtifactRemoved(d) => plain(format!("file {} is gone", d.path)),
        AnyDetail::ArtifactSkipped(d) => plain(format!("a file is not indexed: {:?}", d.reason)),
        detail => (of_the_fleet(detail, state), Vec::new()),
    }
}

fn with_note(what: &str, note: &str) -> String {
    if note.is_empty() {
        what.to_owned()
    } else {
        format!("{what}: {note}")
    }
}

fn of_the_fleet(detail: &AnyDetail, state: &FleetState) -> String {
    match detail {
        AnyDetail::LogGenesis(d) => {
            format!(
                "begins the {} log of {}, incarnation {}",
                d.stream, d.machine, d.incarnation
            )
        }
        AnyDetail::LogClosed(d) => format!("closes this log: {}", d.reason),
        AnyDetail::LogPruned(d) => {
            let count = d.last.saturating_sub(d.first).saturating_add(1);
            let (pruned, log) = (counted(count, "pulse"), d.log.short());
            format!("prunes {pruned} of log {log}, up to seq {}: {}", d.last, d.reason)
        }
        AnyDetail::LogPinned(d) => {
            let count: u64 = d
                .ranges
                .iter()
                .map(|r| r.last.saturating_sub(r.first).saturating_add(1))
                .sum();
            {
                let logs = counted(u64::try_from(d.ranges.len()).unwrap_or(u64::MAX), "log");
                format!("takes in {} of {logs}", counted(count, "receipt"))
            }
        }
        AnyDetail::EpochStarted(d) => format!("epoch {} begins", d.epoch),
        AnyDetail::CentralDesignated(d) => {
            format!(
                "{} may write the order in epochs {} to {}",
                d.machine, d.epoch_first, d.epoch_last
            )
        }
        AnyDetail::KeyInvited(d) => format!("invites a {}", d.role),
        AnyDetail::KeyJoined(d) => format!("{} joined as {}", d.machine, d.role),
        AnyDetail::KeyGranted(d) => format!("{} may act as {}", d.name, d.role),
        AnyDetail::KeyRevoked(d) => {
            let who = match &d.credential {
                Credential::Key(key) => state.name_of(key),
                Credential::Token(_) => "a token".to_owned(),
            };
            format!("{who} may do nothing any more: {}", d.reason)
        }
        AnyDetail::HandlerDeclared(d) => {
            format!(
                "{} runs {} ({}, {})",
                d.machine,
                d.handler,
                d.class,
                counted(u64::from(d.slots), "slot")
            )
        }
        AnyDetail::KeyAnnounced(d) => format!("{} cosigns with key {}", d.machine, d.witness_key.to_hex()),
        AnyDetail::LogCited(d) => {
            let heads = u64::try_from(d.heads.len()).unwrap_or(u64::MAX);
            format!("cites {} of pulses", counted(heads, "head"))
        }
        AnyDetail::RetentionSet(d) => {
            let kept = d.pulse_days.map(|days| counted(u64::from(days), "day"));
            let kept = kept.unwrap_or("for ever".to_owned());
            with_note(&format!("pulses are kept {kept}"), &d.reason)
        }
        AnyDetail::NodeDaySummary(d) => format!(
            "sums up {} of {}",
            counted(d.pulses, "heartbeat"),
            crate::retention::day_text(d.day)
        ),
        AnyDetail::HandlerPaused(d) => with_note(&format!("{} is paused", d.handler), &d.reason),
        AnyDetail::HandlerResumed(d) => with_note(&format!("{} goes on", d.handler), &d.reason),
        AnyDetail::QueueLimited(d) => {
            let of = match &d.scope {
                LimitScope::Handler(name) => format!("handler {name}"),
                LimitScope::Machine(machine) => machine.to_string(),
                LimitScope::Key(name) => format!("key {name}"),
            };
            let most = d.running_max.map(|most| format!("at most {most} at once"));
            let rate = d
                .rate
                .map(|rate| format!("{} in {} ms", rate.claims, rate.period_ms));
            let bounds: Vec<String> = most.into_iter().chain(rate).collect();
            let bounds = match bounds.is_empty() {
                true => "no limit".to_owned(),
                false => bounds.join(", "),
            };
            with_note(&format!("{of}: {bounds}"), &d.reason)
        }
        AnyDetail::HandlerWithdrawn(d) => format!("{} no longer runs {}", d.machine, d.handler),
        AnyDetail::NodeLost(d) => {
            format!(
                "{} is lost, last heard {}",
                d.machine,
                crate::notices::clock_text(d.last_heard)
            )
        }
        AnyDetail::NodeBack(d) => format!("{} is back", d.machine),
        AnyDetail::NodeRetired(d) => format!("{} is retired: {}", d.machine, d.reason),
        AnyDetail::NoticeRaised(d) => format!("notice: {}", d.text),
        AnyDetail::NoticeDelivered(d) => format!("notice told to {}", d.destination),
        AnyDetail::NoticeUndelivered(d) => format!("notice not told to {}: {}", d.destination, d.error),
        AnyDetail::NoticeAcknowledged(d) if d.note.is_empty() => format!("notice {} was seen", d.notice),
        AnyDetail::NoticeAcknowledged(d) => format!("notice {} was seen: {}", d.notice, d.note),
        AnyDetail::ReceiptInadmissible(d) => format!("receipt {} is inadmissible: {:?}", d.id, d.reason),
        AnyDetail::Erased(d) => format!("the payload of receipt {} is erased: {}", d.id, d.reason),
        AnyDetail::NodeBooted(d) => format!("daemon {} started", d.version),
        AnyDetail::VerifyCompleted(d) => {
            let clean = [
                d.integrity,
                d.signatures,
                d.authority,
                d.completeness,
                d.freshness,
            ]
            .iter()
            .all(|verdict| *verdict != Verdict::Found);
            let outcome = if clean {
                "clean".to_owned()
            } else {
                counted(d.findings, "finding")
            };
            format!(
                "verified {} of {}: {outcome}",
                counted(d.receipts, "receipt"),
                counted(u64::from(d.logs), "log")
            )
        }
        AnyDetail::NodePulse(d) => pulse(&d.clone().into()),
        AnyDetail::NodePulse2(d) => pulse(&d.clone().into()),
        AnyDetail::NodePulse3(d) => pulse(d),
        other => crate::schedules::summary(other)
            .or_else(|| crate::costs::summary(other))
            .unwrap_or_else(|| crate::health::summary(other)),
    }
}

fn pulse(d: &NodePulse3) -> String {
    format!(
        "CPU {} %, load {}.{:02}, {} of {} slots, outbox {}",
        d.cpu_per_mille / 10,
        d.load1_centi / 100,
        d.load1_centi % 100,
        d.slots_used,
        d.slots_total,
        d.outbox_receipts
    )
}
