//! Keeping what pulses told when the pulses go: sums of each day in facts, heads cited in the order, and the pruning itself.
//!
//! The policy is a receipt of the order (`retention.set`); without one every pulse is kept. Contract: a day's pulses go only when
//! the day is over and its summary is durable; a machine that has a gateway lets its own go only below a checkpoint that the
//! gateway cosigned; the gateway lets its copies go when either machine summed them up. What a crash leaves is said twice by
//! nobody: ids derive from the log and the day. Does not decide what `log.pruned` is and how bytes go: `ledger::prune` does.

use crate::cosign::{announcement, blocking, gateway_pin};
use crate::error::ServerError;
use crate::gateway::central;
use crate::machine::Machine;
use ledger::core::kinds::{CitedHead, Detail, LogCited, NodeDaySummary};
use ledger::core::{Chain, Hlc, LogId, MachineId, ReceiptId, Stream};
use ledger::{Ledger, LedgerError, Pruning};
use ledger_projections::FleetState;
use ledger_projections::retention::{self, DaySums};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// The longest time between two looks at what is due.
const LOOK_EVERY_MAX: Duration = Duration::from_secs(30);
/// How long after a run that could not do everything the next one comes, milliseconds.
const AGAIN_AFTER_MS: u64 = 60 * 60 * 1000;
/// Records whose sizes are looked at to tell how large a pulse log is.
const SAMPLES: u64 = 64;

/// One run at a time in this process: the nightly one, or somebody's.
static TURN: Mutex<()> = Mutex::new(());

type Store = Ledger<FleetState>;

/// What a store has of one pulse log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PulseLog {
    /// The log.
    pub log: LogId,
    /// The machine that writes it.
    pub machine: MachineId,
    /// Whether this store writes it.
    pub own: bool,
    /// Records that are kept, besides the genesis.
    pub kept: u64,
    /// When the oldest of them was sealed, microseconds since 1970.
    pub oldest_us: Option<i64>,
    /// Bytes of their records, about: the average of some of them.
    pub bytes_about: u64,
    /// How many of them a run would let go now.
    pub due: u64,
    /// What stands in the way of some or all of these.
    pub waits: Option<String>,
}

/// What a run did with one log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// The log.
    pub log: LogId,
    /// The machine that writes it.
    pub machine: MachineId,
    /// Days that were summed up by this run.
    pub days: u64,
    /// The `log.pruned`, when something went.
    pub receipt: Option<ReceiptId>,
    /// Records whose bytes are gone.
    pub records: u64,
    /// Bytes that files are shorter.
    pub bytes_freed: u64,
    /// Why nothing, or not everything, went.
    pub waits: Option<String>,
}

// A pulse log of the store.
struct Kept {
    chain: Arc<Chain>,
    own: bool,
}

impl Kept {
    fn log(&self) -> LogId {
        self.chain.log()
    }

    fn machine(&self) -> &MachineId {
        &self.chain.genesis().machine
    }
}

fn pulse_logs(ledger: &Store) -> Vec<Kept> {
    let snapshot = ledger.snapshot();
    let own = ledger.own_log(Stream::Pulse);
    let pulses = snapshot.logs.values();
    let pulses = pulses.filter(|chain| chain.genesis().stream == Stream::Pulse);
    pulses
        .map(|chain| Kept {
            chain: Arc::clone(chain),
            own: own == Some(chain.log()),
        })
        .collect()
}

fn is_gateway(ledger: &Store) -> bool {
    ledger.own_log(Stream::Order).is_some()
}

// Whether these pulses go only under the gateway's cosignature: a node's own. Its copies of others' are at the gateway anyway.
fn needs_gateway(ledger: &Store, kept: &Kept) -> bool {
    !is_gateway(ledger) && kept.chain.machine_key() == ledger.context().machine_key
}

fn now_ms(ledger: &Store) -> u64 {
    u64::try_from(ledger.clock().now_us() / 1000).unwrap_or(0)
}

