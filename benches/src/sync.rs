//! A week's backlog of a node on its way to its gateway, with live jobs meanwhile: receipts a second, CPU and memory of both, and
//! how long a job takes from its request to its start.

use crate::daemons::{Daemon, pair};
use crate::measure::number;
use crate::table::{Aim, Row, Table};
use crate::{CROWD, Failed, append};
use ledger::core::kinds::NodePulse2;
use ledger::core::{Draft, Stream, Subject};
use ledger_server::client::Api;
use ledger_server::http::wire::{EventsQuery, RequestBody};
use ledger_server::{Config, Machine};
use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Receipts of a week's backlog.
pub const WEEK: usize = 500_000;
/// One receipt in so many of the backlog is a heartbeat.
const PULSE_EVERY: usize = 12;
/// Between two live jobs.
const JOB_EVERY: Duration = Duration::from_millis(100);
/// Jobs that an idle node is given.
const IDLE_JOBS: usize = 60;
/// Between two looks at how far the gateway is.
const LOOK: Duration = Duration::from_millis(50);
/// How long anything may take.
const WITHIN: Duration = Duration::from_secs(600);

/// What one daemon used.
#[derive(Clone, Copy, Default, Debug)]
struct Used {
    cpu_s: f64,
    half_way_mib: f64,
    peak_mib: f64,
}

/// Measures with a backlog of so many receipts, and tells it as a table.
///
/// # Errors
/// What any part says.
pub fn run(dir: &Path, receipts: usize) -> Result<Table, Failed> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(measure(dir, receipts))
}

async fn measure(dir: &Path, receipts: usize) -> Result<Table, Failed> {
    let (gateway, home) = pair(dir).await?;
    let building = home.clone();
    let expected = tokio::task::spawn_blocking(move || backlog(&building, receipts)).await??;
    let before = [gateway.cpu_s(), 0.0];
    let began = Instant::now();
    let node = Daemon::start("node", &home)?;
    let over = Arc::new(AtomicBool::new(false));
    let live = tokio::spawn(jobs(gateway.api(), Arc::clone(&over), usize::MAX));
    let mut used = [Used::default(); 2];
    loop {
        let there = there(&gateway.api()).await?;
        let daemons = [&gateway, &node];
        for ((used, daemon), before) in used.iter_mut().zip(daemons).zip(before) {
            used.cpu_s = daemon.cpu_s() - before;
            used.peak_mib = daemon.memory_mib("VmHWM");
            if there * 2 <= expected {
                used.half_way_mib = used.peak_mib;
            }
        }
        if there >= expected {
            break;
        }
        if began.elapsed() > WITHIN {
            return Err(format!("{there} of {expected} receipts are there").into());
        }
        tokio::time::sleep(LOOK).await;
    }
    let seconds = began.elapsed().as_secs_f64();
    over.store(true, Ordering::Relaxed);
    let busy = live.await??;
    let idle = jobs(gateway.api(), Arc::default(), IDLE_JOBS).await?;
    node.stop()?;
    gateway.stop()?;
    Ok(table(receipts, seconds, used, &busy, &idle))
}

