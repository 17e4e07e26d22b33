//! The fleet under load: jobs through the whole queue, how long one waits for an idle machine, a thousand machines that beat, a gateway
//! that does nothing; and beside them, in turns in the same run, a queue in SQLite.
//!
//! The gateway is the real daemon in a process of its own, with callers in it that hand in signed requests; nodes talk to it over
//! loopback HTTP, every exchange signed both ways. See [`node`] for what a node of the bench does and leaves out.

pub mod child;
pub mod node;
pub mod rows;
pub mod swarm;
pub mod table_queue;

use crate::measure::{Cost, counted, median, number};
use crate::{CALLERS, Failed};
use child::{NO_OP, Process, STAMP, shared_us};
use node::{Node, Told};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use swarm::Beaten;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// How much of the fleet is measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Effort {
    /// Rounds of ours and SQLite's in turns.
    pub rounds: usize,
    /// Jobs of one round.
    pub jobs: usize,
    /// Jobs of one round through SQLite.
    pub table_jobs: usize,
    /// Jobs whose handler is a process.
    pub processes: usize,
    /// Jobs handed in alone, to an idle node.
    pub lone: usize,
    /// Machines that beat.
    pub machines: usize,
    /// The time in which each beats once.
    pub period: Duration,
    /// For how long an idle gateway is watched.
    pub idle: Duration,
}

impl Effort {
    /// What a table is made with; some two minutes on two cores.
    pub const FULL: Effort = Effort {
        rounds: 3,
        jobs: 8_000,
        table_jobs: 2_000,
        processes: 200,
        lone: 200,
        machines: 1_000,
        period: Duration::from_secs(15),
        idle: Duration::from_secs(15),
    };
    /// Whether it runs at all.
    pub const QUICK: Effort = Effort {
        rounds: 1,
        jobs: 300,
        table_jobs: 100,
        processes: 10,
        lone: 10,
        machines: 20,
        period: Duration::from_millis(500),
        idle: Duration::from_millis(500),
    };
}

/// Nodes of the two fleets.
pub const NODES: [usize; 2] = [1, 16];
/// Slots of all nodes together.
const SLOTS: usize = 256;

/// A round of jobs.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Round {
    /// All jobs, from the first request to the last acknowledged success.
    pub per_second: f64,
    /// Microseconds of CPU per job: the gateway's, its callers included; nothing where the system does not tell.
    pub gateway_us: Option<f64>,
    /// Microseconds of CPU per job of all nodes together.
    pub nodes_us: f64,
    /// Receipts of all logs at the gateway, for each job.
    pub receipts: f64,
    /// Batches that became durable at the gateway, for each job.
    pub commits: f64,
    /// What all nodes together did for each job, in the order of [`Told::counts`].
    pub nodes: [f64; 5],
}

/// What all of it came to.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Fleet {
    /// Rounds with each number of nodes in [`NODES`].
    pub rounds: [Vec<Round>; 2],
    /// SQLite's rounds with as many workers.
    pub tables: [Vec<Cost>; 2],
    /// Submit to start, milliseconds each, on an idle node without a process.
    pub lone_ms: Vec<f64>,
    /// The same on a real node until the handler's own first line.
    pub process_ms: Vec<f64>,
    /// Jobs a second of a real node whose handler is a process.
    pub processes_s: f64,
    /// Machines that beat.
    pub beaten: Option<Beaten>,
    /// An idle gateway: cores of CPU and MiB.
    pub idle: Option<(f64, f64)>,
}