// The seq behind the last pulse before a day, and never before what is kept.
fn seq_of_day(ledger: &Store, log: &LogId, day: u32) -> Result<u64, LedgerError> {
    let begins = Hlc::from_unix_ms(retention::day_begins_ms(day));
    let first = ledger.first_kept(log);
    Ok(ledger.seq_at(log, begins)?.max(first))
}

fn day_at(ledger: &Store, log: &LogId, seq: u64) -> Result<Option<u32>, LedgerError> {
    let receipt = ledger.get(log, seq)?;
    Ok(receipt.map(|receipt| retention::day_of(receipt.time().unix_ms())))
}

// Sums up the days of a log that are over and that nobody summed up, before a day; the newest summary of these days.
fn sum_up(ledger: &Store, kept: &Kept, before: u32) -> Result<(u64, Option<ReceiptId>), ServerError> {
    let log = kept.log();
    let own_key = ledger.context().machine_key;
    let (mut said, mut newest) = (0, None);
    let first = ledger.first_kept(&log);
    let Some(mut day) = day_at(ledger, &log, first)? else {
        return Ok((0, None));
    };
    while day < before {
        let (from, until) = (seq_of_day(ledger, &log, day)?, seq_of_day(ledger, &log, day + 1)?);
        if from == until {
            // Whole days may lie between two pulses of a machine that was away.
            let Some(next) = day_at(ledger, &log, until)? else {
                break;
            };
            day = next.max(day + 1);
            continue;
        }
        let authors = [kept.chain.machine_key(), own_key];
        let mut there = None;
        for author in authors {
            let id = retention::summary_id(&author, &log, day);
            // Ids are their authors' to choose: only this author's summary is one.
            let found = ledger.find(&id)?.into_iter();
            let mut said =
                found.filter(|r| r.kind() == NodeDaySummary::KIND && r.statement().author == author);
            if there.is_none() && said.next().is_some() {
                there = Some(id);
            }
        }
        newest = match there {
            Some(id) => Some(id),
            None => {
                let mut sums = DaySums::new(log, day, from);
                for receipt in ledger.range(&log, from, until - 1) {
                    sums.add(&receipt?);
                }
                let receipt = ledger.append_to(Stream::Facts, sums.draft(&own_key, kept.machine()))?;
                said += 1;
                Some(receipt.id())
            }
        };
        day += 1;
    }
    Ok((said, newest))
}

/// Sums up the own pulses of every day that is over and has no summary yet. Blocks.
///
/// # Errors
/// [`ServerError::Ledger`] when the store cannot be read or written.
pub fn sum_up_days(ledger: &Store) -> Result<u64, ServerError> {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let today = retention::day_of(now_ms(ledger));
    let mut days = 0;
    for kept in pulse_logs(ledger).into_iter().filter(|kept| kept.own) {
        days += sum_up(ledger, &kept, today)?.0;
    }
    Ok(days)
}

// Below which seq the policy lets a log go, and below which it may go now.
struct Limit {
    wanted: u64,
    permitted: u64,
    waits: Option<String>,
}

fn limit(ledger: &Store, kept: &Kept, pulse_days: u32) -> Result<Limit, ServerError> {
    let log = kept.log();
    let day = retention::first_day_kept(pulse_days, now_ms(ledger));
    // The newest record stays.
    let wanted = seq_of_day(ledger, &log, day)?.min(kept.chain.tip().0);
    let mut permitted = wanted;
    let mut waits = None;
    if needs_gateway(ledger, kept) && wanted > ledger.first_kept(&log) {
        let pin = gateway_pin(&ledger.snapshot().state);
        let cosigned = ledger.cosigned(&log)?;
        let cosigned = cosigned.filter(|cosigned| !cosigned.by(pin.as_slice()).is_empty());
        permitted = wanted.min(cosigned.map_or(0, |cosigned| cosigned.checkpoint.tree_size));
        if permitted < wanted {
            waits = Some("the gateway has not cosigned a checkpoint over all that is to go".to_owned());
        }
    }
    Ok(Limit {
        wanted,
        permitted,
        waits,
    })
}