fn table(receipts: usize, seconds: f64, used: [Used; 2], busy: &[f64], idle: &[f64]) -> Table {
    let per_second = number(receipts) / seconds;
    let mut rows = vec![
        Row::new(
            format!("a backlog of {receipts} receipts reaches the gateway"),
            format!("{per_second:.0}/s"),
        )
        .reach(per_second, Aim::AtLeast(20_000.0), ">= 20000/s"),
    ];
    for (name, used) in ["gateway", "node"].into_iter().zip(used) {
        let each_us = used.cpu_s * 1e6 / number(receipts);
        rows.push(Row::new(
            format!("CPU of the {name} for each"),
            format!("{each_us:.1} µs"),
        ));
        let flat = used.peak_mib / used.half_way_mib.max(1.0);
        rows.push(
            Row::new(
                format!("peak memory of the {name}"),
                format!("{:.0} MiB", used.peak_mib),
            )
            .beside(format!("{:.0} MiB half way", used.half_way_mib))
            .ratio(flat, Aim::AtMost(1.25)),
        );
    }
    for (when, jobs) in [("meanwhile", busy), ("on an idle node", idle)] {
        let (p50, p99, max) = (at(jobs, 0.5), at(jobs, 0.99), at(jobs, 1.0));
        rows.push(
            Row::new(
                format!("from a request to the job's start {when}, {} jobs", jobs.len()),
                format!("p50 {p50:.0} ms, p99 {p99:.0} ms, at most {max:.0} ms"),
            )
            .reach(p99, Aim::AtMost(1000.0), "p99 <= 1 s"),
        );
    }
    Table::of_rows(rows)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a place in a short list"
)]
fn at(sorted: &[f64], part: f64) -> f64 {
    let place = (number(sorted.len()) * part).ceil() as usize;
    sorted.get(place.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

// Facts with payloads and heartbeats, as if written in a week without the gateway; what the gateway will have then of both.
fn backlog(home: &Path, receipts: usize) -> Result<u64, Failed> {
    let (config, _) = Config::load(home, &[])?;
    let machine = Machine::open(home, config)?;
    let ledger = &machine.ledger;
    let mut open = VecDeque::new();
    for n in 0..receipts {
        let (stream, draft) = if n % PULSE_EVERY == 0 {
            (Stream::Pulse, pulse(n)?)
        } else {
            (Stream::Facts, append::draft(n)?)
        };
        open.push_back(ledger.submit(move |tx| tx.append(stream, draft)));
        if open.len() >= CROWD
            && let Some(ticket) = open.pop_front()
        {
            ticket.wait().map_err(ledger::CommitError::into_ledger)?;
        }
    }
    for ticket in open {
        ticket.wait().map_err(ledger::CommitError::into_ledger)?;
    }
    let snapshot = ledger.snapshot();
    let own = [Stream::Facts, Stream::Pulse]
        .into_iter()
        .filter_map(|s| ledger.own_log(s));
    let heads = own.filter_map(|log| snapshot.logs.get(&log).map(|chain| chain.tip().0));
    let expected = heads.sum();
    ledger.clone().close()?;
    Ok(expected)
}

fn pulse(n: usize) -> Result<Draft, Failed> {
    let pulse = NodePulse2 {
        cpu_per_mille: u16::try_from(n % 1000)?,
        uptime_s: u64::try_from(n)?,
        slots_total: 4,
        version: "0.1.0".to_owned(),
        ..NodePulse2::default()
    };
    Ok(Draft::of(&pulse, Subject::new("node/node")?))
}

// The seqs of the node's facts and pulses at the gateway, added up.
async fn there(gateway: &Api) -> Result<u64, Failed> {
    let status = gateway.status().await?.item;
    let wanted = |log: &&ledger_server::http::wire::LogHead| {
        log.machine == "node" && ["facts", "pulse"].contains(&log.stream.as_str())
    };
    Ok(status.logs.iter().filter(wanted).map(|log| log.seq).sum())
}

// Asks for one job after another and tells how long each took until the order said that it had started, in ms, sorted.
async fn jobs(gateway: Api, over: Arc<AtomicBool>, count: usize) -> Result<Vec<f64>, Failed> {
    let mut started = gateway
        .events(&EventsQuery {
            kind: vec!["job.started".to_owned()],
            ..EventsQuery::default()
        })
        .await?;
    let mut took = Vec::new();
    while took.len() < count && !over.load(Ordering::Relaxed) {
        let asked = Instant::now();
        let request = RequestBody {
            handler: "noop".to_owned(),
            ..RequestBody::default()
        };
        let subject = format!("job/{}", gateway.request(&request).await?.item.job);
        loop {
            let event = tokio::time::timeout(WITHIN, started.next()).await?;
            if event.ok_or("the live tail ended")??.receipt.subject == subject {
                break;
            }
        }
        took.push(asked.elapsed().as_secs_f64() * 1e3);
        tokio::time::sleep(JOB_EVERY).await;
    }
    took.sort_by(f64::total_cmp);
    Ok(took)
}