/// Measures all of it in a folder; with `only`, no more than the jobs of a fleet with so many nodes, one of [`NODES`].
///
/// # Errors
/// What any part says.
pub fn measure(dir: &Path, effort: Effort, only: Option<usize>) -> Result<Fleet, Failed> {
    let runtime = child::runtime()?;
    let mut told = Fleet::default();
    let wanted = |nodes: usize| only.is_none_or(|only| only == nodes);
    for (at, nodes) in NODES.into_iter().enumerate().filter(|(_, nodes)| wanted(*nodes)) {
        for _ in 0..effort.rounds {
            let round = runtime.block_on(jobs(&dir.join("fleet"), nodes, effort, &mut told.lone_ms))?;
            eprintln!("{nodes} nodes: {round:?}");
            told.rounds[at].push(round);
            std::fs::remove_dir_all(dir.join("fleet"))?;
            let table = dir.join("table");
            std::fs::create_dir(&table)?;
            told.tables[at].push(table_queue::run(
                &table.join("queue.db"),
                effort.table_jobs,
                nodes,
            )?);
            std::fs::remove_dir_all(table)?;
        }
    }
    if only.is_some() {
        return Ok(told);
    }
    runtime.block_on(processes(&dir.join("real"), effort, &mut told))?;
    let mut gateway = found(&dir.join("swarm"))?;
    told.beaten = Some(runtime.block_on(swarm::run(&mut gateway, effort.machines, effort.period, 2))?);
    gateway.stop()?;
    for fleet in ["real", "swarm"] {
        std::fs::remove_dir_all(dir.join(fleet))?;
    }
    Ok(told)
}

/// Only the jobs of a fleet with so many nodes, for a profiler to look at.
///
/// # Errors
/// What any part says.
pub fn profile(dir: &Path, nodes: usize, jobs: usize) -> Result<Round, Failed> {
    let effort = Effort {
        jobs,
        lone: 0,
        ..Effort::FULL
    };
    child::runtime()?.block_on(self::jobs(&dir.join("fleet"), nodes, effort, &mut Vec::new()))
}

fn found(dir: &Path) -> Result<Process, Failed> {
    ledger_server::setup::init(&dir.join("gateway"), &ledger::core::MachineId::new("gateway")?)?;
    Process::start("fleet-gateway", &dir.join("gateway"))
}

async fn jobs(dir: &Path, nodes: usize, effort: Effort, lone_ms: &mut Vec<f64>) -> Result<Round, Failed> {
    std::fs::create_dir(dir)?;
    let mut gateway = found(dir)?;
    let told = Arc::new(Told::default());
    let (stop, stopped) = watch::channel(false);
    let mut working = JoinSet::new();
    for n in 0..nodes {
        let name = format!("n{n}");
        let line = gateway.ask(&format!("invite {name}"))?;
        let line = line.first().ok_or("an invitation is a line")?;
        let node = Node::join(
            &dir.join(&name),
            &name,
            line,
            u16::try_from(SLOTS / nodes)?,
            &told,
        )
        .await?;
        working.spawn(node.work(stopped.clone()));
    }
    let mut done = 0;
    if nodes == 1 {
        for _ in 0..effort.lone / effort.rounds {
            let asked: u64 = number_of(&gateway.ask(&format!("one {NO_OP}"))?)?;
            done += 1;
            told.until(done).await;
            lone_ms.push(ms_between(asked, told.started_us())?);
        }
    }
    gateway.ask(&format!("sign {NO_OP} {}", effort.jobs))?;
    let (had, cpu, before) = (gateway_counts(&mut gateway)?, gateway.cpu_s(), told.counts());
    let runtime = tokio::runtime::Handle::current();
    let ours = tokio::task::block_in_place(|| {
        counted(|| {
            gateway.say(&format!("submit {CALLERS}"))?;
            let all = runtime.block_on(async {
                tokio::select! {
                    () = told.until(done + effort.jobs) => Ok(effort.jobs),
                    ended = working.join_next() => match ended {
                        Some(ended) => Err(ended?.err().unwrap_or_else(|| "a node ended".into())),
                        None => Err("there is a node".into()),
                    },
                }
            });
            gateway.hear()?;
            all
        })
    })?;
    let jobs = number(effort.jobs);
    let gateway_us = gateway
        .cpu_s()
        .zip(cpu)
        .map(|(now, then)| (now - then) * 1e6 / jobs);
    let (came, nodes) = (gateway_counts(&mut gateway)?, told.counts());
    gateway.ask(&format!("succeeded {}", done + effort.jobs))?;
    stop.send_replace(true);
    while let Some(ended) = working.join_next().await {
        ended??;
    }
    gateway.stop()?;
    Ok(Round {
        per_second: ours.per_second,
        gateway_us,
        nodes_us: ours.cpu_us,
        receipts: f64::from(came[0] - had[0]) / jobs,
        commits: f64::from(came[1] - had[1]) / jobs,
        nodes: [0, 1, 2, 3, 4].map(|at| number(nodes[at] - before[at]) / jobs),
    })
}