/// What this store keeps of pulses, and what a run would do. Blocks.
///
/// # Errors
/// [`ServerError::Ledger`] when the store cannot be read.
pub fn look(ledger: &Store) -> Result<Vec<PulseLog>, ServerError> {
    let policy = ledger
        .snapshot()
        .state
        .retention()
        .and_then(|said| said.pulse_days);
    let mut logs = Vec::new();
    for kept in pulse_logs(ledger) {
        let (log, tip) = (kept.log(), kept.chain.tip().0);
        let first = ledger.first_kept(&log);
        let count = (tip + 1).saturating_sub(first);
        let limit = policy.map(|days| limit(ledger, &kept, days)).transpose()?;
        let oldest = match count {
            0 => None,
            _ => ledger.get(&log, first)?,
        };
        logs.push(PulseLog {
            log,
            machine: kept.machine().clone(),
            own: kept.own,
            kept: count,
            oldest_us: oldest.map(|receipt| ledger_projections::micros_of(&receipt)),
            bytes_about: bytes_about(ledger, &log, first, count)?,
            due: limit
                .as_ref()
                .map_or(0, |limit| limit.wanted.saturating_sub(first)),
            waits: limit.and_then(|limit| limit.waits),
        });
    }
    Ok(logs)
}

fn bytes_about(ledger: &Store, log: &LogId, first: u64, count: u64) -> Result<u64, LedgerError> {
    let samples = count.min(SAMPLES);
    let mut bytes = 0u64;
    for n in 0..samples {
        if let Some(receipt) = ledger.get(log, first + n * count / samples)? {
            bytes += u64::try_from(receipt.record.bytes().len()).unwrap_or(u64::MAX);
        }
    }
    Ok(bytes.checked_div(samples).unwrap_or(0).saturating_mul(count))
}

/// Lets go what the policy lets go, in this store. Nothing goes without a policy. Blocks until it is gone.
///
/// # Errors
/// [`ServerError::Ledger`] when the store cannot be read or written; what stands in the way of one log is told with it.
pub fn run(ledger: &Store) -> Result<Vec<Done>, ServerError> {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let snapshot = ledger.snapshot();
    let Some(days) = snapshot.state.retention().and_then(|said| said.pulse_days) else {
        return Ok(Vec::new());
    };
    let mut done = Vec::new();
    for kept in pulse_logs(ledger) {
        done.push(let_go(ledger, &kept, days)?);
    }
    Ok(done)
}

fn let_go(ledger: &Store, kept: &Kept, pulse_days: u32) -> Result<Done, ServerError> {
    let log = kept.log();
    let Limit {
        wanted,
        permitted,
        waits,
    } = limit(ledger, kept, pulse_days)?;
    let mut done = Done {
        log,
        machine: kept.machine().clone(),
        days: 0,
        receipt: None,
        records: 0,
        bytes_freed: 0,
        waits,
    };
    let mut wish = Pruning::below(log, permitted, &format!("retention of {pulse_days} days"));
    if permitted > ledger.first_kept(&log) {
        let before = retention::first_day_kept(pulse_days, now_ms(ledger));
        let (days, newest) = sum_up(ledger, kept, before)?;
        done.days = days;
        if let Some(summary) = newest {
            wish = wish.summed_up_by(summary);
        }
        if is_gateway(ledger) && kept.own {
            ledger.checkpoint_for_witnesses(&log)?;
        }
    }
    if needs_gateway(ledger, kept)
        && let (Some(cosigned), Some(pin)) = (ledger.cosigned(&log)?, gateway_pin(&ledger.snapshot().state))
    {
        wish = wish.cosigned(&cosigned.note, &[pin]);
    }
    match ledger.prune(&wish) {
        Ok(Some(pruned)) => {
            done.receipt = Some(pruned.said.id());
            done.records = pruned.records;
            done.bytes_freed = pruned.bytes_freed;
            tracing::info!(log = %log.short(), machine = %kept.machine(), upto = wanted, bytes_freed = pruned.bytes_freed, "pulses are pruned");
        }
        Ok(None) => {}
        Err(LedgerError::NotPrunable { why, .. }) => done.waits = Some(why.to_owned()),
        Err(error) => return Err(error.into()),
    }
    Ok(done)
}