// The real node: its handler is a process under a supervisor.
async fn processes(dir: &Path, effort: Effort, told: &mut Fleet) -> Result<(), Failed> {
    std::fs::create_dir(dir)?;
    let mut gateway = found(dir)?;
    let line = gateway.ask("invite real")?;
    let line = line.first().ok_or("an invitation is a line")?;
    let home = dir.join("node");
    ledger_server::setup::join(&home, line, &ledger::core::MachineId::new("real")?).await?;
    let node = Process::start("fleet-node", &home)?;
    for _ in 0..2 {
        // The first tells that the node is there.
        gateway.ask(&format!("one {STAMP}"))?;
    }
    let mut done = 2;
    gateway.ask(&format!("succeeded {done}"))?;
    let began = std::time::Instant::now();
    let cpu = gateway.cpu_s();
    tokio::time::sleep(effort.idle).await;
    let used = gateway
        .cpu_s()
        .zip(cpu)
        .map(|(now, then)| (now - then) / began.elapsed().as_secs_f64());
    told.idle = used.zip(gateway.memory_mib());
    let mut asked = Vec::new();
    for _ in 0..effort.lone / 4 {
        asked.push(number_of(&gateway.ask(&format!("one {STAMP}"))?)?);
        done += 1;
        gateway.ask(&format!("succeeded {done}"))?;
    }
    let stamps = std::fs::read_to_string(home.join("stamps"))?;
    for (asked, stamp) in asked.iter().zip(stamps.lines().skip(2)) {
        told.process_ms.push(ms_between(*asked, stamp.parse()?)?);
    }
    gateway.ask(&format!("sign process {}", effort.processes))?;
    let before = shared_us()?;
    gateway.ask(&format!("submit {CALLERS}"))?;
    gateway.ask(&format!("succeeded {}", done + effort.processes))?;
    let took_ms = ms_between(before, shared_us()?)?;
    told.processes_s = number(effort.processes) * 1e3 / took_ms;
    node.stop()?;
    gateway.stop()
}

// Receipts of all logs at the gateway, and batches that became durable there.
fn gateway_counts(gateway: &mut Process) -> Result<[u32; 2], Failed> {
    let told = gateway.ask("counts")?;
    Ok([number_of(&told)?, number_of(told.get(1..).unwrap_or_default())?])
}

fn number_of<T: std::str::FromStr>(lines: &[String]) -> Result<T, Failed>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    Ok(lines.first().ok_or("a number was asked for")?.parse()?)
}

fn ms_between(before: u64, after: u64) -> Result<f64, Failed> {
    let us = after
        .checked_sub(before)
        .ok_or("what is asked for comes before its start")?;
    Ok(number(usize::try_from(us)?) / 1e3)
}

/// The value below which so many per cent of the values lie; 0 of none.
pub fn percentile(values: &[f64], per_cent: usize) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = (sorted.len() * per_cent / 100).min(sorted.len().saturating_sub(1));
    sorted.get(at).copied().unwrap_or(0.0)
}

/// The median of one figure of some rounds.
pub fn middle(rounds: &[Round], of: impl Fn(&Round) -> f64) -> f64 {
    median(rounds.iter().map(of).collect())
}