/// Does what is due until it is told to stop: the announcement of the witness key and the cited heads at Central, the summaries
/// of days that are over, and one run a day.
pub(crate) async fn keep_forever(machine: Arc<Machine>, mut stop: watch::Receiver<bool>) {
    let period = Duration::from_millis(machine.config.timing.poll_ms.max(1)).min(LOOK_EVERY_MAX);
    let mut due = Due::default();
    loop {
        tokio::select! {
            () = tokio::time::sleep(period) => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
        // Until the marks are known this store may be an old copy: it says nothing.
        if machine.is_gateway() && !machine.central.is_serving() {
            continue;
        }
        if machine.is_gateway()
            && let Err(e) = say_as_central(&machine, &mut due.cited).await
        {
            tracing::error!(code = e.code(), error = %e, "what Central says of witnesses and pulses could not be kept");
        }
        let now = now_ms(&machine.ledger);
        let today = retention::day_of(now);
        if due.day == Some(today) && due.again_ms.is_none_or(|at| now < at) {
            continue;
        }
        let kept = Arc::clone(&machine);
        let ran = blocking(move || {
            sum_up_days(&kept.ledger)?;
            run(&kept.ledger)
        });
        let waits = match ran.await {
            Ok(done) => done.iter().any(|done| done.waits.is_some()),
            Err(e) => {
                tracing::error!(code = e.code(), error = %e, "pulses could not be summed up or pruned");
                true
            }
        };
        due.day = Some(today);
        due.again_ms = waits.then_some(now.saturating_add(AGAIN_AFTER_MS));
    }
}

#[derive(Default)]
struct Due {
    // The day of the last run, and when it is tried again before the day ends.
    day: Option<u32>,
    again_ms: Option<u64>,
    cited: Cited,
}

// What was cited last by this process.
#[derive(Default)]
struct Cited {
    hour: Option<i64>,
    heads: BTreeMap<LogId, u64>,
}

async fn say_as_central(machine: &Arc<Machine>, cited: &mut Cited) -> Result<(), ServerError> {
    let snapshot = machine.ledger.snapshot();
    let now = machine.now_us();
    let hour = retention::hour_of(now);
    let announced = announcement(machine, &snapshot.state);
    let order = snapshot.state.order().map(|order| order.log);
    let mut heads = Vec::new();
    if let Some(order) = order.filter(|_| cited.hour != Some(hour)) {
        let said = machine.ledger.find(&retention::cited_id(&order, hour, 0))?;
        let said_before = said
            .iter()
            .any(|said| said.log() == order && said.kind() == LogCited::KIND);
        let pulses = pulse_logs(&machine.ledger).into_iter().map(|kept| CitedHead {
            log: kept.log(),
            head: kept.chain.head(),
        });
        let moved = |cited_head: &CitedHead| cited.heads.get(&cited_head.log) != Some(&cited_head.head.seq);
        heads = pulses.filter(moved).filter(|_| !said_before).collect();
    }
    if announced.is_some() || !heads.is_empty() {
        let (said, announced) = (heads.clone(), announced);
        machine
            .ledger
            .submit(move |tx| -> Result<(), ServerError> {
                let mut drafts: Vec<_> = announced.into_iter().collect();
                drafts.extend(
                    order
                        .map(|order| retention::cite(&order, now, &said))
                        .unwrap_or_default(),
                );
                central::put(tx, drafts)?;
                Ok(())
            })
            .await?;
    }
    for cited_head in heads {
        cited.heads.insert(cited_head.log, cited_head.head.seq);
    }
    cited.hour = Some(hour);
    Ok(())
}
